"""Policy-gradient losses on one stochastic step of a trajectory, and KL penalties. All take a row per
(sample, step).

logp is the step's log-probability under the network that is trained, logp_old under the one that drew it,
each a MEAN over the latent's dimensions: the usual clip ranges of 1e-6 to 1e-3 mean nothing for sums. Nothing
of the old policy receives a gradient.

Penalties for leaving a reference are to be multiplied by a coefficient. The gradient goes to the policy; the
reference receives none. Each says on which scale it lives, as the coefficients of one are worth nothing for
another.

First come the row operations that all losses share: means over everything but the rows, sums over groups.
"""

import torch

Rowwise = torch.Tensor | float
"""One number for all rows, or (N,)."""


def row_mean(tensor: torch.Tensor) -> torch.Tensor:
    """(N, ...) to its mean over all dimensions but the first, (N,) float32."""
    return tensor.float().reshape(len(tensor), -1).mean(1)


def per_row(value: Rowwise, like: torch.Tensor, name: str) -> torch.Tensor:
    """`value` as float32 (N,), N being the rows of `like`.

    Raises:
        ValueError: neither one number nor one per row.
    """
    tensor = torch.as_tensor(value, dtype=torch.float32, device=like.device).reshape(-1)
    if len(tensor) not in (1, len(like)):
        raise ValueError(f"{name} has {len(tensor)} numbers for {len(like)} rows; give one, or one per row")
    return tensor.expand(len(like))


def positive(value: Rowwise, like: torch.Tensor, name: str, reason: str) -> torch.Tensor:
    """As `per_row`, and above 0.

    Raises:
        ValueError: a number that is not; `reason` says why it must be.
    """
    tensor = per_row(value, like, name)
    if not bool((tensor > 0).all()):
        raise ValueError(f"{name} is {float(tensor.min())} in some row; {reason}")
    return tensor


def broadcast(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(N,) to (N, 1, ..., 1), to be multiplied with `like`."""
    return value.reshape(-1, *[1] * (like.ndim - 1))


def check_rows(**tensors: torch.Tensor) -> None:
    """Refuses tensors that would broadcast against each other: (N,) with (N, 1) makes (N, N) without a word.

    Raises:
        ValueError: any that is not (N,), with the same N.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 1:
        raise ValueError(f"one number per row is needed, (N,) each, not {shapes}")


def check_shapes(**tensors: torch.Tensor) -> None:
    """Refuses tensors of unequal shape.

    Raises:
        ValueError: with all shapes by name.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"shapes differ: {shapes}")


def group_index(groups: torch.Tensor) -> torch.Tensor:
    """Integer ids (N,) to 0, 1, ... in the order of the ids.

    Raises:
        ValueError: ids that are not integers.
    """
    if groups.is_floating_point() or groups.is_complex() or groups.ndim != 1:
        raise ValueError(f"groups are {groups.dtype} {tuple(groups.shape)}; give integers, (N,)")
    index: torch.Tensor = torch.unique(groups, return_inverse=True)[1]
    return index


def group_sum(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The sum over its group, for every row, (N,)."""
    number = int(index.max()) + 1 if len(index) else 0
    sums: torch.Tensor = values.new_zeros(number).index_add(0, index, values)
    return sums[index]


def group_softmax(logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """softmax within each group, (N,): the weights of a group sum to 1."""
    number = int(index.max()) + 1 if len(index) else 0
    highest = logits.new_full((number,), -torch.inf).scatter_reduce(0, index, logits, "amax")
    weights = (logits - highest[index]).exp()
    return weights / group_sum(weights, index)


# --- losses -------------------------------------------------------------------------------------------------


STOCHASTIC = "only steps with noise have a ratio"


def ppo(
    logp: torch.Tensor, logp_old: torch.Tensor, advantages: torch.Tensor, clip: float = 1e-4
) -> torch.Tensor:
    """PPO: max(-A r, -A clip(r, 1 - clip, 1 + clip)) with r = exp(logp - logp_old); (N,).

    Clip is 1e-4 in Flow-GRPO and DanceGRPO, 1e-5 with CPS or without guidance, 1e-3 for Wan.
    Sources: https://arxiv.org/abs/1707.06347, https://arxiv.org/abs/2505.05470

    Raises:
        ValueError: shapes other than (N,), or a negative clip.
    """
    check_rows(logp=logp, logp_old=logp_old, advantages=advantages)
    return _clipped(logp.float() - logp_old.detach().float(), advantages, clip)


def guard(
    logp: torch.Tensor,
    logp_old: torch.Tensor,
    mean: torch.Tensor,
    mean_old: torch.Tensor,
    std: Rowwise,
    dt: Rowwise,
    advantages: torch.Tensor,
    clip: float = 2e-6,
) -> torch.Tensor:
    """GRPO-Guard: PPO on a ratio without bias and without its 1/std, divided by -dt so that steps weigh
    alike; (N,).

    Source: GRPO-Guard, https://arxiv.org/abs/2510.22319

    Args:
        logp: (N,) Gaussian log-probability of the sampled latents, constants may be left out.
        logp_old: (N,) of the rollout.
        mean: (N, ...) of the transition.
        mean_old: (N, ...) of the rollout.
        std: of the transition itself (with the step's sqrt(-dt) in it), one number or (N,).
        dt: sigma' - sigma of the step, below 0, one number or (N,).
        advantages: (N,).
        clip: half-width of the band around 1.

    Raises:
        ValueError: shapes that do not match, std not above 0, or dt not below 0.
    """
    check_rows(logp=logp, logp_old=logp_old, advantages=advantages)
    span = positive(-per_row(dt, logp, "dt"), logp, "-dt", "the noise level falls, so dt is below 0")
    return _clipped(guard_log_ratio(logp, logp_old, mean, mean_old, std), advantages, clip) / span


def guard_log_ratio(
    logp: torch.Tensor, logp_old: torch.Tensor, mean: torch.Tensor, mean_old: torch.Tensor, std: Rowwise
) -> torch.Tensor:
    """GRPO-Guard's log-ratio (logp - logp_old + mean_dims (mean - mean_old)^2 / (2 std^2)) * std, (N,).

    The added term cancels the log-ratio's negative half, and what is left is the mean product of the step's
    noise with mean - mean_old. For `diagnostics`, pass it with zeros as the old log-probability.
    """
    scale = positive(std, logp, "std", STOCHASTIC)
    return (logp.float() - logp_old.detach().float() + _divergence(mean, mean_old, scale)) * scale


def dppo(
    logp: torch.Tensor,
    logp_old: torch.Tensor,
    mean: torch.Tensor,
    mean_old: torch.Tensor,
    std: Rowwise,
    advantages: torch.Tensor,
    threshold: float = 1e-5,
) -> torch.Tensor:
    """Flow-DPPO: -A r, and 0 for rows that have moved `threshold` of KL away and would move on; (N,).

    Clips by the exact divergence of the two Gaussians, mean_dims (mean - mean_old)^2 / (2 std^2), where PPO
    clips by the ratio of one draw. A row that wants to come back keeps its gradient, and a ratio that
    overflows in a masked row leaves no NaN.
    Source: Flow-DPPO in https://github.com/verl-project/verl-omni

    Args:
        logp: (N,).
        logp_old: (N,) of the rollout.
        mean: (N, ...) of the transition.
        mean_old: (N, ...) of the rollout.
        std: of the transition, one number or (N,).
        advantages: (N,).
        threshold: largest divergence, a mean over dimensions.

    Raises:
        ValueError: shapes that do not match, or std not above 0.
    """
    check_rows(logp=logp, logp_old=logp_old, advantages=advantages)
    log_ratio = logp.float() - logp_old.detach().float()
    far = _divergence(mean, mean_old, positive(std, logp, "std", STOCHASTIC)).detach() >= threshold
    outward = ((advantages > 0) & (log_ratio > 0)) | ((advantages < 0) & (log_ratio < 0))
    masked = far & outward
    ratio = log_ratio.masked_fill(masked, 0.0).exp()
    return torch.where(masked, torch.zeros_like(ratio), -advantages.detach().float() * ratio)


@torch.no_grad()
def diagnostics(logp: torch.Tensor, logp_old: torch.Tensor, clip: float) -> dict[str, float]:
    """Diagnostics of a batch: its ratios to the rollout.

    ratio_mean, ratio_std (of the rows at hand, 0 for one), ratio_min, ratio_max; ratio_deviation, the largest
    |r - 1|, which is 0 but for rounding before the first update; approx_kl = mean (logp - logp_old)^2 / 2;
    and the shares clip_frac = clip_frac_high + clip_frac_low of rows outside the band.

    Raises:
        ValueError: no rows, or shapes other than (N,).
    """
    check_rows(logp=logp, logp_old=logp_old)
    if not len(logp):
        raise ValueError("no rows to describe")
    log_ratio = logp.float() - logp_old.float()
    ratio = log_ratio.exp()
    high, low = (ratio > 1 + clip).float().mean(), (ratio < 1 - clip).float().mean()
    return {
        "ratio_mean": float(ratio.mean()),
        "ratio_std": float(ratio.std(correction=0)),
        "ratio_min": float(ratio.min()),
        "ratio_max": float(ratio.max()),
        "ratio_deviation": float((ratio - 1).abs().max()),
        "clip_frac": float(high + low),
        "clip_frac_high": float(high),
        "clip_frac_low": float(low),
        "approx_kl": float(log_ratio.square().mean() / 2),
    }


def _clipped(log_ratio: torch.Tensor, advantages: torch.Tensor, clip: float) -> torch.Tensor:
    if clip < 0:
        raise ValueError(f"clip is {clip}; it is the half-width of a band around 1, at least 0")
    ratio = log_ratio.exp()
    weight = advantages.detach().float()
    return torch.maximum(-weight * ratio, -weight * ratio.clamp(1 - clip, 1 + clip))


def _divergence(mean: torch.Tensor, mean_old: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    check_shapes(mean=mean, mean_old=mean_old)
    return row_mean((mean.float() - mean_old.detach().float()).square()) / (2 * std.square())


# --- penalties ----------------------------------------------------------------------------------------------


def mean_gauss(mean: torch.Tensor, mean_ref: torch.Tensor, std: Rowwise) -> torch.Tensor:
    """KL of two transitions, mean_dims (mean - mean_ref)^2 / (2 std^2), (N,).

    std is that of the transition. flow_grpo divides by the drift's g instead (std^2 = g^2 |dt|), so its
    value, and what its coefficients of 0.01 to 0.04 act on, is |dt| times this one.

    Raises:
        ValueError: shapes that do not match, or std not above 0.
    """
    scale = positive(std, mean, "std", "a step without noise has no KL; use velocity_mse")
    return mean_mse(mean, mean_ref) / (2 * scale.square())


def mean_mse(mean: torch.Tensor, mean_ref: torch.Tensor) -> torch.Tensor:
    """Squared distance mean_dims (mean - mean_ref)^2, (N,): squared latent units (Flow-Factory's x-based KL).

    Raises:
        ValueError: shapes that do not match.
    """
    check_shapes(policy=mean, reference=mean_ref)
    return row_mean((mean.float() - mean_ref.detach().float()).square())


def velocity_mse(v: torch.Tensor, v_ref: torch.Tensor) -> torch.Tensor:
    """Velocity-space KL mean_dims (v - v_ref)^2, (N,): squared velocity units, for any step and for losses
    without steps.

    An Euler step moves the mean by v dt, so `mean_mse` of that step is dt^2 times this.

    Raises:
        ValueError: shapes that do not match.
    """
    return mean_mse(v, v_ref)


def old_policy(logp: torch.Tensor, logp_old: torch.Tensor) -> torch.Tensor:
    """Penalty (logp - logp_old)^2 / 2, (N,), for leaving the policy of the rollout (MixGRPO).

    Raises:
        ValueError: shapes other than (N,).
    """
    check_rows(logp=logp, logp_old=logp_old)
    return (logp.float() - logp_old.detach().float()).square() / 2

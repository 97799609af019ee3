"""Policy-gradient losses on one stochastic step of a trajectory. All take a row per (sample, step).

logp is the step's log-probability under the network that is trained, logp_old under the one that drew it,
each a MEAN over the latent's dimensions: the usual clip ranges of 1e-6 to 1e-3 mean nothing for sums.
Nothing of the old policy receives a gradient.
"""

import torch

from .rows import Rowwise, check_rows, check_shapes, per_row, positive, row_mean

STOCHASTIC = "only steps with noise have a ratio"


def ppo(
    logp: torch.Tensor, logp_old: torch.Tensor, advantages: torch.Tensor, clip: float = 1e-4
) -> torch.Tensor:
    """max(-A r, -A clip(r, 1 - clip, 1 + clip)) with r = exp(logp - logp_old); (N,).

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
    """PPO on a ratio without bias and without its 1/std, divided by -dt so that steps weigh alike; (N,).

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
    """(logp - logp_old + mean_dims (mean - mean_old)^2 / (2 std^2)) * std, (N,).

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
    """-A r, and 0 for rows that have moved `threshold` of KL away and would move on; (N,).

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
    """How far a batch has moved from its rollout.

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

"""Losses on the forward process: a finished sample is noised and its velocity matched. No trajectory, any
solver.

x is the noised latent (1 - sigma) x0 + sigma noise, and target the velocity noise - x0.

Centred reward distillation (CRD, https://github.com/X-GenGroup/Flow-Factory) fits the network's own reward to
the given one, group by group. The network implies a reward by how much better than an older one it explains a
sample. Rewards are known up to a constant per prompt, so both are centred within the prompt's group first;
over a mixed batch, easy prompts would be preferred to hard ones.
"""

import math
from typing import Literal, get_args

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from .policy import (
    Rowwise,
    broadcast,
    check_rows,
    check_shapes,
    group_index,
    group_softmax,
    group_sum,
    per_row,
    ppo,
    row_mean,
)
from .preference import denoising_error

AdvantageMode = Literal["all", "positive_only", "negative_only", "one_only", "binary"]
Weighting = Literal["uniform", "s", "s2", "huber", "ghuber"]

FLOOR = 1e-5
"""Smallest adaptive weight."""
SOFT = 1e-10
"""Keeps the roots of the Huber weightings differentiable at an error of 0."""


def to_probability(advantages: torch.Tensor, clip: float = 5.0, mode: AdvantageMode = "all") -> torch.Tensor:
    """Advantages (N,) to DiffusionNFT's p in [0, 1]: clip to +-clip, divide by 2 clip, add 1/2.

    Before that, positive_only and negative_only set the others to 0, one_only makes them 1 where positive and
    else 0, binary takes the sign. So 0 is always p = 1/2, and with clip 5 a 1 is p = 0.6.

    Raises:
        ValueError: an unknown mode, or clip not above 0.
    """
    if not clip > 0:
        raise ValueError(f"clip is {clip}; it is above 0")
    if mode not in get_args(AdvantageMode):
        raise ValueError(f"mode is one of {', '.join(get_args(AdvantageMode))}, not {mode!r}")
    values = advantages.detach().float()
    if mode == "positive_only":
        values = values.clamp(min=0)
    elif mode == "negative_only":
        values = values.clamp(max=0)
    elif mode == "one_only":
        values = (values > 0).float()
    elif mode == "binary":
        values = values.sign()
    return (values.clamp(-clip, clip) / (2 * clip) + 0.5).clamp(0, 1)


def rwr(
    d: torch.Tensor, rewards: torch.Tensor, *, temperature: float = 1.0, form: Literal["exp", "raw"] = "exp"
) -> torch.Tensor:
    """Reward-weighted matching exp(r / temperature) d, (N,), with d of `denoising_error`; "raw" weighs by r /
    temperature instead.

    Standardise r first: a raw PickScore of 22 weighs 3.6e9. Source: Flow-RWR,
    https://arxiv.org/abs/2501.13918

    Raises:
        ValueError: shapes other than (N,), temperature not above 0, an unknown form, or a reward so large
            that its weight overflows.
    """
    check_rows(d=d, rewards=rewards)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it is above 0")
    if form not in ("exp", "raw"):
        raise ValueError(f"form is exp or raw, not {form!r}")
    scaled = rewards.detach().float() / temperature
    weights = scaled.exp() if form == "exp" else scaled
    if bool(weights.isinf().any()):
        raise ValueError(
            f"exp({float(scaled.max())}) overflows; standardise the rewards or raise temperature"
        )
    return weights * d.float()


def sft(d: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Supervised loss weight * d, (N,), on the best samples; `advantages.best_shares` gives the weights.

    Raises:
        ValueError: shapes other than (N,).
    """
    check_rows(d=d, weights=weights)
    return weights.detach().float() * d.float()


def nft(
    v: torch.Tensor,
    v_old: torch.Tensor,
    x: torch.Tensor,
    x0: torch.Tensor,
    sigma: Rowwise,
    p: torch.Tensor,
    beta: float = 1.0,
    clip: float = 5.0,
) -> torch.Tensor:
    """DiffusionNFT's loss clip (p e+ + (1 - p) e-) / beta, (N,): v is pulled to x0 with weight p, its mirror
    image with 1 - p.

    v+ = beta v + (1 - beta) v_old and v- = (1 + beta) v_old - beta v; e is the squared error of
    x - sigma v+- against x0, divided by its mean absolute error (without gradient). At v = v_old both are
    the same, and p = 1/2 gives no gradient. Source: DiffusionNFT, https://arxiv.org/abs/2509.16117

    Args:
        v: (N, ...) velocity of the trained network at x.
        v_old: (N, ...) of the one that drew x0.
        x: (N, ...) noised latents.
        x0: (N, ...) finished latents.
        sigma: noise level, one number or (N,).
        p: (N,) in [0, 1], of `to_probability`.
        beta: how far the two sides are apart: 1, or 0.1 for several rewards.
        clip: that of `to_probability`; makes up for its division.

    Raises:
        ValueError: shapes that do not match, or beta not above 0.
    """
    check_shapes(v=v, v_old=v_old, x=x, x0=x0)
    if not beta > 0:
        raise ValueError(f"beta is {beta}; it is above 0")
    weight = per_row(p, v, "p").detach()
    old, step = v_old.detach().float(), broadcast(per_row(sigma, v, "sigma"), v)
    lead = beta * (v.float() - old)
    toward, away = (_adaptive_error(x.float() - step * (old + side), x0.float()) for side in (lead, -lead))
    loss: torch.Tensor = clip * (weight * toward + (1 - weight) * away) / beta
    return loss


def matching_logp(
    v: torch.Tensor,
    target: torch.Tensor,
    sigma: Rowwise,
    *,
    weighting: Weighting = "uniform",
    power: float = 0.25,
) -> torch.Tensor:
    """AWM's stand-in for a log-probability, (N,): minus the weighted matching error.

    With q the mean squared error and s the noise level: uniform q; s: s q; s2: s^2 q; huber: s sqrt(q);
    ghuber: s q^power / power (roots are softened at 0).

    Args:
        v: (N, ...) predicted velocity.
        target: (N, ...) noise - x0.
        sigma: noise level, one number or (N,).
        weighting: as above.
        power: of ghuber, in (0, 1].

    Raises:
        ValueError: shapes that do not match, an unknown weighting, or a power outside (0, 1].
    """
    if not 0 < power <= 1:
        raise ValueError(f"power is {power}; it is above 0 and at most 1")
    error, level = denoising_error(v, target), per_row(sigma, v, "sigma")
    if weighting == "uniform":
        return -error
    if weighting == "s":
        return -error * level
    if weighting == "s2":
        return -error * level.square()
    if weighting == "huber":
        return -((error + SOFT).sqrt() - math.sqrt(SOFT)) * level
    if weighting == "ghuber":
        return -((error + SOFT).pow(power) - math.pow(SOFT, power)) * level / power
    raise ValueError(f"weighting is one of {', '.join(get_args(Weighting))}, not {weighting!r}")


def awm(
    v: torch.Tensor,
    target: torch.Tensor,
    sigma: Rowwise,
    logp_old: torch.Tensor,
    advantages: torch.Tensor,
    clip: float = 1e-4,
    *,
    weighting: Weighting = "uniform",
    power: float = 0.25,
) -> torch.Tensor:
    """Advantage-weighted matching: `policy.ppo` on `matching_logp`, (N,); add `policy.velocity_mse` to the
    reference or to an average of the weights. Source: Advantage Weighted Matching,
    https://arxiv.org/abs/2509.25050

    Args:
        v: (N, ...) velocity of the trained network.
        target: (N, ...) noise - x0.
        sigma: noise level, one number or (N,).
        logp_old: (N,) `matching_logp` of the network before the update, at the same noise and level.
        advantages: (N,).
        clip: half-width of the band around a ratio of 1.
        weighting: see `matching_logp`.
        power: see `matching_logp`.

    Raises:
        ValueError: as `matching_logp` and `policy.ppo`.
    """
    return ppo(matching_logp(v, target, sigma, weighting=weighting, power=power), logp_old, advantages, clip)


def _adaptive_error(estimate: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
    scale = row_mean((estimate - x0).detach().abs()).clamp(min=FLOOR)
    return row_mean((estimate - x0).square()) / scale


# --- centred reward distillation ----------------------------------------------------------------------------


def implicit_reward(
    v: torch.Tensor, v_old: torch.Tensor, target: torch.Tensor, *, adaptive: bool = False
) -> torch.Tensor:
    """Implicit reward q = mean_dims (v_old - target)^2 - mean_dims (v - target)^2, (N,): above 0 where v fits
    better.

    Args:
        v: (N, ...) velocity of the trained network.
        v_old: (N, ...) of a snapshot or of the reference; no gradient.
        target: (N, ...) noise - x0.
        adaptive: divide each error by its mean absolute error, without gradient, so that samples weigh alike.

    Raises:
        ValueError: shapes that differ.
    """
    check_shapes(v=v, v_old=v_old, target=target)
    return _error(v_old.detach(), target, adaptive) - _error(v, target, adaptive)


@torch.no_grad()
def centres(
    q: torch.Tensor,
    p: torch.Tensor,
    groups: torch.Tensor,
    *,
    temperature: float = math.inf,
    dual: bool = True,
) -> torch.Tensor:
    """Group means of q and p that `crd` subtracts, (N, C, 2), without gradient.

    The means are weighted by softmax(p / temperature) within the group; an infinite temperature gives the
    plain mean, with C = 1. With `dual`, softmax(-p / temperature) makes C = 2: once centred on the good
    samples, once on the bad ones. Compute them over whole groups; their rows may then go to `crd` in any
    number of batches.

    Args:
        q: (N,) of `implicit_reward`.
        p: (N,) rewards in [0, 1], of `to_probability`.
        groups: (N,) integer ids.
        temperature: above 0.
        dual: at an infinite temperature both are the same, and one is returned.

    Raises:
        ValueError: shapes other than (N,), ids that are not integers, or temperature not above 0.
    """
    check_rows(q=q, p=p, groups=groups)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it is above 0")
    index = group_index(groups)
    signs = (1.0, -1.0) if dual and math.isfinite(temperature) else (1.0,)
    directions = []
    for sign in signs:
        weights = group_softmax(sign * p.float() / temperature, index)
        directions.append(torch.stack([group_sum(weights * each.float(), index) for each in (q, p)], dim=1))
    return torch.stack(directions, dim=1)


def crd(
    q: torch.Tensor,
    p: torch.Tensor,
    centre: torch.Tensor,
    *,
    beta: float = 1.0,
    clip: float = 5.0,
    form: Literal["squared", "cross_entropy"] = "squared",
) -> torch.Tensor:
    """CRD's loss, clip / beta times (beta (q - q_mean) - (p - p_mean))^2, averaged over the centres; (N,).

    cross_entropy compares sigmoids of the two instead. 0 where beta times the centred q is the centred p.

    Args:
        q: (N,) of `implicit_reward`, with gradient.
        p: (N,) rewards in [0, 1].
        centre: (N, C, 2) of `centres`, the rows of q.
        beta: how much of the reward a unit of fit is worth.
        clip: that of `to_probability`; makes up for its division.
        form: as above.

    Raises:
        ValueError: shapes that do not match, beta not above 0, or an unknown form.
    """
    check_rows(q=q, p=p)
    if centre.ndim != 3 or len(centre) != len(q) or centre.shape[-1] != 2:
        raise ValueError(f"centre has shape {tuple(centre.shape)}; give ({len(q)}, C, 2) of `centres`")
    if not beta > 0:
        raise ValueError(f"beta is {beta}; it is above 0")
    implied = beta * (q.float()[:, None] - centre[..., 0])
    given = p.detach().float()[:, None] - centre[..., 1]
    if form == "squared":
        return clip / beta * (implied - given).square().mean(1)
    if form != "cross_entropy":
        raise ValueError(f"form is squared or cross_entropy, not {form!r}")
    losses = binary_cross_entropy_with_logits(implied, given.sigmoid(), reduction="none")
    return clip / beta * losses.mean(1)


def _error(v: torch.Tensor, target: torch.Tensor, adaptive: bool) -> torch.Tensor:
    difference = v.float() - target.float()
    error = row_mean(difference.square())
    return error / row_mean(difference.detach().abs()).clamp(min=FLOOR) if adaptive else error

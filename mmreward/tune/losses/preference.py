"""Preference losses on pairs and groups, by denoising error or log-probability. One value per pair or row.

d is the error of the trained network on a noised clean latent, ref the same of a frozen one, both MEANS over
dimensions: betas are made for means. Chosen (w) and rejected (l) share noise level and noise. z > 0 says that
the network has moved towards the chosen one.
"""

import math
from typing import Literal

import torch
from torch.nn.functional import logsigmoid, relu

from .policy import Rowwise, broadcast, check_rows, check_shapes, group_index, group_sum, per_row, row_mean


def denoising_error(
    v: torch.Tensor,
    target: torch.Tensor,
    sigma: Rowwise | None = None,
    space: Literal["velocity", "epsilon"] = "velocity",
) -> torch.Tensor:
    """Denoising error mean_dims (v - target)^2, (N,), in the units of the velocity or of the noise it
    implies.

    The noise is x + (1 - sigma) v, so its error is (1 - sigma)^2 times that of the velocity: Diffusion-DPO
    for noise-predicting models uses "epsilon", Flow-DPO "velocity".

    Args:
        v: (N, ...) predicted velocity.
        target: (N, ...) noise - x0.
        sigma: noise level, one number or (N,); for "epsilon".
        space: as above.

    Raises:
        ValueError: shapes that differ, an unknown space, or "epsilon" without sigma.
    """
    check_shapes(v=v, target=target)
    difference = v.float() - target.float()
    if space == "velocity":
        return row_mean(difference.square())
    if space != "epsilon":
        raise ValueError(f"space is velocity or epsilon, not {space!r}")
    if sigma is None:
        raise ValueError("space 'epsilon' needs sigma, the noise level of every row")
    noise_error = broadcast(1 - per_row(sigma, v, "sigma"), v) * difference
    return row_mean(noise_error.square())


def margin(d_w: torch.Tensor, ref_w: torch.Tensor, d_l: torch.Tensor, ref_l: torch.Tensor) -> torch.Tensor:
    """Margin z = (d_l - ref_l) - (d_w - ref_w), (P,); the references receive no gradient."""
    check_rows(d_w=d_w, ref_w=ref_w, d_l=d_l, ref_l=ref_l)
    return (d_l.float() - ref_l.detach().float()) - (d_w.float() - ref_w.detach().float())


def dpo(
    d_w: torch.Tensor,
    ref_w: torch.Tensor,
    d_l: torch.Tensor,
    ref_l: torch.Tensor,
    beta: float = 100.0,
    half: bool = True,
) -> torch.Tensor:
    """DPO: -log sigmoid(k z) with k = beta / 2, or beta where `half` is off; (P,), log 2 at the reference.

    half is Flow-DPO's form (beta 100 in flow_grpo, 2000 in Flow-Factory); the script of diffusers has none
    and beta 2500, which is the paper's 5000 with it.
    Sources: https://arxiv.org/abs/2501.13918, https://arxiv.org/abs/2311.12908

    Raises:
        ValueError: shapes other than (P,).
    """
    return -logsigmoid((beta / 2 if half else beta) * margin(d_w, ref_w, d_l, ref_l))


def hinge(
    d_w: torch.Tensor, ref_w: torch.Tensor, d_l: torch.Tensor, ref_l: torch.Tensor, beta: float = 100.0
) -> torch.Tensor:
    """Hinge loss max(0, 1 - beta z), (P,): pairs with a large margin are left alone (SLiC).

    Source: https://arxiv.org/abs/2305.10425
    """
    return relu(1 - beta * margin(d_w, ref_w, d_l, ref_l))


def ipo(
    d_w: torch.Tensor, ref_w: torch.Tensor, d_l: torch.Tensor, ref_l: torch.Tensor, beta: float = 100.0
) -> torch.Tensor:
    """IPO: (z - 1 / (2 beta))^2, (P,): the aim is finite, so sure preferences do not drive z to infinity.

    Source: https://arxiv.org/abs/2310.12036
    """
    return (margin(d_w, ref_w, d_l, ref_l) - 1 / (2 * beta)).square()


def d3po(
    logp_w: torch.Tensor,
    ref_w: torch.Tensor,
    logp_l: torch.Tensor,
    ref_l: torch.Tensor,
    beta: float = 0.1,
    band: tuple[float, float] = (0.9, 1.1),
) -> torch.Tensor:
    """D3PO: -log sigmoid(beta (log rho_w - log rho_l)) on one step of two trajectories from the same noise;
    (P,).

    rho = exp(logp - ref) clamped to `band`: outside, the step has no gradient. The first release used
    (0.8, 1.2) and diverged. Source: https://arxiv.org/abs/2311.13231

    Raises:
        ValueError: shapes other than (P,), or a band that does not hold 1.
    """
    check_rows(logp_w=logp_w, ref_w=ref_w, logp_l=logp_l, ref_l=ref_l)
    low, high = band
    if not 0 < low <= 1 <= high:
        raise ValueError(f"band is {band}; it is (low, high) around 1, with low above 0")
    chosen, rejected = (
        (logp.float() - ref.detach().float()).clamp(math.log(low), math.log(high))
        for logp, ref in ((logp_w, ref_w), (logp_l, ref_l))
    )
    return -logsigmoid(beta * (chosen - rejected))


def dgpo(
    d: torch.Tensor,
    d_ref: torch.Tensor,
    advantages: torch.Tensor,
    groups: torch.Tensor,
    beta: float = 100.0,
    *,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """DGPO: w A d, (N,), DPO for whole groups. w is `group_preference`, without gradient.

    A group shares noise level and noise. For a pair with advantages 1 and -1 the gradient is 2 / beta times
    that of `dpo`. Source: https://arxiv.org/abs/2510.08425

    Args:
        d: (N,) denoising errors.
        d_ref: (N,) of the reference.
        advantages: (N,).
        groups: (N,) integer ids. Without `weights` every group must be here as a whole.
        beta: for mean-reduced errors.
        weights: (N,) of `group_preference`, where a group is spread over several calls.

    Raises:
        ValueError: shapes other than (N,), or ids that are not integers.
    """
    if weights is None:
        weights = group_preference(d, d_ref, advantages, groups, beta)
    check_rows(d=d, d_ref=d_ref, advantages=advantages, weights=weights)
    return weights.detach() * advantages.detach().float() * d.float()


@torch.no_grad()
def group_preference(
    d: torch.Tensor,
    d_ref: torch.Tensor,
    advantages: torch.Tensor,
    groups: torch.Tensor,
    beta: float = 100.0,
) -> torch.Tensor:
    """DGPO's weight sigmoid(beta mean_group A (d - d_ref)), (N,): near 0 for groups that are ordered
    already."""
    check_rows(d=d, d_ref=d_ref, advantages=advantages, groups=groups)
    index = group_index(groups)
    terms = advantages.float() * (d.float() - d_ref.float())
    return torch.sigmoid(beta * group_sum(terms, index) / group_sum(torch.ones_like(terms), index))


def hold_clipped(
    d: torch.Tensor, d_old: torch.Tensor, advantages: torch.Tensor, clip: float = 1e-4
) -> torch.Tensor:
    """PPO's clipping for `dgpo`, which has no ratio of its own: d, (N,), with its gradient cut in some rows.

    In rows whose ratio exp(d_old - d) has left 1 +- clip in the direction that their advantage pushes to, d
    is detached. d_old are the errors of the policy that drew the samples.
    """
    check_rows(d=d, d_old=d_old, advantages=advantages)
    ratio = (d_old - d).detach().float().exp()
    gone = torch.where(advantages > 0, ratio > 1 + clip, ratio < 1 - clip)
    return torch.where(gone, d.detach(), d)


def rpo(
    d_photo: torch.Tensor,
    ref_photo: torch.Tensor,
    d_generated: torch.Tensor,
    ref_generated: torch.Tensor,
    preferred: torch.Tensor,
    beta: float = 1.0,
) -> torch.Tensor:
    """RPO for subject-driven tuning: learn the photo of the subject, and prefer it where the reward does;
    (P,).

    d_photo + cross-entropy between `preferred` and sigmoid(beta z), z = (ref_photo - d_photo) -
    (ref_generated - d_generated). Source: Reward Preference Optimization, https://arxiv.org/abs/2407.12164

    Args:
        d_photo: (P,) error on a photo of the subject.
        ref_photo: (P,) of the frozen network.
        d_generated: (P,) error on a generated picture.
        ref_generated: (P,) of the frozen network.
        preferred: (P,) in [0, 1]: whether the photo won, drawn with probability
            sigmoid(reward of photo - reward of generated), or that probability itself.
        beta: 1, or what the SDXL recipe uses.

    Raises:
        ValueError: shapes other than (P,).
    """
    check_rows(d_photo=d_photo, preferred=preferred)
    z = beta * margin(d_photo, ref_photo, d_generated, ref_generated)
    label = preferred.detach().float()
    return d_photo.float() - label * logsigmoid(z) - (1 - label) * logsigmoid(-z)

"""Penalties for leaving a reference, one value per row, to be multiplied by a coefficient.

The gradient goes to the policy; the reference receives none. Each says on which scale it lives, because the
coefficients of one are worth nothing for another.
"""

import torch

from .rows import Rowwise, check_rows, check_shapes, positive, row_mean


def mean_gauss(mean: torch.Tensor, mean_ref: torch.Tensor, std: Rowwise) -> torch.Tensor:
    """KL between the two transitions, mean_dims (mean - mean_ref)^2 / (2 std^2), (N,).

    std is that of the transition. flow_grpo divides by the drift's g instead (std^2 = g^2 |dt|), so its
    value, and what its coefficients of 0.01 to 0.04 act on, is |dt| times this one.

    Raises:
        ValueError: shapes that do not match, or std not above 0.
    """
    scale = positive(std, mean, "std", "a step without noise has no KL; use velocity_mse")
    return mean_mse(mean, mean_ref) / (2 * scale.square())


def mean_mse(mean: torch.Tensor, mean_ref: torch.Tensor) -> torch.Tensor:
    """mean_dims (mean - mean_ref)^2, (N,): squared latent units (Flow-Factory's x-based KL).

    Raises:
        ValueError: shapes that do not match.
    """
    check_shapes(policy=mean, reference=mean_ref)
    return row_mean((mean.float() - mean_ref.detach().float()).square())


def velocity_mse(v: torch.Tensor, v_ref: torch.Tensor) -> torch.Tensor:
    """mean_dims (v - v_ref)^2, (N,): squared velocity units, for any step and for losses without steps.

    An Euler step moves the mean by v dt, so `mean_mse` of that step is dt^2 times this.

    Raises:
        ValueError: shapes that do not match.
    """
    return mean_mse(v, v_ref)


def old_policy(logp: torch.Tensor, logp_old: torch.Tensor) -> torch.Tensor:
    """(logp - logp_old)^2 / 2, (N,): holds to the policy of the rollout (MixGRPO).

    Raises:
        ValueError: shapes other than (N,).
    """
    check_rows(logp=logp, logp_old=logp_old)
    return (logp.float() - logp_old.detach().float()).square() / 2


def reward_scaled(kl: torch.Tensor, p: torch.Tensor, coef: float, floor: float = 1e-4) -> torch.Tensor:
    """kl times a coefficient that goes from `floor` at p = 0 to `coef` at p = 1, (N,), as in CRD: what the
    reward likes is what may be hacked, and is held tighter.

    Raises:
        ValueError: shapes other than (N,), or coef below floor.
    """
    check_rows(kl=kl, p=p)
    if coef < floor:
        raise ValueError(f"coef {coef} is below floor {floor}")
    return (floor + p.detach().float() * (coef - floor)) * kl

"""Loss weights for uncertain rewards: PrefPaint's bound for a linear reward head, Ctrl-U's disagreement of
two levels.

All take numbers that a reward gives in `Score.parts`, or that a second evaluation of it gives, and know no
network. PrefPaint: https://arxiv.org/abs/2410.21966; Ctrl-U: https://arxiv.org/abs/2410.11236.
"""

import torch
from torch.nn.functional import kl_div

from .policy import check_shapes


def design_matrix(features: torch.Tensor, ridge: float = 1.0) -> torch.Tensor:
    """Design matrix V = ridge I + sum f f^T, (D, D) float64, of the features (N, D) a reward head was fitted
    on.

    It belongs to one reward model: make it again whenever that changes.

    Raises:
        ValueError: features that are not (N, D), or ridge not above 0.
    """
    if features.ndim != 2:
        raise ValueError(f"features has shape {tuple(features.shape)}; give (N, D)")
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}; it is above 0, or V may have no inverse")
    wide = features.double()
    return ridge * torch.eye(wide.shape[1], dtype=wide.dtype, device=wide.device) + wide.T @ wide


def prefpaint_weight(
    uncertainty: torch.Tensor,
    *,
    slope: float = 0.05,
    offset: float = 0.7,
    least: float = 1.0,
    most: float = 2.21,
) -> torch.Tensor:
    """PrefPaint's loss weight exp(offset - slope u) clamped to [least, most], in the shape of u.

    With the defaults sure rewards count double, unsure ones once. Source: https://arxiv.org/abs/2410.21966

    Raises:
        ValueError: least above most.
    """
    if least > most:
        raise ValueError(f"least {least} is above most {most}")
    return (offset - slope * uncertainty.detach().float()).exp().clamp(least, most)


def disagreement(logits: torch.Tensor, logits_again: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Ctrl-U's variance of a class map, scale * KL(second || first) over classes, (N, C, ...) to (N, ...).

    Both are read from the same picture, noised the same way and denoised from two neighbouring levels. For
    maps of numbers (depth), the variance is |first - second|, the default of `backprop.ctrl_u`.

    Raises:
        ValueError: shapes that differ.
    """
    check_shapes(logits=logits, logits_again=logits_again)
    first, second = logits.float().log_softmax(1), logits_again.float().log_softmax(1)
    return scale * kl_div(first, second, reduction="none", log_target=True).sum(1)


def certainty(variance: torch.Tensor) -> torch.Tensor:
    """exp(-variance), in its shape: the loss weight where two evaluations disagree that much (Ctrl-U)."""
    return (-variance.float()).exp()

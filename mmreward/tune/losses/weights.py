"""How much an uncertain reward may say: PrefPaint's bound for a linear head, Ctrl-U's two looks.

Both take numbers that a reward gives in `Score.parts` or a second evaluation gives, and know no network.
"""

# FOLDED mmreward/tune/losses/schedules.py: Numbers that change during training: clip ranges, and how fast the old policy follows the new one.

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch.nn.functional import kl_div

from .policy import check_shapes, row_mean


def design_matrix(features: torch.Tensor, ridge: float = 1.0) -> torch.Tensor:
    """V = ridge I + sum f f^T, (D, D) float64, of the features (N, D) a reward head was fitted on.

    Make it again whenever the reward model changes.

    Raises:
        ValueError: features that are not (N, D), or ridge not above 0.
    """
    if features.ndim != 2:
        raise ValueError(f"features has shape {tuple(features.shape)}; give (N, D)")
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}; it is above 0, or V may have no inverse")
    wide = features.double()
    return ridge * torch.eye(wide.shape[1], dtype=wide.dtype, device=wide.device) + wide.T @ wide


def bandit_uncertainty(features: torch.Tensor, design: torch.Tensor) -> torch.Tensor:
    """|| V^-1 f ||, (N,): large in directions that few of the reward model's training pictures had.

    Args:
        features: (N, D) of the last layer before the head.
        design: (D, D) of `design_matrix`.
    """
    solved = torch.linalg.solve(design.double(), features.double().T)
    lengths: torch.Tensor = torch.linalg.vector_norm(solved, dim=0)
    return lengths.float()


def prefpaint_weight(
    uncertainty: torch.Tensor,
    *,
    slope: float = 0.05,
    offset: float = 0.7,
    least: float = 1.0,
    most: float = 2.21,
) -> torch.Tensor:
    """exp(offset - slope u) clamped to [least, most], in the shape of u: a factor for any loss.

    Sure rewards count double, unsure ones once. Source: PrefPaint, https://arxiv.org/abs/2410.21966

    Raises:
        ValueError: least above most.
    """
    if least > most:
        raise ValueError(f"least {least} is above most {most}")
    return (offset - slope * uncertainty.detach().float()).exp().clamp(least, most)


def disagreement(logits: torch.Tensor, logits_again: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Ctrl-U's variance of a class map: scale * KL(second || first) over classes, (N, C, ...) to (N, ...).

    The two are read from the same picture, noised the same way and denoised from two neighbouring levels. For
    maps of numbers (depth), the variance is |first - second|.

    Raises:
        ValueError: shapes that differ.
    """
    check_shapes(logits=logits, logits_again=logits_again)
    first, second = logits.float().log_softmax(1), logits_again.float().log_softmax(1)
    return scale * kl_div(first, second, reduction="none", log_target=True).sum(1)


def certainty(variance: torch.Tensor) -> torch.Tensor:
    """exp(-variance), in its shape: what a loss counts for where two looks disagree that much (Ctrl-U)."""
    return (-variance.float()).exp()


def discounted(losses: torch.Tensor, variance: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """mean_dims (scale * loss * exp(-variance) + variance), (N,).

    Where two looks disagree the loss counts less; the second term keeps the network from making them
    disagree on purpose, so variance keeps its gradient. Source: Ctrl-U, https://arxiv.org/abs/2410.11236

    Args:
        losses: (N, ...), one per pixel.
        variance: (N, ...), at least 0.
        scale: of the reward loss against the regulariser.

    Raises:
        ValueError: shapes that differ.
    """
    check_shapes(losses=losses, variance=variance)
    return row_mean(scale * losses.float() * certainty(variance) + variance.float())


ClipSchedule = Literal["constant", "linear", "cosine"]


def clip_at(progress: float, clip: float, schedule: ClipSchedule = "constant") -> float:
    """The clip range at a share of the training in [0, 1]: linear ends at half, cosine at 0 (UniRL).

    Raises:
        ValueError: progress outside [0, 1], or an unknown schedule.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is {progress}; it is a share of the training, 0 to 1")
    if schedule not in get_args(ClipSchedule):
        raise ValueError(f"schedule is one of {', '.join(get_args(ClipSchedule))}, not {schedule!r}")
    factors = {"constant": 1.0, "linear": 1 - progress / 2, "cosine": (1 + math.cos(math.pi * progress)) / 2}
    return clip * factors[schedule]


@dataclass(frozen=True, slots=True)
class Ramp:
    """A decay that is 0 before step `start`, then base + slope (step - start), at most `most`."""

    base: float = 0.0
    slope: float = 0.0
    most: float = 1.0
    start: int = 0

    def __call__(self, step: int) -> float:
        """In [0, 1]: old <- decay * old + (1 - decay) * new; 0 copies the new weights.

        Raises:
            ValueError: a negative step.
        """
        if step < 0:
            raise ValueError(f"step is {step}; it counts from 0")
        return min(self.base + self.slope * (step - self.start), self.most) if step >= self.start else 0.0


OLD_DECAY: Mapping[str, Ramp] = {
    "copy": Ramp(),
    "nft": Ramp(slope=0.001, most=0.5),
    "nft_late": Ramp(slope=0.0075, most=0.999, start=75),
    "dgpo": Ramp(slope=0.001, most=0.3),
    "crd": Ramp(base=0.25, slope=0.005, most=0.999),
}
"""The schedules of the papers' code: DiffusionNFT's types 0 ("copy"), 1 and 2, DGPO's, CRD's."""

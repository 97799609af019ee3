"""Numbers that change during training: clip ranges, and how fast the old policy follows the new one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

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

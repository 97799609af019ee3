"""What every kind of work in the speed comparison offers: the engine's way and three ways without it.

Knows nothing of timing, and of no particular network.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch

from mmreward import Sample, Score
from mmreward.registry import Reward

Values = list[float | str]
"""What a contender computed, in one order for all of them; words only where words are the result."""
Run = Callable[[], Values]
"""The part that is timed."""


class Task(Protocol):
    """One kind of reward over one set of samples.

    `loop`, `batches` and `bare` share no code with the engine or the networks behind it.
    """

    @property
    def rewards(self) -> Mapping[str, Reward]:
        """What the engine is given."""

    def values(self, scores: Mapping[str, list[Score]]) -> Values:
        """The engine's scores, in the order of the other ways. A failed score is no number: it is left
        out."""

    def loop(self, samples: Sequence[Sample]) -> Values:
        """As on a model card: one sample, one question, one forward."""

    def batches(self, samples: Sequence[Sample], size: int) -> Values:
        """Padded batches of a fixed size, one reward after another, each with its own decoding."""

    def bare(self, samples: Sequence[Sample], size: int) -> Run:
        """The limit: only forwards, of tensors prepared now, for what must be computed at least once."""


def resolve_device(device: str) -> torch.device:
    """ "auto" is the first GPU there is, else the processor."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)

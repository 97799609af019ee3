"""What a search hands back for one prompt, and what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...types import Score
from .weights import normalised


class Spent(NamedTuple):
    """What one prompt cost.

    Args:
        forwards: evaluations of the network, one per row and per branch of classifier-free guidance.
        decodes: latents decoded.
        calls: scores asked of the reward, and verdicts asked of a judge.
    """

    forwards: int = 0
    decodes: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The samples of one prompt.

    Args:
        latents: (N, ...), clean.
        media: the same, decoded.
        scores: the reward of each; a failed one is masked everywhere below.
        log_weights: (N,), normalised: with these weights the samples stand for the tilted distribution
            p(x) exp(strength * r(x)). -inf for a sample that must not be drawn.
        spent: what it took.
        details: figures that belong to one method; each says which.
    """

    latents: torch.Tensor
    media: Sequence[Any]
    scores: Sequence[Score]
    log_weights: NDArray[np.float64]
    spent: Spent
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> int | None:
        """Index of the highest score, the first of equal ones; None when every score failed."""
        able = [index for index, score in enumerate(self.scores) if score.ok]
        return max(able, key=lambda index: self.scores[index].value, default=None)

    def draw(self, seed: int) -> int | None:
        """Index of one sample drawn by weight; None when no weight is left."""
        log_weights = normalised(self.log_weights)
        if not np.isfinite(log_weights).any():
            return None
        return int(np.random.default_rng(seed).choice(len(log_weights), p=np.exp(log_weights)))


def values_of(scores: Sequence[Score]) -> NDArray[np.float64]:
    """Values, NaN where a score failed."""
    return np.array([score.value for score in scores], dtype=np.float64)

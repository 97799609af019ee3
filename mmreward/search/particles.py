"""Weighted particles: log-space weights, the finished samples of a search, and the counting of its cost.

The weights' functions are log-sum-exp, effective sample size and systematic resampling; in log space a reward
of 500 times its strength is as good as any other.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..types import Score
from .job import RewardFn, Scores, Spent, best_of
from .sampler import Rows, Sampler

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Particles:
    """The finished samples of one prompt, with weights.

    Args:
        latents: (N, ...), clean.
        media: the same, decoded.
        scores: the reward of each; a failed one is masked everywhere below.
        log_weights: (N,), normalised: with these weights the samples stand for the tilted distribution
            p(x) exp(strength * r(x)). -inf for a sample that must not be drawn.
        spent: the cost of the search for this prompt.
        details: figures that belong to one method; each says which.
    """

    latents: torch.Tensor
    media: Sequence[Any]
    scores: Sequence[Score]
    log_weights: Floats
    spent: Spent
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> int | None:
        """Index of the highest score, the first of equal ones; None when every score failed."""
        return best_of(self.scores)

    def draw(self, seed: int) -> int | None:
        """Index of one sample drawn by weight; None when no weight is left."""
        log_weights = normalised(self.log_weights)
        if not np.isfinite(log_weights).any():
            return None
        return int(np.random.default_rng(seed).choice(len(log_weights), p=np.exp(log_weights)))


# --- weights ------------------------------------------------------------------------------------------------


def logsumexp(values: Floats) -> float:
    """ln(sum(exp(values))); -inf for none."""
    top = values.max(initial=-np.inf)
    return float(top + np.log(np.exp(values - top).sum())) if np.isfinite(top) else float(top)


def normalised(log_weights: Floats) -> Floats:
    """Log weights whose exponentials add up to 1; all -inf when there is no weight at all."""
    total = logsumexp(log_weights)
    return log_weights - total if np.isfinite(total) else np.full_like(log_weights, -np.inf)


def effective_size(log_weights: Floats) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2, between 1 and the number of particles."""
    return float(np.exp(2 * logsumexp(log_weights) - logsumexp(2 * log_weights)))


def systematic(log_weights: Floats, offset: float) -> NDArray[np.int64]:
    """Index of the particle that each slot continues, by systematic resampling (Kitagawa 1996).

    Every particle is taken floor(N w) or ceil(N w) times, w its normalised weight, and N w times on average
    over uniform offsets.

    Args:
        log_weights: (N,), not all -inf.
        offset: in [0, 1).
    """
    number = len(log_weights)
    # The unit interval is cut into one piece per particle, as wide as its weight, and N points 1 / N apart
    # say which particles go on. All points share one offset: a piece of width w holds floor(N w) or ceil(N w)
    # of them, where N independent draws (multinomial resampling) would add their own variance.
    edges = np.cumsum(np.exp(normalised(log_weights)))
    edges /= edges[-1]  # rounding must not leave the last point behind the last edge
    positions = (np.arange(number) + offset) / number
    # side="right": a point on an edge belongs to the piece that begins there, so weight 0 is never taken.
    return np.searchsorted(edges, positions, side="right").astype(np.int64).clip(max=number - 1)


# --- scores and their cost ----------------------------------------------------------------------------------


def values_of(scores: Sequence[Score]) -> Floats:
    """Values, NaN where a score failed."""
    return np.array([score.value for score in scores], dtype=np.float64)


def settled(scores: Scores, number: int) -> list[Score]:
    """The scores themselves, awaited where that is needed.

    Raises:
        ValueError: not one score per sample.
        TypeError: something else than scores.
    """
    done = list(asyncio.run(_awaited(scores)) if isinstance(scores, Awaitable) else scores)
    if len(done) != number:
        raise ValueError(f"the reward returned {len(done)} scores for {number} samples; one each is needed")
    if wrong := [one for one in done if not isinstance(one, Score)]:
        raise TypeError(f"the reward returned {type(wrong[0]).__name__}; mmreward.Score is needed")
    return done


async def _awaited(scores: Awaitable[Sequence[Score]]) -> Sequence[Score]:
    return await scores


class Counted:
    """A sampler and its rewards, with every use counted by prompt and cut into batches that fit memory.

    Args:
        sampler: what is sampled from.
        batch: rows in one call of the network or the decoder.

    Raises:
        ValueError: a batch below 1.
    """

    def __init__(self, sampler: Sampler, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch}")
        self.sampler, self.batch = sampler, batch
        self._spent = np.zeros((sampler.prompts, len(Spent._fields)), dtype=np.int64)

    def spent(self, prompt: int) -> Spent:
        """Cost of one prompt so far."""
        return Spent(*self._spent[prompt].tolist())

    def predict(self, states: torch.Tensor, i: int, prompts: Rows) -> torch.Tensor:
        """`Sampler.predict`, batch by batch."""
        self._count("forwards", prompts, self.sampler.forwards)
        return torch.cat(
            [self.sampler.predict(states[rows], i, prompts[rows]) for rows in self._batches(len(states))]
        )

    def decode(self, latents: torch.Tensor, prompts: Rows) -> list[Any]:
        """`Sampler.decode`, batch by batch."""
        self._count("decodes", prompts)
        return [one for rows in self._batches(len(latents)) for one in self.sampler.decode(latents[rows])]

    def score(self, reward: RewardFn, media: Sequence[Any], prompts: Rows) -> list[Score]:
        """One score per row, of a reward or of a judge's question; without rows there is no call."""
        if not media:
            return []
        self._count("calls", prompts)
        return settled(reward(media, prompts), len(media))

    def _count(self, what: str, prompts: Rows, times: int = 1) -> None:
        column = Spent._fields.index(what)
        self._spent[:, column] += times * np.bincount(prompts, minlength=len(self._spent))

    def _batches(self, number: int) -> list[slice]:
        return [slice(start, start + self.batch) for start in range(0, number, self.batch)]

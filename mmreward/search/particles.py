"""Rewards as searches call them: media and whose prompt each is for, to one score each."""

# FOLDED mmreward/tune/search/weights.py: Weights of particles, in log space: a reward of 500 times its strength is as good as any other.
# FOLDED mmreward/tune/search/found.py: What a search hands back for one prompt, and what it cost.
# FOLDED mmreward/tune/search/counted.py: A sampler and a reward whose use is counted, prompt by prompt, and cut into batches that fit memory.

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..compose import Recipe, combine
from ..engine.engine import Engine
from ..loading import Rewards, resolve
from ..media import Media
from ..sampling import shown
from ..types import Sample, Score
from .sampler import Rows, Sampler

Scores = Sequence[Score] | Awaitable[Sequence[Score]]
RewardFn = Callable[[Sequence[Any], Rows], Scores]
"""Decoded samples and the index of each one's prompt, to scores where higher is better. May be async; then a
search must not be called from a running event loop (use `asyncio.to_thread`)."""


def engine_reward(
    engine: Engine,
    rewards: Rewards,
    samples: Sequence[Sample],
    recipe: Recipe | None = None,
    *,
    timeout: float | None = None,
) -> RewardFn:
    """Rewards of the registry, run by an engine.

    Args:
        engine: it batches, caches and isolates failures.
        rewards: as for `Engine.score`.
        samples: one per prompt: prompt, target, meta and whatever else the rewards need; the picture or clip
            is filled in.
        recipe: how several rewards become one total; a single reward needs none, and is negated when lower is
            better.
        timeout: seconds for one score.

    Raises:
        ValueError: several rewards and no recipe.
    """
    loaded = resolve(rewards)
    if recipe is None and len(loaded) != 1:
        raise ValueError(f"a recipe is needed to make one total of {', '.join(loaded) or 'no reward'}")

    def score(media: Sequence[Any], prompts: Rows) -> Sequence[Score]:
        shown = [
            _shown(samples[p], one, index) for index, (p, one) in enumerate(zip(prompts, media, strict=True))
        ]
        columns = engine.score(shown, loaded, timeout=timeout)
        if recipe is not None:
            return combine(columns, recipe, [sample.group for sample in shown])
        ((name, column),) = columns.items()
        return column if loaded[name].info.higher_is_better else [_negated(one) for one in column]

    return score


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


def _shown(sample: Sample, media: Media, index: int) -> Sample:
    return shown(sample, media, id=f"{sample.id}#{index}")


def _negated(score: Score) -> Score:
    return replace(score, value=-score.value) if score.ok else score


Floats = NDArray[np.float64]


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
    """Which particle each slot continues, by systematic resampling (Kitagawa 1996).

    Every particle is taken floor(N w) or ceil(N w) times, w its normalised weight, and N w times on average
    over uniform offsets.

    Args:
        log_weights: (N,), not all -inf.
        offset: in [0, 1).
    """
    number = len(log_weights)
    edges = np.cumsum(np.exp(normalised(log_weights)))
    edges /= edges[-1]
    positions = (np.arange(number) + offset) / number
    return np.searchsorted(edges, positions, side="right").astype(np.int64).clip(max=number - 1)


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


class Counted:
    """Everything a search spends goes through here.

    Args:
        sampler: what is sampled from.
        batch: rows in one call of the network or the decoder.
    """

    def __init__(self, sampler: Sampler, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch}")
        self.sampler, self.batch = sampler, batch
        self._spent = np.zeros((sampler.prompts, len(Spent._fields)), dtype=np.int64)

    def spent(self, prompt: int) -> Spent:
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

    def ask(
        self, judge: Callable[[Sequence[Any], Rows], Scores], media: Sequence[Any], prompts: Rows
    ) -> list[Score]:
        """One score per row from a reward or a judge; nothing is asked about nothing."""
        if not media:
            return []
        self._count("calls", prompts)
        return settled(judge(media, prompts), len(media))

    def _count(self, what: str, prompts: Rows, times: int = 1) -> None:
        column = Spent._fields.index(what)
        self._spent[:, column] += times * np.bincount(prompts, minlength=len(self._spent))

    def _batches(self, number: int) -> list[slice]:
        return [slice(start, start + self.batch) for start in range(0, number, self.batch)]

"""Rewards as searches call them: media and whose prompt each is for, to one score each."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from ...compose import Recipe, combine
from ...engine import Engine
from ...loading import Rewards, resolve
from ...media import Media
from ...types import Sample, Score
from .sampler import Rows

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
    name = f"{sample.id}#{index}"
    if media.kind == "video":
        return replace(sample, id=name, video=media)
    return replace(sample, id=name, image=media)


def _negated(score: Score) -> Score:
    return replace(score, value=-score.value) if score.ok else score

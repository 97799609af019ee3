"""Scoring: every sample by every reward, with a failure as the status and note of its own row.

Point rewards take a sample, pair rewards play a tournament within each group, group rewards take the group
whole. Runs on the engine's loop, and knows nothing of networks or batches.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean

from .errors import Unscorable, reason_of
from .registry import Reward
from .types import Sample, Score, lacking, oversized, shortened

Progress = Callable[[int, str, Score], None]
Unit = tuple[str, Reward, tuple[int, ...]]
"""One evaluation: the reward's name, the reward, and the samples' indices (one, two in order, or a whole
group)."""

WINDOW = 4096
"""Evaluations under way at once: enough to fill batches, few enough that 100,000 samples stay small in
memory."""


async def score_all(
    samples: Sequence[Sample],
    rewards: Mapping[str, Reward],
    *,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> dict[str, list[Score]]:
    """Score every sample with every reward; see `Engine.score`."""
    scores: dict[str, list[Score | None]] = {name: [None] * len(samples) for name in rewards}

    def settle(name: str, index: int, score: Score) -> None:
        scores[name][index] = score
        if progress is not None:
            progress(index, name, score)

    units = _units(samples, rewards)

    async def worker() -> None:
        for name, reward, indices in units:
            members = [reward.view(samples[index]) for index in indices]
            results = await _evaluate(reward, members, timeout)
            for index, score in zip(indices, results, strict=True):
                settle(name, index, score)

    number = min(WINDOW, len(samples) * len(rewards))
    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(worker())
    done = {name: [score for score in column if score is not None] for name, column in scores.items()}
    assert all(len(column) == len(samples) for column in done.values()), "a score was lost"
    return done


async def score_one(sample: Sample, reward: Reward) -> Score:
    """Score one sample by one point reward, for rewards that combine others; a failure becomes a Score."""
    return (await _evaluate(reward, [reward.view(sample)], None))[0]


def _units(samples: Sequence[Sample], rewards: Mapping[str, Reward]) -> Iterator[Unit]:
    """Sample by sample, so that the rewards of one picture run close together and share what they can."""
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group if sample.group is not None else f"\0{index}", []).append(index)
    for index in range(len(samples)):
        for name, reward in rewards.items():
            if reward.info.arity == "point":
                yield name, reward, (index,)
    for members in groups.values():
        for name, reward in rewards.items():
            if reward.info.arity != "point":
                yield name, reward, tuple(members)


async def _evaluate(reward: Reward, samples: list[Sample], timeout: float | None) -> list[Score]:
    """One score per sample. A sample that cannot be scored is set aside before the reward sees the others."""
    refused = {
        i: reason for i, sample in enumerate(samples) if (reason := _refusal(sample, reward)) is not None
    }
    able = [shortened(sample) for i, sample in enumerate(samples) if i not in refused]
    fresh = iter(await _attempt(reward, able, timeout) if able else [])
    return [refused[i] if i in refused else next(fresh) for i in range(len(samples))]


def _refusal(sample: Sample, reward: Reward) -> Score | None:
    if reason := lacking(sample, reward.info.needs):
        return Score.failed("missing", reason)
    if reason := oversized(sample):
        return Score.failed("error", reason)
    if reward.info.arity != "point" and sample.group is None:
        return Score.failed("missing", f"{reward.info.name} compares samples, and this one has no group")
    return None


async def _attempt(reward: Reward, samples: list[Sample], timeout: float | None) -> list[Score]:
    if reward.info.arity == "point":
        return [await _guarded(reward, samples[0], timeout)]
    if reward.info.arity == "pair":
        return await _tournament(reward, samples, timeout)
    try:
        async with asyncio.timeout(timeout):
            results: list[Score] = await reward(samples)
        if len(results) != len(samples):
            raise ValueError(f"{reward.info.name} returned {len(results)} scores for {len(samples)} samples")
        return [_checked_alone(score, reward) for score in results]
    except (Exception, SystemExit) as error:  # one Score per sample says so
        return [failure(error, timeout)] * len(samples)


async def _tournament(reward: Reward, samples: list[Sample], timeout: float | None) -> list[Score]:
    """Every pair in both orders; a sample's value is its mean over the pairs that could be judged.

    A judge that prefers whatever comes first gives both orders opposite verdicts, which average to a tie;
    `swing` (mean disagreement between the orders) shows it.
    """
    if len(samples) < 2:
        return [Score.failed("na", "alone in its group: nothing to compare with")]
    low, high = reward.info.range
    pairs = list(combinations(range(len(samples)), 2))
    both = await asyncio.gather(
        *(_guarded(reward, (samples[a], samples[b]), timeout) for a, b in pairs),
        *(_guarded(reward, (samples[b], samples[a]), timeout) for a, b in pairs),
    )
    wins: list[list[float]] = [[] for _ in samples]
    swings: list[list[float]] = [[] for _ in samples]
    failures: list[list[Score]] = [[] for _ in samples]
    for (a, b), forth, back in zip(pairs, both, both[len(pairs) :], strict=False):
        for index in (a, b):
            failures[index].extend(score for score in (forth, back) if not score.ok)
        if forth.ok and back.ok:
            first = (forth.value + low + high - back.value) / 2
            wins[a].append(first)
            wins[b].append(low + high - first)
            for index in (a, b):
                swings[index].append(abs(forth.value - (low + high - back.value)))
    return [
        Score(fmean(won), {"judged": float(len(won)), "swing": fmean(swing)}) if won else failed[0]
        for won, swing, failed in zip(wins, swings, failures, strict=True)
    ]


async def _guarded(reward: Reward, samples: Sample | tuple[Sample, ...], timeout: float | None) -> Score:
    members = samples if isinstance(samples, tuple) else (samples,)
    try:
        async with asyncio.timeout(timeout):
            return checked(await reward(*members), reward)
    except (Exception, SystemExit) as error:  # becomes this row's status and note
        return failure(error, timeout)


def failure(error: BaseException, timeout: float | None) -> Score:
    """The Score of the rows of a reward that raised this exception."""
    while isinstance(error, ExceptionGroup):  # a reward that awaits its calls in a TaskGroup
        error = error.exceptions[0]
    if isinstance(error, Unscorable):
        return Score.failed(error.status, str(error), error.parts)
    if isinstance(error, TimeoutError):
        return Score.failed("timeout", str(error) or f"no score within {timeout} s")
    return Score.failed("error", reason_of(error))


def _checked_alone(score: Score, reward: Reward) -> Score:
    """One of a group's scores: if it is none, the others stand."""
    try:
        return checked(score, reward)
    except TypeError as error:
        return failure(error, None)


def checked(score: Score, reward: Reward) -> Score:
    """A value outside the declared range is a failure too: it would skew whatever is computed from it.

    Raises:
        TypeError: no Score, or one whose note is no text or whose parts are not numbers by name.
    """
    name = reward.info.name
    if not isinstance(score, Score):
        raise TypeError(f"{name} returned {type(score).__name__}, not a Score")
    if not isinstance(score.note, str):
        raise TypeError(f"{name} returned a Score with note={score.note!r:.80}: a note is text, or left out")
    if not isinstance(score.parts, Mapping):
        raise TypeError(f"{name} returned a Score with parts={score.parts!r:.80}: parts map names to numbers")
    for part, value in score.parts.items():
        if not isinstance(part, str) or not _is_number(value):
            raise TypeError(
                f"{name} returned a Score with a part {part!r:.80}: {value!r:.80}; parts map names to numbers"
            )
    low, high = reward.info.range
    slack = 1e-6 * max(
        1.0, abs(low) if math.isfinite(low) else 1.0, abs(high) if math.isfinite(high) else 1.0
    )
    if score.ok and not low - slack <= score.value <= high + slack:
        return Score.failed("out_of_range", f"{score.value} is outside [{low}, {high}]", score.parts)
    return score


def _is_number(value: object) -> bool:
    """True also for the numbers of numpy and torch."""
    if isinstance(value, str | bytes | complex):
        return False
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return False
    return True

"""Evaluation of one reward on the samples of one unit: a sample, a pair tournament or a whole group.

A reward is somebody's code: whatever it raises, returns or ignores becomes the status and note of its own
rows. Media are read on other threads before the reward is called, and its deadline is kept here; what blocks
the loop's thread is the watchdog's.
"""

import asyncio
import math
from collections.abc import Awaitable, Iterator, Mapping, Sequence, Set
from itertools import combinations
from statistics import fmean
from typing import Any

from .errors import Unscorable, reason_of, words
from .examining import examined
from .limits import limits
from .media import Media
from .registry import Reward
from .tracing import heard, noted, within
from .trust import redacted
from .types import Sample, Score, lacking, oversized, shortened


async def score_one(sample: Sample, reward: Reward, name: str = "") -> Score:
    """Score one sample by one point reward, for rewards that combine others; a failure becomes a Score.

    Args:
        sample: as the data has it.
        reward: the member.
        name: of the member in what is explained (see `tracing`); default: its own.
    """
    if not heard():
        return (await evaluate(reward, [reward.view(sample)], None))[0]
    with within(name or reward.info.name):
        score = (await evaluate(reward, [reward.view(sample)], None))[0]
        noted("earned", f"{score.value:.4g}" if score.ok else f"nothing: {score.status}, {score.note}")
        return score


async def judge_both(reward: Reward, first: Sample, second: Sample) -> tuple[Score, Score]:
    """Scores that a pair reward gives the first of two samples, and the second, each when it is shown first.

    A sample that cannot be judged fails both, as in `evaluate`.
    """
    members = [shortened(reward.view(sample)) for sample in (first, second)]
    refused = next((found for one in members if (found := _refusal(one, reward)) is not None), None)
    if refused is not None:
        return refused, refused
    forth, back = await asyncio.gather(
        _guarded(reward, (members[0], members[1]), None), _guarded(reward, (members[1], members[0]), None)
    )
    return forth, back


async def evaluate(reward: Reward, samples: list[Sample], timeout: float | None) -> list[Score]:
    """One score per sample. A sample that cannot be scored is set aside before the reward sees the others."""
    refused = {
        i: reason for i, sample in enumerate(samples) if (reason := _refusal(sample, reward)) is not None
    }
    able = [shortened(sample) for i, sample in enumerate(samples) if i not in refused]
    fresh = iter(await _attempt(reward, able, timeout) if able else [])
    return [refused[i] if i in refused else next(fresh) for i in range(len(samples))]


def _refusal(sample: Sample, reward: Reward) -> Score | None:
    if reason := lacking(sample, reward.info.needs, reward.columns):
        return Score.failed("missing", reason + _by_frames(sample, reward))
    if reason := oversized(sample):
        return Score.failed("error", reason)
    if reward.info.arity != "point" and sample.group is None:
        return Score.failed("missing", f"{reward.info.name} compares samples, and this one has no group")
    return None


def _by_frames(sample: Sample, reward: Reward) -> str:
    """Hint at the option with which a reward of pictures scores the sample's clip."""
    info = reward.info
    if info.arity != "point" or "image" not in info.needs or sample.image is not None or sample.video is None:
        return ""
    return f"; it has a clip: give {info.name} `frames: mean` (or min, first, a number) to score its frames"


async def _attempt(reward: Reward, samples: list[Sample], timeout: float | None) -> list[Score]:
    if reward.info.arity == "point":
        return [await _guarded(reward, samples[0], timeout)]
    if reward.info.arity == "pair":
        return await _tournament(reward, samples, timeout)
    task = asyncio.current_task()
    try:
        results: list[Score] = await _within(timeout, _called(reward, samples, samples))
        if len(results) != len(samples):
            raise ValueError(f"{reward.info.name} returned {len(results)} scores for {len(samples)} samples")
        return [_checked_alone(score, reward) for score in results]
    except BaseException as error:  # one Score per sample says so
        if not its_own(error, task):
            raise
        return [failure(error, timeout)] * len(samples)


async def _tournament(reward: Reward, samples: list[Sample], timeout: float | None) -> list[Score]:
    """Every pair in both orders; a sample's value is its mean over the pairs that could be judged.

    A judge that prefers whatever comes first gives both orders opposite verdicts, which average to a tie;
    `swing` (mean disagreement between the orders) shows it. Where a judge says how uncertain it is, the
    spread of the two orders is added as variances are; `PASSED_ON` are means over its judgements.
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
    said: list[list[Mapping[str, float]]] = [[] for _ in samples]
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
                said[index] += [forth.parts, back.parts]
    return [
        Score(fmean(won), _tally(swing, parts)) if won else failed[0]
        for won, swing, parts, failed in zip(wins, swings, said, failures, strict=True)
    ]


PASSED_ON = ("confidence", "contradiction", "meta", "votes")
"""Parts of a judgement of a pair that hold for both of it."""


def _tally(swings: list[float], said: list[Mapping[str, float]]) -> dict[str, float]:
    parts = {"judged": float(len(swings)), "swing": fmean(swings)}
    for name in PASSED_ON:
        if all(name in one for one in said):
            parts[name] = fmean(one[name] for one in said)
    if all("uncertainty" in one for one in said):
        # The variance within the orders and that between two values, which is their distance halved.
        within = fmean(one["uncertainty"] ** 2 for one in said)
        parts["uncertainty"] = math.sqrt(within + fmean((swing / 2) ** 2 for swing in swings))
    return parts


async def _guarded(reward: Reward, samples: Sample | tuple[Sample, ...], timeout: float | None) -> Score:
    members = samples if isinstance(samples, tuple) else (samples,)
    task = asyncio.current_task()
    try:
        return checked(await _within(timeout, _called(reward, members, *members)), reward)
    except BaseException as error:  # becomes this row's status and note
        if not its_own(error, task):
            raise
        return failure(error, timeout)


async def _within(timeout: float | None, work: Awaitable[Any]) -> Any:
    """Await a reward under its deadline. What it makes of being cancelled, a score or another exception, is
    no score.

    Raises:
        TimeoutError: the deadline passed.
    """
    if timeout is None:
        return await work
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            result = await work
    except BaseException as error:
        if limit.expired() and isinstance(error, Exception):
            raise TimeoutError from None
        raise
    if limit.expired():
        raise TimeoutError
    return result


def its_own(error: BaseException, task: "asyncio.Task[Any] | None") -> bool:
    """True for an exception that the reward raised; False for the end of the task that runs it.

    Any exception may be raised by a reward, an interrupt and the two that also end coroutines included.
    """
    if isinstance(error, asyncio.CancelledError):
        return task is not None and not task.cancelling()
    if isinstance(error, GeneratorExit):  # of `coroutine.close`, which is no turn of this task
        try:
            return task is not None and asyncio.current_task() is task
        except RuntimeError:  # no loop runs
            return False
    return True


async def _called(reward: Reward, samples: Sequence[Sample], *given: Any) -> Any:
    """Call a reward once the media it may look at have been read, on other threads."""
    fields = reward.info.looked_at
    await examined(media for sample in samples for media in media_in(sample, fields))
    return await reward(*given)


def media_in(sample: Sample, fields: Set[str]) -> Iterator[Media]:
    """Media in these fields of a sample, each once; episodes and steps look at their own."""
    if sample.image is not None and not fields.isdisjoint(("image", "shown")):
        yield sample.image
    if sample.video is not None and ("video" in fields or ("shown" in fields and sample.image is None)):
        yield sample.video
    if "inputs" in fields:
        yield from sample.inputs


def failure(error: BaseException, timeout: float | None) -> Score:
    """The Score of the rows of a reward that raised this exception."""
    while isinstance(error, BaseExceptionGroup):  # a reward that awaits its calls in a TaskGroup
        error = error.exceptions[0]
    if isinstance(error, Unscorable):
        return Score.failed(error.status, _note(words(error)), error.parts)
    if isinstance(error, TimeoutError):
        return Score.failed("timeout", _note(words(error)) or f"no score within {timeout} s")
    return Score.failed("error", _note(reason_of(error)))


def _note(text: str) -> str:
    """A message as a note: keys are hidden first, as a piece of one that was cut is not found any more."""
    return redacted(text)[: limits().note_characters]


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

"""Curves of an episode's value and what they are worth: order by time, recurrences of hops, and numbers that
a judge wrote or that steps hold.

What cannot be read is None in a curve and is never taken for a number. Pure functions.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import Unscorable
from ...verifiers.text import nfkc
from ..published.grammar import LONGEST, MINUS

Curve = Sequence[float | None]
SIGNED = re.compile(r"[+-]?\d{1,9}(?:\.\d{1,9})?")
SCORED = re.compile(r"<\s*score\s*>(.{0,80}?)<\s*/\s*score\s*>", re.DOTALL | re.IGNORECASE)


# --- order ------------------------------------------------------------------------------------------------


def voc(values: Curve) -> float | None:
    """Value-order correlation: Spearman's correlation of values and their order in time, -1 to 1, ties by
    their mean rank; None where it is undefined, of fewer than two values or of equal ones.

    >>> voc([0, 10, 20, 15, 50]), voc([5, 4, 3, 2, 1]), voc([7, 7, 7])
    (0.9, -1.0, None)
    >>> round(voc([0, 20, 20, 50]), 6)
    0.948683

    Raises:
        ValueError: a value that is not finite.
    """
    known = [(place, float(value)) for place, value in enumerate(values) if value is not None]
    if not all(math.isfinite(value) for _, value in known):
        raise ValueError("a value is not finite: leave it out as None")
    if len(known) < 2 or len({value for _, value in known}) < 2:
        return None
    ranks, mean = _ranks([value for _, value in known]), (len(known) - 1) / 2
    above = math.fsum((rank - mean) * (place - mean) for place, rank in enumerate(ranks))
    spread = math.fsum((rank - mean) ** 2 for rank in ranks)
    times = math.fsum((place - mean) ** 2 for place in range(len(known)))
    return max(-1.0, min(1.0, round(above / math.sqrt(spread * times), 12)))


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0, equal values by the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in order[start : end + 1]:
            ranks[place] = (start + end) / 2
        start = end + 1
    return ranks


def covered(values: Curve) -> float:
    """Share of values that are known."""
    return sum(value is not None for value in values) / len(values) if values else 0.0


# --- hops -------------------------------------------------------------------------------------------------


class Walked(NamedTuple):
    """A curve of progress, how many of its hops were not known (it holds there), and how many of its values
    had to be brought into 0 to 1."""

    progress: tuple[float, ...]
    gaps: int
    clamps: int = 0


def walked(hops: Curve, start: float = 0.0) -> Walked:
    """Progress from hops, each a share of what remains (above 0) or of what was made (below 0): from 0, and
    always within 0 to 1; Robo-Dopamine's incremental curve, and VLAC's value / 100.

    >>> walked([0.5, 0.5, -0.5]).progress
    (0.0, 0.5, 0.75, 0.375)
    """
    progress, gaps = [start], 0
    for hop in hops:
        before = progress[-1]
        if hop is None:
            gaps += 1
            progress.append(before)
        else:
            progress.append(before + (1 - before) * hop if hop >= 0 else before + before * hop)
    return Walked(tuple(progress), gaps)


def anchored(hops: Curve, *, end: bool) -> Walked:
    """Progress from hops between an anchor and each frame: the hop itself from the start, where progress is
    0; 1 + hop from the end of the task, where it is 1. What is not known holds the value before.

    Args:
        hops: of the frames after the first.
        end: the anchor is the finished task.
    """
    progress, gaps, clamps = [0.0], 0, 0
    for hop in hops:
        if hop is None:
            gaps += 1
            progress.append(progress[-1])
            continue
        value = 1 + hop if end else hop
        clamps += not 0 <= value <= 1
        progress.append(min(1.0, max(0.0, value)))
    return Walked(tuple(progress), gaps, clamps)


def fused(curves: Sequence[Walked]) -> Walked:
    """Mean of several curves of the same frames."""
    together = zip(*(one.progress for one in curves), strict=True)
    progress = tuple(math.fsum(values) / len(values) for values in together)
    return Walked(progress, sum(one.gaps for one in curves), sum(one.clamps for one in curves))


# --- what judges write ------------------------------------------------------------------------------------


def read_hop(text: Any) -> float:
    """A hop from -1 to 1: the one signed number in the last <score>, a percentage from -100 to 100 whatever
    its size. 0.4 is 0.4 %: no scale is guessed.

    Raises:
        Unscorable: "missing" without a score, "unparsable" for what is no one number, "out_of_range".
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise Unscorable(f"no_score: {'no text' if not isinstance(text, str) else 'too long'}", "unparsable")
    plain = nfkc(text).translate(MINUS)
    found = SCORED.findall(plain)
    if not found:
        raise Unscorable(f"no_score: no <score> in {text.strip()[-80:]!r}", "missing")
    bare = found[-1].strip().removesuffix("%").strip()
    if SIGNED.fullmatch(bare) is None:
        raise Unscorable(f"no_number: the score is {found[-1].strip()[:40]!r}", "unparsable")
    percent = float(bare)
    if not -100 <= percent <= 100:
        raise Unscorable(f"out_of_range: the score is {percent:g} %, outside -100 to 100", "out_of_range")
    return percent / 100


LISTS = re.compile(r"\[[^\[\]]*\]", re.DOTALL)
TRAILING = re.compile(r",(\s*[}\]])")


def read_percentages(text: Any, count: int, key: str = "task_completion_percentage") -> list[float | None]:
    """Percentages of frames 1 to `count` from the last list of JSON objects; None for a frame without one.

    Commas before a closing bracket are let pass.

    Args:
        text: of the judge.
        count: of frames that were shown.
        key: of the percentage, beside `frame_number`.

    Raises:
        Unscorable: "missing" without a list, "unparsable" for one that is no JSON, has a frame twice or one
            that was not shown, or a percentage that is no number; "out_of_range".
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise Unscorable(f"no_list: {'no text' if not isinstance(text, str) else 'too long'}", "unparsable")
    lists = LISTS.findall(text)
    if not lists:
        raise Unscorable(f"no_list: no list of frames in {text.strip()[-80:]!r}", "missing")
    try:
        items = json.loads(TRAILING.sub(r"\1", lists[-1]))
    except (ValueError, RecursionError) as error:
        raise Unscorable(f"no_list: the last list is no JSON ({error})", "unparsable") from None
    found: list[float | None] = [None] * count
    for item in items:
        number = item.get("frame_number") if isinstance(item, dict) else None
        if isinstance(number, bool) or not isinstance(number, int):
            raise Unscorable(f"no_frame: an item without a frame_number: {str(item)[:60]}", "unparsable")
        if not 1 <= number <= count:
            raise Unscorable(f"extra_frame: frame {number} was not shown, of {count}", "unparsable")
        if found[number - 1] is not None:
            raise Unscorable(f"frame_twice: frame {number} stands there twice", "unparsable")
        value = item.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Unscorable(f"no_number: frame {number} has {str(value)[:40]!r}", "unparsable")
        if not 0 <= value <= 100:
            raise Unscorable(f"out_of_range: frame {number} has {value:g} %", "out_of_range")
        found[number - 1] = float(value)
    return found


def curve_parts(numbers: Sequence[int], values: Curve) -> dict[str, float]:
    """The values of frames as parts of a score, `frame_N` by the frames' numbers; unknown ones left out."""
    pairs = zip(numbers, values, strict=True)
    return {f"frame_{number}": float(value) for number, value in pairs if value is not None}


# --- what steps hold --------------------------------------------------------------------------------------


def numbers_of(
    steps: Sequence[Any], key: str, places: Sequence[int], otherwise: str = ""
) -> NDArray[np.float64]:
    """Actions or states of some steps, (T, N), each a list of numbers.

    Args:
        steps: of a sample.
        key: "action" or "state".
        places: numbers of the steps.
        otherwise: ending of the message where one has none.

    Raises:
        Unscorable: "missing" where a step has none, "unparsable" for one that is no list of finite numbers of
            one length; names the step.
    """
    rows: list[NDArray[np.float64]] = []
    for place in places:
        step = steps[place] if place < len(steps) else None
        given = step.get(key) if isinstance(step, Mapping) else None
        if given is None:
            raise Unscorable(f"step {place} has no {key}{otherwise}", "missing")
        try:
            row = np.asarray(given)
        except (TypeError, ValueError):  # lists of several lengths
            row = np.empty((0, 0))
        if row.ndim != 1 or not row.size or row.dtype.kind not in "iuf" or not np.isfinite(row).all():
            said = f"step {place}: its {key} is no list of finite numbers"
            raise Unscorable(said, "unparsable")
        rows.append(row.astype(np.float64))
    if len({len(row) for row in rows}) > 1:
        raise Unscorable(f"the {key}s have different lengths", "unparsable")
    return np.stack(rows)

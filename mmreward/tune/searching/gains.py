"""What a search gained, reward by reward: the chosen picture against the first one of the same prompt."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from ...types import Score
from .job import Found


class Gain(NamedTuple):
    """Means over the prompts whose two scores both worked, and the mean difference."""

    first: float
    best: float
    margin: float
    """Half the width of the difference's 95 % interval (Student's t over prompts); NaN below two prompts."""
    number: int

    @property
    def difference(self) -> float:
        return self.best - self.first


def gain_of(first: Sequence[Score], best: Sequence[Score]) -> Gain | None:
    """The paired gain; None when no pair worked. Failed scores are left out, with their partner."""
    pairs = [(a.value, b.value) for a, b in zip(first, best, strict=True) if a.ok and b.ok]
    if not pairs:
        return None
    margin = math.nan
    if len(pairs) > 1:
        from scipy.stats import t

        error = stdev(b - a for a, b in pairs) / math.sqrt(len(pairs))
        margin = float(t.ppf(0.975, len(pairs) - 1)) * error
    return Gain(fmean(a for a, _ in pairs), fmean(b for _, b in pairs), margin, len(pairs))


def gain_table(found: Sequence[Found], columns: Mapping[str, Sequence[Score]], title: str) -> str:
    """A table in plain text: a line per reward, `columns` being the scores of all shots in order."""
    firsts, bests, position = [], [], 0
    for one in found:
        if one.best is not None:
            firsts.append(position)
            bests.append(position + one.best)
        position += len(one.shots)
    cost = fmean(one.forwards for one in found)
    lines = [
        f"{title}: {len(found)} prompts, {position} pictures, {cost:.0f} forward passes per prompt",
        f"{'reward':<20} {'first':>8} {'chosen':>8} {'gain':>8}  95 % interval     prompts",
    ]
    for name, column in columns.items():
        gain = gain_of([column[index] for index in firsts], [column[index] for index in bests])
        if gain is None:
            lines.append(f"{name:<20} {'-':>8} {'-':>8} {'-':>8}  {'-':<16}  0 of {len(found)}")
            continue
        low, high = gain.difference - gain.margin, gain.difference + gain.margin
        interval = f"[{low:+.3f}, {high:+.3f}]" if gain.number > 1 else "-"
        lines.append(
            f"{name:<20} {gain.first:8.3f} {gain.best:8.3f} {gain.difference:+8.3f}  {interval:<16}  "
            f"{gain.number} of {len(found)}"
        )
    return "\n".join(lines)

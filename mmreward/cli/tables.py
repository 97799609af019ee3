"""Tables of text that commands end with: the scores of a run, and a comparison of runs."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FINE, Status
from ..monitor.intervals import Interval, mean_of

if TYPE_CHECKING:
    from mmreward.evals.report.compare import Comparison

SCORES = ("reward", "scored", "mean", "95 % interval", "lowest", "highest", "failed")
MAX_SOURCES = 64
"""Sources above which there is no table of them."""
CHANGES = ("reward", "n", "before", "after", "change", "95 % interval", "better", "worse", "tied", "win rate")


def score_table(
    values: Mapping[str, Sequence[float]],
    statuses: Mapping[str, Mapping[Status, int]],
    units: Sequence[Hashable],
) -> str:
    """The scores of a run, a line for each reward; intervals are those of the mean, over independent prompts.

    Args:
        values: of each reward, NaN where a score failed.
        statuses: of each reward, the number of scores with each status.
        units: the independent unit of each row, see `data.rows.unit_of`.
    """
    rows: list[Sequence[str]] = [SCORES]
    for name, column in values.items():
        measured = mean_of(column, units)
        kept = np.asarray(column)[np.isfinite(column)]
        bad = [f"{n} {status}" for status, n in sorted(statuses[name].items()) if status not in FINE]
        figures = ["-"] * 4
        if len(kept):
            mean, lowest, highest = (f"{one:.4g}" for one in (measured.mean, kept.min(), kept.max()))
            figures = [mean, _ends(measured.interval, ""), lowest, highest]
        rows.append((name, f"{len(kept)}/{len(column)}", *figures, ", ".join(bad) or "-"))
    return "\n".join(_aligned(rows))


def source_table(values: Mapping[str, Sequence[float]], sources: Sequence[str]) -> str:
    """The mean of each reward by source, and the mean of these means, in which every source counts alike.

    Empty where the rows have fewer than two sources, or more than `MAX_SOURCES`. A failed score is in no
    mean, and a source without any score leaves none of the means to be summarised.

    Args:
        values: of each reward, NaN where a score failed.
        sources: of each row.
    """
    names = [name for name in dict.fromkeys(sources) if name]
    if not 2 <= len(names) <= MAX_SOURCES:
        return ""
    of = np.asarray(sources)
    rows: list[Sequence[str]] = [("source", "rows", *values)]
    means: dict[str, list[float]] = {reward: [] for reward in values}
    for name in names:
        for reward, column in values.items():
            own = np.asarray(column)[of == name]
            kept = own[np.isfinite(own)]
            means[reward].append(float(kept.mean()) if len(kept) else math.nan)
        rows.append((name, str(int((of == name).sum())), *(_figure(means[reward][-1]) for reward in values)))
    overall = [_figure(float(np.mean(column))) for column in means.values()]
    rows.append(("mean of sources", str(sum(map(bool, sources))), *overall))
    return "\n".join(_aligned(rows))


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def unit_note(units: Sequence[Hashable]) -> str:
    """The number of prompts that the intervals are over, where several rows share one; else empty."""
    distinct = len(set(units))
    if distinct == len(units):
        return ""
    return f"intervals over {distinct} independent prompt{'s' * (distinct != 1)}"


def comparison_table(found: Sequence["Comparison"]) -> str:
    """Comparisons: a block for each run, a line for each reward, then cautions and the largest moves."""
    lines: list[str] = []
    for run in dict.fromkeys(one.run for one in found):
        block = [one for one in found if one.run == run]
        if lines:
            lines.append("")
        lines.append(f"{run} against {block[0].first}")
        lines += _aligned([CHANGES, *map(_change, block)])
        for one in block:
            lines += _remarks(one)
    return "\n".join(lines)


def _change(one: "Comparison") -> tuple[str, ...]:
    if not one.n:
        return (one.reward, "0", *["-"] * (len(CHANGES) - 2))
    figures = f"{one.before:.4g}", f"{one.after:.4g}", f"{one.change:+.4g}", _ends(one.interval, "+")
    counts = str(one.better), str(one.worse), str(one.tied)
    return one.reward, str(one.n), *figures, *counts, f"{one.win_rate:.1%}"


def _remarks(one: "Comparison") -> Iterator[str]:
    for caution in one.cautions:
        yield f"  {one.reward}: {caution}"
    for label, ends in (("gained", one.gained), ("lost", one.lost)):
        if ends:
            yield f"  {one.reward}, {label} most: " + ", ".join(f"{name} ({by:+.3g})" for name, by in ends)


def _ends(interval: Interval | None, sign: str) -> str:
    """Both ends; a dash where fewer than two prompts were scored."""
    return "-" if interval is None else f"{interval.low:{sign}.4g} to {interval.high:{sign}.4g}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines, each column as wide as its widest cell: not cut where the output is a narrow pipe."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()

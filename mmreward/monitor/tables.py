"""Scores of a run as a table of text: the end of `mmreward score`, and the result of `mmreward.score`."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

from ..errors import FINE, Status
from .intervals import Interval, mean_of

SCORES = ("reward", "scored", "mean", "95 % interval", "lowest", "highest", "failed")
MAX_SOURCES = 64
"""Sources above which there is no table of them."""


def score_rows(
    values: Mapping[str, Sequence[float]],
    statuses: Mapping[str, Mapping[Status, int]],
    units: Sequence[Hashable],
) -> list[tuple[str, ...]]:
    """The cells of `SCORES`, a row for each reward; intervals are of the mean, over independent prompts.

    Args:
        values: of each reward, NaN where a score failed.
        statuses: of each reward, the number of scores with each status.
        units: the independent unit of each row, see `data.rows.unit_of`.
    """
    rows: list[tuple[str, ...]] = []
    for name, column in values.items():
        measured = mean_of(column, units)
        kept = np.asarray(column, dtype=float)[np.isfinite(column)]
        bad = [f"{n} {status}" for status, n in sorted(statuses[name].items()) if status not in FINE]
        figures = ["-"] * 4
        if len(kept):
            mean, lowest, highest = (f"{one:.4g}" for one in (measured.mean, kept.min(), kept.max()))
            figures = [mean, ends(measured.interval, ""), lowest, highest]
        rows.append((name, f"{len(kept)}/{len(column)}", *figures, ", ".join(bad) or "-"))
    return rows


def score_table(
    values: Mapping[str, Sequence[float]],
    statuses: Mapping[str, Mapping[Status, int]],
    units: Sequence[Hashable],
) -> str:
    """The scores of a run, a line for each reward; see `score_rows`."""
    return "\n".join(aligned([SCORES, *score_rows(values, statuses, units)]))


def unit_note(units: Sequence[Hashable]) -> str:
    """The number of prompts that the intervals are over, where several rows share one; else empty."""
    distinct = len(set(units))
    if distinct == len(units):
        return ""
    return f"intervals over {distinct} independent prompt{'s' * (distinct != 1)}"


def ends(interval: Interval | None, sign: str) -> str:
    """Both ends; a dash where fewer than two prompts were scored."""
    return "-" if interval is None else f"{interval.low:{sign}.4g} to {interval.high:{sign}.4g}"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines, each column as wide as its widest cell: not cut where the output is a narrow pipe."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


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
    return "\n".join(aligned(rows))


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"

"""The table of scores that `mmreward score` ends with: coverage, mean, interval and spread of each reward."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import FINE, Status
from ..monitor.intervals import mean_of

HEADINGS = ("reward", "scored", "mean", "95 % interval", "lowest", "highest", "failed")


def score_table(
    values: Mapping[str, Sequence[float]],
    statuses: Mapping[str, Mapping[Status, int]],
    units: Sequence[Hashable],
) -> str:
    """Plain text, one line per reward, under a line of headings.

    The interval is that of the mean, over prompts (see `monitor.intervals`); a dash where fewer than two
    prompts were scored.

    Args:
        values: of each reward, NaN where a score failed.
        statuses: of each reward, the number of scores with each status.
        units: the independent unit of each row.
    """
    rows: list[tuple[str, ...]] = [HEADINGS]
    for name, column in values.items():
        measured = mean_of(column, units)
        kept = np.asarray(column)[np.isfinite(column)]
        counts = Counter(statuses[name])
        bad = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()) if status not in FINE)
        shown = [name, f"{len(kept)}/{len(column)}", *["-"] * 4, bad or "-"]
        if len(kept):
            between = measured.interval
            shown[2] = f"{measured.mean:.4g}"
            shown[3] = "-" if between is None else f"{between.low:.4g} to {between.high:.4g}"
            shown[4:6] = f"{kept.min():.4g}", f"{kept.max():.4g}"
        rows.append(tuple(shown))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def unit_note(units: Sequence[Hashable]) -> str:
    """The number of prompts that the intervals are over, where several rows share one."""
    distinct = len(set(units))
    return (
        ""
        if distinct == len(units)
        else f"intervals over {distinct} independent prompt{'s' * (distinct != 1)}"
    )


def next_command(out: Path) -> str:
    """The line that says what to type next."""
    return f"next: mmreward report {out}"

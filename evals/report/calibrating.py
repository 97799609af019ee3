"""Calibration of a judge as text, JSON and a page: figures with intervals, and the bins of its confidence.

`mmreward judge calibrate` ends here; `mmreward.judges.calibration` computes what is shown.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmreward.judges.calibration import Calibration, Figure
from mmreward.monitor.intervals import Interval
from mmreward.monitor.tables import aligned, ends

from .html import render, write_page

HEADS = ("figure", "value", "95 % interval", "n", "")


def as_text(found: Calibration) -> str:
    """A line for each figure, then the bins of confidence, then what failed."""
    lines = [f"{found.judge}: {found.comparisons} comparisons"]
    lines += aligned([HEADS, *(_cells(one) for one in found.figures)])
    if found.bins:
        lines += ["", *aligned([("confidence", "right", "n"), *_bins(found)])]
    if found.failures:
        lines += ["", failed(found)]
    return "\n".join(lines)


def failed(found: Calibration) -> str:
    """What could not be judged, by status, in words; empty where all could."""
    counts = ", ".join(f"{number} {status}" for status, number in sorted(found.failures.items()))
    return f"judgements that failed: {counts}" if counts else ""


def _cells(one: Figure) -> tuple[str, ...]:
    return one.name, f"{one.value:.4g}", ends(one.interval, ""), str(one.n), one.words


def _bins(found: Calibration) -> Iterator[tuple[str, ...]]:
    for sure, right, number in found.bins:
        yield f"{sure:.3f}", f"{right:.3f}", str(number)


def as_json(found: Calibration) -> str:
    """One object, without the words; null where there is no number or interval."""

    def plain(interval: Interval | None) -> list[float] | None:
        return None if interval is None else [interval.low, interval.high]

    figures: dict[str, Any] = {
        one.name: {
            "value": one.value if math.isfinite(one.value) else None,
            "interval": plain(one.interval),
            "n": one.n,
        }
        for one in found.figures
    }
    bins = [{"confidence": sure, "right": right, "n": number} for sure, right, number in found.bins]
    shown = {"judge": found.judge, "comparisons": found.comparisons, "figures": figures, "bins": bins}
    return json.dumps({**shown, "failures": dict(found.failures)}, indent=2)


def write_calibration(found: Calibration, data: str, out: Path) -> Path:
    """Write the page, and return where it is.

    Args:
        data: the name of what was judged.

    Raises:
        ValueError: `out` is no .html file.
    """
    name, _, arguments = found.judge.partition(":")
    document = render(
        "calibration.html",
        title=f"Calibration of {name}",
        name=name,
        arguments=arguments.replace(",", ", "),
        found=found,
        data=data,
        failed=failed(found),
    )
    return write_page(out, out, document)

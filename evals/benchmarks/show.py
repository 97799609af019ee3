"""A measured benchmark as text, JSON and CSV; and the list of all benchmarks."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from mmreward.monitor.intervals import Interval
from mmreward.monitor.tables import aligned, ends

from .benchmark import Benchmark, Line, Measurement

HEADS = ("rule", "all", "95 % interval", "valid", "95 % interval", "units", "")
FIELDS = (
    "benchmark", "source", "rule", "strict", "strict_low", "strict_high", "valid", "valid_low", "valid_high",
    "units", "unit", "n", "answered", "invalid", "missing", "higher_is_better", "legacy",
)  # fmt: skip
SHOWN = 3
"""Ids that are named of a kind."""
REASON = 100
"""Characters of a reason that are printed."""


def listed(all_of_them: Sequence[Benchmark]) -> str:
    """A line for each benchmark, and how one is measured."""
    rows = [("name", "labels", "unit", ""), *((b.name, b.labels, b.unit, b.summary) for b in all_of_them)]
    return "\n".join(
        [*aligned(rows), "", "mmreward benchmark NAME PREDICTIONS --data LABELS, or --reward REWARD"]
    )


def listed_json(all_of_them: Sequence[Benchmark]) -> str:
    """One array."""
    return json.dumps(
        [
            {
                "name": one.name,
                "summary": one.summary,
                "paper": one.paper,
                "labels": one.labels,
                "unit": one.unit,
                "keys": list(one.keys),
                "rewards": one.rows is not None,
                "rules": {rule.name: rule.words for rule in one.rules},
            }
            for one in all_of_them
        ],
        indent=2,
    )


def as_text(found: Measurement) -> str:
    """Counts, a line for each rule, and what was wrong with the predictions."""
    words = f"{found.benchmark.name}, {found.source}: {found.answered} of {found.n} items answered"
    lines = [
        f"{words}, coverage {found.coverage:.1%}, {len(found.answers.invalid)} invalid, "
        f"{len(found.missing)} missing",
        *aligned([HEADS, *map(_cells, found.lines)]),
        f"intervals over {found.benchmark.unit}s unless a rule says otherwise, {found.draws} draws, seed "
        f"{found.seed}",
    ]
    if found.answered < found.n:
        lines.append("`all` counts invalid and missing items as the worst answer; `valid` leaves them out")
    lines += [*_troubles(found), *(f"  caution: {words}" for words in found.cautions)]
    for shown in found.tables:
        lines += ["", shown.name, *aligned([shown.heads, *(tuple(map(_cell, row)) for row in shown.rows)])]
    return "\n".join(lines)


def _cell(value: str | int | float) -> str:
    return _figure(value) if isinstance(value, float) else str(value)


def _cells(line: Line) -> tuple[str, ...]:
    down = ", lower is better" if line.rule.higher_is_better is False else ""
    legacy = ", LEGACY: repeats a fault of the published code" if line.rule.legacy else ""
    return (
        line.rule.name,
        _figure(line.strict),
        ends(line.interval, ""),
        _figure(line.valid),
        ends(line.valid_interval, ""),
        str(line.units),
        line.rule.words + down + legacy,
    )


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _troubles(found: Measurement) -> Iterator[str]:
    answers = found.answers
    for reason, number in _reasons(found).most_common():
        yield f"  invalid: {number} x {reason}"
    if found.missing:
        yield f"  missing: {_some(found.missing)}"
    if answers.unknown:
        yield f"  predictions for no item: {_some(answers.unknown)}"
    if answers.repeated:
        yield f"  predictions that were there before: {answers.repeated}"
    for reason, number in answers.unreadable.items():
        yield f"  unreadable: {number} x {' '.join(reason.split())[:REASON]}"


def _reasons(found: Measurement) -> Counter[str]:
    return Counter(
        f"{one.status}, {' '.join(one.reason.split())[:REASON]}" for one in found.answers.invalid.values()
    )


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def as_json(found: Measurement) -> str:
    """One object; null where a figure is undefined or has no interval."""
    answers = found.answers
    shown = {
        "benchmark": found.benchmark.name,
        "source": found.source,
        "version": version("mmreward"),
        "n": found.n,
        "answered": found.answered,
        "coverage": found.coverage,
        "invalid": len(answers.invalid),
        "invalid_reasons": dict(_reasons(found)),
        "missing": list(found.missing),
        "unknown": list(answers.unknown),
        "repeated": answers.repeated,
        "unreadable": dict(answers.unreadable),
        "unit": found.benchmark.unit,
        "interval": {"method": "bootstrap percentiles over units", "draws": found.draws, "seed": found.seed},
        "rules": {
            line.rule.name: {
                "strict": _plain(line.strict),
                "strict_interval": _ends(line.interval),
                "valid": _plain(line.valid),
                "valid_interval": _ends(line.valid_interval),
                "units": line.units,
                "higher_is_better": line.rule.higher_is_better,
                "legacy": line.rule.legacy,
            }
            for line in found.lines
        },
        "cautions": list(found.cautions),
        "tables": {
            shown.name: [dict(zip(shown.heads, map(_value, row), strict=True)) for row in shown.rows]
            for shown in found.tables
        },
    }
    return json.dumps(shown, indent=2, ensure_ascii=False)


def as_csv(found: Measurement) -> str:
    """A row for each rule, under `FIELDS`; an empty cell where there is no figure."""
    file = io.StringIO(newline="")
    table = csv.writer(file, lineterminator="\n")
    table.writerow(FIELDS)
    for line in found.lines:
        low, high = _ends(line.interval) or (None, None)
        valid_low, valid_high = _ends(line.valid_interval) or (None, None)
        table.writerow(
            (
                found.benchmark.name, found.source, line.rule.name, _plain(line.strict), low, high,
                _plain(line.valid), valid_low, valid_high, line.units,
                line.rule.unit or found.benchmark.unit, found.n, found.answered,
                len(found.answers.invalid), len(found.missing), line.rule.higher_is_better, line.rule.legacy,
            )
        )  # fmt: skip
    return file.getvalue().rstrip("\n")


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _value(value: str | int | float) -> str | int | float | None:
    return _plain(value) if isinstance(value, float) else value


def _ends(interval: Interval | None) -> list[Any] | None:
    return None if interval is None else [interval.low, interval.high]

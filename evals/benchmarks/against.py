"""Several files of predictions on one benchmark: paired differences, and how often each is ahead.

Differences are of the strict readings, on the same draws of units for both, so that what the items have in
common goes out of the interval. The win rate is that of HELM: for each stratum of the benchmark the share of
the other files that one is ahead of by the headline rule (a tie is a half), mean over strata.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mmreward.monitor.intervals import DRAWS, Interval, bootstrapped_all
from mmreward.monitor.tables import aligned, ends

from .benchmark import Answers, Benchmark, Columns, Item, Rule, columns_for, part_of


class Difference(NamedTuple):
    """A rule of one file less that of the first, where both are defined."""

    rule: Rule
    source: str
    change: float
    interval: Interval | None

    @property
    def verdict(self) -> str:
        """Better or worse beyond chance; empty where that is not known."""
        if self.interval is None or self.rule.higher_is_better is None:
            return ""
        if self.interval.low <= 0 <= self.interval.high:
            return ""
        return "better" if (self.interval.low > 0) == self.rule.higher_is_better else "worse"


class Against(NamedTuple):
    """Differences from the first of several files, and the win rate of each (empty without strata)."""

    first: str
    differences: tuple[Difference, ...]
    win_rates: dict[str, float]


def against(
    benchmark: Benchmark,
    items: Sequence[Item],
    several: Sequence[Answers],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Against:
    """Compare files of predictions for the same items; arguments are those of `benchmark.measured`.

    Raises:
        ValueError: fewer than two, or two of one name.
    """
    names = [one.source for one in several]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"a comparison takes two files or more, each of its own name, not {', '.join(names)}"
        )
    columns = [columns_for(benchmark, items, one) for one in several]
    differences: list[Difference] = []
    for unit in dict.fromkeys(rule.unit for rule in benchmark.rules):
        rules = [rule for rule in benchmark.rules if rule.unit == unit and rule.worst]
        for source, own in zip(names[1:], columns[1:], strict=True):
            differences += _differences(rules, unit, items, source, columns[0], own, seed, draws)
    order = {rule.name: place for place, rule in enumerate(benchmark.rules)}
    differences.sort(key=lambda one: (names.index(one.source), order[one.rule.name]))
    return Against(names[0], tuple(differences), _win_rates(benchmark, items, names, columns))


def _differences(
    rules: Sequence[Rule],
    unit: str,
    items: Sequence[Item],
    source: str,
    first: Columns,
    other: Columns,
    seed: int,
    draws: int,
) -> list[Difference]:
    units = first[unit].tolist() if unit else [item.unit for item in items]
    rows = np.flatnonzero([one is not None and one == one for one in units])
    if not len(rows) or not rules:
        return []

    def changes(chosen: Any) -> list[float]:
        one, two = (part_of(columns, rows[chosen]) for columns in (first, other))
        return [rule.of(two) - rule.of(one) for rule in rules]

    found = changes(np.arange(len(rows)))
    intervals = bootstrapped_all(changes, [units[row] for row in rows.tolist()], seed, draws)
    return [
        Difference(rule, source, change, interval if math.isfinite(change) else None)
        for rule, change, interval in zip(rules, found, intervals, strict=True)
    ]


def _win_rates(
    benchmark: Benchmark, items: Sequence[Item], names: Sequence[str], columns: Sequence[Columns]
) -> dict[str, float]:
    if not benchmark.strata:
        return {}
    rule = next(one for one in benchmark.rules if one.name == benchmark.headline)
    sign = -1.0 if rule.higher_is_better is False else 1.0
    places: dict[Any, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.facts[benchmark.strata], []).append(place)
    ahead = []
    for rows in places.values():
        values = np.array([sign * rule.of(part_of(one, np.array(rows))) for one in columns])
        if np.isfinite(values).all():
            above = np.sign(values[:, None] - values[None, :])
            ahead.append(((above + 1) / 2).sum(axis=1) - 0.5)  # without itself
    if not ahead:
        return {}
    rates = np.mean(ahead, axis=0) / (len(names) - 1)
    return {name: float(rate) for name, rate in zip(names, rates, strict=True)}


def as_text(found: Against) -> str:
    """A line for each difference, then the win rates."""
    rows = [("rule", "file", f"less {found.first}", "95 % interval", "")]
    for one in found.differences:
        change = f"{one.change:+.4g}" if math.isfinite(one.change) else "-"
        rows.append((one.rule.name, one.source, change, ends(one.interval, "+"), one.verdict))
    lines = list(aligned(rows))
    if found.win_rates:
        lines += [
            "",
            *aligned([("file", "win rate"), *((n, f"{r:.3f}") for n, r in found.win_rates.items())]),
        ]
    return "\n".join(lines)


def as_json(found: Against, runs: Sequence[str]) -> str:
    """One object with the JSON of every file, the differences, and the win rates."""
    differences = [
        {
            "rule": one.rule.name,
            "source": one.source,
            "change": one.change if math.isfinite(one.change) else None,
            "interval": None if one.interval is None else [one.interval.low, one.interval.high],
            "verdict": one.verdict or None,
        }
        for one in found.differences
    ]
    shown = {
        "runs": [json.loads(run) for run in runs],
        "against": found.first,
        "differences": differences,
        "win_rates": found.win_rates,
    }
    return json.dumps(shown, indent=2, ensure_ascii=False)

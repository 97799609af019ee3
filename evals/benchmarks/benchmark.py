"""A benchmark and the measuring of answers by its rules, with intervals over independent units.

Every rule is measured twice: over all items, where an item without a valid answer counts as the worst there
is, and over the items with a valid answer. Intervals are percentiles of a bootstrap that draws whole units
(videos, episodes, tasks) with replacement and computes the rule anew, both readings and all rules of a unit
on the same draws (`monitor.intervals.bootstrapped_all`).
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmreward.errors import Status
from mmreward.monitor.intervals import DRAWS, Interval, bootstrapped_all
from mmreward.registry import Reward
from mmreward.types import Score

Columns = Mapping[str, np.ndarray[Any, Any]]
"""Arrays with an entry for each item, by name. NaN stands for what does not apply."""
VALID, COPY = "valid", "copy"
"""Columns that every rule has: whether an item has a valid answer, and, for a rule that compares the items of
one unit with each other, how many times the unit was drawn before in this draw of a bootstrap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One entry of the published labels.

    Args:
        id: as predictions name it.
        gold: the label, in the benchmark's own form.
        unit: what it is an independent draw of, such as the hash of its video.
        facts: whatever else the benchmark's rules and rows need.
    """

    id: str
    gold: Any
    unit: Hashable
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One published figure.

    Args:
        name: "mae/macro"; what a table calls it.
        words: what is measured, with its unit.
        of: its value from the columns of some items, which may come several times; NaN where undefined.
        unit: the column that holds the rule's own units; default: those of the items.
        higher_is_better: the direction; None for a figure that has none, or whose best is 0.
        legacy: it repeats a fault of the published code, for comparison with printed numbers alone.
        worst: False where no answer is the worst there is, or the rule has its own for invalid ones: it is
            then read once, over the valid items, or over all with `every`.
        every: see there.
    """

    name: str
    words: str
    of: Callable[[Columns], float]
    unit: str = ""
    higher_is_better: bool | None = True
    legacy: bool = False
    worst: bool = True
    every: bool = False


Cells = tuple[str | int | float, ...]


class Table(NamedTuple):
    """A table that belongs to the figures: a confusion, or one rule by stratum."""

    name: str
    heads: tuple[str, ...]
    rows: Sequence[Cells]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A published set of labels with its rules.

    Args:
        name: on the command line.
        summary: one line.
        paper: where it comes from.
        unit: what is independent, in words: "video".
        labels: the published file or folder, in words.
        read: its items. Raises ValueError for what is no such file.
        answer: the answer in a record of a file of predictions. Raises Unscorable for one that is invalid.
        columns: arrays for the rules, from the items and an answer for each, None where there is none that
            is valid: there the columns hold the worst.
        rules: what is printed, in this order.
        keys: columns of a prediction that may name its item; the first that is there does.
        rows: what a reward is given of an item, as records of `mmreward score`: paths of media relative to
            the labels, without ids. None: no reward can be measured.
        scored: the answer in the scores of these rows, all of which are values. Raises Unscorable.
        cautions: what to mind before the figures are compared with published ones.
        tables: what is shown beside the rules, from the columns of all items.
        strata: the fact of an item by which win rates are counted, such as its subset; "" for none.
        headline: the rule that they are counted by.
    """

    name: str
    summary: str
    paper: str
    unit: str
    labels: str
    read: Callable[[Path], Sequence[Item]]
    answer: Callable[[Mapping[str, Any], Item], Any]
    columns: Callable[[Sequence[Item], Sequence[Any]], dict[str, np.ndarray[Any, Any]]]
    rules: tuple[Rule, ...]
    keys: tuple[str, ...] = ("id",)
    rows: Callable[[Item, Reward], Sequence[Mapping[str, Any]]] | None = None
    scored: Callable[[Item, Sequence[Score], Reward], Any] | None = None
    cautions: Callable[[Sequence[Item], "Answers"], Sequence[str]] | None = None
    tables: Callable[[Sequence[Item], Columns], Sequence[Table]] | None = None
    strata: str = ""
    headline: str = ""


class Failed(NamedTuple):
    """An answer that is none: why, as of a score."""

    status: Status
    reason: str


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers by the id of their item, and what was wrong with the rest.

    `unknown` are ids that no item has, `repeated` counts predictions that were there before, `unreadable`
    says of lines that are no prediction at all how many there are for each reason.
    """

    source: str
    valid: Mapping[str, Any]
    invalid: Mapping[str, Failed]
    unknown: tuple[str, ...] = ()
    repeated: int = 0
    unreadable: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One rule: over all items, invalid ones the worst (`strict`), and over the valid ones; NaN where the
    rule has no such reading."""

    rule: Rule
    strict: float
    interval: Interval | None
    valid: float
    valid_interval: Interval | None
    units: int


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A benchmark measured: counts, and a line for each rule."""

    benchmark: Benchmark
    source: str
    n: int
    answered: int
    missing: tuple[str, ...]
    answers: Answers
    lines: tuple[Line, ...]
    seed: int
    draws: int
    cautions: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def coverage(self) -> float:
        """Share of the items with a valid answer."""
        return self.answered / self.n

    def line(self, name: str) -> Line:
        """The line of the rule of this name."""
        return next(one for one in self.lines if one.rule.name == name)


def measured(
    benchmark: Benchmark, items: Sequence[Item], answers: Answers, *, seed: int = 0, draws: int = DRAWS
) -> Measurement:
    """Measure answers by all rules of a benchmark.

    Args:
        benchmark: what to measure by.
        items: all of its labels, or those of a part of it.
        answers: see `predictions.read_predictions` and `scored.scored_answers`.
        seed: of the bootstraps.
        draws: of each.

    Raises:
        ValueError: no items.
    """
    if not items:
        raise ValueError(f"{benchmark.name} has no items to measure by")
    columns = columns_for(benchmark, items, answers)
    valid = columns[VALID]
    missing = tuple(
        item.id for item in items if item.id not in answers.valid and item.id not in answers.invalid
    )
    lines: dict[str, Line] = {}
    for unit in dict.fromkeys(rule.unit for rule in benchmark.rules):
        rules = [rule for rule in benchmark.rules if rule.unit == unit]
        units = columns[unit].tolist() if unit else [item.unit for item in items]
        fine = np.array([one is not None and one == one for one in units])  # NaN: of no unit of this kind
        for line in _lines(rules, columns, units, fine, valid, seed, draws):
            lines[line.rule.name] = line
    return Measurement(
        benchmark=benchmark,
        source=answers.source,
        n=len(items),
        answered=int(valid.sum()),
        missing=missing,
        answers=answers,
        lines=tuple(lines[rule.name] for rule in benchmark.rules),
        seed=seed,
        draws=draws,
        cautions=tuple(benchmark.cautions(items, answers)) if benchmark.cautions is not None else (),
        tables=tuple(benchmark.tables(items, columns)) if benchmark.tables is not None else (),
    )


def columns_for(benchmark: Benchmark, items: Sequence[Item], answers: Answers) -> Columns:
    """The columns of all items, `VALID` among them."""
    given = [answers.valid.get(item.id) for item in items]
    columns = benchmark.columns(items, given)
    return columns | {VALID: np.array([one is not None for one in given])}


def part_of(columns: Columns, rows: np.ndarray[Any, Any]) -> Columns:
    """The columns of some items, which may come several times: `COPY` counts them."""
    return {name: column[rows] for name, column in columns.items()} | {COPY: _copies(rows)}


def _lines(
    rules: Sequence[Rule],
    columns: Columns,
    units: Sequence[Hashable],
    fine: np.ndarray[Any, Any],
    valid: np.ndarray[Any, Any],
    seed: int,
    draws: int,
) -> list[Line]:
    """The lines of rules that share their units."""
    rows = np.flatnonzero(fine)
    kept = [unit for unit, ok in zip(units, fine, strict=True) if ok]

    def both(chosen: np.ndarray[Any, Any]) -> list[float]:
        own = rows[chosen]
        parts = [part_of(columns, one) for one in (own, own[valid[own]])]
        return [
            rule.of(part) if len(part[VALID]) and _is_read(rule, place) else math.nan
            for place, part in enumerate(parts)
            for rule in rules
        ]

    values = both(np.arange(len(rows))) if len(rows) else [math.nan] * 2 * len(rules)
    ends = bootstrapped_all(both, kept, seed, draws) if len(rows) else [None] * len(values)
    number, half = len(set(kept)), len(rules)
    return [
        Line(
            rule=rule,
            strict=values[place],
            interval=ends[place] if math.isfinite(values[place]) else None,
            valid=values[place + half],
            valid_interval=ends[place + half] if math.isfinite(values[place + half]) else None,
            units=number,
        )
        for place, rule in enumerate(rules)
    ]


def _copies(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How many times each entry came before."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    places = np.arange(len(rows))
    starts = np.maximum.accumulate(np.where(np.append(True, ordered[1:] != ordered[:-1]), places, 0))
    copies = np.empty(len(rows), dtype=np.int64)
    copies[order] = places - starts
    return copies


def _is_read(rule: Rule, reading: int) -> bool:
    """True where a rule has the reading: 0 over all items, 1 over the valid ones."""
    return rule.worst or (reading == 0) == rule.every

"""A run of scores, read from a results file: a column per reward, an entry per sample, joined with the data.

The model of the page of scores. Knows nothing of HTML.
"""

import math
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmreward.data import results
from mmreward.data.rows import Row, read_rows
from mmreward.errors import nearest
from mmreward.types import Score

from .stats import Array, totals, unit_ranks

PartForm = Literal["share", "number", "zero"]
FILES = ("scores.parquet", "scores.jsonl")
NOT_SCORED = "not scored"


@dataclass(frozen=True)
class Column:
    """One reward over the whole run; `scores` has an entry for each sample that was scored at all."""

    name: str
    kind: str
    bounds: tuple[float, float] | None
    """The finite range its values come from; None when it is infinite or not recorded."""
    higher_is_better: bool
    args: Mapping[str, Any]
    fingerprints: tuple[str, ...]
    combined: bool
    """True when it was computed from the other columns."""
    scores: Mapping[str, Score]
    values: Array
    """One value per sample of the run, NaN where there is none."""

    @cached_property
    def ok(self) -> Array:
        return self.values[np.isfinite(self.values)]

    @cached_property
    def span(self) -> tuple[float, float] | None:
        """The scale of bars: the finite range, else what the run's values span."""
        if self.bounds is not None:
            return self.bounds
        low, high = (float(self.ok.min()), float(self.ok.max())) if len(self.ok) else (0.0, 0.0)
        return (low, high) if low < high else None

    @cached_property
    def failures(self) -> Counter[str]:
        """Counts of the statuses other than "ok"."""
        counts = Counter[str](score.status for score in self.scores.values() if not score.ok)
        counts.update([NOT_SCORED] * (len(self.values) - len(self.scores)))
        return counts

    @cached_property
    def parts(self) -> dict[str, PartForm]:
        """The form of each part: a share of 1 if all its values are in [0, 1] and some between them."""
        found: dict[str, list[float]] = {}
        for score in self.scores.values():
            for part, value in score.parts.items():
                found.setdefault(part, []).append(value)
        return {part: _form(values) for part, values in found.items()}


@dataclass(frozen=True)
class ScoredRun:
    """A run of scores: `ids` in the order they were scored, `rows` only of those that have been looked up."""

    path: Path
    about: Mapping[str, Any]
    created: str
    ids: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: Mapping[str, Row]
    trouble: str
    """The reason why there is no data set to show; empty when there is one."""

    @cached_property
    def totals(self) -> Array:
        """Mean rank of every sample over the rewards, 0 to 1; combined columns are left out."""
        ranks = [unit_ranks(c.values, c.higher_is_better) for c in self.columns if not c.combined]
        return totals(np.stack(ranks, axis=1))

    def extremes(self, number: int) -> tuple[list[str], list[str]]:
        """The ids with the highest totals, best first, and as many with the lowest, worst first."""
        ranked = [i for i in np.argsort(-self.totals, kind="stable") if math.isfinite(self.totals[i])]
        number = min(number, len(ranked) // 2)
        best, worst = ranked[:number], ranked[::-1][:number]
        return [self.ids[i] for i in best], [self.ids[i] for i in worst]


def find_results(path: Path) -> Path:
    """The results file at a path, or in a folder.

    Raises:
        ValueError: there is none.
    """
    if path.is_dir():
        found = [path / name for name in FILES if (path / name).exists()]
        if not found:
            raise ValueError(
                f"{path} holds no {' or '.join(FILES)}, and no training run with rounds.jsonl and "
                "evaluations.jsonl; name the results file itself, or the folder of the run"
            )
        return found[0]
    if not path.exists():
        unfinished = path.with_name(path.name + ".parts").exists()
        fix = "the run was not finished: start it again" if unfinished else "run `mmreward score` first"
        raise ValueError(f"no results at {path}; {fix}")
    if path.suffix not in (".parquet", ".jsonl"):
        raise ValueError(f"{path} is no results file; expected .parquet or .jsonl")
    return path


def load_run(path: Path) -> ScoredRun:
    """Read a results file, without its data set.

    Raises:
        ValueError: no results file, or one without rows.
    """
    try:
        about = results.about(path)
        stored = results.read(path)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as results: {error}") from None
    if not stored:
        raise ValueError(f"{path} has no scores in it; score some samples first")
    ids = tuple(dict.fromkeys(row.id for row in stored))
    by_reward: dict[str, dict[str, results.Result]] = {}
    for row in stored:
        by_reward.setdefault(row.reward, {})[row.id] = row
    columns = tuple(_column(name, rows, ids, about) for name, rows in by_reward.items())
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    return ScoredRun(
        path, about, str(about.get("created") or modified), ids, columns, {}, "no data set was given"
    )


def with_data(run: ScoredRun, data: Path | None, wanted: Container[str]) -> ScoredRun:
    """The run with the rows of these ids; `data` overrides where the results say that the data set is.

    Raises:
        ValueError: `data` was given and cannot be read.
    """
    stored = run.about.get("data")
    source = data if data is not None else run.path.parent / str(stored) if stored else None
    if source is None:
        return run
    try:
        rows = {row.id: row for row in read_rows(source) if row.id in wanted}
    except ValueError as error:
        if data is not None:
            raise
        return _replaced(run, {}, str(error))
    return _replaced(run, rows, "" if rows else f"{source} has none of the ids in these results")


def reference_column(run: ScoredRun, name: str | None) -> Column | None:
    """The column that the others are compared with: the one named, else "oracle" when there is one.

    Raises:
        ValueError: no column has the given name.
    """
    known = {column.name: column for column in run.columns}
    if name is None:
        return known.get("oracle")
    if name not in known:
        raise ValueError(f"the run has no reward {name!r}: {nearest(name, known, otherwise='it has')}")
    return known[name]


def _replaced(run: ScoredRun, rows: Mapping[str, Row], trouble: str) -> ScoredRun:
    return ScoredRun(run.path, run.about, run.created, run.ids, run.columns, rows, trouble)


def _column(
    name: str, rows: Mapping[str, results.Result], ids: tuple[str, ...], about: Mapping[str, Any]
) -> Column:
    recorded = about.get("rewards") or {}
    facts = recorded.get(name, {})
    scores = {row: result.score for row, result in rows.items()}
    return Column(
        name=name,
        kind=str(facts.get("reward", name)),
        bounds=_bounds(facts.get("range")),
        higher_is_better=bool(facts.get("higher_is_better", True)),
        args=dict(facts.get("args") or {}),
        fingerprints=tuple(dict.fromkeys(result.fingerprint for result in rows.values())),
        combined=name == TOTAL and name not in recorded,
        scores=scores,
        values=np.array([scores[row].value if row in scores else math.nan for row in ids], dtype=np.float64),
    )


def _form(values: list[float]) -> PartForm:
    if not any(values):
        return "zero"
    share = all(0 <= value <= 1 for value in values) and any(0 < value < 1 for value in values)
    return "share" if share else "number"


def _bounds(given: Any) -> tuple[float, float] | None:
    if not isinstance(given, list | tuple) or len(given) != 2:
        return None
    low, high = (bound if isinstance(bound, int | float) else math.nan for bound in given)
    return (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) and low < high else None

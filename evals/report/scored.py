"""A run of scores, read from a results file: a column per reward, an entry per sample, joined with the data.

Scores whose row has changed since are left out and counted. The model of the page of scores. Knows nothing of
HTML.
"""

import math
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mmreward.data import results
from mmreward.data.columns import Columns
from mmreward.data.inputs import Inputs
from mmreward.data.results import TOTAL
from mmreward.data.rows import Row, read_rows, unit_of
from mmreward.errors import nearest
from mmreward.types import Score

from .stats import Array, totals, unit_ranks

PartForm = Literal["share", "number", "zero"]
FILES = tuple(f"scores{ending}" for ending in results.ENDINGS)
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
    changed: int = 0
    """Scores that are left out because their row has changed since."""
    elsewhere: int = 0
    """Scores that are left out because they are of another data set than the one that was asked for."""
    places: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Sample of the run -> its data set, as the results name it, and its id there."""
    units: Mapping[str, Hashable] = field(default_factory=dict)
    """What each sample of the data set is a draw of: its group, else its prompt and the media it is about."""

    @cached_property
    def prompts(self) -> list[Hashable] | None:
        """The unit of every sample, where some share one; None where all differ or the data are not there."""
        named: list[Hashable] = [self.units.get(name, (name,)) for name in self.ids]
        return named if len(set(named)) < len(named) else None

    @cached_property
    def totals(self) -> Array:
        """Mean rank of every sample over the rewards, 0 to 1; combined columns are left out."""
        ranks = [unit_ranks(c.values, c.higher_is_better) for c in self.columns if not c.combined]
        return totals(np.stack(ranks, axis=1))

    @cached_property
    def contested(self) -> tuple[str, str, str] | None:
        """The sample on which two rewards disagree most by rank, and their names: the one that likes it, and
        the one that does not; None where nobody does."""
        columns = [column for column in self.columns if not column.combined]
        if len(columns) < 2 or len(self.ids) < 4:
            return None
        ranks = np.stack([unit_ranks(c.values, c.higher_is_better) for c in columns], axis=1)
        known = np.isfinite(ranks).sum(axis=1) >= 2
        if not known.any():
            return None
        high = np.where(np.isfinite(ranks), ranks, -np.inf)
        low = np.where(np.isfinite(ranks), ranks, np.inf)
        apart = np.where(known, high.max(axis=1) - low.min(axis=1), -np.inf)
        at = int(apart.argmax())
        if not apart[at] > 0.5:
            return None
        return self.ids[at], columns[int(high[at].argmax())].name, columns[int(low[at].argmin())].name

    def extremes(self, number: int) -> tuple[list[str], list[str]]:
        """The ids with the highest totals, best first, and as many with the lowest, worst first."""
        ranked = [i for i in np.argsort(-self.totals, kind="stable") if math.isfinite(self.totals[i])]
        number = min(number, len(ranked) // 2)
        best, worst = ranked[:number], ranked[::-1][:number]
        return [self.ids[i] for i in best], [self.ids[i] for i in worst]


def find_results(path: Path, so_far: bool = False) -> Path:
    """The results file at a path, or in a folder; with `so_far` also one whose run has not ended.

    Raises:
        ValueError: there is none.
    """
    if path.is_dir():
        found = [path / name for name in FILES if _is_there(path / name, so_far)]
        if not found:
            raise ValueError(
                f"{path} holds no {' or '.join(FILES)}, and no training run with rounds.jsonl and "
                "evaluations.jsonl; name the results file itself, or the folder of the run"
            )
        return found[0]
    if not _is_there(path, so_far):
        unfinished = path.with_name(path.name + ".parts").exists()
        fix = "the run was not finished: start it again" if unfinished else "run `mmreward score` first"
        raise ValueError(f"no results at {path}; {fix}")
    if path.suffix not in results.ENDINGS:
        raise ValueError(f"{path} is no results file; expected {', '.join(results.ENDINGS)}")
    return path


def _is_there(path: Path, so_far: bool) -> bool:
    return path.exists() or (so_far and results.parts_of(path).exists())


Reader = Callable[[Path], Iterable[Row]]
"""Reads the data set at a path."""


def _reader(path: Path, about: Mapping[str, Any], data: Path | None, columns: Columns | None) -> Reader:
    """Reads data sets with the columns they were scored by, also where `data` says that they have moved."""
    stored = {(path.parent / name).resolve(): one for name, one in about.get("columns", {}).items()}
    usual = about.get("columns", {}).get(about.get("data")) if data is not None else None

    def rows_in(source: Path) -> Iterable[Row]:
        return read_rows(source, columns if columns is not None else stored.get(source.resolve(), usual))

    return rows_in


def load_run(
    path: Path, data: Path | None = None, columns: Columns | None = None, so_far: bool = False
) -> ScoredRun:
    """Read a results file, without the scores whose row has changed since.

    Args:
        path: of the results. Their data sets are read, where they can be, for what has changed.
        data: overrides where the results say that the data set is; other data sets are left out then.
        columns: as the data set is read, see `read_rows`; default: what the results say.
        so_far: also what a run that has not ended has put on disk.

    Raises:
        ValueError: no results file, one without rows, or with none whose row is as it was.
    """
    try:
        about, stored = results.so_far(path) if so_far else (results.about(path), results.read(path))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as results: {error}") from None
    if not stored:
        raise ValueError(f"{path} has no scores in it; score some samples first")
    kept, changed, elsewhere = _standing(
        path, stored, str(about.get("data") or ""), data, _reader(path, about, data, columns)
    )
    if not kept:
        raise ValueError(f"all {changed} scores in {path} are of rows that have changed since: score again")
    places = _places([(name, row.id) for name, row in kept])
    ids = tuple(places)
    named = {place: one for one, place in places.items()}
    by_reward: dict[str, dict[str, results.Result]] = {}
    for name, row in kept:
        by_reward.setdefault(row.reward, {})[named[name, row.id]] = row
    scored = tuple(_column(name, rows, ids, about) for name, rows in by_reward.items())
    written = path if path.exists() else results.parts_of(path)
    modified = datetime.fromtimestamp(written.stat().st_mtime, UTC).isoformat(timespec="seconds")
    created = str(about.get("created") or modified)
    trouble = "no data set was given"
    return ScoredRun(path, about, created, ids, scored, {}, trouble, changed, elsewhere, places)


class _Standing(NamedTuple):
    """Scores that may be shown, with the name of their data set, and how many may not."""

    kept: list[tuple[str, results.Result]]
    changed: int
    elsewhere: int


def _standing(
    path: Path, stored: list[results.Result], usual: str, data: Path | None, rows_in: Reader
) -> _Standing:
    """The scores whose row is as it was, or is not to be found.

    Args:
        path: of the results.
        stored: all of them.
        usual: the data set of those that name none.
        data: the only data set that counts, wherever the results say theirs is.
        rows_in: reads a data set.
    """
    by_data: dict[str, list[results.Result]] = {}
    for row in stored:
        by_data.setdefault(row.data or usual, []).append(row)
    if data is not None:
        rows, changed = _current(data, stored, rows_in)
        there = rows if len(by_data) == 1 else _of(data, rows, rows_in)
        return _Standing([("", row) for row in there], changed, len(rows) - len(there))
    found = {
        name: _current(path.parent / name if name else None, rows, rows_in) for name, rows in by_data.items()
    }
    kept = [(name, row) for name, (rows, _) in found.items() for row in rows]
    return _Standing(kept, sum(changed for _, changed in found.values()), 0)


def _current(
    source: Path | None, stored: list[results.Result], rows_in: Reader
) -> tuple[list[results.Result], int]:
    """The scores without those whose row has changed since, and the number of these.

    Nothing is known of a data set that cannot be read, or has none of the ids; `with_data` says so.
    """
    try:
        inputs = Inputs(rows_in(source)) if source is not None else Inputs([])
    except (OSError, ValueError):
        return stored, 0
    found = inputs.sort(stored)
    if found.gone == len(stored):
        return stored, 0
    current = {id(row) for row in found.kept}
    return [row for row in stored if id(row) in current or row.id not in inputs], found.changed


def _of(data: Path, stored: list[results.Result], rows_in: Reader) -> list[results.Result]:
    """The scores whose id is in a data set; all where none is."""
    try:
        ids = {row.id for row in rows_in(data)}
    except (OSError, ValueError):
        return stored
    return [row for row in stored if row.id in ids] or stored


def _places(wanted: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Samples by a name of their own: the id, with the data set where two data sets have it."""
    unique = list(dict.fromkeys(wanted))
    number = Counter(name for _, name in unique)
    return {(name if number[name] == 1 else f"{name} ({data})"): (data, name) for data, name in unique}


def with_data(
    run: ScoredRun, data: Path | None, wanted: Container[str], columns: Columns | None = None
) -> ScoredRun:
    """The run with the rows of these samples; `data` and `columns` as of
    `load_run`.

    Raises:
        ValueError: `data` was given and cannot be read.
    """
    rows_in = _reader(run.path, run.about, data, columns)
    rows: dict[str, Row] = {}
    units: dict[str, Hashable] = {}
    troubles: list[str] = []
    called = {place: name for name, place in run.places.items()}
    for stored in dict.fromkeys(name for name, _ in run.places.values()):
        source = data if data is not None else run.path.parent / stored if stored else None
        if source is None:
            continue
        try:
            found = {row.id: row for row in rows_in(source)}
        except (OSError, ValueError) as error:
            if data is not None:
                raise
            troubles.append(str(error))
            continue
        members = {called[stored, name]: row for name, row in found.items() if (stored, name) in called}
        if not members:
            troubles.append(f"{source} has none of the ids in these results")
        units |= {name: unit_of(row.sample) for name, row in members.items()}
        rows |= {name: row for name, row in members.items() if name in wanted}
    if not troubles and not rows and run.trouble:
        known = any(name for name, _ in run.places.values()) or data is not None
        troubles = [] if known else [run.trouble]
    return replace(run, rows=rows, units=units, trouble="; ".join(troubles))


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

"""Scoring of a whole data set into a file: resumes, reports progress, and counts failures against a
budget.

What cannot work for any row stops the run before the first row is stored, see `engine.preconditions`. A run
that is interrupted keeps all that it has scored.
"""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from os.path import relpath
from pathlib import Path
from typing import Any, NoReturn

from ..compose import Fact, Recipe, combine, facts_of
from ..engine.engine import Engine
from ..errors import FINE, Status
from ..files import sole_writer
from ..registry import Reward
from ..types import Score
from .columns import Columns
from .failures import Group, grouped
from .inputs import Inputs
from .records import number_of
from .results import TOTAL, Result, Results
from .rows import Row, chunked, read_rows, unit_of

Progress = Callable[[int, int, int, int | None], None]
"""`progress(done, failed, fresh, total)`: scores that are there, those of them that failed and that were
computed now, and how many there will be (None where nobody knows before the data are read)."""
CHUNK = 4096
"""Rows that are read ahead; a shard is written every few seconds whatever this is."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a run. `fresh` scores were computed now, the others were there already. `skipped` says how
    many files of a folder gave no row, and why."""

    rows: int
    fresh: int
    statuses: Mapping[str, Counter[Status]]
    failures: Sequence[Group] = ()
    """Failures by reason, the most frequent first."""
    stayed: int = 0
    """Scores of other data sets, other rewards and rows that are gone, which stay in the file."""
    skipped: str = ""
    """Files of the folder that are no rows, counted by reason."""
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Values of each reward, NaN where a score failed, in the order of the rows."""
    units: Sequence[Hashable] = ()
    """The independent unit of each row, see `rows.unit_of`."""
    sources: Sequence[str] = ()
    """The source of each row; empty where it has none."""

    @property
    def failed(self) -> int:
        """Scores that are neither values nor "na"."""
        return sum(n for counts in self.statuses.values() for s, n in counts.items() if s not in FINE)

    @property
    def failure_rate(self) -> float:
        total = sum(sum(counts.values()) for counts in self.statuses.values())
        return self.failed / total if total else 0.0


def score_file(
    data: Path,
    rewards: Mapping[str, Reward],
    out: Path,
    engine: Engine,
    *,
    recipe: Recipe | None = None,
    timeout: float | None = None,
    retry_failed: bool = False,
    title: str = "",
    columns: Columns | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Score every row of `data` with every reward and leave one row per (id, reward) in `out`.

    Args:
        data: see `data.read_rows`.
        rewards: by the name their scores are stored under.
        out: a .parquet or .jsonl file. Rows in it (or in the shards of a killed run) that were computed from
            the same input with the same fingerprint are kept, but for failures that were not the row's (see
            `Result.passing`). Rows of other data sets and rewards stay.
        engine: what runs the rewards.
        recipe: also store a total under "total".
        timeout: seconds one score may take.
        retry_failed: compute failed scores again.
        title: stored with the results.
        columns: see `data.read_rows`; stored with the results, for `report` and `pairs`.
        progress: told of every score, see `Progress`.

    Raises:
        ValueError: data or out in a form that cannot be read or written, a total that cannot be made, a
            column that no row has, or another process that writes to `out`.
        Unavailable: a reward cannot be computed here for any row: no weights, no package, no server.
        OSError: a file that cannot be read or written; names it. What was scored before it is kept.
    """
    if TOTAL in rewards and recipe is not None:
        raise ValueError(f"{TOTAL!r} is the name of the combined score; give the reward another name")
    if recipe is not None:
        recipe.check(rewards)
    rows = read_rows(data, columns)
    # A reward that compares samples must see each group whole, so then everything is one chunk.
    whole = any(reward.info.arity != "point" for reward in rewards.values())
    chunks = _at_once(rows) if whole else chunked(rows, CHUNK)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _terminable(), sole_writer(out):
        results = Results(out, about_run(data, rewards, out, title, columns))
        rows_in = number_of(data) if progress is not None else None
        tally = _Tally(progress, expected=None if rows_in is None else rows_in * len(rewards))
        job = _Job(rewards, recipe, results, engine, timeout, retry_failed, tally)
        try:
            for chunk in chunks:
                tally.ended = whole or len(chunk) < CHUNK
                job.score(chunk)
            return job.finish(str(rows.skipped))
        except OSError:  # of the data, or of the file itself, which then cannot take more
            with suppress(OSError):
                results.flush()
            raise
        except BaseException:  # Ctrl-C too
            results.flush()
            raise


@contextmanager
def _terminable() -> Iterator[None]:
    """A block that SIGTERM ends in good order, with the exit code 143, where nobody else handles it."""

    def terminated(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@dataclass(slots=True)
class _Tally:
    """Counts for the progress bar."""

    report: Progress | None
    expected: int | None = None
    """Scores of the whole data set, as far as its file says."""
    done: int = 0
    failed: int = 0
    total: int = 0
    fresh: int = 0
    ended: bool = False
    """True once all rows have been read, so that `total` is all there are."""

    def count(self, score: Score, fresh: bool) -> None:
        self.done += 1
        self.fresh += fresh
        self.failed += score.status not in FINE
        if self.report is not None:
            total = self.total if self.expected is None else max(self.total, self.expected)
            known = self.ended or self.expected is not None
            self.report(self.done, self.failed, self.fresh, total if known else None)


@dataclass
class _Job:
    """A run: chunk by chunk, then the whole."""

    rewards: Mapping[str, Reward]
    recipe: Recipe | None
    results: Results
    engine: Engine
    timeout: float | None
    retry_failed: bool
    tally: _Tally
    order: list[str] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    units: list[Hashable] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    facts: list[Sequence[Fact]] = field(default_factory=list)
    digests: list[tuple[str, str]] = field(default_factory=list)
    """Digests of each row's total."""

    def __post_init__(self) -> None:
        self._compares = self.recipe is not None and (
            self.recipe.compares
            or self.recipe.normalise == "group"
            or any(reward.info.arity != "point" for reward in self.rewards.values())
        )

    def score(self, chunk: list[Row]) -> None:
        """Score what is missing of a chunk; rows that lack the same rewards run together."""
        self.order.extend(row.id for row in chunk)
        self.groups.extend(row.sample.group if row.sample else None for row in chunk)
        self.units.extend(unit_of(row.sample) for row in chunk)
        self.sources.extend(row.sample.source if row.sample else "" for row in chunk)
        self.tally.total += len(chunk) * len(self.rewards)
        self.engine.check([row.sample for row in chunk if row.sample is not None], self.rewards)
        inputs = Inputs(chunk)
        lacking = self._lacking(chunk, inputs)
        inputs.read(lacking)
        wanted: dict[tuple[str, ...], list[Row]] = {}
        for row in chunk:
            if row.id in lacking:
                wanted.setdefault(tuple(lacking[row.id]), []).append(row)
        for names, rows in wanted.items():
            self._compute(rows, names, inputs)
        if self.recipe is not None:
            self.facts.extend(facts_of(self.recipe, row.sample) for row in chunk)
            compares = self._compares
            self.digests += [
                (inputs.quick(row.id, compares), self._stored_content(row.id, inputs)) for row in chunk
            ]
        self.results.flush()

    def _stored_content(self, name: str, inputs: Inputs) -> str:
        """The content digest of a row's total: none is read for it that the row's scores do not have."""
        if self._compares:
            return ""
        known = (self.results.rows.get((name, reward)) for reward in self.rewards)
        return next((row.content for row in known if row is not None and row.content), "")

    def _lacking(self, chunk: list[Row], inputs: Inputs) -> dict[str, list[str]]:
        """Names of the rewards that each row has no score of; the scores that are there are counted."""
        lacking: dict[str, list[str]] = {}
        for name, reward in self.rewards.items():
            missing = set()
            for row in chunk:
                known = self._known(row, name, inputs)
                if row.sample is None:
                    broken = Score.failed("error", row.problem)
                    self._store(row, name, broken, inputs)
                    self.tally.count(broken, fresh=known is None)
                elif known is None or (self.retry_failed and known.status not in FINE):
                    missing.add(row.id)
            if reward.info.arity != "point":
                groups = {row.sample.group for row in chunk if row.id in missing and row.sample}
                missing = {row.id for row in chunk if row.sample and row.sample.group in groups}
            for row in chunk:
                if row.id in missing:
                    lacking.setdefault(row.id, []).append(name)
                elif row.sample is not None:
                    self.tally.count(self.results.rows[row.id, name].score, fresh=False)
        return lacking

    def _known(self, row: Row, name: str, inputs: Inputs) -> Result | None:
        reward = self.rewards[name]
        compares = reward.info.arity != "point"
        quick = inputs.quick(row.id, compares)
        return self.results.find(
            row.id, name, reward.fingerprint, quick, lambda: inputs.content(row.id, compares)
        )

    def _compute(self, rows: list[Row], names: Sequence[str], inputs: Inputs) -> None:
        """Score rows by rewards that all of them lack.

        Raises:
            Unavailable: one of the rewards cannot be computed for any row; nothing of these is stored.
        """

        def store(index: int, name: str, score: Score) -> None:
            self._store(rows[index], name, score, inputs)
            self.tally.count(score, fresh=True)

        samples = [row.sample for row in rows if row.sample is not None]
        chosen = {name: self.rewards[name] for name in names}
        try:
            self.engine.score(samples, chosen, timeout=self.timeout, progress=store)
        except ExceptionGroup as group:  # a shard could not be written: the same again for each row under way
            raise _first(group) from None

    def _store(self, row: Row, name: str, score: Score, inputs: Inputs) -> None:
        reward = self.rewards[name]
        compares = reward.info.arity != "point"
        quick, content = inputs.quick(row.id, compares), inputs.content(row.id, compares)
        self.results.add(Result.of(row.id, name, score, reward.fingerprint, quick, content))

    def finish(self, skipped: str = "") -> Summary:
        """Make the total, and write the one file."""
        results, order = self.results, self.order
        results.forget(TOTAL)  # made of scores that may have changed
        columns = {name: [results.rows[row, name].score for row in order] for name in self.rewards}
        if self.recipe is not None:
            fingerprint = ",".join(reward.fingerprint for reward in self.rewards.values())
            totals = combine(columns, self.recipe, self.groups, self.facts)
            for row, score, digests in zip(order, totals, self.digests, strict=True):
                results.add(Result.of(row, TOTAL, score, fingerprint, *digests))
            columns[TOTAL] = [results.rows[row, TOTAL].score for row in order]
        written = results.finish([(row, name) for row in order for name in columns])
        statuses = {name: Counter(score.status for score in column) for name, column in columns.items()}
        failures = grouped(order, {name: columns[name] for name in self.rewards})
        stayed = len(written) - len(order) * len(columns)
        values = {name: [score.value for score in column] for name, column in columns.items()}
        return Summary(
            len(order),
            self.tally.fresh,
            statuses,
            failures,
            stayed,
            skipped,
            values,
            self.units,
            self.sources,
        )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group that is none itself."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def about_run(
    data: Path, rewards: Mapping[str, Reward], out: Path, title: str, columns: Columns | None = None
) -> dict[str, Any]:
    """The facts that are stored with the results."""
    return {
        "title": title,
        "data": relpath(data, out.parent),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("mmreward"),
        "columns": {relpath(data, out.parent): dict(columns)} if columns else {},
        "rewards": {
            name: {
                "reward": reward.info.name,
                "args": {key: str(value) for key, value in reward.args.items()},
                "range": [_finite(bound) for bound in reward.info.range],
                "higher_is_better": reward.info.higher_is_better,
                "fingerprint": reward.fingerprint,
            }
            for name, reward in rewards.items()
        },
    }


def _finite(bound: float) -> float | None:
    return bound if abs(bound) < float("inf") else None


def _at_once(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """All rows, once they are asked for."""
    if chunk := list(rows):
        yield chunk

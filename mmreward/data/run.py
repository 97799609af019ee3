"""Scoring of a whole data set into a file: resumes, reports progress, and counts failures against a
budget."""

import hashlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from os.path import relpath
from pathlib import Path
from typing import Any, NoReturn

from ..compose import Fact, Recipe, combine, facts_of
from ..engine.engine import Engine
from ..errors import FINE, Status
from ..registry import Reward
from ..types import Score
from .results import Result, Results
from .rows import Row, read_rows

CHUNK = 4096
"""Rows that are read ahead; a shard is written every few seconds whatever this is."""
TOTAL = "total"
"""The name under which a combined score is stored."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a run. `fresh` scores were computed now, the others were there already. `skipped` says how
    many files of a folder gave no row, and why."""

    rows: int
    fresh: int
    statuses: Mapping[str, Counter[Status]]
    skipped: str = ""

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
    progress: Callable[[int, int, int], None] | None = None,
) -> Summary:
    """Score every row of `data` with every reward and leave one row per (id, reward) in `out`.

    Args:
        data: see `data.read_rows`.
        rewards: by the name their scores are stored under.
        out: a .parquet or .jsonl file. Rows in it (or in the shards of a killed run) that were computed from
            the same input with the same fingerprint are kept.
        engine: what runs the rewards.
        recipe: also store a total under "total".
        timeout: seconds one score may take.
        retry_failed: compute failed scores again.
        title: stored with the results.
        progress: called as `progress(done, failed, total)`, total being the scores of the rows read so far.

    Raises:
        ValueError: data or out in a form that cannot be read or written, or a total that cannot be made.
    """
    if TOTAL in rewards and recipe is not None:
        raise ValueError(f"{TOTAL!r} is the name of the combined score; give the reward another name")
    if recipe is not None:
        recipe.check(rewards)
    results = Results(out, about_run(data, rewards, out, title))
    tally = _Tally(progress)
    order: list[str] = []
    groups: list[str | None] = []
    facts: list[Sequence[Fact]] = []
    # A reward that compares samples must see each group whole, so then everything is one chunk.
    whole = any(reward.info.arity != "point" for reward in rewards.values())
    rows = read_rows(data)
    with _kept_when_stopped(results):
        for chunk in _chunks(rows, None if whole else CHUNK):
            order.extend(row.id for row in chunk)
            groups.extend(row.sample.group if row.sample else None for row in chunk)
            facts.extend(facts_of(recipe, row.sample) for row in chunk if recipe is not None)
            _score_chunk(chunk, rewards, results, engine, timeout, retry_failed, tally)
            results.flush()
    results.forget(TOTAL)  # made of scores that may have changed
    columns = {name: [results.rows[row, name].score for row in order] for name in rewards}
    keep = [(row, name) for row in order for name in rewards]
    if recipe is not None:
        fingerprint = ",".join(reward.fingerprint for reward in rewards.values())
        for row, score in zip(order, combine(columns, recipe, groups, facts), strict=True):
            results.add(Result.of(row, TOTAL, score, fingerprint, ""))
        columns[TOTAL] = [results.rows[row, TOTAL].score for row in order]
        keep = [(row, name) for row in order for name in columns]
    results.finish(keep)
    statuses = {name: Counter(score.status for score in column) for name, column in columns.items()}
    return Summary(len(order), tally.fresh, statuses, str(rows.skipped))


@contextmanager
def _kept_when_stopped(results: Results) -> Iterator[None]:
    """Put finished scores on disk also when the block ends early: by an error, Ctrl-C or SIGTERM, after which
    the exit code is 143."""

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
        results.flush()


@dataclass(slots=True)
class _Tally:
    """Counts for the progress bar."""

    report: Callable[[int, int, int], None] | None
    done: int = 0
    failed: int = 0
    total: int = 0
    fresh: int = 0

    def count(self, score: Score, fresh: bool) -> None:
        self.done += 1
        self.fresh += fresh
        self.failed += score.status not in FINE
        if self.report is not None:
            self.report(self.done, self.failed, self.total)


def _score_chunk(
    chunk: list[Row],
    rewards: Mapping[str, Reward],
    results: Results,
    engine: Engine,
    timeout: float | None,
    retry_failed: bool,
    tally: _Tally,
) -> None:
    """Score what is missing; rows that lack the same rewards run together."""
    tally.total += len(chunk) * len(rewards)
    inputs = {name: _inputs(chunk, reward) for name, reward in rewards.items()}
    lacking: dict[str, list[str]] = {}
    for name, reward in rewards.items():
        missing = set()
        for row in chunk:
            known = results.find(row.id, name, reward.fingerprint, inputs[name][row.id])
            if row.sample is None:
                broken = Score.failed("error", row.problem)
                results.add(Result.of(row.id, name, broken, reward.fingerprint, row.digest))
                tally.count(broken, fresh=known is None)
            elif known is None or (retry_failed and known.status not in FINE):
                missing.add(row.id)
        if reward.info.arity != "point":
            groups = {row.sample.group for row in chunk if row.id in missing and row.sample}
            missing = {row.id for row in chunk if row.sample and row.sample.group in groups}
        for row in chunk:
            if row.id in missing:
                lacking.setdefault(row.id, []).append(name)
            elif row.sample is not None:
                tally.count(results.rows[row.id, name].score, fresh=False)
    wanted: dict[tuple[str, ...], list[Row]] = {}
    for row in chunk:
        if row.id in lacking:
            wanted.setdefault(tuple(lacking[row.id]), []).append(row)
    for names, rows in wanted.items():

        def store(index: int, name: str, score: Score, rows: list[Row] = rows) -> None:
            row, reward = rows[index], rewards[name]
            results.add(Result.of(row.id, name, score, reward.fingerprint, inputs[name][row.id]))
            tally.count(score, fresh=True)

        samples = [row.sample for row in rows if row.sample is not None]
        engine.score(samples, {name: rewards[name] for name in names}, timeout=timeout, progress=store)


def _inputs(chunk: Iterable[Row], reward: Reward) -> dict[str, str]:
    """Digest of the input of each row's score: the row, or for a reward that compares, its whole group."""
    if reward.info.arity == "point":
        return {row.id: row.digest for row in chunk}
    groups: dict[str | None, list[str]] = {}
    for row in chunk:
        groups.setdefault(row.sample.group if row.sample else None, []).append(f"{row.id} {row.digest}")
    digests = {
        group: hashlib.blake2b("\n".join(members).encode(), digest_size=8).hexdigest()
        for group, members in groups.items()
    }
    return {row.id: digests[row.sample.group] if row.sample else row.digest for row in chunk}


def about_run(data: Path, rewards: Mapping[str, Reward], out: Path, title: str) -> dict[str, Any]:
    """The facts that are stored with the results."""
    return {
        "title": title,
        "data": relpath(data, out.parent),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("mmreward"),
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


def _chunks(rows: Iterable[Row], size: int | None) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk

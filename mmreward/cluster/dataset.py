"""Bulk scoring with Ray Data: Parquet sets larger than memory, an engine in each of several actors.

`score_dataset` cuts the set into parts (a row group of one file, or a slice of it), each actor runs a
`Scorer`, which scores one part after another, and `ScoredIndex` knows the scores of earlier runs in nine
bytes each, so that a run over millions of rows resumes. Only the list of parts goes out and only counts come
back: actors read rows and write shards by themselves.
"""

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..data.inputs import Inputs
from ..data.parquet import batches_of, rows_of_batch
from ..data.results import Result, write
from ..data.rows import Row, chunked, rows_of
from ..data.run import Summary, about_run
from ..engine.engine import DEATHS, Engine
from ..errors import FINE, STATUSES, UNAVAILABLE, Status, Unavailable
from ..files import sole_writer
from ..limits import changed, set_limits
from ..loading import Rewards, resolve
from ..registry import Reward
from ..types import Score
from .pool import Grant
from .session import join, leave, shortage

SPREAD = 4
"""Parts per actor at the least, where the rows allow it, so that actors finish together."""

Count = Counter[tuple[str, Status, bool]]
"""Scores by reward, status, and whether they were computed now."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows `start` to `stop` of a row group of a file; `first` counts from the beginning of the set."""

    file: str
    group: int
    start: int
    stop: int
    first: int


@dataclass(frozen=True, slots=True)
class Job:
    """Settings of a run, the same for all actors."""

    rewards: Mapping[str, Reward]
    out: Path
    about: Mapping[str, Any]
    rows: int
    timeout: float | None
    device: str
    limits: Mapping[str, float]
    """Those of the driver that are not the defaults."""


def score_dataset(
    data: str | Path,
    rewards: Rewards,
    out: str | Path,
    *,
    grant: Grant | None = None,
    rows: int = 512,
    timeout: float | None = None,
    retry_failed: bool = False,
    address: str | None = None,
    ready_seconds: float = 300.0,
) -> Summary:
    """Score every row of a Parquet set with every reward; the memory it takes does not grow with the set.

    A row that kills the process which scores it costs itself too, after some restarts.

    Args:
        data: a .parquet file or a folder of them, with columns as for `data.read_rows`, at the same place on
            every machine. That no id is there twice is not checked.
        rewards: as for `Engine.score`; none may compare samples, whose groups would be torn apart.
        out: a folder of Parquet shards with one row per (id, reward), as `results.read` reads them; the same
            folder on every machine. Rows in it that were computed from the same input with the same
            fingerprint are kept, so a killed run resumes; so are those of other data sets. Failures that
            were not the row's (see `Result.passing`) are computed again.
        grant: number and size of the actors; each holds all the networks.
        rows: number of rows in an actor's memory at once, and in one shard.
        timeout: seconds one score may take.
        retry_failed: compute failed scores again.
        address: as for `RayPlacement`.
        ready_seconds: within which the actors must come up.

    Raises:
        ValueError: no data there, a reward that compares samples, another run that writes to `out`, or
            arguments as for `load`.
        TimeoutError: the actors did not come up; the message names the resources.
        Unavailable: a reward that can be computed for no row: no weights, package or server.
        RuntimeError: the run broke for another reason than a row. The shards so far stay for the next run.
    """
    named = resolve(rewards)
    if comparing := [name for name, reward in named.items() if reward.info.arity != "point"]:
        raise ValueError(f"{', '.join(comparing)} would need whole groups: score them with score_file")
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}")
    data, out, grant = Path(data).resolve(), Path(out).resolve(), grant or Grant()
    parts = parts_of(data, grant.actors)
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        shutil.rmtree(out / "trials", ignore_errors=True)  # a killed run is no row's fault
        about = about_run(data, named, out / "shard", data.name)
        device = "auto" if grant.num_gpus else "cpu"
        ray = join(address)
        try:
            job = Job(named, out, about, rows, timeout, device, changed())
            return _run(ray, parts, job, ScoredIndex.read(out, retry_failed), grant, ready_seconds)
        finally:
            leave()


class ScoredIndex:
    """Statuses of the scores of earlier runs, by a 64-bit hash of all that determines a score.

    Two different scores have one hash with a probability below 1e-5 among ten million.

    Args:
        hashes: uint64 (N,), sorted.
        statuses: uint8 (N,), indices into STATUSES.
    """

    def __init__(self, hashes: "np.ndarray[Any, Any]", statuses: "np.ndarray[Any, Any]") -> None:
        self._hashes = hashes
        self._statuses = statuses

    @classmethod
    def read(cls, out: Path, retry_failed: bool) -> "ScoredIndex":
        """The index of a folder of shards; without the failures when those are to be computed again."""
        found = np.fromiter(_scored_records(out), dtype=[("hash", np.uint64), ("status", np.uint8)])
        if retry_failed:
            keep = [STATUSES.index(status) for status in FINE]
            found = found[np.isin(found["status"], keep)]
        _, first = np.unique(found["hash"], return_index=True)
        return cls(found["hash"][first], found["status"][first])

    def status(self, name: str, reward: str, fingerprint: str, digest: str) -> Status | None:
        """The status of this row's score by this reward, None if it has none.

        Args:
            name: the row's id.
            reward: name of the reward.
            fingerprint: of the reward.
            digest: of the row's content.
        """
        wanted = np.uint64(_hash(name, reward, fingerprint, digest))
        index = int(np.searchsorted(self._hashes, wanted))
        if index == len(self._hashes) or self._hashes[index] != wanted:
            return None
        return get_args(Status)[self._statuses[index]]  # type: ignore[no-any-return]


def _scored_records(out: Path) -> Iterator[tuple[int, int]]:
    import pyarrow.parquet as pq

    columns = ["id", "reward", "fingerprint", "input", "status", "note"]
    for shard in sorted(out.glob("[0-9]*.parquet"), reverse=True):  # the newest first
        for batch in pq.ParquetFile(shard).iter_batches(columns=columns):
            for name, reward, fingerprint, digest, status, note in zip(
                *(batch.column(column).to_pylist() for column in columns), strict=True
            ):
                if not (status == "error" and UNAVAILABLE in note):  # not the row's fault: tried again
                    yield _hash(name, reward, fingerprint, digest), STATUSES.index(status)


def _hash(*facts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(facts).encode(), digest_size=8).digest())


def parts_of(data: Path, actors: int) -> list[Part]:
    """The parts of a .parquet file, or of all that lie in a folder, in order.

    Raises:
        ValueError: there are none.
    """
    import pyarrow.parquet as pq

    files = sorted(data.glob("*.parquet")) if data.is_dir() else [data]
    if not files or not files[0].exists():
        raise ValueError(f"no data at {data}")
    groups = []
    for file in files:
        facts = pq.ParquetFile(file).metadata
        groups += [(str(file), g, facts.row_group(g).num_rows) for g in range(facts.num_row_groups)]
    slices = max(1, ceil(SPREAD * actors / max(1, len(groups))))
    parts: list[Part] = []
    first = 0
    for name, group, count in groups:
        size = max(1, ceil(count / slices))
        starts = range(0, count, size)
        parts += [Part(name, group, start, min(start + size, count), first + start) for start in starts]
        first += count
    return parts


def chunks_of(part: Part, size: int) -> Iterator[list[Row]]:
    """The part's rows, `size` at a time or fewer (see `chunked`), no more of which are in memory at once."""
    return chunked(rows_of(_part_records(part), Path(part.file).parent, part.first), size)


def _part_records(part: Part) -> Iterator[object]:
    position = 0
    for batch in batches_of(Path(part.file), groups=[part.group]):
        low, high = max(part.start - position, 0), min(part.stop - position, len(batch))
        if low < high:
            yield from rows_of_batch(batch.slice(low, high - low))
        position += len(batch)
        if position >= part.stop:
            return


class Scorer:
    """Actor of a bulk run: an engine that scores one part at a time and returns counts; called by Ray Data.

    Ray repeats a part whose actor died. The second time its rows are halved, and halved again, until the one
    that kills its process is found; that one gets a failed score.

    Args:
        job: the run.
        scored: Ray's reference to the index of earlier scores.
    """

    def __init__(self, job: Job, scored: Any) -> None:
        import ray

        set_limits(job.limits)
        self._job = job
        self._scored_before: ScoredIndex = ray.get(scored)
        self._engine = Engine(job.device)
        self._trials = Trials(job.out / "trials")

    def __call__(self, table: Any) -> dict[str, list[Any]]:
        counts: Count = Counter()
        (part,) = table.to_pylist()
        for rows in chunks_of(Part(**part), self._job.rows):
            lacking = self._lacking(rows, counts)
            results = self._careful([row for row in rows if lacking[row.id]], lacking)
            inputs = Inputs(rows)
            data = str(self._job.about["data"])
            results = [replace(one, content=inputs.content(one.id), data=data) for one in results]
            counts.update((result.reward, result.status, True) for result in results)
            if results:
                shard = f"{time.time_ns():020d}-{_digest(rows)}.parquet"
                write(self._job.out / shard, results, self._job.about)
        return {
            "reward": [reward for reward, _, _ in counts],
            "status": [status for _, status, _ in counts],
            "fresh": [fresh for _, _, fresh in counts],
            "count": list(counts.values()),
        }

    def _lacking(self, rows: list[Row], counts: Count) -> dict[str, list[str]]:
        """Names of the rewards that each row has no score of; earlier scores are counted."""
        lacking: dict[str, list[str]] = {row.id: [] for row in rows}
        for row in rows:
            for name, reward in self._job.rewards.items():
                status = self._scored_before.status(row.id, name, reward.fingerprint, row.digest)
                if status is None:
                    lacking[row.id].append(name)
                else:
                    counts[name, status, False] += 1
        return lacking

    def _careful(self, rows: list[Row], lacking: Mapping[str, list[str]]) -> list[Result]:
        """Score rows, in halves when a process has died of them before."""
        if not rows:
            return []
        trial = self._trials.begin(rows)
        if trial > 1 and len(rows) > 1:
            middle = len(rows) // 2
            results = self._careful(rows[:middle], lacking) + self._careful(rows[middle:], lacking)
        elif trial > DEATHS:
            problem = f"{DEATHS} processes died while they scored it and nothing else"
            results = self._failed(rows[0], lacking, problem)
        else:
            results = self._scored(rows, lacking, suspect=trial > 1)
        self._trials.end(rows)
        return results

    def _scored(self, rows: list[Row], lacking: Mapping[str, list[str]], *, suspect: bool) -> list[Result]:
        """Score rows; those that lack the same rewards run together."""
        results: list[Result] = []
        alike: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            if row.sample is None:
                results += self._failed(row, lacking, row.problem)
            else:
                alike.setdefault(tuple(lacking[row.id]), []).append(row)
        for names, members in alike.items():
            samples = [row.sample for row in members if row.sample is not None]
            chosen = {name: self._job.rewards[name] for name in names}
            # Rows that a process died of are looked at alone, and say nothing about a reward.
            found = self._engine.score(samples, chosen, timeout=self._job.timeout, check=not suspect)
            for name, scores in found.items():
                pairs = zip(members, scores, strict=True)
                results += [self._result(row, name, score) for row, score in pairs]
        return results

    def _failed(self, row: Row, lacking: Mapping[str, list[str]], problem: str) -> list[Result]:
        return [self._result(row, name, Score.failed("error", problem)) for name in lacking[row.id]]

    def _result(self, row: Row, name: str, score: Score) -> Result:
        return Result.of(row.id, name, score, self._job.rewards[name].fingerprint, row.digest)


class Trials:
    """Counts of how often rows were begun and not ended, in files that outlive the process that dies of them.

    Args:
        folder: of the files; each file's size is the count.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def begin(self, rows: list[Row]) -> int:
        """Note that these rows are begun; returns the number of times so far, at least 1."""
        with self._file(rows).open("ab") as file:
            file.write(b".")
            return file.tell()

    def end(self, rows: list[Row]) -> None:
        self._file(rows).unlink(missing_ok=True)

    def _file(self, rows: list[Row]) -> Path:
        return self._folder / _digest(rows)


def _digest(rows: list[Row]) -> str:
    return hashlib.blake2b("\n".join(row.id for row in rows).encode(), digest_size=8).hexdigest()


def _precondition(error: BaseException) -> Unavailable | None:
    """What an actor refused for every row; Ray hands it on as text."""
    lines = [line for line in str(error).splitlines() if f"{Unavailable.__name__}: {UNAVAILABLE}" in line]
    return Unavailable(lines[-1].partition(UNAVAILABLE)[2]) if lines else None


def _run(
    ray: Any, parts: list[Part], job: Job, scored: ScoredIndex, grant: Grant, ready_seconds: float
) -> Summary:
    from ray import data as ray_data

    listed = ray_data.from_items([asdict(part) for part in parts], override_num_blocks=max(1, len(parts)))
    listed.context.enable_progress_bars = False
    listed.context.wait_for_min_actors_s = ready_seconds
    counted = listed.map_batches(
        Scorer,
        fn_constructor_args=(job, ray.put(scored)),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray_data.ActorPoolStrategy(size=grant.actors),
        num_cpus=grant.num_cpus,
        num_gpus=grant.num_gpus,
        **({"resources": dict(grant.resources)} if grant.resources else {}),
    )
    statuses: dict[str, Counter[Any]] = {name: Counter() for name in job.rewards}
    fresh = 0
    try:
        for row in counted.iter_rows():
            statuses[row["reward"]][row["status"]] += row["count"]
            fresh += row["count"] * row["fresh"]
    except ray.exceptions.GetTimeoutError:
        raise TimeoutError(shortage(ray, "the actors were", grant.wanted, ready_seconds)) from None
    except ray.exceptions.RayError as error:
        if (refused := _precondition(error)) is not None:
            raise refused from None
        raise RuntimeError(f"the run broke; what is in {job.out} stays: {error}") from error
    shutil.rmtree(job.out / "trials", ignore_errors=True)
    total = max((sum(counts.values()) for counts in statuses.values()), default=0)
    return Summary(total, fresh, statuses)

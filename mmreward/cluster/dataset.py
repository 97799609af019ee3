"""Bulk scoring with Ray Data: Parquet sets larger than memory, an engine in each of several actors.

Rows stream from the files through the actors; each actor leaves its scores in shards of its own. Only counts
come back here.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import Row, identified, rows_of
from ..engine import Engine
from ..registry import Reward, Rewards, resolve
from ..results import Result, write
from ..run import Summary, about_run
from ..types import Score
from .known import Known
from .pool import Grant
from .session import join, leave, shortage

RESTARTS, RETRIES = 8, 3
"""How often one actor may die, and how often the rows it had are tried again; then the run stops."""


def score_dataset(
    data: str | Path,
    rewards: Rewards,
    out: str | Path,
    *,
    grant: Grant | None = None,
    rows: int = 256,
    timeout: float | None = None,
    retry_failed: bool = False,
    address: str | None = None,
    ready_seconds: float = 300.0,
) -> Summary:
    """Score every row of a Parquet set with every reward; the memory it takes does not grow with the set.

    Args:
        data: a .parquet file, a folder of them, or a URL that Ray Data reads, with columns as for
            `data.read_rows`. Rows without an id are named by their content; that ids differ is not checked.
            Relative paths of media are relative to the folder.
        rewards: as for `Engine.score`; none may compare samples, whose groups would be torn apart.
        out: a folder of Parquet shards with one row per (id, reward), as `results.read` reads them; the same
            folder on every machine. Rows in it that were computed from the same input with the same
            fingerprint are kept, so a killed run resumes.
        grant: how many actors, and how large; each holds all the networks.
        rows: of one shard.
        timeout: seconds one score may take.
        retry_failed: compute failed scores again.
        address: as for `RayPlacement`.
        ready_seconds: within which the actors must come up.

    Raises:
        ValueError: no data there, a reward that compares samples, or arguments as for `load`.
        TimeoutError: the actors did not come up; the message names the resources.
        RuntimeError: the run broke, say because a row kills whatever reads it. The shards so far stay.
    """
    named = resolve(rewards)
    if comparing := [name for name, reward in named.items() if reward.info.arity != "point"]:
        raise ValueError(f"{', '.join(comparing)} compare samples of a group: score them with score_file")
    source, out, grant = _source(data), Path(out).resolve(), grant or Grant()
    out.mkdir(parents=True, exist_ok=True)
    ray = join(address)
    try:
        root = Path(source) if Path(source).is_dir() else Path(source).parent
        about = about_run(Path(source), named, out / "scores", str(data))
        known = Known.read(out, retry_failed)
        return _run(ray, source, _Job(named, root, out, about, timeout), known, grant, rows, ready_seconds)
    finally:
        leave()


@dataclass(frozen=True, slots=True)
class _Job:
    """What each actor must know, and the same for all."""

    rewards: Mapping[str, Reward]
    root: Path
    out: Path
    about: Mapping[str, Any]
    timeout: float | None


class _Scorer:
    """The actor: takes a table of rows, leaves a shard of scores, and answers with counts."""

    def __init__(self, job: _Job, known: Any, device: str) -> None:
        import ray

        self._job = job
        self._known: Known = ray.get(known)
        self._engine = Engine(device)

    def __call__(self, table: Any) -> dict[str, Any]:
        counts: Counter[tuple[str, str, bool]] = Counter()
        rows = list(rows_of(map(identified, table.to_pylist()), self._job.root))
        results = []
        for result in self._score(rows, counts):
            results.append(result)
            counts[result.reward, result.status, True] += 1
        if results:
            name = hashlib.blake2b("\n".join(row.id for row in rows).encode(), digest_size=6).hexdigest()
            write(self._job.out / f"{time.time_ns():020d}-{name}.parquet", results, self._job.about)
        return {
            "reward": [name for name, _, _ in counts],
            "status": [status for _, status, _ in counts],
            "fresh": [fresh for _, _, fresh in counts],
            "count": list(counts.values()),
        }

    def _score(self, rows: list[Row], counts: "Counter[tuple[str, str, bool]]") -> list[Result]:
        """The scores that are missing; those that are there already are counted."""
        results: list[Result] = []
        wanted: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            lacking = []
            for name, reward in self._job.rewards.items():
                status = self._known.status(row.id, name, reward.fingerprint, row.digest)
                if status is not None:
                    counts[name, status, False] += 1
                elif row.sample is None:
                    broken = Score.failed("error", row.problem)
                    results.append(Result.of(row.id, name, broken, reward.fingerprint, row.digest))
                else:
                    lacking.append(name)
            if lacking:
                wanted.setdefault(tuple(lacking), []).append(row)
        for names, members in wanted.items():
            chosen = {name: self._job.rewards[name] for name in names}
            samples = [row.sample for row in members if row.sample is not None]
            for name, scores in self._engine.score(samples, chosen, timeout=self._job.timeout).items():
                for row, score in zip(members, scores, strict=True):
                    results.append(Result.of(row.id, name, score, chosen[name].fingerprint, row.digest))
        return results


def _run(
    ray: Any, source: str, job: _Job, known: Known, grant: Grant, rows: int, ready_seconds: float
) -> Summary:
    from ray import data as ray_data

    # Reading takes no CPU of its own: the actors may hold them all, and would then wait for rows for ever.
    dataset = ray_data.read_parquet(source, ray_remote_args={"num_cpus": 0}, concurrency=grant.actors)
    dataset.context.enable_progress_bars = False
    dataset.context.wait_for_min_actors_s = ready_seconds
    counted = dataset.map_batches(
        _Scorer,
        fn_constructor_args=(job, ray.put(known), "auto" if grant.num_gpus else "cpu"),
        batch_size=rows,
        batch_format="pyarrow",
        concurrency=grant.actors,
        num_cpus=grant.num_cpus,
        num_gpus=grant.num_gpus,
        resources=dict(grant.resources),
        max_restarts=RESTARTS,
        max_task_retries=RETRIES,
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
        raise RuntimeError(f"the run broke; what is in {job.out} stays for the next run: {error}") from error
    total = max((sum(counts.values()) for counts in statuses.values()), default=0)
    return Summary(total, fresh, statuses)


def _source(data: str | Path) -> str:
    """The set's absolute path, or its URL as it is."""
    if "://" in str(data):
        return str(data)
    path = Path(data).resolve()
    if not path.exists():
        raise ValueError(f"no data at {data}")
    return str(path)

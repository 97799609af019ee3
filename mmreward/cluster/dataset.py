"""Bulk scoring with Ray Data: Parquet sets larger than memory, an engine in each of several actors.

Only the list of parts goes out and only counts come back: actors read rows and write shards by themselves.
"""

import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..loading import Rewards, resolve
from ..run import Summary, about_run
from .known import Known
from .parts import Part, parts_of
from .pool import Grant
from .scorer import Job, Scorer
from .session import join, leave, shortage


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
            fingerprint are kept, so a killed run resumes.
        grant: how many actors, and how large; each holds all the networks.
        rows: held by an actor at once, and in one shard.
        timeout: seconds one score may take.
        retry_failed: compute failed scores again.
        address: as for `RayPlacement`.
        ready_seconds: within which the actors must come up.

    Raises:
        ValueError: no data there, a reward that compares samples, or arguments as for `load`.
        TimeoutError: the actors did not come up; the message names the resources.
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
    shutil.rmtree(out / "trials", ignore_errors=True)  # a killed run is no row's fault
    about = about_run(data, named, out / "shard", data.name)
    device = "auto" if grant.num_gpus else "cpu"
    ray = join(address)
    try:
        job = Job(named, out, about, rows, timeout, device)
        return _run(ray, parts, job, Known.read(out, retry_failed), grant, ready_seconds)
    finally:
        leave()


def _run(ray: Any, parts: list[Part], job: Job, known: Known, grant: Grant, ready_seconds: float) -> Summary:
    from ray import data as ray_data

    listed = ray_data.from_items([asdict(part) for part in parts], override_num_blocks=max(1, len(parts)))
    listed.context.enable_progress_bars = False
    listed.context.wait_for_min_actors_s = ready_seconds
    counted = listed.map_batches(
        Scorer,
        fn_constructor_args=(job, ray.put(known)),
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
        raise RuntimeError(f"the run broke; what is in {job.out} stays: {error}") from error
    shutil.rmtree(job.out / "trials", ignore_errors=True)
    total = max((sum(counts.values()) for counts in statuses.values()), default=0)
    return Summary(total, fresh, statuses)

"""What runs in an actor of a bulk run: an engine that scores one part of the data after another."""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import Row
from ..engine import DEATHS, Engine
from ..failures import Status
from ..registry import Reward
from ..results import Result, write
from ..types import Score
from .known import Known
from .parts import Part, chunks_of

Count = Counter[tuple[str, Status, bool]]
"""Scores by reward, status, and whether they were computed now."""


@dataclass(frozen=True, slots=True)
class Job:
    """What each actor must know, and the same for all."""

    rewards: Mapping[str, Reward]
    out: Path
    about: Mapping[str, Any]
    rows: int
    timeout: float | None
    device: str


class Scorer:
    """Called by Ray Data with one part at a time; answers with counts.

    Ray repeats a part whose actor died. The second time its rows are halved, and halved again, until the one
    that kills its process is found; that one gets a failed score.

    Args:
        job: the run.
        known: a reference to what need not be computed.
    """

    def __init__(self, job: Job, known: Any) -> None:
        import ray

        self._job = job
        self._known: Known = ray.get(known)
        self._engine = Engine(job.device)
        self._trials = Trials(job.out / "trials")

    def __call__(self, table: Any) -> dict[str, list[Any]]:
        counts: Count = Counter()
        (part,) = table.to_pylist()
        for rows in chunks_of(Part(**part), self._job.rows):
            lacking = self._lacking(rows, counts)
            results = self._careful([row for row in rows if lacking[row.id]], lacking)
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
        """The rewards each row has no score of yet; scores that are there are counted."""
        lacking: dict[str, list[str]] = {row.id: [] for row in rows}
        for row in rows:
            for name, reward in self._job.rewards.items():
                status = self._known.status(row.id, name, reward.fingerprint, row.digest)
                if status is None:
                    lacking[row.id].append(name)
                else:
                    counts[name, status, False] += 1
        return lacking

    def _careful(self, rows: list[Row], lacking: Mapping[str, list[str]]) -> list[Result]:
        """Score rows, fewer at a time when they were being scored before and the process died."""
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
            results = self._scored(rows, lacking)
        self._trials.end(rows)
        return results

    def _scored(self, rows: list[Row], lacking: Mapping[str, list[str]]) -> list[Result]:
        """Rows that lack the same rewards run together."""
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
            for name, scores in self._engine.score(samples, chosen, timeout=self._job.timeout).items():
                pairs = zip(members, scores, strict=True)
                results += [self._result(row, name, score) for row, score in pairs]
        return results

    def _failed(self, row: Row, lacking: Mapping[str, list[str]], problem: str) -> list[Result]:
        return [self._result(row, name, Score.failed("error", problem)) for name in lacking[row.id]]

    def _result(self, row: Row, name: str, score: Score) -> Result:
        return Result.of(row.id, name, score, self._job.rewards[name].fingerprint, row.digest)


class Trials:
    """How often rows were begun and not ended, in files, so that it outlives the process that dies of them.

    Args:
        folder: where; each file's size is the count.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def begin(self, rows: list[Row]) -> int:
        """Note that these rows are begun; which time it is."""
        with self._file(rows).open("ab") as file:
            file.write(b".")
            return file.tell()

    def end(self, rows: list[Row]) -> None:
        self._file(rows).unlink(missing_ok=True)

    def _file(self, rows: list[Row]) -> Path:
        return self._folder / _digest(rows)


def _digest(rows: list[Row]) -> str:
    return hashlib.blake2b("\n".join(row.id for row in rows).encode(), digest_size=8).hexdigest()

"""Which scores are there already, in nine bytes each, so that a run over millions of rows can resume."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..failures import STATUSES, Status


class Known:
    """Status of each score, looked up by a 64-bit hash of what it was computed from.

    Two different scores have one hash with a probability below 1e-5 among ten million.

    Args:
        hashes: uint64 (N,), sorted.
        statuses: uint8 (N,), indices into STATUSES.
    """

    def __init__(self, hashes: "np.ndarray[Any, Any]", statuses: "np.ndarray[Any, Any]") -> None:
        self._hashes = hashes
        self._statuses = statuses

    @classmethod
    def read(cls, out: Path, retry_failed: bool) -> "Known":
        """From a folder of shards; without the failures when those are to be computed again."""
        found = np.fromiter(_records(out), dtype=[("hash", np.uint64), ("status", np.uint8)])
        if retry_failed:
            keep = [STATUSES.index("ok"), STATUSES.index("na")]
            found = found[np.isin(found["status"], keep)]
        _, first = np.unique(found["hash"], return_index=True)
        return cls(found["hash"][first], found["status"][first])

    def status(self, name: str, reward: str, fingerprint: str, digest: str) -> Status | None:
        """The status of this very row with this very reward, if it has been scored."""
        wanted = np.uint64(_hash(name, reward, fingerprint, digest))
        index = int(np.searchsorted(self._hashes, wanted))
        if index == len(self._hashes) or self._hashes[index] != wanted:
            return None
        return get_args(Status)[self._statuses[index]]  # type: ignore[no-any-return]


def _records(out: Path) -> Iterator[tuple[int, int]]:
    import pyarrow.parquet as pq

    columns = ["id", "reward", "fingerprint", "input", "status"]
    for shard in sorted(out.glob("[0-9]*.parquet"), reverse=True):  # the newest first
        for batch in pq.ParquetFile(shard).iter_batches(columns=columns):
            for name, reward, fingerprint, digest, status in zip(
                *(batch.column(column).to_pylist() for column in columns), strict=True
            ):
                yield _hash(name, reward, fingerprint, digest), STATUSES.index(status)


def _hash(*facts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(facts).encode(), digest_size=8).digest())

"""Scores on disk: one row per (id, reward), in Parquet or JSONL, written so that a killed run loses nothing.

While a run goes on, finished rows lie in small shards in `OUT.parts/`, each put there by an atomic rename. At
the end they become the one file OUT, again by a rename. A later run reads both and scores only what is
missing.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import Status
from ..files import whole_file
from ..types import Score

ABOUT = b"mmreward"
"""Key of the facts about the run in a Parquet file's schema metadata."""


@dataclass(frozen=True, slots=True)
class Result:
    """One score as it is stored. `parts` is JSON, `input` the digest of the row it was computed from."""

    id: str
    reward: str
    value: float | None
    status: Status
    note: str
    parts: str
    fingerprint: str
    input: str

    @classmethod
    def of(cls, name: str, reward: str, score: Score, fingerprint: str, digest: str) -> "Result":
        value = float(score.value) if score.ok else None
        note = score.note.replace("\x00", "\ufffd")
        parts = {key: float(part) for key, part in score.parts.items() if math.isfinite(part)}
        return cls(name, reward, value, score.status, note, json.dumps(parts), fingerprint, digest)

    @property
    def score(self) -> Score:
        value = math.nan if self.value is None else self.value
        return Score(value, json.loads(self.parts), self.status, self.note)

    @property
    def key(self) -> tuple[str, str]:
        return (self.id, self.reward)


COLUMNS = tuple(field.name for field in fields(Result))


class Results:
    """The results of one run, on their way to a file.

    Args:
        out: where they go: a name ending in .parquet or .jsonl.
        about: facts about the run, stored with it.
        every: seconds between shards.

    Raises:
        ValueError: another ending.
    """

    def __init__(self, out: Path, about: Mapping[str, Any], every: float = 5.0) -> None:
        if out.suffix not in (".parquet", ".jsonl"):
            raise ValueError(f"results go to a .parquet or .jsonl file, not {out.name!r}")
        self.out = out
        self.parts = out.with_name(out.name + ".parts")
        self.about = dict(about)
        self.every = every
        if out.exists():
            self.about["rewards"] = {**_recorded(out), **self.about.get("rewards", {})}
        self.rows: dict[tuple[str, str], Result] = {row.key: row for row in _existing(out, self.parts)}
        self._fresh: list[Result] = []
        self._flushed = time.monotonic()
        self.parts.mkdir(parents=True, exist_ok=True)

    def find(self, name: str, reward: str, fingerprint: str, digest: str) -> Result | None:
        """The result of this very row with this very reward, if it has been scored."""
        row = self.rows.get((name, reward))
        return row if row is not None and (row.fingerprint, row.input) == (fingerprint, digest) else None

    def add(self, result: Result) -> None:
        """Take a result; it is on disk at most `every` seconds later."""
        self.rows[result.key] = result
        self._fresh.append(result)
        if time.monotonic() - self._flushed > self.every:
            self.flush()

    def forget(self, reward: str) -> None:
        """Leave a reward's rows out of the file."""
        self.rows = {key: row for key, row in self.rows.items() if row.reward != reward}

    def flush(self) -> None:
        """Put what has come in since the last shard on disk."""
        if self._fresh:
            shard = self.parts / f"{time.time_ns():020d}-{os.getpid()}{self.out.suffix}"
            write(shard, self._fresh, self.about)
            self._fresh = []
        self._flushed = time.monotonic()

    def finish(self, keep: Iterable[tuple[str, str]]) -> list[Result]:
        """Write the rows of these (id, reward), in this order, as the one file, and remove the shards.

        Rows of rewards that are not among them were put there by other runs and stay, after the others.
        """
        keys = list(keep)
        ours = {reward for _, reward in keys}
        rows = [self.rows[key] for key in keys]
        rows += [row for row in self.rows.values() if row.reward not in ours]
        write(self.out, rows, self.about)
        shutil.rmtree(self.parts)
        return rows


def write(path: Path, rows: Iterable[Result], about: Mapping[str, Any]) -> None:
    """Write rows to a file that appears whole or not at all."""
    records = [asdict(row) for row in rows]
    with whole_file(path) as part:
        if path.suffix == ".jsonl":
            lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            part.write_text(lines, encoding="utf-8", errors="replace")
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            types = {"value": pa.float64()}
            schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
            clean = [{k: _utf8(v) for k, v in record.items()} for record in records]
            table = pa.Table.from_pylist(clean, schema=schema.with_metadata({ABOUT: json.dumps(about)}))
            pq.write_table(table, part)


def read(path: Path) -> list[Result]:
    """The rows of a results file, or of a folder of shards; of two for one (id, reward) the newer counts.

    Raises:
        ValueError: the file is not there, or not one of ours.
    """
    if not path.exists():
        raise ValueError(f"no results at {path}")
    if path.is_dir():
        shards = sorted(path.glob("[0-9]*.parquet"))
        return list({row.key: row for shard in shards for row in _read(shard)}.values())
    return list(_read(path))


def about(path: Path) -> dict[str, Any]:
    """The facts stored with a Parquet results file; empty for JSONL."""
    if path.suffix != ".parquet":
        return {}
    import pyarrow.parquet as pq

    metadata = pq.read_schema(path).metadata or {}
    return dict(json.loads(metadata.get(ABOUT, b"{}")))


def _recorded(out: Path) -> dict[str, Any]:
    return dict(about(out).get("rewards", {}))


def _existing(out: Path, parts: Path) -> Iterator[Result]:
    """Earlier rows, oldest first; shards come after the file, so that of two the newer wins."""
    if out.exists():
        yield from _read(out)
    for shard in sorted(parts.glob(f"[0-9]*{out.suffix}")):
        yield from _read(shard)


def _read(path: Path) -> Iterator[Result]:
    if path.suffix == ".jsonl":
        # Not splitlines: it also splits at U+2028 and its like, which JSON leaves inside strings.
        lines = path.read_text(encoding="utf-8").split("\n")
        records = [json.loads(line) for line in lines if line.strip()]
    else:
        import pyarrow.parquet as pq

        records = pq.read_table(path).to_pylist()
    for record in records:
        if set(COLUMNS) - set(record):
            raise ValueError(f"{path} is no results file: it lacks {', '.join(set(COLUMNS) - set(record))}")
        yield Result(**{name: record[name] for name in COLUMNS})


def _utf8(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value

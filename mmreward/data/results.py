"""Scores on disk: one row per (id, reward, data set), in Parquet, JSONL, CSV or TSV; a killed run loses what
the last `EVERY` seconds brought at most.

While a run goes on, finished rows lie in small shards in `OUT.parts/`, each put there by an atomic rename. At
the end they become the one file OUT, again by a rename. A later run reads both and scores only what is
missing. What it does not score itself stays: other rewards, other data sets, and rows that have left the data
set. Two runs must not write one file at once: see `files.sole_writer`.
"""

import csv
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import UNAVAILABLE, Status
from ..files import naming, whole_file
from ..types import Score
from .parquet import metadata_of, records_of

TOTAL = "total"
"""The name under which a combined score is stored."""
ENDINGS = (".parquet", ".jsonl", ".csv", ".tsv")
"""Of files of results. Parquet alone keeps the facts about the run, such as the ranges of its rewards."""
SEPARATORS = {".csv": ",", ".tsv": "\t"}
ABOUT = b"mmreward"
"""Key of the facts about the run in a Parquet file's schema metadata."""
LONGEST_CELL = 1 << 24
"""Characters of a note or of the parts of a score."""
EVERY = 2.0
"""Seconds after which a score is on disk: what kill -9 costs at most. Each shard is a small file, which a
run after a kill reads."""


@dataclass(frozen=True, slots=True)
class Result:
    """One score as it is stored.

    `parts` is JSON. `input` and `content` are digests of the row it was computed from (see `inputs`), `data`
    the path of the row's data set, relative to the file's folder. All three may be empty, in files of other
    programs and of earlier versions.
    """

    id: str
    reward: str
    value: float | None
    status: Status
    note: str
    parts: str
    fingerprint: str
    input: str
    content: str = ""
    data: str = field(default="", compare=False)

    @classmethod
    def of(
        cls, name: str, reward: str, score: Score, fingerprint: str, digest: str, content: str = ""
    ) -> "Result":
        value = float(score.value) if score.ok else None
        note = score.note.replace("\x00", "\ufffd")
        parts = {key: float(part) for key, part in score.parts.items() if math.isfinite(part)}
        return cls(name, reward, value, score.status, note, json.dumps(parts), fingerprint, digest, content)

    @property
    def score(self) -> Score:
        value = math.nan if self.value is None else self.value
        return Score(value, json.loads(self.parts), self.status, self.note)

    @property
    def key(self) -> tuple[str, str]:
        return (self.id, self.reward)

    @property
    def passing(self) -> bool:
        """True for a failure that was not the row's: a device, weights or a server that could not be used.
        The next run tries again."""
        return self.status == "error" and UNAVAILABLE in self.note


COLUMNS = tuple(one.name for one in fields(Result))
NEEDED = tuple(one.name for one in fields(Result) if one.default is MISSING)


class Results:
    """The results of one run, on their way to a file. `rows` are those of the run's own data set.

    Args:
        out: where they go: a name with one of `ENDINGS`.
        about: facts about the run, stored with it; `data` among them is the data set of its rows.
        every: seconds after which a result is on disk, whether another has come or not.

    Raises:
        ValueError: another ending, or what lies at `out` are no results.
        OSError: what lies there cannot be read; names it.
    """

    def __init__(self, out: Path, about: Mapping[str, Any], every: float = EVERY) -> None:
        check_ending(out)
        self.out = out
        self.parts = parts_of(out)
        if self.parts.is_symlink():
            raise ValueError(f"{self.parts} is a symbolic link, and none is followed: remove it")
        self.about = dict(about)
        self.every = every
        self.data = str(self.about.get("data", ""))
        before = _facts(out) if out.exists() else {}
        self.about["rewards"] = {**before.get("rewards", {}), **self.about.get("rewards", {})}
        mapped = {name: one for name, one in before.get("columns", {}).items() if name != self.data}
        self.about["columns"] = mapped | self.about.get("columns", {})
        if not self.about["columns"]:
            del self.about["columns"]
        if not self.about["rewards"]:
            del self.about["rewards"]
        self.rows: dict[tuple[str, str], Result] = {}
        self.others: dict[tuple[str, str, str], Result] = {}
        """Rows of other data sets, by id, reward and data set."""
        self._elsewhere: dict[tuple[str, str], list[Result]] = {}
        stored = list(_existing(out, self.parts))
        for row in stored:
            self._sort(replace(row, data=row.data or str(before.get("data", self.data))))
        alike = out.suffix != ".parquet" or {**before, "created": ""} == {**self.about, "created": ""}
        alike &= out.exists() and not self.parts.exists()
        self._stored = [astuple(row) for row in stored] if alike else None
        """What the file itself holds, where its facts are this run's, but for their date."""
        for other in self.others.values():
            self._elsewhere.setdefault(other.key, []).append(other)
        self._fresh: list[Result] = []
        self._flushed = time.monotonic()
        self._writing = threading.Lock()
        self._timer: threading.Timer | None = None

    def _sort(self, row: Result) -> None:
        if row.data == self.data:
            self.rows[row.key] = row
        else:
            self.others[row.id, row.reward, row.data] = row

    def find(
        self, name: str, reward: str, fingerprint: str, digest: str, content: Callable[[], str] = str
    ) -> Result | None:
        """The result of this very row with this very reward, if it has been scored.

        Args:
            name: the row's id.
            reward: the name of the reward.
            fingerprint: of the reward.
            digest: of the row, the quick one.
            content: makes the one that reads files; called where only the quick one differs.
        """
        known = self.rows.get((name, reward))
        for row in (known, *self._elsewhere.get((name, reward), ())):
            if row is None or row.fingerprint != fingerprint or row.passing:
                continue
            if row.input != digest and not (row.content and row.content == content()):
                continue
            if row is not known and row.input == digest:  # the same file, in another list
                self.others.pop((row.id, row.reward, row.data), None)
            found: Result = replace(row, input=digest, data=self.data)
            self.rows[found.key] = found
            return found
        return None

    def add(self, result: Result) -> None:
        """Take a result of the run's data set; it is on disk `every` seconds later, or at once where the last
        shard is as old as that.

        Raises:
            OSError: it cannot be written; names the file.
        """
        result = replace(result, data=self.data)
        with self._writing:
            self.rows[result.key] = result
            self._fresh.append(result)
            due = self._flushed + self.every - time.monotonic()
            if due > 0 and self._timer is None:
                # So that what came just after a shard does not wait for a result that takes minutes.
                self._timer = threading.Timer(due, self._overdue)
                self._timer.daemon = True
                self._timer.start()
        if due <= 0:
            self.flush()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _overdue(self) -> None:
        """Called by the timer; what cannot be written then is tried, and raises, where the next is added."""
        with suppress(OSError):
            self.flush()

    def forget(self, reward: str) -> None:
        """Leave a reward's rows of this data set out of the file."""
        self.rows = {key: row for key, row in self.rows.items() if row.reward != reward}

    def flush(self) -> None:
        """Put what has come in since the last shard on disk.

        Raises:
            OSError: it cannot be written; names the file.
        """
        with self._writing:
            self._stop_timer()
            if self._fresh:
                shard = self.parts / f"{time.time_ns():020d}-{os.getpid()}{_shards(self.out)}"
                try:
                    self.parts.mkdir(parents=True, exist_ok=True)
                    write(shard, self._fresh, self.about)
                except OSError as error:
                    raise naming(error, shard) from error
                self._fresh = []
            self._flushed = time.monotonic()

    def finish(self, keep: Iterable[tuple[str, str]]) -> list[Result]:
        """Write the rows of these (id, reward), in this order, as the one file, and remove the shards.

        All other rows were put there by other runs and stay, after these. A file that says all this already
        stays as it is.
        """
        keys = list(keep)
        ours = set(keys)
        rows = [self.rows[key] for key in keys]
        rows += [row for key, row in self.rows.items() if key not in ours]
        rows += self.others.values()
        if self._stored is None or self._stored != [astuple(row) for row in rows]:
            write(self.out, rows, self.about)
        with self._writing:  # the timer finds nothing to put beside the whole file
            self._stop_timer()
            self._fresh = []
        shutil.rmtree(self.parts, ignore_errors=True)
        return rows


def check_ending(out: Path) -> None:
    """Refuse a file that results cannot be written to, by its name.

    Raises:
        ValueError: it says which endings there are.
    """
    if out.suffix not in ENDINGS:
        raise ValueError(f"results go to a {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} file, not {out.name!r}")


def _shards(out: Path) -> str:
    """Ending of the shards of a results file; tables of text, which are for readers, have JSONL."""
    return ".jsonl" if out.suffix in SEPARATORS else out.suffix


def write(path: Path, rows: Iterable[Result], about: Mapping[str, Any]) -> None:
    """Write rows to a file that appears whole or not at all."""
    records = [asdict(row) for row in rows]
    with whole_file(path) as part:
        if path.suffix == ".jsonl":
            lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            part.write_text(lines, encoding="utf-8", errors="replace")
        elif path.suffix in SEPARATORS:
            with part.open("w", encoding="utf-8", errors="replace", newline="") as file:
                table = csv.DictWriter(file, COLUMNS, delimiter=SEPARATORS[path.suffix])
                table.writeheader()
                table.writerows(records)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            types = {"value": pa.float64()}
            schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
            clean = [{k: _utf8(v) for k, v in record.items()} for record in records]
            whole = pa.Table.from_pylist(clean, schema=schema.with_metadata({ABOUT: json.dumps(about)}))
            pq.write_table(whole, part)


def read(path: Path) -> list[Result]:
    """The rows of a results file, or of a folder of shards; of two for one row the newer counts.

    Raises:
        ValueError: the file is not there, or not one of ours; names the file, and the line of JSONL.
        OSError: it cannot be read, or is damaged; names the file.
    """
    if not path.exists():
        raise ValueError(f"no results at {path}")
    if path.is_dir():
        shards = sorted(path.glob("[0-9]*.parquet"))
        rows = (row for shard in shards for row in _read(shard))
        return list({(row.id, row.reward, row.data): row for row in rows}.values())
    return list(_read(path))


def parts_of(out: Path) -> Path:
    """The folder of the shards of a run that has not ended."""
    return out.with_name(out.name + ".parts")


def so_far(out: Path) -> tuple[dict[str, Any], list[Result]]:
    """The facts and rows of a results file with those of the shards beside it, which a run may be writing.

    Raises:
        ValueError, OSError: as `read`; a shard that goes away meanwhile is part of the file by then.
    """
    parts = parts_of(out)
    shards = sorted(parts.glob(f"[0-9]*{_shards(out)}"))
    facts = about(shards[-1]) if shards else about(out)
    rows = {(row.id, row.reward, row.data): row for row in _existing(out, parts)}
    return facts, list(rows.values())


def about(path: Path) -> dict[str, Any]:
    """The facts stored with a Parquet results file; empty for the others."""
    if path.suffix != ".parquet":
        return {}
    try:
        return dict(json.loads(metadata_of(path).get(ABOUT, b"{}")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no results file: {error}") from None


_facts = about
"""`about` under a name that no argument hides."""


def _existing(out: Path, parts: Path) -> Iterator[Result]:
    """Earlier rows, oldest first; shards come after the file, so that of two the newer wins."""
    if out.exists():
        yield from _read(out)
    for shard in sorted(parts.glob(f"[0-9]*{_shards(out)}")):
        yield from _read(shard)


def _read(path: Path) -> Iterator[Result]:
    for number, record in enumerate(_records(path), start=1):
        where = f"{path}, {'line' if path.suffix == '.jsonl' else 'row'} {number}"
        if isinstance(record, ValueError):
            raise ValueError(f"{where}: {record}")
        if not isinstance(record, Mapping):
            raise ValueError(f"{where} is {type(record).__name__}: {path.name} is no results file")
        if lacking := [name for name in NEEDED if name not in record]:
            raise ValueError(f"{path} is no results file: it lacks {', '.join(lacking)}")
        given = {name: record[name] for name in COLUMNS if name in NEEDED or record.get(name) is not None}
        yield Result(**given)


def _records(path: Path) -> Iterator[Any]:
    if path.suffix in SEPARATORS:
        yield from _cells(path)
        return
    if path.suffix != ".jsonl":
        yield from records_of(path)
        return
    try:
        # Not splitlines: it also splits at U+2028 and its like, which JSON leaves inside strings.
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no results file: {error}") from None
    except OSError as error:
        raise naming(error, path) from None
    for line in lines:
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                yield ValueError(f"not JSON: {error}")


def _cells(path: Path) -> Iterator[Any]:
    """Rows of a table of text; an empty cell is no value, and a text is never None."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter=SEPARATORS[path.suffix]):
                yield {**row, "value": float(row["value"]) if row.get("value") else None}
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is no results file: {error}") from None


def _utf8(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value

"""Records of a data set: mappings of columns from JSONL, Parquet, CSV, folders, or what `datasets` saved.

A line or file that cannot be read stands in its place as a ValueError, and costs its own row. Nothing is
replaced to make it readable.
"""

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, AnyStr, cast

from .. import stills, streams
from ..errors import Unscorable
from ..limits import limits, most
from ..reading import BOMS, decoded_text, read_regular
from . import parquet

PICTURES = stills.SUFFIXES
CLIPS = streams.SUFFIXES
SAVED = ("dataset_info.json", "state.json", "dataset_dict.json")
"""Files that `datasets` writes into a folder it saves to."""
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Files of a folder of pictures, or of one in it, that say what its pictures are."""
LINES = (".jsonl", ".ndjson")
TABLES = (".parquet", ".pq")


class Skipped(Counter[str]):
    """Files of a folder that gave no row, counted by the reason."""

    def __str__(self) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in self.most_common())


def records_of(path: Path, skipped: Skipped) -> Iterator[Any]:
    """The records of a file or folder, in order; those of a folder name their pictures relative to it.

    Args:
        path: of a file or folder that is there.
        skipped: counts the files of a folder that give no row.

    Raises:
        ValueError: a format that cannot be read, or an empty folder.
    """
    if path.is_dir():
        if any((path / marker).exists() for marker in SAVED):
            return _saved_dataset(path)
        return _folder(path, skipped)
    if (found := _reader(path)) is None:
        raise ValueError(f"{path} is no folder, .jsonl, .jsonl.gz or .parquet file")
    return found


def _reader(path: Path) -> Iterator[Any] | None:
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if plain.suffix.lower() in LINES:
        return json_lines(path)
    if plain.suffix.lower() in TABLES and plain is path:
        return parquet.records_of(path)
    return _table(path) if path.name in METADATA else None


# --- text -----------------------------------------------------------------------------------------


def parsed(text: str, what: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none; the message begins with `what`.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON: {error}") from None


def json_lines(path: Path) -> Iterator[Any]:
    """The values of a file with one JSON text a line, plain or compressed with gzip, in UTF-8 or as its byte
    order mark says; a ValueError in the place of a line that cannot be read."""
    try:
        with path.open("rb") as raw:
            packed = path.suffix.lower() == ".gz"
            file = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw
            for number, line in enumerate(_lines(file), start=1):
                what = f"{path.name}, line {number}"
                if isinstance(line, ValueError):
                    yield ValueError(f"{what}: {line}")
                    continue
                try:
                    text = decoded_text(line, what)
                    if text.strip():
                        yield parsed(text, what)
                except ValueError as error:
                    yield error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield ValueError(f"the rest of {path.name} cannot be read: {error}")


def _lines(file: IO[bytes]) -> Iterator[bytes | ValueError]:
    """Lines as UTF-8, of a file in UTF-16 or UTF-32 too. One beyond the limit is passed over, not held."""
    head = file.read(4)
    mark, encoding = next(((mark, name) for mark, name in BOMS if head.startswith(mark)), (b"", "utf-8"))
    if encoding.startswith(("utf-16", "utf-32")):
        file.seek(0)
        text = io.TextIOWrapper(file, encoding=encoding)
        try:
            for line in _read_lines(text, "", "\n"):
                yield line if isinstance(line, ValueError) else line.encode()
        except UnicodeDecodeError as error:
            yield ValueError(f"not {encoding.upper()} from here on ({error.reason})")
        return
    *whole, begun = head[len(mark) :].split(b"\n")
    yield from whole
    yield from _read_lines(file, begun, b"\n")


def _read_lines(file: IO[AnyStr], begun: AnyStr, end: AnyStr) -> Iterator[AnyStr | ValueError]:
    """Lines of an open file of bytes or characters; `begun` is what was already read of the first one."""
    allowed = limits().row_bytes
    while True:
        line = begun + file.readline(allowed + 1)
        begun = begun[:0]
        if not line:
            return
        if len(line) > allowed:
            size = len(line)
            while not line.endswith(end) and (line := file.readline(1 << 20)):
                size += len(line)
            unit = "bytes" if isinstance(end, bytes) else "characters"
            yield ValueError(f"{size} {unit}; the limit of a row is {most('row_bytes')}")
        else:
            yield line


def _table(path: Path) -> Iterator[Any]:
    text = decoded_text(read_regular(path, "file_bytes"), path.name)
    for row in csv.DictReader(io.StringIO(text, newline="")):
        if None in row:
            yield ValueError(f"a line of {path.name} has more columns than its first line")
        else:
            yield {column: value for column, value in row.items() if value not in (None, "")}


# --- tables ---------------------------------------------------------------------------------------


def _saved_dataset(path: Path) -> Iterator[Any]:
    try:
        from datasets import load_from_disk
    except ImportError:
        raise ValueError(f'{path} is a saved dataset: pip install "mmreward[eval]" to read it') from None
    dataset = load_from_disk(str(path))
    if hasattr(dataset, "keys"):
        raise ValueError(
            f"{path} holds the splits {', '.join(dataset)}: name one, as in {path / next(iter(dataset))}"
        )
    for name, feature in dataset.features.items():
        if hasattr(feature, "decode"):  # bytes instead of pictures, so that a broken one costs its own row
            dataset = dataset.cast_column(name, type(feature)(decode=False))
    return iter(dataset)


# --- folders --------------------------------------------------------------------------------------


def _folder(path: Path, skipped: Skipped) -> Iterator[Any]:
    files = list(_files(path, skipped))
    media = [file for file in files if file.suffix.lower() in PICTURES + CLIPS]
    tables = [file for file in files if file.name in METADATA]
    if tables:
        return _described(path, tables, media, skipped)
    if media:
        return _undescribed(path, media, files, skipped)
    shards = [file for file in files if file.suffix.lower() in TABLES]
    if shards:
        return (record for shard in shards for record in _beside(parquet.records_of(shard), path, shard))
    seen = f"; there is {files[0].name}: name it" if files and _reader(files[0]) is not None else ""
    raise ValueError(f"no pictures or clips in {path}{seen}")


def _files(path: Path, skipped: Skipped) -> Iterator[Path]:
    """Regular files, in order. Hidden ones, and what notebooks and archives leave, are none of the data."""
    for file in sorted(path.rglob("*")):
        if not file.is_file():
            odd = not file.is_dir() or file.suffix.lower() in PICTURES + CLIPS
            skipped.update([f"folders named {file.suffix}" if file.is_dir() else "no files"] if odd else [])
        elif any(part.startswith(".") or part == "__MACOSX" for part in file.relative_to(path).parts):
            skipped["hidden"] += 1
        else:
            yield file


def kind_of(file: Path) -> str:
    """The field of `Sample` a file belongs into: "video" for a clip or an animation, by its first bytes where
    the ending leaves it open; "image" else."""
    suffix = file.suffix.lower()
    if suffix in CLIPS:
        return "video"
    if suffix in (".gif", ".webp", ".png", ".apng", ".avif"):
        try:
            with file.open("rb") as opened:
                return "video" if stills.is_animated(opened.read(1 << 16), opened) else "image"
        except OSError:  # found out when the picture is looked at
            return "image"
    return "image"


def _undescribed(path: Path, media: list[Path], files: list[Path], skipped: Skipped) -> Iterator[Any]:
    captions = {file for file in files if file.suffix == ".txt"}
    used = {file.with_suffix(".txt") for file in media}
    others = [file for file in files if file not in media and file not in used]
    skipped.update(f"of another kind ({file.suffix or 'no ending'})" for file in others)
    for file in media:
        relative = file.relative_to(path).as_posix()
        if file.suffix.lower() == ".ts" and not _begins(file, b"G"):  # TypeScript
            skipped["of another kind (.ts)"] += 1
            continue
        words, prompt = file.with_suffix(".txt"), ""
        try:
            if words in captions:
                prompt = decoded_text(read_regular(words, "row_bytes"), f"the caption {words.name}")
        except Unscorable as error:
            yield Refused(str(error), relative)
        else:
            yield {"id": relative, "prompt": prompt.strip(), kind_of(file): relative}


class Refused(ValueError):  # noqa: N818 - reads as what it says at the yield
    """Reason why a record could not be read, with the id of its row."""

    def __init__(self, reason: str, name: str) -> None:
        super().__init__(reason)
        self.name = name


def _begins(file: Path, start: bytes) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(start)) == start


def _described(path: Path, tables: list[Path], media: list[Path], skipped: Skipped) -> Iterator[Any]:
    left = set(media)
    for table in tables:
        records = _reader(table)
        assert records is not None
        for record in _beside(records, path, table):
            if isinstance(record, dict):
                left -= {
                    path / record[name] for name in ("image", "video") if isinstance(record.get(name), str)
                }
            yield record
    if left:
        skipped[f"not in {tables[0].name}"] += len(left)


def _beside(records: Iterator[Any], root: Path, table: Path) -> Iterator[Any]:
    """Records whose files are named relative to `root` instead of the table they stand in, under the fields
    of `Sample`: `file_name` is the picture or clip, `image_file_name` and the like the field of that name."""
    folder = table.parent.relative_to(root)
    for record in records:
        if isinstance(record, Mapping):
            record = dict(record)
            named = [column for column in record if str(column).endswith("file_name")]
            wrong = [column for column in named if not isinstance(record[column], str)]
            if wrong:
                yield ValueError(f"{wrong[0]} is {record[wrong[0]]!r}, not a path")
                continue
            for column in named:
                name = (folder / record.pop(column)).as_posix()
                field = kind_of(root / name) if column == "file_name" else column.removesuffix("_file_name")
                record.setdefault(field, name)
                if column == "file_name":
                    record.setdefault("id", name)
            if folder.parts:
                for column in ("image", "video"):
                    if column not in named and isinstance(record.get(column), str) and not named:
                        record[column] = (folder / record[column]).as_posix()
        yield record

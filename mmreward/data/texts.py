"""Records in text files: JSONL, CSV and TSV; and what stands in the place of what cannot be read.

Text is UTF-8, or as its byte order mark says; nothing is replaced to make it readable.
"""

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr, cast

from ..limits import limits, most
from ..reading import BOMS, decoded_text, read_regular

LINES = (".jsonl", ".ndjson")
LISTS = ("inputs", "steps")
"""Fields of `Sample` whose cells in a table are lists, in JSON."""


class Skipped(Counter[str]):
    """Files of a folder that gave no row, counted by the reason."""

    def __str__(self) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in self.most_common())


class Refused(ValueError):  # noqa: N818 - reads as what it says at the yield
    """Reason why a record could not be read, with the id of its row."""

    def __init__(self, reason: str, name: str) -> None:
        super().__init__(reason)
        self.name = name


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


def separated(path: Path) -> Iterator[Any]:
    """The rows of a CSV or TSV file under the names in its first line; an empty cell is none.

    All cells are text, but for lists and objects: those of `inputs`, `steps` and `meta` are read as JSON.
    """
    text = decoded_text(read_regular(path, "file_bytes"), path.name)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(max(csv.field_size_limit(), limits().row_bytes))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = Counter(reader.fieldnames or ())
    except csv.Error as error:
        yield ValueError(f"the first line of {path.name} names no columns: {error}")
        return
    if twice := [name for name, count in names.items() if count > 1]:
        yield ValueError(f"the first line of {path.name} names the column {twice[0]!r} twice")
        return
    while True:
        try:
            row = next(reader)
            what = f"{path.name}, line {reader.reader.line_num}"
            if None in row:
                raise ValueError(f"{what}: more columns than the first line has")
            yield {column: _cell(column, value, what) for column, value in row.items() if value}
        except StopIteration:
            return
        except (csv.Error, ValueError) as error:
            broken = isinstance(error, csv.Error)
            yield ValueError(f"{path.name}, line {reader.reader.line_num}: {error}") if broken else error


def _cell(column: str, value: str, what: str) -> Any:
    """The value of a cell: a list where the field is one."""
    return parsed(value, f"{what}, {column}") if column in LISTS and value.lstrip()[:1] == "[" else value

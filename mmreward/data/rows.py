"""Samples from the records of a data set, which `records` reads from files and folders.

A row that cannot become a sample is handed on with its reason instead of stopping the rest. Relative paths
are relative to the file they stand in (or to the folder).
"""

import hashlib
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import Unscorable
from ..limits import limits
from ..media import Media
from ..reading import Span
from ..streams import Cut, Frame
from ..trajectories import with_media
from ..types import Sample
from . import vtriune
from .columns import FIELDS, Columns
from .records import CLIPS as CLIPS
from .records import PICTURES as PICTURES
from .records import records_of
from .texts import Refused, Skipped, parsed

CAPTIONS = ("caption", "text")
"""Columns that are the prompt where none is called so."""
STEP = 1024
"""Bytes of a step beside what stands in it: a mapping, and pictures of two views that are not opened."""
TASKS = ("instruction", "task")
"""The same of a clip or a trajectory: what a robot was told to do."""


class Row(NamedTuple):
    """One row of the input: a sample, or the reason why it is none. `digest` changes when the row does."""

    id: str
    sample: Sample | None
    problem: str
    digest: str


class Rows(Iterator[Row]):
    """Rows in order. `skipped` counts, once all have been read, the files of a folder that gave none."""

    def __init__(self, rows: Iterator[Row], skipped: Skipped) -> None:
        self._rows = rows
        self.skipped = skipped

    def __next__(self) -> Row:
        return next(self._rows)


def chunked(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Rows, `size` at a time, or fewer where these hold `Limits.rows_bytes`; at least one."""
    chunk: list[Row] = []
    held = 0
    for row in rows:
        more = 0 if row.sample is None else _bytes_of(row.sample)
        if chunk and held + more > limits().rows_bytes:
            yield chunk
            chunk, held = [], 0
        chunk.append(row)
        held += more
        if len(chunk) == size:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _bytes_of(sample: Sample) -> int:
    """Bytes of the texts, pictures and arrays that a sample holds, wherever they stand, and of its steps: an
    episode has thousands of these, which are small one by one."""
    total = STEP * len(sample.steps)
    left: list[Any] = [getattr(sample, field.name) for field in fields(Sample)]
    while left:
        match left.pop():
            case Media(source=source):
                left.append(source)
            case str() | bytes() as text:
                total += len(text)
            case Mapping() as mapping:
                left += [*mapping, *mapping.values()]
            case list() | tuple() as several:
                left += several
            case one:
                total += getattr(one, "nbytes", 8)
    return total


def read_rows(path: str | Path, columns: Columns | None = None) -> Rows:
    """The rows of a data set, in order.

    Columns are the fields of `Sample`; other columns go into `meta`. Where no column is called `prompt`,
    `caption` or `text` is it. V-Triune's rows are read as they are (see `vtriune`).

    A file is JSONL (also .gz), CSV, TSV, a tar or Parquet; text is UTF-8, or as its byte order mark says. A
    picture or clip alone is one row. A folder gives one row per picture or clip (an animation is a clip),
    with the prompt from a text file of the same name; or the rows of the metadata.jsonl, .csv or .parquet in
    it and its folders (column `file_name`); or, without pictures, those of its Parquet files. Hidden files
    are passed over.

    A LeRobot dataset gives one row per episode (see `lerobot`), and so does a folder of RLDS's TFRecords (see
    `rlds`). Of a clip or a trajectory, `instruction` or `task` is the prompt as well.

    A tar gives one row per key, as webdataset writes them (see `tars`); a folder of tars, the rows of all.

    A picture is a path, a data URL, or {"bytes": ...} as in `datasets`; nothing is fetched from a network.
    So is what a step of `steps` has under `observation`, or has there by view.

    Args:
        path: of the file or folder.
        columns: fields that are taken from columns of other names, as {"prompt": "caption"}, or from keys of
            `meta`; a row without the column is without the field.

    Raises:
        ValueError: nothing at this path, a format that cannot be read, no such field, or a column that none
            of the first rows has.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no data at {path}")
    skipped = Skipped()
    records = records_of(path, skipped, columns or {})
    return Rows(rows_of(records, path if path.is_dir() else path.parent), skipped)


def rows_of(records: Iterable[Any], root: Path, first: int = 0) -> Iterator[Row]:
    """Rows from mappings of columns.

    Args:
        records: the mappings; a ValueError in the place of one says why it could not be read.
        root: what relative paths are relative to.
        first: number of the first; a row without an id is named by its number.
    """
    seen: set[str] = set()
    for number, record in enumerate(records, start=first):
        fallback = f"{number:06d}"
        if isinstance(record, ValueError):
            yield Row(record.name if isinstance(record, Refused) else fallback, None, str(record), "")
            continue
        given = _id(record) if isinstance(record, Mapping) else None
        name = fallback if given is None or given == "" else str(given)
        try:
            if name in seen:
                raise ValueError(f"the id {name!r} was used before")
            sample = sample_of(record, root, name)
        except ValueError as error:
            yield Row(name if name not in seen else f"{name}#{number}", None, str(error), "")
        else:
            yield Row(name, sample, "", _digest(record, sample))
        seen.add(name)


def _id(record: Mapping[Any, Any]) -> Any:
    """The id of a row; V-Triune's rows have it in `extra_info`."""
    extra = record.get("extra_info")
    return extra.get("id") if "id" not in record and isinstance(extra, Mapping) else record.get("id")


def is_media(path: Path) -> bool:
    """True for the path of one picture or clip, by its ending."""
    return path.suffix.lower() in PICTURES + CLIPS and not path.is_dir()


def sample_of(record: Any, root: Path, name: str) -> Sample:
    """A sample from a mapping of columns.

    Raises:
        ValueError: the record is no mapping, or a column has the wrong type.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"a row is an object with the fields of Sample, not {type(record).__name__}")
    if vtriune.is_record(record):
        record = vtriune.columns_of(record)
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for column, value in record.items():
        if column in FIELDS:
            if value is not None:
                known[column] = value
        elif not isinstance(value, Span | Media):  # a picture that no field takes
            extra[str(column)] = value
    if "prompt" not in known:
        names = (*CAPTIONS, *TASKS) if known.get("video") or known.get("steps") else CAPTIONS
        captions = [extra[name] for name in names if isinstance(extra.get(name), str)]
        known |= {"prompt": captions[0]} if captions else {}
    for column in ("prompt", "response", "source"):
        if not isinstance(known.get(column, ""), str):
            raise ValueError(f"{column} is {type(known[column]).__name__}, not text")
    meta = known.get("meta", {})
    if isinstance(meta, str):
        meta = parsed(meta, "meta")
    if not isinstance(meta, Mapping):
        raise ValueError(f"meta is {type(meta).__name__}, not an object")
    for column in ("image", "video"):
        if column in known:
            known[column] = _media(known[column], root, column)
    for column in ("inputs", "steps"):
        if not isinstance(known.get(column, ()), list | tuple):
            raise ValueError(f"{column} is {type(known[column]).__name__}, not a list")
    known["inputs"] = tuple(_media(item, root, "image") for item in known.get("inputs", ()))
    known["steps"] = with_media(
        known.get("steps", ()), lambda value, name: _media(value, root, "image", name)
    )
    known["group"] = str(known["group"]) if "group" in known else None
    return Sample(**{**known, "id": name, "meta": {**extra, **meta}})


def _media(value: Any, root: Path, kind: Any, name: str = "") -> Media:
    if kind == "video" and isinstance(value, list):
        return Media.of([_media(frame, root, "image") for frame in value], kind)
    if isinstance(value, Mapping) and value.get("bytes") is None:  # as `datasets` stores a picture in Parquet
        value = value.get("path")
    if isinstance(value, str) and not value.startswith("data:"):
        if value.startswith(("http://", "https://")):
            raise ValueError(f"{name or kind} is at {value[:80]!r}: nothing is fetched, so download it first")
        path = root / value
        if "\\" in value and _stamp(path) is None:
            path = root / value.replace("\\", "/")
        return Media(path, kind)
    return Media.of(value, kind, name)


def unit_of(sample: Sample | None) -> Hashable:
    """The independent unit that a sample is a draw of, for intervals: its group, else prompt and given media.

    The picture is given where there is a response to it, and the answer itself where there is none. A sample
    without a prompt, or none at all, is a unit of its own.
    """
    if sample is None:
        return object()
    if sample.group:
        return sample.group
    if not sample.prompt:
        return object()
    given = sample.inputs if not sample.response else (*sample.inputs, sample.image, sample.video)
    return sample.prompt, *(_place(media) for media in given if media is not None)


def _place(media: Media) -> Hashable:
    return str(media.source) if isinstance(media.source, Path | Cut) else media.key


def file_of(media: Media) -> Path | None:
    """The file that a picture or clip is, or is a part of; None for one in memory."""
    source = media.source
    if isinstance(source, Frame):
        return file_of(source.clip)
    return source.path if isinstance(source, Span | Cut) else source if isinstance(source, Path) else None


def _digest(record: Mapping[str, Any], sample: Sample) -> str:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps(record, sort_keys=True, default=_named).encode())
    # Of each file once in a row: the frames of an episode are in one.
    stamps: dict[Path, bytes] = {}
    for _, media in sample.media():
        if (file := file_of(media)) is not None:
            if file not in stamps:
                stamps[file] = repr(_stamp(file)).encode()
            digest.update(stamps[file])
    return digest.hexdigest()


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None when there is none, or when the text is no path at all."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return stat.st_size, stat.st_mtime_ns


def _named(value: Any) -> str:
    """Stand-in for a value that JSON has no form for: bytes, pictures, dates, decimals."""
    if isinstance(value, bytes):
        return hashlib.blake2b(value, digest_size=8).hexdigest()
    if isinstance(value, Span):
        return f"{value.name} {value.start}+{value.size}"
    if isinstance(value, Media):
        return repr(value) if file_of(value) is not None else value.key
    try:
        return Media(value).key
    except (Unscorable, OSError):
        return str(value)

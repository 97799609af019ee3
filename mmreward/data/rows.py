"""Samples from files: a folder of pictures, JSONL, Parquet, or a dataset saved by `datasets`.

A row that cannot become a sample is handed on with its reason instead of stopping the rest. Relative paths
are relative to the file they stand in (or to the folder).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import Unscorable
from ..media import Media
from ..types import Sample
from . import vtriune
from .parquet import records_of

FIELDS = tuple(field.name for field in fields(Sample))
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SAVED = ("dataset_info.json", "state.json", "dataset_dict.json")
"""Files that `datasets` writes into a folder it saves to."""
CLIPS = (".mp4", ".webm", ".mov", ".mkv", ".avi")


class Row(NamedTuple):
    """One row of the input: a sample, or the reason why it is none. `digest` changes when the row does."""

    id: str
    sample: Sample | None
    problem: str
    digest: str


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a data set, in order.

    Columns are the fields of `Sample`; other columns go into `meta`, unless they look like a misspelt field.
    V-Triune's rows are read as they are (see `vtriune`). A folder gives one row per picture or clip, with the
    prompt from a text file of the same name, or the rows of its `metadata.jsonl` (column `file_name`).

    Raises:
        ValueError: nothing at this path, or a format that cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no data at {path}")
    if path.is_dir() and any((path / marker).exists() for marker in SAVED):
        records, root = _saved_dataset(path), path
    elif path.is_dir():
        records, root = _folder(path), path
    elif path.suffix in (".jsonl", ".ndjson"):
        records, root = _json_lines(path), path.parent
    elif path.suffix in (".parquet", ".pq"):
        records, root = records_of(path), path.parent
    else:
        raise ValueError(f"{path} is no folder, .jsonl or .parquet file")
    return rows_of(records, root)


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
            yield Row(fallback, None, str(record), "")
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


def sample_of(record: Any, root: Path, name: str) -> Sample:
    """A sample from a mapping of columns.

    Raises:
        ValueError: the record is no mapping, a column looks misspelt, or one has the wrong type.
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
        elif near := get_close_matches(str(column), FIELDS, n=1, cutoff=0.8):
            raise ValueError(f"unknown field {column!r}: did you mean {near[0]!r}?")
        else:
            extra[str(column)] = value
    for column in ("prompt", "response", "source"):
        if not isinstance(known.get(column, ""), str):
            raise ValueError(f"{column} is {type(known[column]).__name__}, not text")
    meta = known.get("meta", {})
    if isinstance(meta, str):
        meta = _json(meta, "meta")
    if not isinstance(meta, Mapping):
        raise ValueError(f"meta is {type(meta).__name__}, not an object")
    for column in ("image", "video"):
        if column in known:
            known[column] = _media(known[column], root, column)
    for column in ("inputs", "steps"):
        if not isinstance(known.get(column, ()), list | tuple):
            raise ValueError(f"{column} is {type(known[column]).__name__}, not a list")
    known["inputs"] = tuple(_media(item, root, "image") for item in known.get("inputs", ()))
    known["steps"] = tuple(known.get("steps", ()))
    known["group"] = str(known["group"]) if "group" in known else None
    return Sample(**{**known, "id": name, "meta": {**extra, **meta}})


def _media(value: Any, root: Path, kind: Any) -> Media:
    if isinstance(value, Mapping):  # how `datasets` stores a picture in Parquet
        if value.get("bytes") is not None:
            return Media(value["bytes"], kind)
        value = value.get("path")
    if isinstance(value, str):
        path = root / value
        if "\\" in value and _stamp(path) is None:
            path = root / value.replace("\\", "/")
        return Media(path, kind)
    if value is None or isinstance(value, int | float | bool):
        raise ValueError(f"{kind} is {value!r}, not a path or a picture")
    return Media(value, kind)


def _digest(record: Mapping[str, Any], sample: Sample) -> str:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps(record, sort_keys=True, default=_named).encode())
    for media in (sample.image, sample.video, *sample.inputs):
        if media is not None and isinstance(media.source, Path):
            digest.update(repr(_stamp(media.source)).encode())
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
    try:
        return Media(value).key
    except (Unscorable, OSError):
        return str(value)


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON: {error}") from None


def _json_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield _json(line, f"{path.name}, line {number}")
                except ValueError as error:
                    yield error


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


def _folder(path: Path) -> Iterator[Any]:
    metadata = path / "metadata.jsonl"
    if metadata.exists():
        for record in _json_lines(metadata):
            if isinstance(record, dict) and "file_name" in record:
                name = record.pop("file_name")
                if not isinstance(name, str):
                    yield ValueError(f"file_name is {name!r}, not a path")
                    continue
                record.setdefault("id", name)
                record["video" if Path(name).suffix.lower() in CLIPS else "image"] = name
            yield record
        return
    files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in PICTURES + CLIPS]
    if not files:
        raise ValueError(f"no pictures or clips in {path}")
    for file in files:
        words = file.with_suffix(".txt")
        prompt = words.read_text(encoding="utf-8-sig", errors="replace").strip() if words.exists() else ""
        kind = "video" if file.suffix.lower() in CLIPS else "image"
        relative = file.relative_to(path).as_posix()
        yield {"id": relative, "prompt": prompt, kind: relative}

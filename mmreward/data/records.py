"""Records of a data set: mappings of columns from JSONL, Parquet, CSV, folders, or what `datasets` saved.

A line or file that cannot be read stands in its place as a ValueError, and costs its own row. Nothing is
replaced to make it readable.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import stills, streams
from ..errors import Unscorable
from ..reading import decoded_text, read_regular
from . import lerobot, parquet, rlds, tars
from .columns import Columns, Through, check_columns, renamed
from .texts import LINES, Refused, Skipped, json_lines, separated

PICTURES = stills.SUFFIXES
CLIPS = streams.SUFFIXES
SAVED = ("dataset_info.json", "state.json", "dataset_dict.json")
"""Files that `datasets` writes into a folder it saves to."""
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Files of a folder of pictures, or of one in it, that say what its pictures are."""
TABLES = (".parquet", ".pq")
SEPARATED = (".csv", ".tsv")
TARS = (".tar",)
COUNTED = 256 << 20
"""Bytes of a text file whose lines are counted, for the display of how far a run is."""
RECORDED = re.compile(r"(.*-)(episode|step)-(\d+)")
"""Names of the clips that gymnasium's `RecordVideo` writes."""
READ = (".jsonl", ".jsonl.gz", ".parquet", ".csv", ".tsv", ".tar", ".tfrecord")


def records_of(path: Path, skipped: Skipped, columns: Columns) -> Iterator[Any]:
    """The records of a file or folder, in order; those of a folder name their pictures relative to it. One
    picture or clip alone is one record.

    Args:
        path: of a file or folder that is there.
        skipped: counts the files of a folder that give no row.
        columns: fields that are taken from columns of other names.

    Raises:
        ValueError: a format that cannot be read, an empty folder, or as `columns.check_columns`.
    """
    if columns:
        check_columns(lambda through: _records(path, Skipped(), through), columns)
    return _records(path, skipped, lambda records: renamed(records, columns))


def number_of(path: Path) -> int | None:
    """The number of records in a file, where it can be told at once; None for other data, or large text."""
    if path.suffix.lower() in TABLES and path.is_file():
        return parquet.number_of(path)
    if path.suffix.lower() != ".jsonl" or not path.is_file() or path.stat().st_size > COUNTED:
        return None
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _records(path: Path, skipped: Skipped, through: Through) -> Iterator[Any]:
    if path.is_dir():
        if any((path / marker).exists() for marker in SAVED):
            return through(_saved_dataset(path))
        if lerobot.is_lerobot(path):
            return through(lerobot.records_of(path))
        return _folder(path, skipped, through)
    if path.suffix.lower() in PICTURES + CLIPS:
        return through(_undescribed(path.parent, [path], [path, path.with_suffix(".txt")], skipped))
    if rlds.is_tfrecord(path):
        return through(rlds.records_of(path, path.name))
    if path.suffix.lower() in TARS:
        return through(tars.records_of(path, path.stem, skipped))
    if (found := _reader(path)) is None:
        raise ValueError(f"{path} is no folder, no {', '.join(READ)} file, no picture and no clip")
    return through(found)


def _reader(path: Path) -> Iterator[Any] | None:
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if plain.suffix.lower() in LINES:
        return json_lines(path)
    if plain.suffix.lower() in TABLES and plain is path:
        return parquet.records_of(path)
    return separated(path) if path.suffix.lower() in SEPARATED else None


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


def _folder(path: Path, skipped: Skipped, through: Through) -> Iterator[Any]:
    files = list(_files(path, skipped))
    media = [file for file in files if file.suffix.lower() in PICTURES + CLIPS]
    tables = [file for file in files if file.name in METADATA]
    if tables:
        return _described(path, tables, media, skipped, through)
    if media:
        return through(_undescribed(path, media, files, skipped))
    shards = [file for file in files if file.suffix.lower() in TABLES]
    if shards:
        return (
            record for shard in shards for record in _beside(through(parquet.records_of(shard)), path, shard)
        )
    archives = [file for file in files if file.suffix.lower() in TARS]
    if archives:
        return (
            record
            for file in archives
            for record in through(
                tars.records_of(file, file.relative_to(path).with_suffix("").as_posix(), skipped)
            )
        )
    episodes = [file for file in files if rlds.is_tfrecord(file)]
    if episodes:
        return (
            record
            for file in episodes
            for record in through(rlds.records_of(file, file.relative_to(path).as_posix()))
        )
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
    for file in sorted(media, key=_in_order):
        relative = file.relative_to(path).as_posix()
        if file.suffix.lower() == ".ts" and not _begins(file, b"G"):  # TypeScript
            skipped["of another kind (.ts)"] += 1
            continue
        words, prompt = file.with_suffix(".txt"), ""
        try:
            if words in captions and words.is_file():
                prompt = decoded_text(read_regular(words, "row_bytes"), f"the caption {words.name}")
        except Unscorable as error:
            yield Refused(str(error), relative)
        else:
            yield {"id": relative, "prompt": prompt.strip(), kind_of(file): relative, **_recorded(file)}


def _in_order(file: Path) -> tuple[str, ...]:
    """Order of the files of a folder: by name, recorded episodes by their number."""
    found = RECORDED.fullmatch(file.stem)
    return (*file.parent.parts, f"{found[1]}{found[3]:>012}" if found else file.name)


def _recorded(file: Path) -> dict[str, Any]:
    """The number of a recorded episode, or of the step at which it began."""
    found = RECORDED.fullmatch(file.stem)
    return {"meta": {found[2]: int(found[3])}} if found and file.suffix.lower() in CLIPS else {}


def _begins(file: Path, start: bytes) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(start)) == start


def _described(
    path: Path, tables: list[Path], media: list[Path], skipped: Skipped, through: Through
) -> Iterator[Any]:
    left = set(media)
    for table in tables:
        records = _reader(table)
        assert records is not None
        for record in _beside(through(records), path, table):
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
                written = record.pop(column)
                name = (folder / written).as_posix()
                mapped = ("image", "video") if column == "file_name" else ()
                given = [kind for kind in mapped if record.get(kind) == written]
                record |= dict.fromkeys(given, name)  # `--map image=file_name`
                field = kind_of(root / name) if column == "file_name" else column.removesuffix("_file_name")
                if not given:
                    record.setdefault(field, name)
                if column == "file_name":
                    record.setdefault("id", name)
            if folder.parts:
                for column in ("image", "video"):
                    if column not in named and isinstance(record.get(column), str) and not named:
                        record[column] = (folder / record[column]).as_posix()
        yield record

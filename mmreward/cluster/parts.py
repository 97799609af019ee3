"""A Parquet set cut into parts that actors read by themselves: a row group of one file, or a slice of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path

from ..data import Row, rows_of

SPREAD = 4
"""Parts per actor at the least, where the rows allow it, so that actors finish together."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows `start` to `stop` of a row group; `first` counts from the beginning of the set."""

    file: str
    group: int
    start: int
    stop: int
    first: int


def parts_of(data: Path, actors: int) -> list[Part]:
    """The parts of a .parquet file, or of all that lie in a folder, in order.

    Raises:
        ValueError: there are none.
    """
    import pyarrow.parquet as pq

    files = sorted(data.glob("*.parquet")) if data.is_dir() else [data]
    if not files or not files[0].exists():
        raise ValueError(f"no data at {data}")
    groups = []
    for file in files:
        facts = pq.ParquetFile(file).metadata
        groups += [(str(file), g, facts.row_group(g).num_rows) for g in range(facts.num_row_groups)]
    slices = max(1, ceil(SPREAD * actors / max(1, len(groups))))
    parts: list[Part] = []
    first = 0
    for name, group, count in groups:
        size = max(1, ceil(count / slices))
        starts = range(0, count, size)
        parts += [Part(name, group, start, min(start + size, count), first + start) for start in starts]
        first += count
    return parts


def chunks_of(part: Part, size: int) -> Iterator[list[Row]]:
    """The part's rows, so many at a time; no more than that are held."""
    rows = rows_of(_records(part), Path(part.file).parent, part.first)
    while chunk := list(islice(rows, size)):
        yield chunk


def _records(part: Part) -> Iterator[object]:
    import pyarrow.parquet as pq

    position = 0
    for batch in pq.ParquetFile(part.file).iter_batches(batch_size=64, row_groups=[part.group]):
        low, high = max(part.start - position, 0), min(part.stop - position, len(batch))
        if low < high:
            yield from batch.slice(low, high - low).to_pylist()
        position += len(batch)
        if position >= part.stop:
            return

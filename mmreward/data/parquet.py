"""Parquet read row by row: a string that is no text costs its own row, damage is an error with a file name.

Arrow decodes a batch at once, so that one bad string fails all its rows, and its errors name no file.
"""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import naming

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 256


def records_of(path: Path, *, groups: Sequence[int] | None = None, batch: int = BATCH) -> Iterator[Any]:
    """The rows of a Parquet file as mappings of columns, in order.

    In the place of a row that cannot be decoded stands a ValueError that names the columns.

    Args:
        path: of the file.
        groups: numbers of the row groups to read; default: all.
        batch: rows that are decoded at once.

    Raises:
        OSError: the file cannot be opened or is damaged; names it.
    """
    for rows in batches_of(path, groups=groups, batch=batch):
        yield from rows_of_batch(rows)


def batches_of(
    path: Path, *, groups: Sequence[int] | None = None, batch: int = BATCH
) -> "Iterator[pa.RecordBatch]":
    """The batches of a Parquet file; arguments and errors as of `records_of`."""
    with _opened(path) as file:
        yield from file.iter_batches(batch_size=batch, row_groups=groups)


def metadata_of(path: Path) -> Mapping[bytes, bytes]:
    """The key-value metadata of a Parquet file's schema; errors as of `records_of`."""
    with _opened(path) as file:
        return file.schema_arrow.metadata or {}


def number_of(path: Path) -> int:
    """Rows of a Parquet file, by its footer; errors as of `records_of`."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _opened(path: Path) -> "Iterator[pq.ParquetFile]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and (error.errno is not None or error.filename is not None):
            raise naming(error, path) from None
        reason = f"no Parquet file, or a damaged one ({_first_line(error)})"
        raise OSError(errno.EIO, reason, str(path)) from None


def rows_of_batch(batch: "pa.RecordBatch") -> Iterator[Any]:
    """The rows of a batch; see `records_of`."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # of one row: it is found one by one
        rows = [_row(batch.slice(index, 1)) for index in range(len(batch))]
    yield from rows


def _row(row: "pa.RecordBatch") -> Any:
    try:
        return row.to_pylist()[0]
    except (ValueError, OverflowError):
        return ValueError(_problem(row))


def _problem(row: "pa.RecordBatch") -> str:
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            column.to_pylist()
        except UnicodeDecodeError:
            return f"column {name!r} is not UTF-8 text"
        except (ValueError, OverflowError) as error:
            return f"column {name!r} cannot be read: {error}"
    return "the row cannot be read"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]

"""Parquet read row by row: a string that is no text costs its own row, damage is an error with a file name.

Arrow decodes a batch at once, so that one bad string fails all its rows, and its errors name no file. It also
writes each row's value out, where the file has one value in a dictionary and rows that point to it: a file of
0.4 MB can hold gigabytes. So a batch has as many rows as can be held whichever values they point to.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import naming
from ..limits import limits, most

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 32
"""Rows; more at once are no faster."""
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
"""Bytes of one value by its physical type."""


def records_of(path: Path, *, groups: Sequence[int] | None = None, batch: int = BATCH) -> Iterator[Any]:
    """The rows of a Parquet file as mappings of columns, in order.

    In the place of a row that cannot be decoded stands a ValueError that names the columns.

    Args:
        path: of the file.
        groups: numbers of the row groups to read; default: all.
        batch: rows that are decoded at once, or fewer, as `limits.rows_bytes` bounds them.

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
        numbers = range(file.num_row_groups) if groups is None else groups
        for rows, some in groupby(numbers, lambda number: min(batch, _rows_at_once(path, file, number))):
            yield from file.iter_batches(batch_size=rows, row_groups=list(some))


def _rows_at_once(path: Path, file: "pq.ParquetFile", group: int) -> int:
    """Rows of a row group, up to `BATCH`, that take no more than a quarter of `Limits.rows_bytes` when they
    are decoded; at least one."""
    about, budget = file.metadata.row_group(group), limits().rows_bytes // 4
    fixed, texts, held = 0, 0, 0
    for index in range(about.num_columns):
        column = about.column(index)
        if column.physical_type == "BYTE_ARRAY":
            whole = column.total_uncompressed_size
            texts += whole
            each = -(-column.num_values // max(1, about.num_rows))
            if column.has_dictionary_page and BATCH * each * whole > budget:
                longest = _longest(path, file.metadata, group, column.path_in_schema)
                held += each * (whole if longest is None else longest)
            elif column.has_dictionary_page:
                held += each * whole
        else:
            width = WIDTHS.get(column.physical_type) or _fixed_width(file, index)
            fixed += column.num_values * width // max(1, about.num_rows)
    # Of what no dictionary holds, a batch has no more than the whole group.
    return 1 if texts > budget else max(1, min(BATCH, budget // max(1, fixed + held)))


def _fixed_width(file: "pq.ParquetFile", index: int) -> int:
    """Bytes of one value of a column of fixed length, of which only its Arrow type tells."""
    return max(1, int(file.schema.column(index).length))


def _longest(path: Path, metadata: "pq.FileMetaData", group: int, column: str) -> int | None:
    """Bytes of the longest value in a column's dictionary; None where the first row does not show it."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, metadata=metadata, read_dictionary=[column]) as file:
        batch = next(file.iter_batches(batch_size=1, row_groups=[group], columns=[column]), None)
    values = [dictionary for array in batch.columns for dictionary in _dictionaries(array)] if batch else []
    return max((len(one) for one in values), default=None)


def _dictionaries(array: "pa.Array") -> "Iterable[bytes]":
    """The values of the dictionary within an array, as bytes."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        return (value.as_buffer() or b"" for value in array.dictionary)
    if pa.types.is_struct(kind):
        return (one for index in range(kind.num_fields) for one in _dictionaries(array.field(index)))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        return _dictionaries(array.values if not pa.types.is_map(kind) else array.items)
    return ()


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
        rows = batch.to_pylist() if batch.nbytes <= limits().rows_bytes else _one_by_one(batch)
    except (ValueError, OverflowError):  # of one row: it is found one by one
        rows = _one_by_one(batch)
    yield from rows


def _one_by_one(batch: "pa.RecordBatch") -> Iterator[Any]:
    return (_row(batch.slice(index, 1)) for index in range(len(batch)))


def _row(row: "pa.RecordBatch") -> Any:
    if row.nbytes > limits().rows_bytes:
        return ValueError(f"{row.nbytes} bytes; the limit of a row of Parquet is {most('rows_bytes')}")
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

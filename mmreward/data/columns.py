"""Columns of a data set under other names: fields of `Sample` taken from the columns that hold them.

`--map prompt=caption` of the command line is the same as `columns: {prompt: caption}` of a reward in YAML,
for every reward at once, and before a row becomes a sample: pictures, clips, ids and groups too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from typing import Any

from ..config import Config
from ..errors import nearest
from ..types import Sample

FIELDS = tuple(field.name for field in fields(Sample))
LOOKED = 256
"""Rows in which a column is looked for before it is said that there is none."""

Columns = Mapping[str, str]
"""Field of `Sample` -> the column, or the key of `meta`, that it is taken from."""


def check_fields(columns: Columns) -> None:
    """Refuse a mapping of what is no field.

    Raises:
        ValueError: names it, and the nearest field.
    """
    for name, column in columns.items():
        if name not in FIELDS:
            raise ValueError(f"{name}={column}: a sample has no {name!r}; {nearest(name, FIELDS)}")


Through = Callable[[Iterator[Any]], Iterator[Any]]
"""What records pass through as they stand in their file, before files are found for them."""


def check_columns(opened: Callable[[Through], Iterator[Any]], columns: Columns) -> None:
    """Refuse a mapping that these rows cannot be read by.

    Args:
        opened: opens the data set; its records are read up to the first by which all columns have been seen.
        columns: see `Columns`.

    Raises:
        ValueError: what is no field, or a column that none of the first `LOOKED` rows has.
    """
    check_fields(columns)
    seen: dict[str, None] = {}

    def noted(records: Iterator[Any]) -> Iterator[Any]:
        for record in records:
            seen.update(dict.fromkeys(_names(record)))
            yield record

    looked = 0
    for record in islice(opened(noted), LOOKED):
        looked += isinstance(record, Mapping)
        if set(columns.values()) <= set(seen):
            return
    left = [(field, column) for field, column in columns.items() if column not in seen]
    if left and looked:
        field, column = left[0]
        where = f"none of the first {looked} rows has" if looked > 1 else "the only row does not have"
        raise ValueError(f"{field}={column}: {where} the column {column!r}; {nearest(column, seen)}")


def renamed(records: Iterator[Any], columns: Columns) -> Iterator[Any]:
    """Records with these fields, whatever they held before; a row without the column is without the field.

    The column stays where it is, for what else takes it from `meta`. What could not be read stays in its
    place.
    """
    return (_renamed(record, columns) for record in records) if columns else records


def _names(record: Any) -> list[str]:
    if not isinstance(record, Mapping):
        return []
    meta = record.get("meta")
    return [str(name) for name in (*record, *(meta if isinstance(meta, Mapping) else ()))]


def _renamed(record: Any, columns: Columns) -> Any:
    if not isinstance(record, Mapping):
        return record
    meta = record.get("meta")
    held = {**record, **meta} if isinstance(meta, Mapping) else record
    changes = {field: held.get(name) for field, name in columns.items()}
    return {**record, **changes}


def without(rewards: Mapping[str, Mapping[str, Any]], columns: Columns) -> dict[str, dict[str, Any]]:
    """Arguments of rewards whose own `columns` leave these fields as the rows have them."""
    return {
        name: {
            key: {field: column for field, column in value.items() if field not in columns}
            if key == "columns" and isinstance(value, Mapping)
            else value
            for key, value in args.items()
        }
        for name, args in rewards.items()
    }


def overruled(config: Config, columns: Columns) -> Config:
    """The run with these columns before those that its rewards and routes name."""
    if not columns:
        return config
    routes = {
        source: route.model_copy(update={"rewards": without(route.rewards, columns)})
        for source, route in config.routes.items()
    }
    return config.model_copy(update={"rewards": without(config.rewards, columns), "routes": routes})

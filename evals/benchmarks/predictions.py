"""Files of predictions: JSONL, CSV, TSV or Parquet, joined with a benchmark's items by id, strictly.

What may be wrong with a file has one outcome each, and none of it becomes a number:

- in another order: nothing, the order is nobody's;
- a prediction twice, word for word: it counts once, and `repeated` counts it;
- two predictions for one item that differ: the item's answer is invalid, "error: two predictions differ";
- `valid: false`: invalid, with `invalid_reason`;
- an answer that cannot be read: invalid, with the status and reason of what the benchmark's reader says;
- an item without a prediction: missing;
- a prediction for no item: listed as unknown, and counts for nothing;
- a line that is no record or names no id: counted as unreadable, and its item is missing;
- a file that cannot be read at all, or none of whose ids is an item's: ValueError, in one line.

Invalid and missing items are the worst answers there are in a rule's strict reading.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmreward.data.records import records_of
from mmreward.data.texts import Skipped
from mmreward.errors import Unscorable

from .benchmark import Answers, Benchmark, Failed, Item

FALSE = ("false", "0", "no")
"""`valid` in a table of text."""


def read_predictions(path: Path, benchmark: Benchmark, items: Sequence[Item]) -> Answers:
    """The answers of a file.

    Args:
        path: of the file.
        benchmark: its `keys` say where an id stands, its `answer` reads a record.
        items: that they are for.

    Raises:
        ValueError: no file of records, or none of its ids is that of an item.
    """
    known = {item.id: item for item in items}
    found: dict[str, Mapping[str, Any]] = {}
    conflicts: set[str] = set()
    unknown: dict[str, None] = {}
    unreadable: Counter[str] = Counter()
    repeated = 0
    for record in records_of(path, Skipped(), {}):
        name = _id(record, benchmark)
        if not isinstance(record, Mapping) or name is None:
            unreadable[_why(record, benchmark)] += 1
        elif name not in known:
            unknown[name] = None
        elif name in found:
            repeated += 1
            conflicts |= {name} if not _same(dict(record), dict(found[name])) else set()
        else:
            found[name] = record
    if not found:
        seen = [f"they name {name!r}, ..." for name in list(unknown)[:1]] or ["none can be read"]
        seen += [reason for reason, _ in unreadable.most_common(1)]
        raise ValueError(
            f"no prediction in {path} is for an item of {benchmark.name}, such as {items[0].id!r}: "
            f"{'; '.join(seen)}"
        )
    valid: dict[str, Any] = {}
    invalid: dict[str, Failed] = {}
    for name, record in found.items():
        try:
            if name in conflicts:
                raise Unscorable("two predictions differ")
            valid[name] = _answer(record, benchmark, known[name])
        except Unscorable as error:
            invalid[name] = Failed(error.status, str(error))
    return Answers(
        source=path.name,
        valid=valid,
        invalid=invalid,
        unknown=tuple(unknown),
        repeated=repeated,
        unreadable=dict(unreadable),
    )


def _id(record: Any, benchmark: Benchmark) -> str | None:
    if not isinstance(record, Mapping):
        return None
    given = next((record[key] for key in benchmark.keys if record.get(key) is not None), None)
    return None if given is None or isinstance(given, bool | list | Mapping) else normal(given)


def normal(name: Any) -> str:
    """An id as it is compared: a number is its digits, and folders are parted by slashes."""
    return str(name).strip().replace("\\", "/")


def _why(record: Any, benchmark: Benchmark) -> str:
    if isinstance(record, ValueError):
        return str(record)
    if not isinstance(record, Mapping):
        return f"a line is {type(record).__name__}, not an object"
    return f"a line has no {' or '.join(benchmark.keys)}"


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return repr(sorted(one.items())) == repr(sorted(other.items()))  # NaN is itself


def _answer(record: Mapping[str, Any], benchmark: Benchmark, item: Item) -> Any:
    valid = record.get("valid", True)
    if valid is False or (isinstance(valid, str) and valid.strip().lower() in FALSE):
        reason = record.get("invalid_reason")
        raise Unscorable(str(reason) if reason else "the prediction says that it is invalid", "unparsable")
    return benchmark.answer(record, item)


# --- for the readers of answers -----------------------------------------------------------------------------


def number_in(record: Mapping[str, Any], key: str) -> float:
    """The finite number under a key, also as the text of a table's cell.

    Raises:
        Unscorable: there is something else, or nothing.
    """
    value: Any = record.get(key)
    if value is None:
        raise Unscorable(f"the prediction has no {key}", "missing")
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Unscorable(f"{key} is {value[:40]!r}, not a number", "unparsable") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unscorable(f"{key} is {type(value).__name__}, not a number", "unparsable")
    if not math.isfinite(value):
        raise Unscorable(f"{key} is {value}", "out_of_range")
    return float(value)


def within(value: float, low: float, high: float, what: str) -> float:
    """The value, which lies in [low, high].

    Raises:
        Unscorable: it does not; nothing is scaled or clipped.
    """
    if not low <= value <= high:
        raise Unscorable(f"{what} is {value:g}, outside [{low:g}, {high:g}]", "out_of_range")
    return value

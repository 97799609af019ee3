"""RLDS episodes (Open X-Embodiment) in TFRecord files, read without TensorFlow: an episode a row.

A TFRecord is length, check of the length, data, check of the data; the data is a `tf.train.Example`, in which
TFDS writes an episode's steps as flat lists under `steps/...`. The lengths' checks are compared; those of the
data are not (an episode has megabytes, and pictures say themselves when they are damaged). Lists of ragged
shape are left out.

- Pictures of `steps/observation/` are the views, under their own names. Its numbers are the state.
- The prompt is `steps/language_instruction` or `steps/observation/natural_language_instruction`. Where both
  stand there and differ none is taken: say `--map prompt=language_instruction`.
- `done` is `is_terminal`; the last step of an episode that was cut off has `truncated` instead. By RLDS the
  last step's action and reward mean nothing; they are kept as they stand, as Open X puts its reward there.
"""

import gzip
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .. import stills
from ..limits import limits, most
from .texts import Refused

Value = list[bytes] | list[float] | list[int]
MARK = ".tfrecord"
STEPS = "steps/"
OBSERVED = "steps/observation/"
INSTRUCTIONS = ("steps/language_instruction", "steps/observation/natural_language_instruction")
POLYNOMIAL = 0x82F63B78


def is_tfrecord(path: Path) -> bool:
    """True for a file of TFRecords by its name, as TFDS writes it: `x-train.tfrecord-00000-of-00004`."""
    return MARK in path.name and path.is_file()


def records_of(path: Path, name: str) -> Iterator[Any]:
    """The episodes of a file as records named `NAME/000003`; one that cannot be read stands there as a
    `Refused`, and nothing after damage of the framing is read."""
    with path.open("rb") as file:
        number = 0
        while True:
            where = f"{name}/{number:06d}"
            try:
                data = _next(file)
                if data is None:
                    return
                yield _record(parsed_example(data), where)
            except Broken as error:
                yield Refused(f"{path.name}: {error}", where)
                return
            except ValueError as error:
                yield Refused(f"{path.name}: {error}", where)
            number += 1


def examples_in(path: Path) -> Iterator[dict[str, Value]]:
    """The examples of a TFRecord file, plain or in GZIP, as lists by their names.

    Raises:
        ValueError: the file is damaged, or an example is none.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else path.open("rb") as file:
        while (data := _next(file)) is not None:  # type: ignore[arg-type]
            yield parsed_example(data)


class Broken(ValueError):  # noqa: N818 - reads as what it says at the raise
    """Raised where the file's framing is damaged, so that the next record cannot be found."""


# --- framing ----------------------------------------------------------------------------------------------


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


TABLE = _table()


def masked_check(data: bytes) -> int:
    """CRC-32C of some bytes, rotated and shifted as TFRecord stores it.

    >>> hex(masked_check(b"123456789"))
    '0xc78ab0e5'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _next(file: BinaryIO) -> bytes | None:
    head = file.read(12)
    if not head:
        return None
    if len(head) < 12:
        raise Broken("cut off within a record's head")
    size, check = struct.unpack("<QI", head)
    if masked_check(head[:8]) != check:
        raise Broken("no TFRecord, or a damaged one: a length does not agree with its check")
    if size > limits().file_bytes:
        file.seek(size + 4, 1)
        raise ValueError(f"an episode of {size} bytes; the limit is {most('file_bytes')}")
    data = file.read(size)
    if len(data) < size or len(file.read(4)) < 4:
        raise Broken(f"cut off within a record of {size} bytes")
    return data


# --- tf.train.Example -------------------------------------------------------------------------------------


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("no tf.train.Example: a number without end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


class Field(NamedTuple):
    """One field of a message: its number, and the bytes it holds or the number it is."""

    number: int
    held: memoryview
    value: int


def _fields(data: memoryview) -> Iterator[Field]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind, number = key & 7, key >> 3
        if kind == 0:
            value, at = _varint(data, at)
            yield Field(number, data[:0], value)
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise ValueError("no tf.train.Example: a field beyond its end, or of an unknown kind")
        yield Field(number, data[at : at + size], 0)
        at += size


def parsed_example(data: bytes) -> dict[str, Value]:
    """The lists of a `tf.train.Example` by their names.

    Raises:
        ValueError: it is none.
    """
    found: dict[str, Value] = {}
    for features in _fields(memoryview(data)):
        for entry in _fields(features.held) if features.number == 1 else ():
            name, feature = "", memoryview(b"")
            for part in _fields(entry.held):
                if part.number == 1:
                    name = bytes(part.held).decode("utf-8", "strict")
                else:
                    feature = part.held
            for held in _fields(feature):
                found[name] = _values(held)
    return found


def _values(held: Field) -> Value:
    """A list of bytes (1), of floats (2) or of whole numbers (3); numbers packed or one by one."""
    if held.number == 1:
        return [bytes(one.held) for one in _fields(held.held) if one.number == 1]
    if held.number == 2:
        packed = b"".join(bytes(one.held) for one in _fields(held.held))
        return [float(value) for value in np.frombuffer(packed, "<f4")]
    numbers: list[int] = []
    for one in _fields(held.held):
        if not len(one.held):
            numbers.append(_signed(one.value))
            continue
        at = 0
        while at < len(one.held):
            value, at = _varint(one.held, at)
            numbers.append(_signed(value))
    return numbers


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


# --- episodes ---------------------------------------------------------------------------------------------


def _record(lists: Mapping[str, Value], name: str) -> dict[str, Any]:
    count = len(lists.get("steps/is_first") or lists.get("steps/is_last") or ())
    if not count:
        there = ", ".join(sorted(lists)[:8]) or "nothing"
        raise ValueError(f"no RLDS episode: it has no steps/is_first; there is {there}")
    columns = {key: _by_step(key, values, count) for key, values in lists.items() if key.startswith(STEPS)}
    steps = [_step({key: each[n] for key, each in columns.items() if each}, n, count) for n in range(count)]
    texts = {key: _instruction(columns.get(key)) for key in INSTRUCTIONS}
    said = {text for text in texts.values() if text}
    meta: dict[str, Any] = {}
    for key, values in lists.items():
        if key.startswith("episode_metadata/") and len(values) == 1:
            meta[key.removeprefix("episode_metadata/")] = _plain(values[0])
    if "success" in meta:
        meta["success"] = bool(meta["success"])
    prompt = said.pop() if len(said) == 1 else ""
    own = {key.rpartition("/")[2]: text for key, text in texts.items() if text}
    return {"id": name, "prompt": prompt, "steps": steps, "meta": meta, **own}


def _by_step(key: str, values: Value, count: int) -> list[Any]:
    """The values of each step: one, or a flat list of as many as the others have; empty for a ragged one."""
    if len(values) == count:
        seen = key.startswith(OBSERVED) and key not in INSTRUCTIONS and _is_picture(values[0])
        return list(values) if seen else [_plain(value) for value in values]
    each = len(values) // count
    if not each or each * count != len(values):
        return []
    return [[_plain(value) for value in values[n * each : (n + 1) * each]] for n in range(count)]


def _is_picture(value: Any) -> bool:
    return isinstance(value, bytes) and stills.is_picture(value[:16])


def _plain(value: Any) -> Any:
    """Bytes as the text they are; others as their number of bytes, as JSON has none."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return f"({len(value)} bytes)"


def _instruction(texts: list[Any] | None) -> str:
    """The first text that says something: builders repeat it in every step."""
    return next((text.strip() for text in texts or () if isinstance(text, str) and text.strip()), "")


def _step(values: Mapping[str, Any], number: int, count: int) -> dict[str, Any]:
    step: dict[str, Any] = {}
    views, state, action = {}, {}, {}
    for key, value in values.items():
        if key.startswith(OBSERVED):
            place = key.removeprefix(OBSERVED)
            if isinstance(value, bytes):
                views[place] = value
            elif not key.endswith("embedding") and not isinstance(value, str):
                state[place] = value
        elif key == "steps/action" or key.startswith("steps/action/"):
            action[key.removeprefix("steps/action").strip("/")] = value
    if views:
        step["observation"] = views
    if action:
        step["action"] = action[""] if set(action) == {""} else action
    if state:
        step["state"] = state
    if "steps/reward" in values:
        step["reward"] = values["steps/reward"]
    terminal = bool(values.get("steps/is_terminal", False))
    last = bool(values.get("steps/is_last", number == count - 1))
    step["done"] = terminal
    return {**step, "truncated": True} if last and not terminal else step

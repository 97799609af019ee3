"""Wire protocol between processes: framed messages, and samples, scores and values as JSON and binary blobs.

A message on a byte stream is a JSON header and binary blobs, with their lengths in front. The peer is not
believed: every length is held against a limit before anything of that length is read, and nothing is ever
pickled or unpickled. Framing knows nothing of what a message says, nor of who sends it.

Pictures and clips travel as the encoded bytes they have, else as raw pixels with shape and type: lossless
both ways, so a score is the same on either side. Beside plain JSON a target, step or `meta` may hold tuples,
bytes, `Media`, dates, decimals, NaN and infinity, and numpy scalars and arrays of any type but object; each
arrives as what it was, and any mapping as a dict. Anything else is refused by name: it might mean something
else where it arrives.
"""

import asyncio
import itertools
import json
import math
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from importlib.metadata import version
from typing import Any, BinaryIO, NamedTuple, NoReturn, get_args

import numpy as np

from ..errors import STATUSES, Unscorable
from ..limits import limits
from ..media import Media
from ..types import SHOWN, Arity, RewardInfo, Sample, Score

MAGIC = b"MMR1"
PROTOCOL = 1
"""Version of the messages; both sides must speak the same one, whatever their releases."""
_PREFIX = struct.Struct(">4sIQ")
"""Magic, bytes of the JSON text, bytes of all blobs together."""


class WireError(ValueError):
    """Bytes that are no message of ours, or a message above the limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Largest:
    """The largest message that is written or read, in bytes; the operator's limits by default."""

    header: int = field(default_factory=lambda: limits().message_bytes)
    blobs: int = field(default_factory=lambda: limits().blob_bytes)


class Message(NamedTuple):
    """A JSON object, and blobs it refers to by position."""

    header: dict[str, Any]
    blobs: list[bytes]


def hello() -> Message:
    """First message of a worker that is ready: its protocol and release."""
    return Message({"hello": {"protocol": PROTOCOL, "mmreward": version("mmreward")}}, [])


# --- framing ------------------------------------------------------------------------------------------


def pack(message: Message, most: Largest | None = None) -> bytes:
    """The message as bytes.

    Raises:
        WireError: it is larger than the limits, or the header is not plain JSON.
    """
    sizes = [len(blob) for blob in message.blobs]
    try:
        header = json.dumps([message.header, sizes], allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"the header cannot be written as JSON: {error}") from None
    _check(len(header), sum(sizes), most or Largest())
    return b"".join((_PREFIX.pack(MAGIC, len(header), sum(sizes)), header, *message.blobs))


async def read(stream: asyncio.StreamReader, most: Largest | None = None) -> Message | None:
    """The next message; None where the stream ends between two. Memory grows with the bytes that arrive.

    Raises:
        WireError: something else arrived, a message above the limits, or a part of one.
    """
    try:
        prefix = await stream.readexactly(_PREFIX.size)
        header, body = _lengths(prefix, most or Largest())
        return _parse(await stream.readexactly(header), await stream.readexactly(body))
    except asyncio.IncompleteReadError as error:
        if not error.partial and error.expected == _PREFIX.size:
            return None
        raise WireError(f"the stream ended inside a message: {error}") from None


def read_blocking(stream: BinaryIO, most: Largest | None = None) -> Message | None:
    """`read` for a worker that has nothing else to do, from a buffered file.

    Raises:
        WireError: as `read`.
    """
    prefix = stream.read(_PREFIX.size)
    if not prefix:
        return None
    if len(prefix) == _PREFIX.size:
        header, body = _lengths(prefix, most or Largest(blobs=0))
        text, blobs = stream.read(header), stream.read(body)
        if (len(text), len(blobs)) == (header, body):
            return _parse(text, blobs)
    raise WireError("the stream ended inside a message")


def _lengths(prefix: bytes, most: Largest) -> tuple[int, int]:
    magic, header, body = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise WireError(f"a message begins with {MAGIC!r}, not {magic!r}")
    _check(header, body, most)
    return header, body


def _check(header: int, blobs: int, most: Largest) -> None:
    # Before anything of that size is read: a prefix of 16 bytes can announce 2**64.
    if header > most.header:
        raise WireError(f"a header of {header} bytes; the limit is {most.header} (limits.message_bytes)")
    if blobs > most.blobs:
        raise WireError(f"{blobs} bytes of media and arrays; the limit is {most.blobs} (limits.blob_bytes)")


def _parse(text: bytes, body: bytes) -> Message:
    try:
        parsed = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the header is not JSON: {str(error)[:200]}") from None
    match parsed:
        case [dict(header), list(sizes)] if all(type(size) is int and size >= 0 for size in sizes):
            pass
        case _:
            raise WireError("the header is not an object and a list of sizes")
    if sum(sizes) != len(body):
        raise WireError(f"blobs of {sum(sizes)} bytes are announced, {len(body)} came")
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + size)
    return Message(header, [body[begin:end] for begin, end in itertools.pairwise(ends)])


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# --- values -------------------------------------------------------------------------------------------

TAG = "$"
"""The key that marks an encoded value; a mapping that has it as a key is sent as pairs."""
ARRAYS = "biufcSUmM"
"""Kinds of numpy types that are sent: all but objects and records."""

_WORDS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "float": (float, repr, float),
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "decimal": (Decimal, str, Decimal),
}
"""Values that travel as text: tag -> type, writer and reader."""
_SAMPLE = tuple(field.name for field in fields(Sample))
_TEXT = ("id", "prompt", "source")
_INFO = tuple(field.name for field in fields(RewardInfo))
_FACTS: dict[str, type] = {
    **dict.fromkeys(("paper", "licence", "summary"), str),
    **dict.fromkeys(("higher_is_better", "differentiable", "uses_prompt"), bool),
}


def pack_sample(sample: Sample, blobs: list[bytes]) -> dict[str, Any]:
    """The sample as JSON; media and arrays are appended to `blobs`. A file that cannot be read fails at the
    other end, when the picture is used.

    Raises:
        Unscorable: a field holds something that cannot be sent.
    """
    packed = {}
    for name in _SAMPLE:
        try:
            packed[name] = pack_value(getattr(sample, name), blobs)
        except Unscorable as error:
            raise Unscorable(f"{name} {error}", error.status) from None
        except RecursionError:
            raise Unscorable(f"{name} is nested too deeply to be sent") from None
    return packed


def unpack_sample(packed: Any, blobs: list[bytes]) -> Sample:
    """The sample that `pack_sample` packed; lists stand for tuples where a sample has tuples. Blobs are taken
    out of the list as they are used, so that no message can have one copied many times.

    Raises:
        WireError: an unknown field, or one of the wrong type.
    """
    values = {name: unpack_value(value, blobs) for name, value in _object(packed, _SAMPLE, "sample").items()}
    for name, value in values.items():
        if name in ("inputs", "steps"):
            member = Media if name == "inputs" else Mapping
            _expect(isinstance(value, list | tuple), name, value, "a list")
            for item in value:
                _expect(isinstance(item, member), f"an item of {name}", item, member.__name__)
            values[name] = tuple(value)
        elif name in ("image", "video"):
            _expect(value is None or isinstance(value, Media), name, value, "Media")
        elif name in ("response", "group"):
            _expect(value is None or isinstance(value, str), name, value, "text")
        elif name in _TEXT:
            _expect(isinstance(value, str), name, value, "text")
        elif name == "meta":
            _expect(isinstance(value, dict), name, value, "an object")
    return Sample(**values)


def pack_score(score: Score) -> dict[str, Any]:
    """The score as JSON; the NaN of a failure is null."""
    parts = pack_value({str(name): float(part) for name, part in score.parts.items()}, [])
    value = float(score.value) if score.ok else None
    return {"value": value, "status": score.status, "parts": parts, "note": score.note}


def unpack_score(packed: Any) -> Score:
    """The score that `pack_score` packed.

    Raises:
        WireError: it is no score.
    """
    given = _object(packed, ("value", "status", "parts", "note"), "score")
    status, note = given.get("status", "ok"), given.get("note", "")
    value = given.get("value")
    _expect(status in STATUSES, "status", status, "a status")
    _expect(isinstance(note, str), "note", note, "text")
    _expect((value is None) == (status != "ok"), "value", value, f"that of a score with status {status!r}")
    parts = unpack_value(given.get("parts", {}), [])
    _expect(isinstance(parts, dict), "parts", parts, "an object")
    for name, part in parts.items():
        _expect(_is_number(part), f"part {name!r}", part, "a number")
    if value is not None:
        _expect(_is_number(value) and math.isfinite(value), "value", value, "a finite number")
    return Score(math.nan if value is None else float(value), parts, status, note)


def pack_info(info: RewardInfo) -> dict[str, Any]:
    """The reward's declaration as JSON; an infinite end of its range is null, an example of more than plain
    values is left out."""
    low, high = (bound if math.isfinite(bound) else None for bound in map(float, info.range))
    blobs: list[bytes] = []
    try:
        example = pack_value(info.example, blobs)
    except Unscorable:
        example = {}
    plain = {} if blobs else example
    return {**asdict(info), "range": [low, high], "example": plain}


def unpack_info(packed: Any) -> RewardInfo:
    """The declaration that `pack_info` packed.

    Raises:
        WireError: it does not describe a reward.
    """
    given = dict(_object(packed, _INFO, "reward"))
    match given:
        case {"name": str(), "needs": [*needs], "range": [low, high], "arity": arity}:
            _expect(arity in get_args(Arity), "arity", arity, "an arity")
            optional = given.get("optional", [])
            _expect(isinstance(optional, list | tuple), "optional", optional, "fields of a sample")
            for fact, names in (("needs", needs), ("optional", optional)):
                _expect(all(name in (*_SAMPLE, *SHOWN) for name in names), fact, names, "fields of a sample")
        case _:
            raise WireError("a reward has a name, needs, a range and an arity")
    for fact, form in _FACTS.items():
        _expect(isinstance(given.get(fact, form()), form), fact, given.get(fact), f"{form.__name__}")
    bounds = (-math.inf if low is None else low, math.inf if high is None else high)
    _expect(all(map(_is_number, bounds)), "range", bounds, "two numbers")
    example = unpack_value(given.get("example", {}), [])
    fields = {"needs": tuple(needs), "optional": tuple(optional)}
    return RewardInfo(**{**given, **fields, "range": bounds, "example": example})


def pack_value(value: Any, blobs: list[bytes]) -> Any:
    """A value as JSON; bytes, arrays and media are appended to `blobs`.

    Raises:
        Unscorable: it is, or holds, something that cannot be sent.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is list:
        return [pack_value(item, blobs) for item in value]
    if kind is tuple:
        return {TAG: "tuple", "of": [pack_value(item, blobs) for item in value]}
    if isinstance(value, Mapping):
        if TAG in value or not all(type(key) is str for key in value):
            pairs = [[pack_value(key, blobs), pack_value(item, blobs)] for key, item in value.items()]
            return {TAG: "map", "of": pairs}
        return {key: pack_value(item, blobs) for key, item in value.items()}
    for tag, (word, write, _) in _WORDS.items():
        if kind is word:
            return {TAG: tag, "is": write(value)}
    if kind is bytes:
        return {TAG: "bytes", "blob": _append(value, blobs)}
    if isinstance(value, Media):
        return _pack_media(value, blobs)
    if (kind is np.ndarray or isinstance(value, np.generic)) and value.dtype.kind in ARRAYS:
        array = np.asarray(value)  # gives an empty string's type a size
        index = _append(array.tobytes(), blobs)
        tag = "array" if kind is np.ndarray else "scalar"
        return {TAG: tag, "dtype": array.dtype.str, "shape": list(array.shape), "blob": index}
    raise Unscorable(f"holds {kind.__name__}, which cannot be sent to another process")


def unpack_value(packed: Any, blobs: list[bytes]) -> Any:
    """The value that `pack_value` packed.

    Raises:
        WireError: an unknown or malformed encoding.
    """
    try:
        return _unpack(packed, blobs)
    except WireError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, InvalidOperation, RecursionError) as error:
        raise WireError(f"malformed value: {type(error).__name__}: {error}") from None


def _unpack(packed: Any, blobs: list[bytes]) -> Any:
    if isinstance(packed, list):
        return [_unpack(item, blobs) for item in packed]
    if not isinstance(packed, dict):
        return packed
    match packed.get(TAG):
        case None:
            return {key: _unpack(item, blobs) for key, item in packed.items()}
        case "tuple":
            return tuple(_unpack(item, blobs) for item in packed["of"])
        case "map":
            return {_unpack(key, blobs): _unpack(item, blobs) for key, item in packed["of"]}
        case "bytes":
            return _blob(packed, blobs)
        case "array":
            return _unpack_array(packed, blobs)
        case "scalar":
            return _unpack_array(packed, blobs)[()]
        case "media":
            return _unpack_media(packed, blobs)
        case str(tag) if tag in _WORDS:
            return _WORDS[tag][2](packed["is"])
    raise WireError(f"unknown encoding {str(packed[TAG])[:40]!r}")


def _pack_media(media: Media, blobs: list[bytes]) -> dict[str, Any]:
    packed: dict[str, Any] = {TAG: "media", "kind": media.kind}
    if media.given_fps is not None:
        packed["fps"] = media.given_fps
    try:
        content = media.content()
    except Unscorable as error:
        return {**packed, "failed": [error.status, str(error)]}
    if isinstance(content, bytes):
        return {**packed, "blob": _append(content, blobs)}
    return {**packed, "pixels": pack_value(content, blobs)}


def _unpack_media(packed: Mapping[str, Any], blobs: list[bytes]) -> Media:
    fps = packed.get("fps")
    _expect(fps is None or type(fps) in (int, float), "fps", fps, "a number")
    if "failed" in packed:
        status, reason = packed["failed"]
        return Media(Unscorable(str(reason), status), packed["kind"], fps=fps)
    if "blob" in packed:
        return Media(_blob(packed, blobs), packed["kind"], fps=fps)
    pixels = _unpack(packed["pixels"], blobs)
    _expect(isinstance(pixels, np.ndarray), "pixels", pixels, "an array")
    return Media(pixels, packed["kind"], fps=fps)


def _unpack_array(packed: Mapping[str, Any], blobs: list[bytes]) -> "np.ndarray[Any, Any]":
    kind, shape, data = np.dtype(packed["dtype"]), packed["shape"], _blob(packed, blobs)
    if kind.kind not in ARRAYS or kind.itemsize == 0:
        raise WireError(f"arrays of type {packed['dtype']} are not read")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise WireError(f"{shape} is no shape")
    if math.prod(shape) * kind.itemsize != len(data):
        raise WireError(f"{len(data)} bytes are no array of shape {shape} and type {kind}")
    return np.ndarray(tuple(shape), kind, data).copy()


def _append(data: bytes, blobs: list[bytes]) -> int:
    blobs.append(data)
    return len(blobs) - 1


def _blob(packed: Mapping[str, Any], blobs: list[bytes]) -> bytes:
    index = packed["blob"]
    if type(index) is not int or not 0 <= index < len(blobs):
        raise WireError(f"there is no blob {str(index)[:40]}")
    data, blobs[index] = blobs[index], b""
    return data


def _object(packed: Any, known: Sequence[str], what: str) -> dict[str, Any]:
    if not isinstance(packed, dict):
        raise WireError(f"a {what} is an object, not {type(packed).__name__}")
    unknown = [str(name)[:40] for name in packed if name not in known]
    if unknown:
        raise WireError(f"a {what} has no {', '.join(unknown)}: there are {', '.join(known)}")
    return packed


def _is_number(value: Any) -> bool:
    """True for a float, and for an integer that fits one."""
    return type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)


def _expect(holds: bool, what: str, value: Any, form: str) -> None:
    if not holds:
        raise WireError(f"{what} is {str(value)[:40]!r} ({type(value).__name__}), not {form}")

"""Messages on a byte stream: a JSON header and binary blobs, with their lengths in front.

Knows nothing of what a message says, nor of who sends it. The peer is not believed: every length is held
against a limit before anything of that length is read, and nothing is ever unpickled.
"""

import asyncio
import itertools
import json
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

MAGIC = b"MMR1"
PROTOCOL = 1
"""What the two sides say in frames; both must speak the same one, whatever their versions."""
_PREFIX = struct.Struct(">4sIQ")
"""Magic, bytes of the JSON text, bytes of all blobs together."""


class WireError(ValueError):
    """What came in is no message of ours, or one above the limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest message that is written or read, in bytes."""

    header: int = 32 << 20
    blobs: int = 4 << 30


class Message(NamedTuple):
    """A JSON object, and blobs it refers to by position."""

    header: dict[str, Any]
    blobs: list[bytes]


def pack(message: Message, limits: Limits = Limits()) -> bytes:
    """The message as bytes.

    Raises:
        WireError: it is larger than the limits, or the header is not plain JSON.
    """
    sizes = [len(blob) for blob in message.blobs]
    try:
        header = json.dumps([message.header, sizes], allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"the header cannot be written as JSON: {error}") from None
    _check(len(header), sum(sizes), limits)
    return b"".join((_PREFIX.pack(MAGIC, len(header), sum(sizes)), header, *message.blobs))


def unpack(data: bytes, limits: Limits = Limits()) -> Message:
    """The message that these bytes are, all of them.

    Raises:
        WireError: they are no whole message, more than one, or one above the limits.
    """
    if len(data) < _PREFIX.size:
        raise WireError(f"{len(data)} bytes are too few for a message")
    header, body = _lengths(data[: _PREFIX.size], limits)
    if len(data) != _PREFIX.size + header + body:
        raise WireError(f"the message announces {header} + {body} bytes and has {len(data) - _PREFIX.size}")
    return _parse(data[_PREFIX.size : _PREFIX.size + header], data[_PREFIX.size + header :])


async def read(stream: asyncio.StreamReader, limits: Limits = Limits()) -> Message | None:
    """The next message; None where the stream ends between two. Memory grows with the bytes that arrive.

    Raises:
        WireError: as `unpack`, or the stream ends inside a message.
    """
    try:
        prefix = await stream.readexactly(_PREFIX.size)
        header, body = _lengths(prefix, limits)
        return _parse(await stream.readexactly(header), await stream.readexactly(body))
    except asyncio.IncompleteReadError as error:
        if not error.partial and error.expected == _PREFIX.size:
            return None
        raise WireError(f"the stream ended inside a message: {error}") from None


def _lengths(prefix: bytes, limits: Limits) -> tuple[int, int]:
    magic, header, body = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise WireError(f"a message begins with {MAGIC!r}, not {magic!r}")
    _check(header, body, limits)
    return header, body


def _check(header: int, blobs: int, limits: Limits) -> None:
    if header > limits.header:
        raise WireError(f"a header of {header} bytes; the limit is {limits.header}")
    if blobs > limits.blobs:
        raise WireError(f"{blobs} bytes of media and arrays; the limit is {limits.blobs}")


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

"""Messages survive the way; anything that is none is refused before it costs memory."""

import asyncio
import io
import struct
from contextlib import nullcontext, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreward.isolation.protocol import Largest, Message, WireError, pack, read, read_blocking

PREFIX = struct.Struct(">4sIQ")
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
messages = st.builds(
    Message, st.dictionaries(st.text(), plain, max_size=4), st.lists(st.binary(max_size=40), max_size=4)
)


def unpack(data):
    """The message in these bytes, which hold no other."""
    file = io.BytesIO(data)
    (message,) = iter(lambda: read_blocking(file, Largest()), None)
    return message


def stream(data):
    """A stream that has received these bytes and its end."""

    async def feed():
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        received = []
        while (message := await read(reader)) is not None:
            received.append(message)
        return received

    return asyncio.run(feed())


@settings(max_examples=40)
@given(st.lists(messages, max_size=3))
def test_messages_arrive_as_they_were_in_order(sent):
    assert [unpack(pack(message)) for message in sent] == sent
    assert stream(b"".join(pack(message) for message in sent)) == sent


@settings(max_examples=40)
@given(messages, st.data())
def test_a_part_of_a_message_is_none(message, data):
    whole = pack(message)
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(WireError):
        unpack(whole[:cut])
    with pytest.raises(WireError, match="ended inside"):
        stream(whole[:cut])
    with pytest.raises(WireError):
        unpack(whole + b"x")


@given(st.binary(max_size=200))
def test_noise_is_refused(noise):
    with pytest.raises(WireError) if noise else nullcontext():
        read_blocking(io.BytesIO(noise), Largest())
    with pytest.raises(WireError):
        unpack(PREFIX.pack(b"MMR1", len(noise), 0) + noise)


@given(messages, st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_gives_another_message(message, position, byte):
    changed = bytearray(pack(message))
    changed[position % len(changed)] = byte
    with suppress(WireError):
        unpack(bytes(changed))


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ((b"HTTP", 1, 0), "begins with"),
        ((b"MMR1", 101, 0), "a header of 101 bytes; the limit is 100"),
        ((b"MMR1", 2**32 - 1, 0), "the limit is 100"),
        ((b"MMR1", 10, 201), "201 bytes of media and arrays; the limit is 200"),
        ((b"MMR1", 10, 2**63), "the limit is 200"),
    ],
)
def test_an_announced_size_above_the_limit_is_refused_at_once(prefix, reason):
    async def announced():
        reader = asyncio.StreamReader()  # nothing follows, nor an end: it must not wait for more
        reader.feed_data(PREFIX.pack(*prefix))
        await asyncio.wait_for(read(reader, Largest(header=100, blobs=200)), 5)

    with pytest.raises(WireError, match=reason):
        asyncio.run(announced())


def test_nothing_above_the_limits_is_written():
    with pytest.raises(WireError, match="a header of"):
        pack(Message({"text": "x" * 100}, []), Largest(header=50))
    with pytest.raises(WireError, match="3 bytes of media"):
        pack(Message({}, [b"ab", b"c"]), Largest(blobs=2))


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), object(), b"x", {1, 2}, 10**5000],
    ids=lambda value: type(value).__name__,
)
def test_a_header_that_is_not_plain_json_is_not_written(value):
    with pytest.raises(WireError):
        pack(Message({"value": value}, []))


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (b"[{},[]]", b"x"),
        (b"[{},[2]]", b"x"),
        (b"[{},[2,-1]]", b"x"),
        (b"[{},[true]]", b"x"),
        (b"[{},[1.0]]", b"x"),
        (b"[[],[]]", b""),
        (b"[{},{}]", b""),
        (b"[{}]", b""),
        (b'[{"a":NaN},[]]', b""),
        (b'[{"a":Infinity},[]]', b""),
        (b"[" * 100_000, b""),
        (b"[{},[" + b"9" * 5000 + b"]]", b""),
        (b"\xff\xfe", b""),
    ],
)
def test_a_malformed_header_is_refused(text, body):
    with pytest.raises(WireError):
        unpack(PREFIX.pack(b"MMR1", len(text), len(body)) + text + body)


@given(messages, st.integers(0, 400))
def test_a_blocking_reader_reads_the_same_and_refuses_a_torn_message(message, cut):
    data = pack(message)
    pipe = io.BytesIO(data + data)
    assert [read_blocking(pipe, Largest()) for _ in range(3)] == [message, message, None]
    torn = data[: len(data) - 1 - cut % (len(data) - 1)]
    with pytest.raises(WireError, match="inside a message"):
        read_blocking(io.BytesIO(torn), Largest())


def test_a_blocking_reader_believes_no_size():
    with pytest.raises(WireError, match="the limit is 100"):
        read_blocking(io.BytesIO(PREFIX.pack(b"MMR1", 2**32 - 1, 0)), Largest(header=100))

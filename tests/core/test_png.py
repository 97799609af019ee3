"""Plain PNG files are decoded by FFmpeg: to Pillow's pixels, and refused where Pillow refuses them."""

import io
import struct
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from mmreward import stills
from mmreward.errors import Unscorable
from mmreward.media import Media

FILTERS = range(5)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(stills, "PYAV_AFTER", 0)


@pytest.fixture
def by_ffmpeg(monkeypatch):
    """What FFmpeg gave for each picture it was asked for."""
    given, decode = [], stills._by_ffmpeg

    def noted(*args):
        given.append(decode(*args))
        return given[-1]

    monkeypatch.setattr(stills, "_by_ffmpeg", noted)
    return given


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def filtered(pixels, filters):
    """PNG's rows before compression, each a filter's number and the bytes less what it predicts."""
    height = len(pixels)
    rows = pixels.reshape(height, -1).astype(int)
    left = np.pad(rows, ((0, 0), (3, 0)))[:, :-3]
    above = np.pad(rows, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(left, ((1, 0), (0, 0)))[:-1]
    guess = left + above - corner
    apart = [abs(guess - near) for near in (left, above, corner)]
    paeth = np.where(
        (apart[0] <= apart[1]) & (apart[0] <= apart[2]), left, np.where(apart[1] <= apart[2], above, corner)
    )
    predicted = [0 * rows, left, above, (left + above) // 2, paeth]
    lines = [(rows - predicted[kind if kind in FILTERS else 0])[y] % 256 for y, kind in enumerate(filters)]
    return b"".join(
        bytes([kind]) + line.astype(np.uint8).tobytes() for kind, line in zip(filters, lines, strict=True)
    )


def png(height, width, raw, cut=None, before=()):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(raw)[:cut]
    others = b"".join(chunk(name, data) for name, data in before)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + others + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.data(), st.integers(1, 40), st.integers(1, 40))
def test_every_filter_and_size_gives_pillows_pixels(data, height, width):
    pixels = noise(height, width, seed=height * width)
    kinds = data.draw(st.lists(st.sampled_from(FILTERS), min_size=height, max_size=height))
    file = png(height, width, filtered(pixels, kinds))
    assert np.array_equal(by_pillow(file), pixels)
    assert np.array_equal(stills._by_ffmpeg(file, (height, width)), pixels)
    assert np.array_equal(Media(file).array(), pixels)


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_files_of_pillow_with_a_text_and_a_profile(level, by_ffmpeg):
    pixels, info = noise(90, 61), PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat " * 4000, zip=True)
    info.add_itxt("prompt", "ein Bär")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=level, pnginfo=info, dpi=(72, 72))
    assert np.array_equal(Media(file.getvalue()).array(), pixels)
    assert len(by_ffmpeg) == 1 and by_ffmpeg[0] is not None


@pytest.mark.parametrize("lacking", [1, 70, 152, 3000])
def test_a_stream_that_ends_early_is_refused(lacking, by_ffmpeg):
    """With checksums that are right: half a row, a row and a byte, a half of the picture."""
    raw = filtered(noise(40, 50), [0] * 40)
    with pytest.raises(Unscorable, match="truncated"):
        Media(png(40, 50, raw[:-lacking])).array()
    assert by_ffmpeg == [None]


def test_a_filter_that_does_not_exist_is_refused(by_ffmpeg):
    raw = filtered(noise(40, 50), [0] * 20 + [7] + [4] * 19)
    with pytest.raises(Unscorable, match="broken"):
        Media(png(40, 50, raw)).array()
    assert by_ffmpeg == [None]


def test_a_black_row_is_no_damage():
    pixels = noise(40, 50)
    pixels[7:9] = 0
    assert np.array_equal(Media(png(40, 50, filtered(pixels, [4] * 40))).array(), pixels)


@given(
    st.integers(0, 10**6), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=3)
)
def test_damaged_streams_are_pillows_pixels_or_refused(seed, changes):
    """Bytes of the stream change, and the chunk's checksum with them."""
    raw = zlib.compress(filtered(noise(8, 9, seed), [index % 5 for index in range(8)]))
    broken = bytearray(raw)
    for place, value in changes:
        broken[place % len(broken)] = value
    file = png(8, 9, b"").replace(chunk(b"IDAT", zlib.compress(b"")), chunk(b"IDAT", bytes(broken)))
    try:
        expected = by_pillow(file)
    except (OSError, SyntaxError, ValueError):
        expected = None
    try:
        found = Media(file).array()
    except Unscorable:
        found = None
    assert (found is None) == (expected is None)
    assert found is None or np.array_equal(found, expected)


@pytest.mark.parametrize("name", [b"tRNS", b"eXIf", b"acTL"])
def test_transparent_turned_and_animated_pictures_are_pillows(name, by_ffmpeg):
    pixels = noise(12, 10)
    data = {
        b"tRNS": struct.pack(">HHH", *(int(value) for value in pixels[0, 0])),
        b"eXIf": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
        b"acTL": struct.pack(">II", 2, 0),
    }[name]
    array = Media(png(12, 10, filtered(pixels, [4] * 12), before=[(name, data)])).array()
    assert by_ffmpeg == []
    assert array.shape == ((10, 12, 3) if name == b"eXIf" else (12, 10, 3))
    assert name != b"tRNS" or (array[0, 0] == 255).all()


def test_pyav_is_imported_when_it_pays_and_used_where_it_is(monkeypatch, by_ffmpeg):
    modules = {}
    monkeypatch.setattr(stills, "PYAV_AFTER", 5000)
    monkeypatch.setattr(stills, "_png_pixels", 0)
    monkeypatch.setattr(stills, "sys", SimpleNamespace(modules=modules))
    file = png(40, 50, filtered(noise(40, 50), [4] * 40))
    for _ in range(4):
        Media(file).array()
    assert len(by_ffmpeg) == 2 and "av" in sys.modules
    monkeypatch.setattr(stills, "_png_pixels", 0)
    Media(file).array()
    assert len(by_ffmpeg) == 2
    modules["av"] = "imported for a clip"
    Media(file).array()
    assert len(by_ffmpeg) == 3

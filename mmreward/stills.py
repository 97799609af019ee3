"""Pictures and animations that Pillow decodes: a closed list of formats, upright, over white, in RGB.

Plain PNG files, which Pillow opens and checks, are decoded by FFmpeg, which is quicker.
Formats whose reader starts another program (PostScript) or follows references are not opened, whatever a
file's name says.
"""

import io
import math
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .errors import TOLERANCE, Hushed, Unscorable
from .limits import checked_layout, checked_size, limits, most
from .streams import Timeline, timeline_of

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO")
"""Pillow's names of the formats that are opened. An MPO of a phone counts as JPEG, an APNG as PNG."""
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".ico"),
)
"""Endings of these formats' files."""
SIGNATURES = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\1\0"),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
)
OTHERS = {
    b"%!PS": "PostScript, which is not opened",
    b"\xc5\xd0\xd3\xc6": "PostScript, which is not opened",
    b"%PDF": "a PDF",
    b"version https://git-lfs": "a Git LFS pointer: run `git lfs pull`",
    b"<": "HTML, XML or SVG text",
    b"PK": "a ZIP archive",
    b"\x1f\x8b": "compressed with gzip",
    b"8BPS": "a Photoshop document",
    b"\x1aE\xdf\xa3": "a clip (Matroska or WebM): give it as video",
}
"""What a file that is no picture is, by its first bytes."""
PNG_EXIF = (b"eXIf", b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""A chunk of a PNG that says how it is rotated is named so, or begins so."""
EIGHT_BIT_RGB = b"\x08\x02\0\0\0"
"""Depth, colour type, compression, filter and interlacing in a PNG's header."""
PYAV_AFTER = 1 << 22
"""Pixels of PNG files that Pillow decodes before PyAV is imported: that takes as long as it then saves."""
STRIP = 1 << 22
"""Pixels converted at once, which bounds the scratch memory."""
SHORTEST, USUAL = 11, 100
"""Milliseconds: browsers show a frame that asks for less than the first for the second."""


def is_picture(head: bytes) -> bool:
    """True where a file that begins so (16 bytes) is a picture or animation, no video container."""
    return head.startswith(SIGNATURES) or head[8:12] == b"WEBP" or head[4:12] in (b"ftypavif", b"ftypavis")


def is_animated(head: bytes, file: "IO[bytes] | None" = None) -> bool:
    """True for an animation of several frames, by its first 64 KB.

    Args:
        head: the first bytes.
        file: where a GIF is read on, of which the head does not say.
    """
    if head.startswith(b"\x89PNG"):
        return b"acTL" in head[: head.find(b"IDAT")]
    if head[8:12] == b"WEBP":
        return head[12:16] == b"VP8X" and bool(head[20] & 2)
    if head[4:8] == b"ftyp":
        return head[8:12] == b"avis"
    if not head.startswith(b"GIF8") or file is None:
        return False
    file.seek(0)
    try:
        with opened(file.read(limits().file_bytes), "a GIF") as picture:
            return getattr(picture, "n_frames", 1) > 1
    except Unscorable:  # found out when the picture is looked at
        return False


def kind_of(data: bytes) -> str:
    """What a file that cannot be opened is, in words; empty where that is not known."""
    if not data:
        return "empty"
    head = data[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
    if data[4:8] == b"ftyp" and not is_picture(data[:16]):
        return "HEIC" if data[8:11] in (b"hei", b"hev", b"mif") else "a clip (MP4 or MOV): give it as video"
    return next((what for start, what in OTHERS.items() if head.startswith(start)), "")


@contextmanager
def opened(data: bytes, name: str) -> "Iterator[Image.Image]":
    """The picture in these bytes, not decoded yet. `name` stands for it in messages.

    Raises:
        Unscorable: no picture of a format in `FORMATS`, or a damaged one, also inside the block.
    """
    from PIL import Image, UnidentifiedImageError

    with _damage(name):
        try:
            with Image.open(io.BytesIO(data), formats=_formats()) as picture:
                yield picture
        except UnidentifiedImageError:
            known = kind_of(data)
            damaged = "a damaged picture" if is_picture(data[:16]) else "not an image Pillow can read"
            raise Unscorable(f"{name} is {known or damaged}") from None


_HUSHED = Hushed("PIL")


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Block in which whatever Pillow raises is damage, and in which it warns of none."""
    try:
        with _HUSHED:  # of a size that is refused here, and of EXIF that is damaged and then left alone
            yield
    except (Unscorable, MemoryError):
        raise
    except Exception as error:  # a decoder may raise anything on damaged bytes, struct.error for one
        raise Unscorable(f"{name} is broken: {error or type(error).__name__}") from None


def _formats() -> tuple[str, ...]:
    from PIL import Image

    if not set(FORMATS) <= Image.OPEN.keys():
        Image.init()  # a build may lack some
    return tuple(name for name in FORMATS if name in Image.OPEN)


def upright_size(picture: "Image.Image") -> tuple[int, int]:
    """(height, width) after rotation, from the header alone.

    Raises:
        Unscorable: as `checked_size`.
    """
    width, height = picture.size
    checked_size(height, width)
    return (width, height) if _orientation(picture) >= 5 else (height, width)


@contextmanager
def turn(picture: "Image.Image", name: str) -> Iterator[None]:
    """Block in which one thread alone looks at a caller's PIL picture. `name` stands for it in messages.

    Pillow reads an opened file, and its EXIF, when they are first asked for: of two threads that ask at once
    one gets the other's bytes, or an error.

    Raises:
        Unscorable: its file is damaged, or has been closed.
    """
    own = f"_mmreward_turn_{os.getpid()}"  # in a fork, a lock that is free
    with picture.__dict__.setdefault(own, threading.Lock()), _damage(name):
        yield


def _orientation(picture: "Image.Image") -> int:
    """EXIF's orientation, 1 to 8; 1 where EXIF is absent, garbage, or says something else."""
    if picture.format == "TIFF":  # Pillow turns it itself, its size too
        return 1
    file = getattr(picture, "fp", None)
    inside = _chunks(file.getbuffer()) if picture.format == "PNG" and isinstance(file, io.BytesIO) else None
    if inside is not None and not any(start.startswith(PNG_EXIF) for start in inside):
        return 1  # to look for it Pillow decodes the whole of a PNG
    try:
        value = picture.getexif().get(0x0112)
        return int(value) if value is not None and value in range(1, 9) else 1
    except (OSError, MemoryError):  # of the pixels, which Pillow may decode on the way
        raise
    except Exception:  # garbage in the place of EXIF may raise anything, and the picture is good all the same
        return 1


def _chunks(data: memoryview) -> Iterator[bytes]:
    """Of each chunk of a PNG its name, but of a text its keyword, as far as the file is in order."""
    place = 8
    while place + 12 <= len(data):
        length, name = int.from_bytes(data[place : place + 4]), bytes(data[place + 4 : place + 8])
        yield (
            bytes(data[place + 8 : place + 8 + min(length, 80)])
            if name in (b"tEXt", b"zTXt", b"iTXt")
            else name
        )
        place += length + 12


def reduce(picture: "Image.Image", least: tuple[int, int]) -> bool:
    """Have a JPEG decoded at the smallest of the scales 1/2, 1/4 and 1/8 that leaves enough of it.

    Args:
        picture: not decoded yet.
        least: (rows, columns) that it needs, upright.

    Returns:
        False where there is none, and for pictures of any other format.
    """
    whole = picture.size
    picture.draft(None, least if _orientation(picture) >= 5 else least[::-1])
    return picture.size != whole


def decoded(data: bytes, name: str) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """uint8 RGB (H, W, 3) of the picture in these bytes. `name` stands for it in messages.

    Raises:
        Unscorable: as `opened` and `rgb`.
    """
    with opened(data, name) as picture:
        checked_size(picture.height, picture.width)
        plain = _is_plain_png(data, picture)
        pixels = _by_ffmpeg(data, (picture.height, picture.width)) if plain else None
        return rgb(picture) if pixels is None else pixels


_png_pixels = 0


def _is_plain_png(data: bytes, picture: "Image.Image") -> bool:
    """True for a PNG of which FFmpeg makes what Pillow does, when there have been enough for it to pay."""
    global _png_pixels  # noqa: PLW0603 - a race only shifts when it begins
    if picture.format != "PNG" or data[24:29] != EIGHT_BIT_RGB or "transparency" in picture.info:
        return False
    if getattr(picture, "is_animated", False) or _orientation(picture) > 1:
        return False
    _png_pixels += picture.height * picture.width
    return _png_pixels > PYAV_AFTER or "av" in sys.modules


def _by_ffmpeg(data: bytes, size: tuple[int, int]) -> "np.ndarray[Any, np.dtype[np.uint8]] | None":
    """Pixels of a plain PNG; None where FFmpeg finds it damaged, which Pillow then puts in words."""
    import av

    reader: Any = av.CodecContext.create("png", "r")
    reader.thread_count = 1
    reader.options = {"discard_damaged_percentage": "0"}  # by default up to 95 of 100 rows may be missing
    try:
        frames = reader.decode(av.Packet(data))
    except av.error.FFmpegError:
        return None
    if len(frames) != 1:
        return None
    pixels: np.ndarray[Any, np.dtype[np.uint8]] = frames[0].to_ndarray()
    # A row whose filter does not exist is left black without a word.
    damaged = pixels.shape != (*size, 3) or (pixels.reshape(len(pixels), -1).max(axis=1) == 0).any()
    return None if damaged else pixels


def rgb(picture: "Image.Image") -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """uint8 RGB (H, W, 3), upright: alpha over white; 16 bits and floats in [0, 1] scaled to 8 bits.

    Read-only where it is what Pillow made: whoever needs it writable copies it where it is used, in the
    processor's caches.

    Raises:
        Unscorable: too large, or numbers whose full scale nothing says.
    """
    checked_size(picture.height, picture.width)
    turned = _turned(picture)
    scale = _full_scale(turned, picture.format)
    width, height = turned.size
    rows = max(1, STRIP // width)
    if rows >= height:
        return _strip(turned, scale)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        strip = turned.crop((0, top, width, min(height, top + rows))) if rows < height else turned
        pixels[top : top + rows] = _strip(strip, scale)
    return pixels


def _turned(picture: "Image.Image") -> "Image.Image":
    from PIL import Image

    turn = Image.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    orientation = _orientation(picture)
    return picture.transpose(turns[orientation]) if orientation > 1 else picture


def _full_scale(picture: "Image.Image", form: str | None) -> float:
    """White in a mode that Pillow itself would clip instead of scaling; 0 for modes it converts."""
    if picture.mode.startswith("I;16"):
        return 65535.0
    if picture.mode == "I":
        if form not in ("PNG", "PPM", "JPEG2000"):  # which have 16 bits at most
            raise Unscorable(
                "pixels are 32-bit integers, of which nothing says what is white: save 8 or 16 bits"
            )
        return 65535.0
    if picture.mode == "F":
        low, high = (float(end) for end in picture.getextrema())  # type: ignore[arg-type]
        if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # NaN fails both
            raise Unscorable(f"float pixels span {low:.3g} to {high:.3g}: expected [0, 1]")
        return 1.0
    return 0.0


def _strip(picture: "Image.Image", scale: float) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    from PIL import Image

    if scale:
        values = np.asarray(picture)
        if scale == 1.0 and not np.isfinite(values).all():
            raise Unscorable("the pixels contain NaN or infinity")
        grey = np.rint(values.clip(0, 1) * 255) if scale == 1.0 else values.clip(0, 65535) // 257
        grey = grey.astype(np.uint8)
        clear = picture.info.get("transparency")
        if isinstance(clear, int):
            grey = np.where(values == clear, np.uint8(255), grey)
        return np.repeat(grey[..., None], 3, axis=-1)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    # Of a picture that is RGB, `convert` is a copy.
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


# --- animations -----------------------------------------------------------------------------------


def timeline(picture: "Image.Image") -> Timeline:
    """When each frame is shown. The pages of a TIFF are frames without times.

    Raises:
        Unscorable: more frames than `Limits.clip_frames`, or a damaged one.
    """
    size = upright_size(picture)
    count = getattr(picture, "n_frames", 1)
    if count > limits().clip_frames:
        raise Unscorable(f"{count} frames are more than the limit of {most('clip_frames')}")
    if count == 1 or picture.format in ("TIFF", "JPEG", "MPO", "ICO"):
        return Timeline(size, count, (0.0,) if count == 1 else None, None)
    starts, clock = [], 0.0  # in milliseconds
    for index in range(_first(picture), count):
        picture.seek(index)
        if picture.format in ("WEBP", "AVIF"):
            picture.load()  # which is when Pillow reads the duration
        starts.append(clock)
        shown = float(picture.info.get("duration") or 0)
        clock += shown if shown >= SHORTEST else USUAL
    return timeline_of(size, [start / 1000 for start in starts], 1000 * len(starts) / clock)


def frames(picture: "Image.Image", wanted: Sequence[int]) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The frames of these numbers, uint8 (T, H, W, 3), in that order.

    Raises:
        Unscorable: a damaged frame, or pages of different sizes.
    """
    height, width = upright_size(picture)
    found = np.empty((len(wanted), height, width, 3), np.uint8)
    first = _first(picture)
    for place in sorted(range(len(wanted)), key=lambda place: wanted[place]):
        picture.seek(first + wanted[place])
        frame = rgb(picture)
        if frame.shape != found.shape[1:]:
            raise Unscorable(f"the frames have different sizes: {frame.shape[:2]} and {(height, width)}")
        found[place] = frame
    return found


def _first(picture: "Image.Image") -> int:
    """Number of the first frame: an APNG may begin with a picture for readers without animation."""
    return int(picture.format == "PNG" and bool(picture.info.get("default_image")))


def rgb_of(
    array: "np.ndarray[Any, Any]", kind: str, channels_last: bool
) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """uint8 RGB of pixels in memory, channels last: floats are scaled, alpha is laid over white.

    Raises:
        Unscorable: another layout or type, values outside [0, 1], or more pixels than `Limits` has.
    """
    dims = 3 if kind == "image" else 4
    if channels_last:
        checked_layout(array.shape, kind, channels_last=True)
    if array.ndim == dims - 1:
        array = array[..., None]
    if array.size == 0 or math.prod(array.shape[-3:-1]) > limits().pixels:
        raise Unscorable(f"shape {array.shape}: empty, or above {most('pixels', 'pixels')}")
    if array.dtype != np.uint8:
        array = quantised(array)
    if array.shape[-1] == 4:
        alpha = array[..., 3:].astype(np.float32) / 255
        array = np.rint(array[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array


ONE = np.float32(1).view(np.uint32)
"""Bits of 1.0. As whole numbers the floats in [0, 1] are those up to it; all others, NaN too, are above."""
BLOCK = 1 << 16
"""Floats that become bytes at once: they stay in the processor's caches, and scratch memory does not grow
with the picture."""


def quantised(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """uint8 of floats in [0, 1], by rounding half to even; in one layout with them.

    Raises:
        Unscorable: another type, or values outside [0, 1].
    """
    if not np.issubdtype(array.dtype, np.floating):
        raise Unscorable(f"pixels of type {array.dtype}: expected uint8 or floats in [0, 1]")
    axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])  # as they lie in memory
    dense = array.transpose(axes)
    if array.dtype == np.float32 and dense.flags.c_contiguous:
        whole = np.empty(dense.shape, np.uint8)
        if _filled(whole.reshape(-1), dense.reshape(-1)):
            return whole.transpose(np.argsort(axes))
    low, high = float(array.min()), float(array.max())  # NaN wins in both
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Unscorable("the pixels contain NaN or infinity")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise Unscorable(f"float pixels span {low:.3g} to {high:.3g}: expected [0, 1]")
    scaled = (array.clip(0, 1) if low < 0 or high > 1 else array) * array.dtype.type(255)
    rounded: np.ndarray[Any, np.dtype[np.uint8]] = np.rint(scaled, out=scaled).astype(np.uint8)
    return rounded


def _filled(whole: "np.ndarray[Any, Any]", values: "np.ndarray[Any, Any]") -> bool:
    """Write the bytes of float32 values in [0, 1], block by block; False where one lies outside."""
    scratch = np.empty(min(BLOCK, len(values)), np.float32)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        if block.view(np.uint32).max() > ONE:  # one pass in place of two for the least and the most
            return False
        scaled = scratch[: len(block)]
        np.rint(np.multiply(block, np.float32(255), out=scaled), out=scaled)
        whole[start : start + BLOCK] = scaled
    return True

"""Pictures as a chat server takes them: data URLs, without loss. No torch.

A picture that is scored for its quality must not be compressed on the way.
"""

import base64
import io
import math

from ..failures import Unscorable
from ..media import Media

PASSED = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}
"""Formats whose bytes are sent as they are, and their MIME subtypes."""


def data_url(media: Media, low: int | None = None, high: int | None = None) -> str:
    """A picture without loss: its own bytes where every server decodes them alike, else PNG of its pixels.

    Its own bytes go when they are PNG, JPEG or WebP, with one frame, RGB or grey, not rotated by EXIF, and
    already between `low` and `high` pixels; it is decoded here all the same, so that a torn file is not sent.

    Raises:
        Unscorable: a picture that cannot be decoded; a video.
    """
    if media.kind != "image":
        raise Unscorable("a served model is shown pictures: give it a clip's frames as pictures")
    pixels = media.array()
    height, width = pixels.shape[:2]
    size = fitted(height, width, low, high)
    data = media.encoded()
    kind = passing(data) if data is not None and size == (height, width) else ""
    if not kind:
        from PIL import Image

        picture = Image.fromarray(pixels)
        if size != (height, width):
            picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1)
        kind, data = "png", buffer.getvalue()
    assert data is not None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def fitted(height: int, width: int, low: int | None, high: int | None) -> tuple[int, int]:
    """(height, width) in the same proportion with at least `low` pixels, and at most `high` whatever `low`
    is."""
    area = height * width
    if low is not None and area < low:
        scale = math.sqrt(low / area)
        height, width = math.ceil(height * scale), math.ceil(width * scale)
    if high is not None and height * width > high:
        scale = math.sqrt(high / (height * width))
        height, width = max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
    return height, width


def passing(data: bytes) -> str:
    """The MIME subtype under which a picture's own bytes can be sent; empty when they must be re-encoded."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        plain = picture.mode in ("RGB", "L") and "transparency" not in picture.info
        upright = picture.getexif().get(0x0112, 1) == 1
        single = getattr(picture, "n_frames", 1) == 1
        return PASSED.get(picture.format or "", "") if plain and upright and single else ""

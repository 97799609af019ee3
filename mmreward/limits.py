"""Limits: the one table of how much a picture, a clip, a file or a text may hold before it is refused.

What is above a limit is refused from its header or its length, before memory is taken. Each field is
overridden by an environment variable, `MMREWARD_MAX_` and its name: `MMREWARD_MAX_PIXELS=200e6`. Worker
processes inherit the environment, and with it the limits.

Imports nothing of ours but `errors`, so that every other module may.
"""

import os
from dataclasses import dataclass, fields
from functools import lru_cache

from .errors import Unscorable

PREFIX = "MMREWARD_MAX_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest sizes that are accepted.

    Args:
        pixels: of one picture or frame, upright. 64 Mpx take about 0.7 GB while they are decoded.
        clip_pixels: of the frames of one clip that are held at once (0.8 GB as RGB).
        frames: of one clip that are held at once. A model that looks at some of a clip's frames decodes only
            those, and may be given longer clips.
        clip_frames: in a clip altogether, whether they are looked at or not: half an hour at 60 a second.
        row_bytes: of one line of JSONL, and of one caption.
        file_bytes: of one picture or clip, or of one data URL's content.
    """

    pixels: int = 1 << 26
    clip_pixels: int = 1 << 28
    frames: int = 4096
    clip_frames: int = 108_000
    row_bytes: int = 1 << 26
    file_bytes: int = 1 << 29


NAMES = tuple(field.name for field in fields(Limits))


def limits() -> Limits:
    """The limits of this process: the defaults, or what the environment says at this moment.

    Raises:
        ValueError: a variable that is no positive number.
    """
    return _of(tuple(os.environ.get(PREFIX + name.upper()) for name in NAMES))


@lru_cache(maxsize=8)
def _of(values: tuple[str | None, ...]) -> Limits:
    given = {name: _number(name, value) for name, value in zip(NAMES, values, strict=True) if value}
    return Limits(**given)


def _number(name: str, text: str) -> int:
    try:
        number = int(float(text)) if "e" in text.lower() else int(text)
    except (ValueError, OverflowError):
        number = 0
    if number < 1:
        raise ValueError(f"{PREFIX}{name.upper()}={text!r} is no number above 0")
    return number


def checked_size(height: int, width: int) -> tuple[int, int]:
    """The size of a picture or frame that has some pixels and not too many.

    Raises:
        Unscorable: none, or more than `Limits.pixels`.
    """
    if height * width > limits().pixels:
        raise Unscorable(f"{width} x {height} pixels are more than the limit of {limits().pixels}")
    if height < 1 or width < 1:
        raise Unscorable(f"{width} x {height} pixels: the picture is empty")
    return height, width


def checked_layout(shape: tuple[int, ...], kind: str, *, channels_last: bool) -> None:
    """Refuse pixels whose axes are not in the order of `Media`, or may as well be in another.

    Args:
        shape: as it was given.
        kind: "image" or "video".
        channels_last: true for arrays, (T, H, W, C); false for tensors, (T, C, H, W).

    Raises:
        Unscorable: the shape, with the order that is expected.
    """
    axes = "(H, W, C)" if channels_last else "(C, H, W)"
    if kind == "video":
        axes = axes.replace("(", "(T, ")
        if len(shape) == 3 and (shape[-1] in (3, 4) or shape[0] in (3, 4)):
            raise Unscorable(
                f"shape {shape} is one picture, no video: expected {axes}, so add an axis of frames"
            )
        if len(shape) == 4 and shape[0] == 3 and shape[-1 if channels_last else 1] in (1, 4):
            raise Unscorable(
                f"shape {shape} may be channels before frames: expected {axes}, and 3 frames as RGB"
            )
    dims = len(axes.split(","))
    if len(shape) == dims - 1:  # grey
        return
    if len(shape) != dims or shape[-1 if channels_last else -3] not in (1, 3, 4):
        raise Unscorable(f"shape {shape} is no {kind}: expected {axes} with 1, 3 or 4 channels")

"""Coordinate spaces: the unit in which a model family counts coordinates, and the way to fractions of the
picture.

A space is always declared, never guessed from the size of the numbers: 0.5 of 1, 500 of 1000 and 500 pixels
look alike. All arithmetic is in floats; rounding to a grid is what makes small boxes unattainable.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from ..errors import Unscorable, nearest
from ..types import Sample

MAX_RATIO = 200


class Size(NamedTuple):
    """Height and width, in pixels or in the unit of a space."""

    height: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A convention for writing coordinates.

    Args:
        unit: "fraction" of the picture's sides, "pixel" of the picture itself, "resized", pixels of the
            picture as `smart_resize` made it for the model, or "sent", pixels of the picture as it was sent,
            whose size no rule says.
        scale: length of a whole side, for fractions.
        grid: steps a side is written in, for fractions; 1000 is three decimals of 1. Only the schedule of
            `dynamic_iou` looks at it, for the IoU that is attainable.
        y_first: boxes are [y1, x1, y2, x2] and points [y, x].
        factor, min_pixels, max_pixels: of `smart_resize`; they must be those of the model's processor.
    """

    unit: Literal["fraction", "pixel", "resized", "sent"]
    scale: float = 1.0
    grid: float = 1000.0
    y_first: bool = False
    factor: int = 28
    min_pixels: int = 56 * 56
    max_pixels: int = 16384 * 28 * 28


THOUSAND = Space(unit="fraction", scale=1000.0)
PERCENT = Space(unit="fraction", scale=100.0)
FRACTION = Space(unit="fraction")
SENT = Space(unit="sent")
SPACES: Mapping[str, Space] = {
    "pixel": Space(unit="pixel"),
    "norm_1": FRACTION,
    "norm_100": PERCENT,
    "norm_1000": THOUSAND,
    "qwen2-vl": THOUSAND,
    "qwen2.5-vl": Space(unit="resized"),
    "qwen3-vl": THOUSAND,
    "qwen3-vl-pixel": Space(unit="resized", factor=32, min_pixels=64 * 32 * 32, max_pixels=16384 * 32 * 32),
    "internvl": THOUSAND,
    "glm-4v": THOUSAND,
    "molmo": PERCENT,
    "griffon": FRACTION,
    "gemini": replace(THOUSAND, y_first=True),
    "norm_999": Space(unit="fraction", scale=999.0, grid=999.0),
    "qwen-vl": THOUSAND,
    "cogagent": THOUSAND,
    "minicpm-v": THOUSAND,
    "os-atlas": THOUSAND,
    "uground-qwen": THOUSAND,
    "aria-ui": THOUSAND,
    "ui-tars": THOUSAND,
    "ui-tars-1.5": Space(unit="resized", min_pixels=100 * 28 * 28),
    "holo1.5": Space(unit="resized"),
    "paligemma": Space(unit="fraction", scale=1024.0, grid=1024.0, y_first=True),
    "showui": FRACTION,
    "seeclick": FRACTION,
    "kimi-vl": FRACTION,
    "points-gui": FRACTION,
    "aguvis": FRACTION,
    "uground-v1": SENT,
    "claude": SENT,
    "openai-cua": SENT,
}
"""By model family. Qwen3-VL answers on 0..1000 though its picture is resized in steps of 32 pixels; its
cookbook divides by 999. UI-TARS changed its unit from 1.0 to 1.5."""

Named = str | Mapping[str, Any]
"""A name out of `SPACES`, or {"name": ..., and the fields of `Space` that differ}."""


def space_of(named: Named) -> Space:
    """Look up a space by name.

    Raises:
        ValueError: there is none, or a field is unknown or impossible; the message offers the nearest names.
    """
    changes: dict[str, Any] = {"name": named} if isinstance(named, str) else dict(named)
    name = str(changes.pop("name", None))
    if name not in SPACES:
        raise ValueError(f"no coordinate space is named {name!r}: {nearest(name, sorted(SPACES), limit=2)}")
    unknown = set(changes) - {"grid", "factor", "min_pixels", "max_pixels"}
    if unknown:
        raise ValueError(
            f"the space {name!r} has no {', '.join(sorted(unknown))}; what can be changed is grid, factor, "
            "min_pixels and max_pixels"
        )
    space = replace(SPACES[name], **changes)
    if not (space.grid > 0 and space.factor > 0 and 0 < space.min_pixels <= space.max_pixels):
        raise ValueError(
            f"grid, factor and pixels of a space are positive, min_pixels <= max_pixels: {space}"
        )
    return space


def extent(space: Space, sample: Sample) -> Size:
    """Size of the whole picture in this space; dividing by it gives fractions of the picture.

    `sample.meta["size"]` = (height, width) is the picture's own size in pixels, else the image is asked.
    `sample.meta["input_size"]` is its size as the model saw it; without it, `smart_resize` says.

    Raises:
        Unscorable: "missing" when a size is needed and there is none.
    """
    if space.unit == "fraction":
        return Size(space.scale, space.scale)
    if space.unit == "sent" and sample.meta.get("input_size") is None:
        raise Unscorable(
            'pixels of the picture that was sent need meta["input_size"] = (height, width)', "missing"
        )
    if space.unit in ("resized", "sent"):
        if sample.meta.get("input_size") is not None:
            return _size(sample.meta["input_size"], "input_size")
        height, width = _original(sample)
        return smart_resize(
            height, width, factor=space.factor, min_pixels=space.min_pixels, max_pixels=space.max_pixels
        )
    return _original(sample)


def steps(space: Space, sample: Sample) -> Size:
    """Grid that an answer is rounded to: the number of steps of the picture's sides in this space."""
    return Size(space.grid, space.grid) if space.unit == "fraction" else extent(space, sample)


def _original(sample: Sample) -> Size:
    if sample.meta.get("size") is not None:
        return _size(sample.meta["size"], "size")
    if sample.image is not None:
        return Size(*map(float, sample.image.size))
    raise Unscorable('pixel coordinates need meta["size"] = (height, width) or an image', "missing")


def _size(value: Any, name: str) -> Size:
    try:
        height, width = (float(side) for side in value)
    except (TypeError, ValueError):
        height = width = math.nan
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise Unscorable(f"meta[{name!r}] is {str(value)[:80]}, not (height, width) in pixels")
    return Size(height, width)


def smart_resize(
    height: float,
    width: float,
    *,
    factor: int = 28,
    min_pixels: int = 56 * 56,
    max_pixels: int = 16384 * 28 * 28,
) -> Size:
    """Size to which Qwen's and GLM's processors resize a picture: multiples of `factor`, within the pixel
    limits, close to the picture's shape.

    Equal to `qwen_vl_utils.smart_resize` and to that of transformers wherever the two agree, which is on
    pictures with no side under half a `factor`.

    Raises:
        Unscorable: one side is more than 200 times the other; the processors refuse such a picture.
    """
    if max(height, width) / min(height, width) > MAX_RATIO:
        raise Unscorable(f"a picture of {width:g} x {height:g} is too long for the model's processor")
    rows, columns = (max(factor, round(side / factor) * factor) for side in (height, width))
    if rows * columns > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif rows * columns < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return Size(float(rows), float(columns))

"""Oracle of shapes world: reads a picture back into things by classical vision alone.

Colour classification, connected components, image moments. It shares no code path with any learned model,
which is what lets it judge whether a reward was improved or hacked.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .world import BACKGROUND, COLOURS, Caption, Thing, holds

MIN_AREA = 0.012
"""Components smaller than this share of the picture are specks (the smallest shape covers 0.026 of it)."""
SATURATION = 0.30
"""Pixels whose colour is nearer to grey than this are background, clutter or text."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Agreement of a picture with a caption."""

    f1: float
    """Multiset F1 over (colour, shape): 2 * hits / (number asked + number seen)."""
    strict: bool
    """Exactly the asked shapes, nothing else, and the relation holds."""
    seen: tuple[Thing, ...]


def read(picture: Image.Image | np.ndarray) -> tuple[Thing, ...]:
    """Shapes in an RGB picture (PIL, or uint8 HWC), in reading order. Boxes are tight to about half a
    pixel."""
    pixels = np.asarray(
        picture.convert("RGB") if isinstance(picture, Image.Image) else picture, dtype=np.float64
    )
    height, width = pixels.shape[:2]
    names = list(COLOURS)
    palette = np.array([COLOURS[name] for name in names], dtype=np.float64) - BACKGROUND
    offset = pixels - BACKGROUND
    # A pixel on an edge is a blend: background + alpha * (colour - background). Project on each colour's ray.
    alpha = (offset @ palette.T) / (palette**2).sum(1)
    miss = np.linalg.norm(offset[..., None, :] - alpha[..., None] * palette, axis=-1)
    nearest = miss.argmin(-1)
    cover = np.clip(np.take_along_axis(alpha, nearest[..., None], -1)[..., 0], 0, 1)
    spread = pixels.max(-1) - pixels.min(-1)
    solid = (cover > 0.5) & (spread > SATURATION * pixels.max(-1))
    things: list[Thing] = []
    from scipy import ndimage  # which a list of rewards does without

    labels, _ = ndimage.label(solid)
    for index, window in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[window] == index
        if part.sum() < MIN_AREA * height * width:
            continue
        votes = Counter(nearest[window][part].tolist())
        colour, _ = votes.most_common(1)[0]
        things.extend(_measure(window, part, alpha[..., colour], names[colour], height, width))
    return tuple(sorted(things, key=lambda t: (t.y, t.x)))


def _measure(
    window: tuple[slice, slice], part: np.ndarray, alpha: np.ndarray, colour: str, height: int, width: int
) -> Iterable[Thing]:
    """The thing of one component; the partly covered pixels around it give its extent below a pixel."""
    top, left = max(window[0].start - 1, 0), max(window[1].start - 1, 0)
    bottom, right = min(window[0].stop + 1, height), min(window[1].stop + 1, width)
    mask = np.zeros((bottom - top, right - left), dtype=bool)
    y0, x0 = window[0].start - top, window[1].start - left
    mask[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
    from scipy import ndimage

    near = ndimage.binary_dilation(mask, np.ones((3, 3)))
    weight = np.where(near, np.clip(alpha[top:bottom, left:right], 0, 1), 0)
    weight[mask] = np.maximum(weight[mask], 0.5)
    area = weight.sum()
    ys, xs = np.mgrid[top:bottom, left:right] + 0.5
    cx, cy = (weight * xs).sum() / area, (weight * ys).sum() / area
    box_w, box_h = weight.max(0).sum(), weight.max(1).sum()
    # The middle of the box: the soft extent, anchored at the component's own middle.
    columns, rows = weight.max(0), weight.max(1)
    mid_x = (columns * (np.arange(left, right) + 0.5)).sum() / columns.sum()
    mid_y = (rows * (np.arange(top, bottom) + 0.5)).sum() / rows.sum()
    yield Thing(colour, _shape(weight, xs - cx, ys - cy, area, box_w, box_h), mid_x / width, mid_y / height,
                (box_w / width + box_h / height) / 4)  # fmt: skip


def _shape(
    weight: np.ndarray, dx: np.ndarray, dy: np.ndarray, area: float, box_w: float, box_h: float
) -> str:
    """Shape by the nearest template in (extent, roundness, vertical skew); templates are the ideal shapes'
    values."""
    extent = area / (box_w * box_h)
    spread = (weight * (dx**2 + dy**2)).sum()
    roundness = area**2 / (2 * np.pi * spread)
    skew = (weight * dy**3).sum() / area / ((weight * dy**2).sum() / area) ** 1.5
    templates = {
        "circle": (np.pi / 4, 1.0, 0.0),
        "square": (1.0, 3 / np.pi, 0.0),
        "triangle": (0.5, 0.764, -0.566),
    }
    return min(templates, key=lambda name: _distance((extent, roundness, skew), templates[name]))


def _distance(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return sum(((x - y) / scale) ** 2 for x, y, scale in zip(a, b, (0.1, 0.1, 0.2), strict=True))


def judge(picture: Image.Image | np.ndarray, caption: Caption) -> Verdict:
    """Verdict on a picture: the things it shows against those the caption asks for."""
    seen = read(picture)
    found = Counter(thing.kind for thing in seen)
    wanted = Counter(dict(caption.kinds))
    hits = (found & wanted).total()
    strict = found == wanted and (not caption.relation or _relation_holds(seen, caption))
    return Verdict(2 * hits / (len(seen) + wanted.total()), strict, seen)


def _relation_holds(seen: tuple[Thing, ...], caption: Caption) -> bool:
    (first, _), (second, _) = caption.kinds
    a = [thing for thing in seen if thing.kind == first]
    b = [thing for thing in seen if thing.kind == second]
    return all(holds(caption.relation, x, y) for x in a for y in b)

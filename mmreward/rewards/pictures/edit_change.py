"""Change of an edited picture, region by region: what should change did, and what should not did not.

A measure of pixels, without a network and without a notion of what the edit shows. It is the half that judges
of edits see least: a wall that lost its texture, a face that became another one.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...errors import Unscorable
from ...media import Media
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

Box = tuple[float, float, float, float]
SHAPES = 0.03
"""Relative difference of the sides' ratio above which two pictures are not laid over one another."""
FULL = 255.0


class Change(NamedTuple):
    """Mean absolute differences, 0 to 1, inside the regions and outside them."""

    inside: float
    outside: float


@reward(
    "edit_change",
    needs=("image", "inputs"),
    range=(0.0, 1.0),
    uses_prompt=False,
    example={"meta": {"region": [[0.1, 0.1, 0.6, 0.6]]}},
)
def edit_change(enough: float = 0.1, spoiled: float = 0.1, margin: float = 0.02) -> Any:
    """Harmonic mean, 0 to 1, of how far an edit changed its regions and how far it kept all else.

    `image` is the edited picture, `inputs` the one source picture, and `meta.region` the place of the edit: a
    box [x1, y1, x2, y2] in fractions of the sides, or a list of boxes. Differences are those of 8-bit RGB
    values, in the mean over pixels and channels, as a part of 255. A region that changed by `enough` or more
    counts as changed, one that changed by half of that as half; the rest counts as kept where nothing
    differs, and as lost where it differs by `spoiled`. So an edit that does nothing and one that draws the
    whole picture anew both have nearly 0. An edit of another size is first resized to that of its source.

    `parts` has `changed` and `kept`, which are 0 to 1, and the differences `inside` and `outside`.

    Noise in the region counts as a change: sum it with a reward that reads what is there (`editreward`,
    `clipscore`). A source that was saved as JPEG and an edit that was not differ by some 0.01 everywhere.

    Args:
        enough: difference inside from which a region has changed.
        spoiled: difference outside from which nothing is kept.
        margin: width of the band around a region that counts on neither side, in fractions of the sides:
            edges of an edit are soft.

    Raises:
        ValueError: `enough` or `spoiled` is not above 0 and up to 1, or `margin` not from 0 to below a half.
    """
    for name, value in (("enough", enough), ("spoiled", spoiled)):
        if not 0 < value <= 1:
            raise ValueError(f"{name} is a difference above 0 and up to 1, not {value}")
    if not 0 <= margin < 0.5:
        raise ValueError(f"margin is a fraction of the sides from 0 to below 0.5, not {margin}")

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        if len(sample.inputs) != 1:
            raise Unscorable(f"the row has {len(sample.inputs)} inputs, and an edit has one source picture")
        boxes = regions_of(sample.meta)
        change = await aside(partial(_change, sample.inputs[0], sample.image, boxes, margin))
        changed, kept = min(1.0, change.inside / enough), max(0.0, 1 - change.outside / spoiled)
        value = 2 * changed * kept / (changed + kept) if changed + kept else 0.0
        noted("compared", "{} differs inside and {} outside", *change)
        return Score(value, {"changed": changed, "kept": kept, **change._asdict()})

    return score


def regions_of(meta: Mapping[str, Any]) -> list[Box]:
    """The boxes of `meta.region`, in fractions.

    Raises:
        Unscorable: there are none, or something else.
    """
    found = meta.get("region")
    if found is None:
        raise Unscorable("meta has no `region`, the box or boxes of the edit", "missing")
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except json.JSONDecodeError:
            raise Unscorable(f"meta.region is not JSON: {found[:80]!r}", "missing") from None
    single = isinstance(found, list | tuple) and found and not isinstance(found[0], list | tuple)
    boxes = [found] if single else found
    if not isinstance(boxes, list | tuple) or not boxes or not all(map(_is_box, boxes)):
        raise Unscorable(
            f"meta.region is {str(found)[:80]}, not boxes [x1, y1, x2, y2] in fractions of the sides, 0 to 1",
            "missing",
        )
    return [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in boxes]


def _is_box(box: Any) -> bool:
    if not isinstance(box, list | tuple) or len(box) != 4:
        return False
    if not all(isinstance(side, int | float) and not isinstance(side, bool) for side in box):
        return False
    x1, y1, x2, y2 = box
    return bool(0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1)


def _change(source: Media, edited: Media, boxes: list[Box], margin: float) -> Change:
    """Differences of two pictures inside the boxes and outside them.

    Raises:
        Unscorable: one cannot be laid over the other, or a side of the regions is empty.
    """
    from PIL import Image

    before, after = source.still(), edited.still()
    (height, width), (tall, wide) = before.shape[:2], after.shape[:2]
    if (height, width) != (tall, wide):
        apart = abs(wide * height / (tall * width) - 1)
        if apart > SHAPES:
            raise Unscorable(
                f"the edit of {wide} x {tall} pixels has another shape than its source of {width} x {height}"
            )
        sized = Image.fromarray(after).resize((width, height), Image.Resampling.BICUBIC)
        after = np.asarray(sized)
    inside, outside = np.zeros((height, width), bool), np.ones((height, width), bool)
    for box in boxes:
        inside[_pixels(box, 0.0, height, width)] = True
        outside[_pixels(box, margin, height, width)] = False
    if not inside.any() or not outside.any():
        raise Unscorable(f"the regions leave no pixel {'inside' if not inside.any() else 'outside'} of them")
    apart_by = np.abs(before.astype(np.int16) - after).mean(-1) / FULL
    return Change(float(apart_by[inside].mean()), float(apart_by[outside].mean()))


def _pixels(box: Box, margin: float, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns whose middles lie in the box, made wider by a margin."""
    x1, y1, x2, y2 = box
    rows, columns = (
        slice(max(0, round((low - margin) * side)), max(0, round((high + margin) * side)))
        for low, high, side in ((y1, y2, height), (x1, x2, width))
    )
    return rows, columns

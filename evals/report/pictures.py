"""A sample's pictures as HTML: embedded, small ones enlarged crisply, boxes drawn over them.

Knows nothing of scores; the space of the boxes comes from the arguments of the `iou` reward.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup
from PIL import Image

from mmreward.errors import Unscorable
from mmreward.media import Media
from mmreward.trajectories import seen_in
from mmreward.types import Sample
from mmreward.verifiers.actions import Point
from mmreward.verifiers.boxes import Box, boxes_of, to_unit
from mmreward.verifiers.markup import box_items
from mmreward.verifiers.response import segment
from mmreward.verifiers.spaces import Named, extent, space_of

from .html import count, text

MAX_SIDE = 384
WEIGHT = 8_000_000
"""Characters that the pictures of a page may take together; the rest of it is text, and stays below 2 MB."""
SIDES = (MAX_SIDE, 256, 160, 96)
"""Longest sides of its pictures, tried in turn until they fit."""
INPUT_SIDE = 96
SMALL_SIDE = 128
"""Pictures up to this side stay PNG and are enlarged without smoothing."""
CANVAS = 320
TALLEST = 26
"""Height on the page, in rem, at which a picture that stands upright stops growing."""
LABEL_CHARS = 24
MAX_BOXES = 50


class Spaces(NamedTuple):
    """The coordinate spaces of boxes in responses and targets, named as in the `iou` reward."""

    found: Named = "norm_1000"
    true: Named = "norm_1000"


class Boxes(NamedTuple):
    """Boxes in fractions of the picture, how many could not be read, and why a whole list could not be."""

    boxes: list[Box]
    unreadable: int = 0
    problem: str = ""


class Marks(NamedTuple):
    """Places of a GUI step in fractions of the picture, and sentences about what was read and what not.

    Args:
        points: that the response clicks.
        boxes: of the element that is meant.
        words: about them.
        found: boxes that the response gives in place of points.
        right: whether the step is; None where nothing says.
    """

    points: Sequence[Point] = ()
    boxes: Sequence[Box] = ()
    words: Sequence[str] = ()
    found: Sequence[Box] = ()
    right: bool | None = None


def pictures(
    sample: Sample, spaces: Spaces, expects_boxes: bool, side: int = MAX_SIDE, marks: Marks | None = None
) -> Markup | str:
    """The picture or first frame with its boxes, the other inputs small beneath it; without any picture the
    words of the marks, or nothing.

    Args:
        sample: whose.
        spaces: of the boxes in its response and target.
        expects_boxes: a response without any is worth a line.
        side: longest, of the picture.
        marks: drawn in place of boxes.
    """
    shown = [media for media in (sample.image, sample.video, *sample.inputs) if media is not None]
    if not shown:
        lines = "".join(f"<li>{text(one)}</li>" for one in (marks.words if marks is not None else ()))
        return Markup(f'<ul class="legend">{lines}</ul>') if lines else ""
    main, others = shown[0], shown[1:]
    size = _size(main)
    if marks is None:
        true = _true_boxes(sample, spaces.true, size)
        found = _found_boxes(sample, spaces.found, size, expects_boxes or bool(true.boxes))
    else:
        true, found = Boxes(list(marks.boxes)), Boxes(list(marks.found))
    points, words = (marks.points, marks.words) if marks is not None else ((), ())
    caption = _legend(found, true, len(points), words)
    small = "".join(f'<div class="input">{embedded(media, min(side, INPUT_SIDE))}</div>' for media in others)
    inputs = f'<div class="inputs"><span class="small">inputs</span>{small}</div>' if small else ""
    frame = _framed(main, f"picture of sample {sample.id}", _overlay(found, true, size, points), side)
    return Markup(f"<figure>{frame}{caption}</figure>{inputs}")


def marked(media: Media, alt: str, side: int, marks: Marks) -> Markup:
    """A picture with the places of a step over it, without their words."""
    overlay = _overlay(Boxes(list(marks.found)), Boxes(list(marks.boxes)), _size(media), marks.points)
    return embedded(media, side, alt) + Markup(overlay)


def thumbnail(sample: Sample, side: int = MAX_SIDE) -> Markup | str:
    """The picture alone; empty without any."""
    media = sample.image or sample.video or next(iter(sample.inputs), None)
    if media is None:  # of an episode its end, where the outcome is
        media = next((seen.media for seen in reversed([*seen_in(sample.steps)])), None)
    if media is None:
        return ""
    return Markup(f"<figure>{_framed(media, f'picture of sample {sample.id}', '', side)}</figure>")


def embedded(media: Media, side: int, alt: str = "") -> Markup:
    """An <img> with its bytes inside, or the reason why there is none."""
    try:
        picture = media.picture()
    except Unscorable as error:
        return Markup(f'<p class="absent">no picture: {text(error)}</p>')
    small = max(picture.size) <= SMALL_SIDE
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG" if small else "JPEG", **({} if small else {"quality": 86}))
    kind, crisp = ("png", ' class="crisp"') if small else ("jpeg", "")
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f'width="{picture.width}" height="{picture.height}"'
    return Markup(f'<img{crisp} {size} alt="{text(alt)}" src="data:image/{kind};base64,{data}">')


def _framed(media: Media, alt: str, overlay: str, side: int = MAX_SIDE) -> str:
    tag = '<span class="tag">video, first frame</span>' if media.kind == "video" else ""
    height, width = _size(media) or (1, 1)
    narrow = f' style="max-width:{TALLEST * width / height:.1f}rem"' if height > width else ""
    return f'<div class="picture"{narrow}>{embedded(media, side, alt)}{overlay}{tag}</div>'


def _size(media: Media) -> tuple[int, int] | None:
    """(height, width), or None when the picture cannot be opened."""
    try:
        return media.size
    except Unscorable:
        return None


def _found_boxes(sample: Sample, space: Named, size: tuple[int, int] | None, expected: bool) -> Boxes:
    """The boxes of the response; a response that is about something else is only a problem when expected."""
    if not sample.response:
        return Boxes([])
    try:
        items = box_items(segment(sample.response, bare=True).answer).items
    except Unscorable as error:
        return Boxes([], problem=str(error) if expected else "")
    given = boxes_of(items, y_first=space_of(space).y_first)
    if not expected and not any(given):
        return Boxes([])
    return _in_picture(given, space, size, sample.meta)


def _true_boxes(sample: Sample, space: Named, size: tuple[int, int] | None) -> Boxes:
    known = isinstance(sample.target, list | tuple | Mapping)
    given = boxes_of(sample.target, y_first=space_of(space).y_first) if known else []
    return _in_picture(given, space, size, sample.meta) if any(given) else Boxes([])


def _in_picture(
    given: list[Box | None], space: Named, size: tuple[int, int] | None, meta: Mapping[str, Any]
) -> Boxes:
    try:
        height, width = extent(space_of(space), Sample(meta={"size": size, **meta}))
    except Unscorable:
        return Boxes([], problem="they are in pixels, and the size of the picture is not known")
    units = [to_unit(box, width, height) if box is not None else None for box in given]
    boxes = [box for box in units if box is not None]
    return Boxes(boxes, len(units) - len(boxes))


def _overlay(found: Boxes, true: Boxes, size: tuple[int, int] | None, points: Sequence[Point] = ()) -> str:
    if size is None or not (found.boxes or true.boxes or points):
        return ""
    height, width = (CANVAS * side / max(size) for side in size)
    drawn = "".join(_drawn(box, "true", width, height) for box in true.boxes[:MAX_BOXES])
    drawn += "".join(_drawn(box, "found", width, height) for box in found.boxes[:MAX_BOXES])
    drawn += "".join(_cross(point.x * width, point.y * height) for point in points[:MAX_BOXES])
    return f'<svg class="boxes" viewBox="0 0 {width:.1f} {height:.1f}" aria-hidden="true">{drawn}</svg>'


def _cross(x: float, y: float) -> str:
    lines = f"M{x - 9:.1f} {y:.1f}h18M{x:.1f} {y - 9:.1f}v18"
    return f'<path class="under" d="{lines}"/><path class="found" d="{lines}"/>'


def _drawn(box: Box, kind: str, width: float, height: float) -> str:
    x, y, right, bottom = box.x1 * width, box.y1 * height, box.x2 * width, box.y2 * height
    place = f'x="{x:.1f}" y="{y:.1f}" width="{right - x:.1f}" height="{bottom - y:.1f}"'
    rects = f'<rect class="under" {place}/><rect class="{kind}" {place}/>'
    if kind == "true" or not box.label:
        return rects
    label = box.label if len(box.label) <= LABEL_CHARS else box.label[: LABEL_CHARS - 1] + "\u2026"
    baseline = y - 5 if y > 20 else min(bottom + 15, height - 5)
    start = x < width / 2
    where = f'x="{x if start else right:.1f}" y="{baseline:.1f}" text-anchor="{"start" if start else "end"}"'
    return f"{rects}<text {where}>{text(label)}</text>"


def _legend(found: Boxes, true: Boxes, points: int = 0, words: Sequence[str] = ()) -> str:
    """Numbers of the boxes that are drawn, and reasons for those that are not."""
    entries = []
    if found.boxes:
        entries.append(
            f'<span class="key found"></span>{count(len(found.boxes), "box", "boxes")} in the response'
        )
    if points:
        entries.append(f'<span class="key found"></span>{count(points, "place")} in the response')
    if true.boxes:
        entries.append(f'<span class="key true"></span>{len(true.boxes)} true')
    unreadable = found.unreadable + true.unreadable
    if unreadable:
        entries.append(f"{unreadable} not drawn: unreadable or without area")
    if max(len(found.boxes), len(true.boxes)) > MAX_BOXES:
        entries.append(f"only the first {MAX_BOXES} are drawn")
    if found.problem:
        entries.append(f"boxes of the response not drawn: {text(found.problem)}")
    entries += [str(text(one)) for one in words]
    items = "".join(f"<li>{entry}</li>" for entry in entries)
    return f'<figcaption><ul class="legend">{items}</ul></figcaption>' if items else ""

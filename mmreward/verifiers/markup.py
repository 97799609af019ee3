"""Boxes and points of a response: the tags of model families, JSON, tool calls and prose, read in one way.

`box_items` and `point_items` give the items that `boxes.boxes_of` and the reward `pointing` take;
`found_boxes` and `true_boxes` read a sample's response and target to fractions of the picture. A text is read
in one form: tags where there are any, else its lists and objects, else numbers in prose. String searches,
splits and bounded patterns only, so a megabyte of broken tags costs a linear scan.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import Unscorable
from ..limits import limits, most
from ..tracing import heard, noted, shown
from ..types import Sample
from .boxes import Box, boxes_of, to_unit
from .coordinates import Axes, Reading, Size, items_of, labelled, listed_items, number
from .lists import Parsed
from .prose import prose_items
from .response import Several, segment
from .spaces import Space, extent
from .wording import OR, label_in, plain, says_nothing


class Tags(NamedTuple):
    """An opening and a closing tag."""

    open: str
    close: str


BOXES = (
    Tags("<|box_start|>", "<|box_end|>"),  # Qwen2-VL, UI-TARS
    Tags("<box>", "</box>"),  # Qwen-VL, InternVL, MiniCPM-V
    Tags("<|det|>", "<|/det|>"),  # DeepSeek-VL2
    Tags("<bbox>", "</bbox>"),  # SEED
    Tags("<|bbox|>", "<|/bbox|>"),
    Tags("<|begin_of_box|>", "<|end_of_box|>"),  # GLM-4.xV
)
NAMES = (
    *(Tags("<|object_ref_start|>", "<|object_ref_end|>"), Tags("<ref>", "</ref>")),
    *(Tags("<|ref|>", "<|/ref|>"), Tags("<phrase>", "</phrase>"), Tags("<p>", "</p>")),
)
POINTS = (
    Tags("<|point_start|>", "<|point_end|>"),
    Tags("<|coord|>", "<|/coord|>"),
    Tags("<coordinate>", "</coordinate>"),
    Tags("<click>", "</click>"),
    *BOXES,
)
POINT = "<point"
ATTRIBUTE = re.compile(r"\b([xy])(\d{0,4})=[\"']?([-+.\d]{1,20})[\"'\s/]")
COORDS = re.compile(r"\bcoords=[\"']?([-+.\d\s;,]{0,65536})")
LOCATION = re.compile(r"<(loc_?)(\d{1,4})>")
PATCH = re.compile(r"<patch_index_(\d{1,4})>")
PATCHES = 32
"""Patches of a side of the picture in Kosmos-2, whose boxes name the first and the last."""
BINS = 1024
"""Steps of a side of the picture in PaliGemma's `<loc0000>`, which are y first."""
GRID = Axes()


def box_items(text: str, *, only: bool = False, axes: Axes = GRID) -> Parsed:
    """Read box items for `boxes_of`: tags such as "<box>(x1,y1),(x2,y2)</box>" and location tokens, JSON
    under any usual key, JSON lines, a tool's call, "cat: [x1, y1, x2, y2]", "(x1,y1),(x2,y2)" or "xmin=...".

    A name in `<ref>` or before a box is its label. "None" and "no objects" are an empty list.

    Args:
        text: a model's answer.
        only: refuse a text with several lists or alternatives, and one that mixes tags with other boxes.
        axes: the response's space, for percent signs and forms with a grid of their own.

    Raises:
        Unscorable: "unparsable" when there are none.
    """
    reading = read_coordinates(text, 4, axes)
    if only and (reading.lists > 1 or reading.hedged):
        raise Unscorable("several lists, or alternatives, where one is expected", "unparsable")
    return Parsed(reading.items, reading.dropped)


def point_items(text: str, axes: Axes = GRID) -> Parsed:
    """Read point items for `pointing.points_of`: `<point x="1" y="2">`, `<points x1= y1= x2= y2=>`, `<points
    coords="1 1 x y 2 x y">`, `<point>1 2</point>`, JSON under any usual key, JSON lines, a tool's call,
    `click(x=1, y=2)`, "x: 1, y: 2", "(1, 2)"; a box is its centre.

    Raises:
        Unscorable: "unparsable" when there are none, or alternatives.
    """
    reading = read_coordinates(text, 2, axes)
    if reading.hedged:
        raise Unscorable("alternatives where one answer is expected", "unparsable")
    return Parsed(reading.items, reading.dropped)


def read_coordinates(text: str, size: Size, axes: Axes) -> Reading:
    """Read boxes (size 4) or points (size 2) in whatever form they are written.

    Raises:
        Unscorable: "unparsable" when there are none.
    """
    text = plain(text)
    if says_nothing(text):
        noted("form", "{} says that there are none", text)
        return Reading([])
    tags = next((tags for tags in (BOXES if size == 4 else POINTS) if tags.open in text), None)
    if size == 2 and POINT in text:
        noted("form", "<point> tags")
        return _point_tags(text, axes)
    if tags is not None:
        noted("form", f"the tags {tags.open}...{tags.close}")
        return _tagged(text, tags, size, axes)
    if "<loc" in text or "<patch_index_" in text:
        located = _located(text, size, axes)
        if located:
            noted("form", "location tokens, <loc...> or <patch_index_...>")
            return Reading(located)
    listed = listed_items(text, size, axes) if "[" in text or "{" in text else None
    if listed is not None and (not listed.items or any(item is not None for item in listed.items)):
        noted("form", "{} list(s) or object(s) of JSON", listed.lists)
        return listed
    items, hedged = prose_items(text, size, axes)
    if items:
        noted("form", "numbers in prose")
        return Reading(items, hedged=hedged)
    if listed is not None:
        noted("form", "lists or objects of JSON, of which none can be read")
        return listed
    raise Unscorable(f"no {'boxes' if size == 4 else 'points'} in {text[:80]!r}", "unparsable")


def _tagged(text: str, tags: Tags, size: Size, axes: Axes) -> Reading:
    items: list[Any] = []
    between: list[str] = []
    position = dropped = 0
    while (start := text.find(tags.open, position)) >= 0:
        before = text[position:start]
        between.append(before)
        end = text.find(tags.close, start)
        if end < 0:
            dropped += 1  # cut off
            break
        inner = text[start + len(tags.open) : end]
        found = [labelled(item, _name(before)) for item in _inside(inner, size, axes)]
        items += found
        position = end + len(tags.close)
    beside = any(character in piece for piece in (*between, text[position:]) for character in "[{")
    hedged = any(OR.search(piece) for piece in between[1:])
    return Reading(items, dropped, 1 + beside, hedged)


def _inside(text: str, size: Size, axes: Axes) -> list[Any]:
    """Items between a pair of tags: JSON, or numbers with or without brackets."""
    if "[" in text or "{" in text:
        listed = listed_items(text, size, axes)
        if listed is not None:
            return [*listed.items, *[None] * listed.dropped]
    return prose_items(text, size, axes).items or [None]


def _name(before: str) -> str:
    """Content of the last name tag before a box, else the words on its line; "" without either."""
    for tags in NAMES:
        start = before.rfind(tags.open)
        if start >= 0:
            return before[start + len(tags.open) :].partition(tags.close)[0].strip()
    return label_in(before)


def _located(text: str, size: Size, axes: Axes) -> list[Any]:
    """Items of location tokens: Florence-2's and others' <loc_12> count in the declared space, PaliGemma's
    <loc0012> in 1024 steps with y first, Kosmos-2's <patch_index_0012> in patches."""
    runs: list[list[re.Match[str]]] = []
    pattern = LOCATION if "<loc" in text else PATCH
    for match in pattern.finditer(text):
        if not runs or text[runs[-1][-1].end() : match.start()].strip(" ,"):
            runs.append([])
        runs[-1].append(match)
    items: list[Any] = []
    labels: list[str] = []
    after: list[str] = []
    end = 0
    for at, run in enumerate(runs):
        found = _of_tokens(run, size, axes)
        items += found
        labels += [_name(text[end : run[0].start()])] * len(found)
        end = run[-1].end()
        stop = runs[at + 1][0].start() if at + 1 < len(runs) else len(text)
        after += [
            label_in(text[end : min(stop, end + 200)].partition(";")[0].strip().partition("\n")[0])
        ] * len(found)
    names = labels if labels and labels[0] else after
    return [labelled(item, name) for item, name in zip(items, names, strict=True)]


def _of_tokens(run: Sequence[re.Match[str]], size: Size, axes: Axes) -> list[Any]:
    if run[0].re is PATCH:
        places = [divmod(int(match[1]), PATCHES) for match in run]
        width, height = axes.width / PATCHES, axes.height / PATCHES
        if len(places) % 2:
            return [None]
        boxes: list[Any] = []
        for (top, left), (bottom, right) in zip(places[::2], places[1::2], strict=True):
            box = Box(left * width, top * height, (right + 1) * width, (bottom + 1) * height)
            boxes += items_of({"bbox": list(box[:4])} if not axes.y_first else box, size, axes)
        return boxes
    numbers = [float(match[2]) for match in run]
    own = all(match[1] == "loc" and len(match[2]) == 4 for match in run)
    if len(numbers) % size and len(numbers) != 4:
        return [None]
    items: list[Any] = []
    step = 4 if (len(numbers) % 4 == 0 and size == 4) or len(numbers) == 4 else size
    for at in range(0, len(numbers), step):
        part = numbers[at : at + step]
        if own:
            part = [value / BINS for value in part]
            keys = ("y1", "x1", "y2", "x2") if step == 4 else ("y", "x")
            sides = (axes.height, axes.width) * 2
            items += items_of(
                {k: v * side for k, v, side in zip(keys, part, sides, strict=False)}, size, axes
            )
        else:
            items += items_of(part, size, axes)
    return items


def _point_tags(text: str, axes: Axes) -> Reading:
    items: list[Any] = []
    position = dropped = 0
    last, hedged = 0, False
    while (start := text.find(POINT, position)) >= 0:
        hedged |= bool(items and OR.search(text[last:start]))
        end = text.find(">", start)
        if end < 0:
            dropped += 1
            break
        position = end + 1
        attributes = text[start + len(POINT) : position].replace(">", " ")
        if attributes.strip(" s"):
            items += _attributes(attributes)
            close = text.find("</point", position)
            following = text.find(POINT, position)
            if close >= 0 and (following < 0 or close < following):
                position = close + 1
            last = position
            continue
        close = text.find("</point", position)
        inner = text[position : close if close >= 0 else len(text)]
        items += _inside(inner, 2, axes)
        position = close + 1 if close >= 0 else len(text)
        last = position
    return Reading(items, dropped, hedged=hedged)


def _attributes(text: str) -> list[Any]:
    """x, y or x1, y1, x2, y2 ... as points in the order of their numbers' first appearance, or Molmo2's
    coords; None for half a point, or one that is given twice."""
    listed = COORDS.search(text)
    if listed is not None:
        return [point for frame in listed[1].split(";") if frame.strip() for point in _coords(frame)]
    sides: dict[str, dict[str, list[str]]] = {}
    for match in ATTRIBUTE.finditer(text):
        sides.setdefault(match[2], {"x": [], "y": []})[match[1]].append(match[3])
    points = [(side["x"], side["y"]) for side in sides.values()]
    return [{"x": x[0], "y": y[0]} if len(x) == len(y) == 1 else None for x, y in points] or [None]


def _coords(frame: str) -> list[Any]:
    """Points of one picture in Molmo2's coords: its index, then an id, x and y of each."""
    numbers = [number(part) for part in frame.replace(",", " ").split()]
    if None in numbers:
        return [None]
    if len(numbers) > 2 and len(numbers) % 3 < 2:
        first = 1 + len(numbers) % 3
        return [{"x": numbers[at], "y": numbers[at + 1]} for at in range(first, len(numbers), 3)]
    return [{"x": numbers[0], "y": numbers[1]}] if len(numbers) == 2 else [None]


# --- samples --------------------------------------------------------------------------------------


def found_boxes(
    sample: Sample, space: Space, *, bare: bool = False, one: Several | None = None
) -> list[Box | None]:
    """Boxes of the response in fractions of the picture; None for one that is unreadable or has no area
    there, and for every one above `Limits.boxes`.

    Args:
        sample: the sample whose response is read.
        space: coordinate space of the response.
        bare: read a response without answer tags.
        one: one box is asked for, and "refuse" wants one list and nothing like another beside it; None where
            every box counts, so alternatives ("A or B") are no answer.

    Raises:
        Unscorable: "unparsable" when the response holds no boxes, not even none, or alternatives; "missing"
            when a size is.
    """
    size = extent(space, sample)  # first: what is missing in the sample is not the response's fault
    axes = Axes(size.width, size.height, space.y_first)
    parsed = read_coordinates(segment(sample.response or "", bare=bare).answer, 4, axes)
    if (parsed.hedged and one in (None, "refuse")) or (parsed.lists > 1 and one == "refuse"):
        raise Unscorable("several lists, or alternatives, where one answer is expected", "unparsable")
    boxes = boxes_of(parsed.items[: limits().boxes], y_first=space.y_first)
    units = [to_unit(box, size.width, size.height) if box else None for box in boxes]
    if heard():
        _note_boxes("found box", boxes, units, axes, len(parsed.items) - len(units) + parsed.dropped)
    return [*units, *[None] * (len(parsed.items) - len(units) + parsed.dropped)]


def _note_boxes(
    name: str, boxes: Sequence[Box | None], units: Sequence[Box | None], axes: Axes, lost: int = 0
) -> None:
    """Note boxes as they were written and in fractions of the picture."""
    noted("space", f"sides of {axes.width:g} x {axes.height:g}" + (", y first" if axes.y_first else ""))
    for at, (box, unit) in enumerate(zip(boxes, units, strict=True), start=1):
        if box is None:
            noted(f"{name} {at}", "cannot be read, and counts as one that was sent")
            continue
        label = f" {box.label!r}" if box.label else ""
        corners = "has no area in the picture" if unit is None else f"is {shown(unit[:4])} of the picture"
        noted(f"{name} {at}", f"{shown(box[:4])}{label} {corners}")
    if lost:
        noted(name, f"{lost} more that are cut off, broken or beyond the limit")


def true_boxes(sample: Sample, space: Space) -> list[Box]:
    """Boxes of the target in fractions of the picture: a list, or one box, in any form that a response may
    have, or the same as text.

    Raises:
        Unscorable: one cannot be read or has no area in the picture, or there are more than `Limits.boxes`,
            which is an error of the data; "missing" when a size is.
    """
    size = extent(space, sample)
    boxes = boxes_of(target_items(sample.target, 4, space, size), y_first=space.y_first)
    broken = sum(box is None for box in boxes)
    if broken:
        raise Unscorable(f"{broken} of {len(boxes)} target boxes cannot be read: {str(sample.target)[:200]}")
    units = [to_unit(box, size.width, size.height) for box in boxes if box is not None]
    if any(box is None for box in units):
        raise Unscorable(f"a target box has no area inside the picture: {str(sample.target)[:200]}")
    if heard():
        _note_boxes("true box", boxes, units, Axes(size.width, size.height, space.y_first))
    return [box for box in units if box is not None]


def target_items(target: Any, size: Size, space: Space, whole: Any) -> list[Any]:
    """Items of a target, by the reader of responses.

    Raises:
        Unscorable: it is text without any, or holds more than `Limits.boxes`.
    """
    axes = Axes(whole.width, whole.height, space.y_first)
    if not isinstance(target, str):
        if hasattr(target, "__len__"):
            bounded(len(target), "target boxes")
        items = items_of(target, size, axes)
    else:
        try:
            reading = read_coordinates(target, size, axes)
        except Unscorable:
            raise Unscorable(f"the target is text in which nothing can be read: {target[:200]!r}") from None
        items = [*reading.items, *[None] * reading.dropped]
    bounded(len(items), "target boxes")
    return items


def bounded(number: int, what: str) -> None:
    """Refuse more than `Limits.boxes` true ones, before anything is computed from them.

    Raises:
        Unscorable: there are more.
    """
    if number > limits().boxes:
        raise Unscorable(
            f"{number} {what}; at most {most('boxes')} are matched: split the picture, or leave some out"
        )

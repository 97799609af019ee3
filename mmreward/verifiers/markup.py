"""Boxes and points in the forms model families write besides JSON: box and point tags, and bare brackets.

`box_items` and `point_items` give the items that `boxes.boxes_of` and the reward `pointing` take;
`found_boxes` and `true_boxes` read a sample's response and target to fractions of the picture. String
searches and splits only, so a megabyte of broken tags costs a linear scan. A text is read in one form: tags
where there are any, else a list, else nothing but numbers in brackets.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import MAX_BOXES, Unscorable
from ..types import Sample
from .boxes import Box, boxes_of, number_of, to_unit
from .lists import Parsed, parse_list
from .response import segment
from .spaces import Space, extent


class Tags(NamedTuple):
    """An opening and a closing tag."""

    open: str
    close: str


BOXES = (
    Tags("<|box_start|>", "<|box_end|>"),  # Qwen2-VL
    Tags("<box>", "</box>"),  # Qwen-VL, InternVL, MiniCPM-V
    Tags("<|begin_of_box|>", "<|end_of_box|>"),  # GLM-4.xV
)
NAMES = (Tags("<|object_ref_start|>", "<|object_ref_end|>"), Tags("<ref>", "</ref>"))
POINT = "<point"
ATTRIBUTE = re.compile(r"\b([xy])(\d{0,4})=[\"']?([-+.\d]{1,20})[\"'\s/]")
BRACKETS = str.maketrans("()[],;", "      ")
MAX_NUMBERS = 65_536


def box_items(text: str, *, only: bool = False) -> Parsed:
    """Read box items for `boxes_of`: "<box>(x1,y1),(x2,y2)</box>" and its relatives, JSON, or
    "(x1,y1),(x2,y2)".

    A name in `<ref>` or `<|object_ref_start|>` before a box is its label.

    Args:
        text: a model's answer.
        only: refuse a text with several lists, and one that mixes tags with other boxes.

    Raises:
        Unscorable: "unparsable" when there are none.
    """
    tags = next((tags for tags in BOXES if tags.open in text), None)
    if tags is not None:
        return _tagged(text, tags, only)
    if "[" in text or "{" in text:
        return parse_list(text, only=only)
    return Parsed(_in_groups(_numbers(text), 4, text), 0)


def point_items(text: str) -> Parsed:
    """Read point items for `pointing.points_of`: `<point x="1" y="2">`, `<points x1= y1= x2= y2=>`, `<point>1
    2</point>`, JSON ("point_2d", "point", "coordinate" or two bare numbers), or "(1, 2)".

    Raises:
        Unscorable: "unparsable" when there are none, or several lists.
    """
    if POINT in text:
        return _point_tags(text)
    if "[" in text or "{" in text:
        parsed = parse_list(text, only=True)
        bare = len(parsed.items) == 2 and not any(isinstance(item, list | dict) for item in parsed.items)
        return Parsed([parsed.items], parsed.dropped) if bare else parsed
    return Parsed(_in_groups(_numbers(text), 2, text), 0)


def _numbers(text: str) -> list[float] | None:
    """Numbers of a text that is nothing but numbers, brackets and commas; None for any other."""
    tokens = text.translate(BRACKETS).split(maxsplit=MAX_NUMBERS)
    numbers = [number_of(token) for token in tokens]
    good = [number for number in numbers if number is not None]
    return good if good and len(good) == len(numbers) else None


def _in_groups(numbers: list[float] | None, size: int, text: str) -> list[Any]:
    if not numbers or len(numbers) % size:
        raise Unscorable(f"no groups of {size} coordinates in {text[:80]!r}", "unparsable")
    return [numbers[at : at + size] for at in range(0, len(numbers), size)]


def _tagged(text: str, tags: Tags, only: bool) -> Parsed:
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
        numbers = _numbers(text[start + len(tags.open) : end])
        label = _name(before)
        if not numbers or len(numbers) % 4:
            items.append(None)
        else:
            groups = _in_groups(numbers, 4, text)
            items += [{"bbox_2d": group, "label": label} for group in groups]
        position = end + len(tags.close)
    if only and any(character in piece for piece in (*between, text[position:]) for character in "[{"):
        raise Unscorable("boxes in tags and others beside them", "unparsable")
    return Parsed(items, dropped)


def _name(before: str) -> str:
    """Content of the last name tag before a box; "" without one."""
    for tags in NAMES:
        start = before.rfind(tags.open)
        if start >= 0:
            return before[start + len(tags.open) :].partition(tags.close)[0].strip()
    return ""


def _point_tags(text: str) -> Parsed:
    items: list[Any] = []
    position = dropped = 0
    while (start := text.find(POINT, position)) >= 0:
        end = text.find(">", start)
        if end < 0:
            dropped += 1
            break
        position = end + 1
        attributes = text[start + len(POINT) : position].replace(">", " ")
        if attributes.strip(" s"):
            items += _attributes(attributes)
            continue
        close = text.find("</point", position)
        inner = text[position : close if close >= 0 else len(text)]
        numbers = _numbers(inner)
        items += _in_groups(numbers, 2, text) if numbers and len(numbers) % 2 == 0 else [None]
        position = close + 1 if close >= 0 else len(text)
    return Parsed(items, dropped)


def _attributes(text: str) -> list[Any]:
    """x, y or x1, y1, x2, y2 ... as points in the order of their numbers' first appearance; None for half a
    point, or one that is given twice."""
    sides: dict[str, dict[str, list[str]]] = {}
    for match in ATTRIBUTE.finditer(text):
        sides.setdefault(match[2], {"x": [], "y": []})[match[1]].append(match[3])
    points = [(side["x"], side["y"]) for side in sides.values()]
    return [{"x": x[0], "y": y[0]} if len(x) == len(y) == 1 else None for x, y in points] or [None]


def found_boxes(sample: Sample, space: Space, *, bare: bool = False, only: bool = False) -> list[Box | None]:
    """Boxes of the response in fractions of the picture; None for one that is unreadable or has no area
    there.

    Args:
        sample: the sample whose response is read.
        space: coordinate space of the response.
        bare: read a response without answer tags.
        only: the answer is one list and nothing like another beside it.

    Raises:
        Unscorable: "unparsable" when the response holds no boxes, not even none; "missing" when a size is.
    """
    size = extent(space, sample)  # first: what is missing in the sample is not the response's fault
    parsed = box_items(segment(sample.response or "", bare=bare).answer, only=only)
    if len(parsed.items) + parsed.dropped > MAX_BOXES:
        raise Unscorable(f"more than {MAX_BOXES} boxes", "unparsable")
    boxes = boxes_of(parsed.items, y_first=space.y_first)
    units = [to_unit(box, size.width, size.height) if box else None for box in boxes]
    return [*units, *[None] * parsed.dropped]


def true_boxes(sample: Sample, space: Space) -> list[Box]:
    """Boxes of the target in fractions of the picture: a list, or one box, or the same as JSON text.

    Raises:
        Unscorable: one cannot be read or has no area in the picture, which is an error of the data.
    """
    target = _decoded(sample.target)
    target = [target] if four_numbers(target) else target
    if isinstance(target, Sequence) and len(target) > MAX_BOXES:
        raise Unscorable(f"the target has {len(target)} boxes; the limit is {MAX_BOXES}")
    boxes = boxes_of(target, y_first=space.y_first)
    broken = sum(box is None for box in boxes)
    if broken:
        raise Unscorable(f"{broken} of {len(boxes)} target boxes cannot be read: {str(sample.target)[:200]}")
    size = extent(space, sample)
    units = [to_unit(box, size.width, size.height) for box in boxes if box is not None]
    if any(box is None for box in units):
        raise Unscorable(f"a target box has no area inside the picture: {str(sample.target)[:200]}")
    return [box for box in units if box is not None]


def _decoded(target: Any) -> Any:
    if not isinstance(target, str):
        return target
    try:
        return json.loads(target)
    except ValueError:
        raise Unscorable(f"the target is text and no JSON: {target[:200]!r}") from None


def four_numbers(value: Any) -> bool:
    """True for the four coordinates of one box, as opposed to four boxes."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) != 4:
        return False
    return all(isinstance(number, int | float) for number in value)

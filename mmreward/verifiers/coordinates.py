"""Coordinates in parsed values: the boxes and points of JSON, tool calls and Python callers.

`items_of` walks a parsed value down to its boxes or points, whatever keys and wrappers it has, tool calls
included; `listed_items` does so for all lists of a text. They give items for `boxes.boxes_of` and the reward
`pointing`. What cannot be read as a box or point is None, which counts as one that was sent. The space is
declared and never guessed: only a percent sign and forms that carry their own grid (`markup`) are brought to
it. Numbers without a list are in `prose`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from .boxes import KEYS, LABELS, Box, four_numbers, number_of
from .lists import MAX_DEPTH, found_lists
from .wording import NOT, OR, label_in

Size = Literal[2, 4]
"""Numbers of one item: 2 of a point, 4 of a box."""


class Axes(NamedTuple):
    """Extent of the picture in the space of a response, and the order of its axes."""

    width: float = 1000.0
    height: float = 1000.0
    y_first: bool = False


BOX_KEYS = tuple(
    dict.fromkeys(
        "".join(filter(str.isalnum, key.lower()))
        for key in (
            *(*KEYS, "box_2d", "bboxes_2d", "boxes_2d", "bboxes", "boxes", "bounding_box", "bounding_boxes"),
            *("boundingbox2d", "bndbox", "box2d", "xyxy", "bbox_xyxy", "rect", "rectangle", "region"),
            *("coordinates", "coordinate", "coords", "coord", "location", "start_box", "loc", "det"),
        )
    )
)
POINT_KEYS = (
    *("point2d", "point", "points2d", "points", "coordinate", "coordinates", "coords", "coord"),
    *("position", "location", "pos", "xy", "center", "centre", "centerpoint", "clickpoint", "click"),
    *("startbox", "startpoint", "startcoordinate", "target", "loc"),
)
LABEL_KEYS = (
    *(*LABELS, "text_content", "caption", "category_name", "class_name", "description", "object", "text"),
    *("object_name", "phrase", "ref", "type"),
)
NEUTRAL = """
objects object detections detection detected detectedobjects results result boxes bboxes boundingboxes
annotations annotation items item predictions prediction output outputs answer answers arguments args action
actions actioninputs actionargs params parameters param input inputs toolcall toolcalls function data response
instances regions targets elements points point list shapes content
"""
LABELS_KEYS = ("labels", "classes", "names", "categories", "classnames")
WRAPPERS = frozenset(NEUTRAL.split())
"""Keys that name no object."""
SIDES: tuple[tuple[str, str, str, str], ...] = (
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("minx", "miny", "maxx", "maxy"),
    ("left", "top", "right", "bottom"),
    ("xleft", "ytop", "xright", "ybottom"),
    ("xtopleft", "ytopleft", "xbottomright", "ybottomright"),
)
EXTENTS: tuple[tuple[str, str, str, str], ...] = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("left", "top", "width", "height"),
    ("xmin", "ymin", "width", "height"),
)
CORNERS = (
    ("topleft", "bottomright"),
    ("lefttop", "rightbottom"),
    ("start", "end"),
    ("upperleft", "lowerright"),
)


TAG = re.compile(r"</?\|?[a-z_]{1,20}\|?>")
BRACKETS = str.maketrans("()[],;", "      ")
MAX_NUMBERS = 65_536


class _Percent(float):
    """Number with a percent sign: a share of the picture's side, whatever the space."""


def number(value: Any) -> float | None:
    """Read one coordinate: a number, or its text with a percent sign or "px"; None for anything else."""
    if not isinstance(value, str):
        return number_of(value)
    text = value.strip().removeprefix("+")
    if text.endswith("%"):
        share = number_of(text[:-1])
        return None if share is None else _Percent(share)
    return number_of(text.removesuffix("px"))


def items_of(value: Any, size: Size, axes: Axes, label: str = "", depth: int = 0) -> list[Any]:
    """Items of a parsed value: boxes as {"bbox_2d", "label"} or `Box`, points as [x, y] or {"x", "y"}, and
    None for what is neither.

    Args:
        value: what JSON or a target holds.
        size: 4 for boxes, 2 for points; where points are asked for a box is its centre.
        axes: the response's space.
        label: name that the surroundings gave.
        depth: depth of nesting so far.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()  # arrays
    if isinstance(value, Box):
        return [value]
    if depth > 2 * MAX_DEPTH:
        return [None]
    if isinstance(value, Mapping):
        return _of_mapping(value, size, axes, label, depth)
    if isinstance(value, str):
        return _of_text(value, size, axes, label)
    if isinstance(value, Sequence):
        return _of_sequence(value, size, axes, label, depth)
    return [None]


def _of_text(text: str, size: Size, axes: Axes, label: str) -> list[Any]:
    """Items of a text inside JSON, which is numbers with brackets or tags and nothing else."""
    parts = TAG.sub(" ", text).translate(BRACKETS).split(maxsplit=MAX_NUMBERS)
    numbers = [number(part) for part in parts]
    if not numbers or None in numbers:
        return [None]
    step = len(numbers) if len(numbers) <= 4 else size
    if len(numbers) % step:
        return [None]
    known = [x for x in numbers if x is not None]
    return [flat_item(known[at : at + step], size, axes, label) for at in range(0, len(known), step)]


def _usual(value: Mapping[Any, Any]) -> bool:
    """True for {"bbox_2d": [four numbers], "label": "name", ...}."""
    numbers = value.get("bbox_2d")
    if type(numbers) is not list or len(numbers) != 4 or not value.get("label"):
        return False
    return type(value["label"]) is str and all(type(x) is int or type(x) is float for x in numbers)


def _word(value: Any) -> str:
    """Name in a value: a text, a number, or the only one of a list."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return str(value) if isinstance(value, str | int) else ""


def plain_key(key: Any) -> str:
    return "".join(filter(str.isalnum, str(key).lower()))


def _of_mapping(value: Mapping[Any, Any], size: Size, axes: Axes, label: str, depth: int) -> list[Any]:
    if not value:
        return []
    if size == 4 and _usual(value):  # what most are, and a response may hold hundreds
        return [{"bbox_2d": value["bbox_2d"], "label": value["label"]}]
    keys = {plain_key(key): inner for key, inner in value.items() if inner is not None}
    label = next((name for name in (_word(keys.get(plain_key(key))) for key in LABEL_KEYS) if name), label)
    named = named_item(keys, size, label, axes)
    if named is not None:
        return [named]
    known = BOX_KEYS if size == 4 else (*POINT_KEYS, *BOX_KEYS)
    for key in known:
        if isinstance(keys.get(key), str | Sequence | Mapping) or hasattr(keys.get(key), "tolist"):
            inner = keys[key]
            swapped = axes._replace(y_first=True) if key == "box2d" else axes
            if key.endswith("s") and not isinstance(inner, str | Mapping) and not len(inner):
                return []  # {"boxes": []}
            found = items_of(inner, size, swapped, label, depth + 1)
            names: list[Any] = next(
                (keys[name] for name in LABELS_KEYS if isinstance(keys.get(name), list)), []
            )
            if size == 4 and len(names) == len(found) > 0:  # {"labels": [...], "boxes": [...]}
                found = [labelled(item, _word(name)) for item, name in zip(found, names, strict=True)]
            if key == "box2d" and not axes.y_first:
                found = [_turned(item) for item in found]
            if not isinstance(inner, str) or any(found):
                return found or [None]
    return _below(value, size, axes, label, depth)


def _below(value: Mapping[Any, Any], size: Size, axes: Axes, label: str, depth: int) -> list[Any]:
    """Items of the containers in an object that is none itself: {"objects": [...]}, {"cat": [[...]]}, or a
    tool's call with its arguments."""
    read: list[list[Any]] = []
    for key, inner in value.items():
        if isinstance(inner, str) and inner.lstrip().startswith(("{", "[")):  # a call's arguments as text
            inner = [found.value for found in found_lists(inner)]
        if isinstance(inner, str) or not isinstance(inner, Mapping | Sequence):
            continue
        name = label if plain_key(key) in WRAPPERS else label or str(key)
        read.append(items_of(inner, size, axes, name, depth + 1))
    good = [items for items in read if any(item is not None for item in items)]
    if good or (read and not any(read)):  # {"objects": []} has none, and {"sizes": ["big"]} cannot be read
        return [item for items in good for item in items]
    return (
        []
        if all(inner is None for inner in value.values()) and plain_key(next(iter(value))) in WRAPPERS
        else [None]
    )


def _of_sequence(value: Sequence[Any], size: Size, axes: Axes, label: str, depth: int) -> list[Any]:
    numbers = [
        None if isinstance(part, Sequence | Mapping) and not isinstance(part, str) else number(part)
        for part in value[:5]
    ]
    if len(value) in (2, 4) and None not in numbers:
        return [flat_item([x for x in numbers if x is not None], size, axes, label)]
    if size == 4 and _two_pairs(value):
        return [flat_item([number(x) or 0.0 for pair in value for x in pair], size, axes, label)]
    words = [part for part in value[:6] if isinstance(part, str) and number(part) is None]
    rest = [part for part in value if not (isinstance(part, str) and number(part) is None)]
    if size == 4 and len(words) == 1 and rest and len(value) <= 5:  # ["cat", [1, 2, 3, 4]]
        inner = rest[0] if len(rest) == 1 else rest
        return items_of(inner, size, axes, words[0], depth + 1) if not isinstance(inner, str) else [None]
    if value and not any(
        isinstance(part, str | Sequence | Mapping) or hasattr(part, "tolist") for part in value
    ):
        return [None]  # numbers that are no box
    return [item for part in value for item in items_of(part, size, axes, label, depth + 1)]


def _two_pairs(value: Sequence[Any]) -> bool:
    """True for the two corners of one box."""
    return len(value) == 2 and all(
        isinstance(pair, Sequence)
        and not isinstance(pair, str)
        and len(pair) == 2
        and all(not isinstance(x, Sequence | Mapping) or isinstance(x, str) for x in pair)
        and None not in map(number, pair)
        for pair in value
    )


def named_item(keys: Mapping[str, Any], size: Size, label: str, axes: Axes) -> Any:
    """Box or point whose numbers stand under the names of their axes; None where they do not."""
    if size == 2 and {"x", "y"} <= keys.keys() and not {"w", "h"} <= keys.keys():
        x, y = number(keys["x"]), number(keys["y"])
        if isinstance(keys["x"], list):
            return None
        return None if x is None or y is None else {"x": _share(x, axes.width), "y": _share(y, axes.height)}
    for names in (*SIDES, *EXTENTS):
        if not keys.keys() >= set(names):
            continue
        a, b, c, d = (number(keys[name]) for name in names)
        if a is None or b is None or c is None or d is None:
            return None
        x1, x2 = (_share(x, axes.width) for x in (a, c))
        y1, y2 = (_share(y, axes.height) for y in (b, d))
        if names in EXTENTS:
            x2, y2 = x1 + x2, y1 + y2
        box = Box(x1, y1, x2, y2, label)
        return box if size == 4 else _centre(box)
    for first, last in CORNERS:
        if first in keys and last in keys and _two_pairs((keys[first], keys[last])):
            return flat_item([number(x) or 0.0 for x in (*keys[first], *keys[last])], size, axes, label)
    return None


def _share(value: float, side: float) -> float:
    return value / 100 * side if isinstance(value, _Percent) else value


def flat_item(numbers: Sequence[float], size: Size, axes: Axes, label: str) -> Any:
    """Item of numbers in the order of the axes; a box is the click at its centre (ScreenSpot-Pro's rule)."""
    sides = (axes.height, axes.width) if axes.y_first else (axes.width, axes.height)
    values = [_share(x, sides[at % 2]) for at, x in enumerate(numbers)]
    if len(values) == size:
        return {"bbox_2d": values, "label": label} if size == 4 else values
    if size == 2 and len(values) == 4 and values[0] <= values[2] and values[1] <= values[3]:
        return [(values[0] + values[2]) / 2, (values[1] + values[3]) / 2]
    return None


def _centre(box: Box) -> Any:
    if box.x1 > box.x2 or box.y1 > box.y2:
        return None
    return {"x": (box.x1 + box.x2) / 2, "y": (box.y1 + box.y2) / 2}


def _turned(item: Any) -> Any:
    """Item of Gemini's y-first key, with x first."""
    if isinstance(item, list):
        return item[::-1]
    if isinstance(item, dict) and four_numbers(item.get("bbox_2d")):
        a, b, c, d = item["bbox_2d"]
        return {**item, "bbox_2d": [b, a, d, c]}
    return item


# --- lists ----------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """Items of a text.

    Args:
        items: of `coordinates.items_of`.
        dropped: the number of items that were cut off or broken.
        lists: the number of separate lists they stand in.
        hedged: alternatives are offered ("A or B"), or one is denied.
    """

    items: list[Any]
    dropped: int = 0
    lists: int = 1
    hedged: bool = False


def listed_items(text: str, size: Size, axes: Axes) -> Reading | None:
    """Items of a text's lists and objects together; lists of numbers or words beside them are passed over."""
    items: list[Any] = []
    end = counted = dropped = lost = 0
    hedged = empty = False
    broken: list[Any] = []
    for found in found_lists(text):
        parts = items_of(found.value, size, axes)
        before = text[end : found.start]
        if not any(part is not None for part in parts) and not _holds_objects(found.value):
            empty |= not parts
            broken += parts
            lost += found.dropped
            continue
        if size == 4 and parts:
            name = label_in(before)
            parts = [labelled(part, name) for part in parts]
        hedged |= bool((counted and OR.search(before)) or NOT.search(before[-40:].rstrip(" ([{<")))
        items += parts
        counted += 1
        dropped += found.dropped
        end = found.end
    hedged |= bool(counted and OR.match(text[end:].lstrip(" ,.;)]}'\"`")))
    if counted:
        return Reading(items, dropped, counted, hedged)
    if empty:
        return Reading([], lost)
    return Reading(broken, lost) if broken else None


def _holds_objects(value: Any) -> bool:
    return bool(value) and (isinstance(value, dict) or any(isinstance(part, dict) for part in value))


def labelled(item: Any, name: str) -> Any:
    if isinstance(item, dict) and not item.get("label"):
        return {**item, "label": name}
    return item._replace(label=name) if isinstance(item, Box) and not item.label else item

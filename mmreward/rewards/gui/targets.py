"""Truth of a GUI row: the regions that a click may hit, or that nothing is to be clicked; and the actions
that are right.

A unit that is declared wrongly is an error of the data wherever that can be known: coordinates beyond the
picture, and boxes that lie within one pixel, are refused and never scaled.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import Unscorable
from ...limits import limits, most
from ...types import Sample
from ...verifiers.action_names import POINTED
from ...verifiers.actions import Action, Point, View, action_of, read_actions
from ...verifiers.boxes import Box, boxes_of, number_of, to_unit
from ...verifiers.coordinates import Axes, items_of
from ...verifiers.spaces import Size, Space, extent
from ..rules.pointing import Region, regions_of

REFUSALS = ("refusal", "negative", "none", "not_found")
"""Kinds of a target on which nothing is to be clicked."""
COARSE = 100
"""Sides of a space, in its unit, from which a box within one unit is no box of that space."""
PIXEL = 1.0
BEYOND = 1.05
"""Share of a side that a target's box may reach to: labels are drawn by hand, and windows stick out."""


class Target(NamedTuple):
    """What a click may hit.

    Args:
        regions: any of them will do.
        boxes: those of the regions that are boxes, in fractions of the picture.
        refusal: nothing on the picture is asked for; the right answer says so.
    """

    regions: list[Region]
    boxes: list[Box]
    refusal: bool = False


class Node(NamedTuple):
    """An element of the screen: its box in fractions of the picture, and its words."""

    box: Box
    text: str


class Gold(NamedTuple):
    """Right actions of a step, any of which will do.

    Args:
        actions: canonical ones.
        boxes: of the element that is meant, in fractions of the picture.
        nodes: all elements of the screen, for rules that look at them.
    """

    actions: tuple[Action, ...]
    boxes: tuple[Box, ...]
    nodes: tuple[Node, ...]


def target_of(sample: Sample, space: Space, *, radius: float) -> Target:
    """Read the target of a click: a region or a list of them as for `pointing`, any of which is right;
    {"kind": "bbox" | "polygon" | "refusal", "box": [...]}; or an empty list, which is a refusal.

    Raises:
        Unscorable: it cannot be read in the declared space.
    """
    given = _loaded(sample.target)
    if isinstance(given, Mapping):
        kind = str(given.get("kind", given.get("box_type", "")))
        if kind in REFUSALS or given.get("refusal") is True:
            return Target([], [], refusal=True)
        if kind == "polygon" and given.get("polygon") is None:
            given = {"polygon": _pairs(given.get("box") or given.get("box_coordinates"))}
    if isinstance(given, list) and not given:
        return Target([], [], refusal=True)
    size = extent(space, sample)
    boxes = unit_boxes(given, space, size)  # first: it knows units that cannot be
    try:
        regions = regions_of(given, size, radius=radius, y_first=space.y_first)
    except Unscorable as failure:
        raise Unscorable(f"{failure} (read in a space of {size.width:g} x {size.height:g})") from None
    return Target(regions, boxes)


def _loaded(target: Any) -> Any:
    if isinstance(target, str):
        try:
            return json.loads(target)
        except ValueError:
            raise Unscorable(f"the target {target[:80]!r} is text and no JSON") from None
    return target


def _pairs(numbers: Any) -> Any:
    """Corners [[x, y], ...] of a polygon that is written as a flat list."""
    if isinstance(numbers, list) and numbers and all(number_of(x) is not None for x in numbers):
        return [list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=False)]
    return numbers


def unit_boxes(given: Any, space: Space, size: Size) -> list[Box]:
    """Boxes in a target, in fractions of the picture; what is no box is left out.

    Raises:
        Unscorable: one lies within one pixel, so that it is in fractions.
    """
    axes = Axes(size.width, size.height, space.y_first)
    items = given if isinstance(given, list) and not _four(given) else [given]
    if len(items) > limits().boxes:
        raise Unscorable(f"{len(items)} boxes; a target has {most('boxes')} at most")
    boxes = []
    for item in items:
        if isinstance(item, Mapping) and (item.get("polygon") is not None or item.get("mask") is not None):
            continue
        for box in boxes_of(items_of(item, 4, axes), y_first=space.y_first):
            if box and max(box.x2 / size.width, box.y2 / size.height) > BEYOND:
                raise Unscorable(
                    f"the target {str(item)[:80]} reaches beyond a picture of {size.width:g} x "
                    f"{size.height:g}: declare its target_space"
                )
            unit = to_unit(box, size.width, size.height) if box else None
            if unit is None:
                continue
            if min(size) >= COARSE and unit.x2 * size.width <= PIXEL and unit.y2 * size.height <= PIXEL:
                raise Unscorable(
                    f"the target {str(item)[:80]} lies within one unit of a picture of {size.width:g} x "
                    f"{size.height:g}: are these fractions (target_space: norm_1)?"
                )
            boxes.append(unit)
    return boxes


def _four(value: Any) -> bool:
    return len(value) in (2, 4) and all(number_of(x) is not None for x in value)


def view_of(space: Space, sample: Sample, swipe: Any = "finger") -> View:
    """View of a sample's picture in a space, with the picture's shape where it is known."""
    size = extent(space, sample)
    shape = size if space.unit != "fraction" else known_size(sample)
    aspect = shape.height / shape.width if shape else 1.0
    return View(Axes(size.width, size.height, space.y_first), aspect, swipe)


def known_size(sample: Sample) -> Size | None:
    """Height and width of a sample's picture in pixels, or None where neither `meta` nor a picture says."""
    if sample.meta.get("size") is None and sample.image is None:
        return None
    return extent(Space(unit="pixel"), sample)


ANY = ("any", "any_of", "alternatives")
BOXES = ("boxes", "bbox", "sam2_bbox", "gt_bbox", "candidate_boxes")


def gold_of(target: Any, space: Space, sample: Sample, swipe: Any = "finger") -> Gold:
    """Read the right action of a step: an action as JSON or in words, or several of which any will do (a
    list, or {"any": [...]}); or {"action": that, "boxes": [[x1, y1, x2, y2]], "nodes": [{"box", "text"}]}.

    Raises:
        Unscorable: it cannot be read, which is an error of the data.
    """
    view, size = view_of(space, sample, swipe), extent(space, sample)
    target = _json(target)
    boxes: list[Box] = []
    nodes: tuple[Node, ...] = ()
    given = target
    if isinstance(target, Mapping):
        for key in BOXES:
            if target.get(key) is not None:
                boxes += unit_boxes(target[key], space, size)
        nodes = tuple(_node(node, space, size) for node in (target.get("nodes") or ())[: limits().boxes])
        given = next((target[key] for key in ANY if target.get(key) is not None), target)
        inner = target.get("action")
        if given is target and isinstance(inner, Mapping | list | tuple):
            given = inner
        elif given is target and isinstance(inner, str) and set(target) <= {"action", "nodes", *BOXES}:
            given = inner if "(" in inner or " " in inner.strip() else target
    given = list(given) if isinstance(given, list | tuple) else [given]
    if not given or len(given) > limits().items:
        raise Unscorable(f"a step has 1 to {most('items')} right actions, not {len(given)}")
    actions = tuple(_gold_action(one, view, boxes) for one in given)
    boxes += [action.box for action in actions if action.box is not None]
    return Gold(actions, tuple(dict.fromkeys(boxes)), nodes)


def _json(target: Any) -> Any:
    if isinstance(target, str) and target.lstrip()[:1] in ("{", "["):
        return _loaded(target)
    return target


def _gold_action(given: Any, view: View, boxes: Sequence[Box]) -> Action:
    try:
        if isinstance(given, str):
            actions = read_actions(given, view)
            if len(actions) != 1:
                raise Unscorable(f"{len(actions)} actions where one is right")
            return _on_picture(actions[0])
        if not isinstance(given, Mapping):
            raise Unscorable(f"{str(given)[:80]} is no action")
        if boxes and not any(key in given for key in ("point", "coordinate", "x", *BOXES[1:])):
            given = {**given, "point": _raw(centre(boxes[0]), view)}
        return _on_picture(action_of(given, view))
    except Unscorable as failure:
        raise Unscorable(f"the right action cannot be read: {failure}") from None


def _on_picture(action: Action) -> Action:
    if action.type in POINTED and action.point is None and action.type != "drag":
        raise Unscorable(f"a {action.type} without a place: give its point, or boxes")
    if action.type in POINTED and action.point is not None and not action.point.inside:
        raise Unscorable("its place is beside the picture: declare its target_space")
    return action


def _raw(point: Point, view: View) -> list[float]:
    pair = [point.x * view.axes.width, point.y * view.axes.height]
    return pair[::-1] if view.axes.y_first else pair


def centre(box: Box) -> Point:
    return Point((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2)


def _node(given: Any, space: Space, size: Size) -> Node:
    boxes = unit_boxes(given, space, size) if isinstance(given, Mapping | list) else []
    if len(boxes) != 1:
        raise Unscorable(f"an element of the screen has one box: {str(given)[:80]}")
    words = given.get("text", given.get("name", "")) if isinstance(given, Mapping) else ""
    return Node(boxes[0], str(words or ""))

"""Clicks: one point on the element that is asked for, or the answer that there is none."""

from typing import Any, Literal, NamedTuple

from ...errors import Unscorable
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.actions import Action, Point, point_of, read_actions
from ...verifiers.boxes import Box, number_of
from ...verifiers.coordinates import Axes
from ...verifiers.markup import point_items
from ...verifiers.response import Several, Verdict, expect_one, read_aside, segment, verified
from ...verifiers.spaces import Named, Space, extent, space_of
from ...verifiers.wording import plain, says_nothing
from ..rules.pointing import EDGE, Coordinates
from .targets import Target, target_of, view_of

PARTS = ("hit", "refused", "off_picture", "found")
CLICKS = frozenset({"click", "double_click", "right_click", "long_press", "move"})
DONE = frozenset({"scroll", "drag", "type", "key"})
"""Types that do something else. Of the rest, a name such as "Back" may be an element's, beside its point."""
Edges = Literal["inclusive", "strict", "half_open"]


class Clicked(NamedTuple):
    """What a response clicks: points in fractions of the picture, None for one that cannot be read.

    Args:
        points: in their order.
        refused: it says that there is nothing to click, in words, with an empty list, by an action that says
            so, or with negative coordinates alone.
    """

    points: list[Point | None]
    refused: bool


MAX_ANSWER = 50_000
"""Characters of an answer that names places."""


def answer_of(response: str) -> str:
    """Answer of a response.

    Raises:
        Unscorable: "unparsable" as `response.segment`, and where it is longer than places need.
    """
    answer = segment(response, bare=True).answer
    if len(answer) > MAX_ANSWER:
        raise Unscorable(f"the answer has {len(answer)} characters, more than {MAX_ANSWER}", "unparsable")
    return answer


def clicked(response: str, space: Space, sample: Sample) -> Clicked:
    """Read the points of a response: coordinates in any form that `pointing` reads, or an action.

    Raises:
        Unscorable: "unparsable" when it holds neither a point nor a refusal.
    """
    answer = answer_of(response)
    if says_nothing(plain(answer)):
        return Clicked([], refused=True)
    size = extent(space, sample)
    axes = Axes(size.width, size.height, space.y_first)
    actions = _actions(response, space, sample)
    if actions and all(action.type in CLICKS or action.status == "infeasible" for action in actions):
        points = [action.point for action in actions if action.status != "infeasible"]
        return Clicked(points, refused=not points)
    if any(action.type in DONE for action in actions):
        raise Unscorable("an action that is no click", "unparsable")
    parsed = point_items(answer, axes)
    found: list[Point | None] = [point_of(item, axes) for item in parsed.items]
    found += [None] * parsed.dropped
    negative = bool(found) and all(point is not None and point.x < 0 and point.y < 0 for point in found)
    return Clicked([] if negative else found, refused=negative or not found)


def _actions(response: str, space: Space, sample: Sample) -> list[Action]:
    """Actions of a response; none where it gives coordinates alone."""
    try:
        return read_actions(response, view_of(space, sample))
    except Unscorable as failure:
        if failure.status != "unparsable":
            raise
        return []


def within(point: Point, box: Box, edges: Edges = "inclusive") -> bool:
    """True for a point in a box: edges in, out, or (half open) left and top in, right and bottom out."""
    low = -EDGE if edges in ("inclusive", "half_open") else EDGE
    high = -EDGE if edges == "inclusive" else EDGE
    return (
        point.x - box.x1 >= low
        and point.y - box.y1 >= low
        and box.x2 - point.x >= high
        and box.y2 - point.y >= high
    )


def hits(point: Point, target: Target, edges: Edges = "inclusive") -> bool:
    """True for a point in the picture and in one of the target's regions; the edges of polygons and masks
    are in."""
    if not point.inside:
        return False
    if edges != "inclusive" and len(target.boxes) == len(target.regions):
        return any(within(point, box, edges) for box in target.boxes)
    place: Coordinates = _row(point)
    return any(region.distances(place, hits=True)[0] == 0 for region in target.regions)


def _row(point: Point) -> Coordinates:
    import numpy as np

    return np.array([point], dtype=np.float64)


@reward(
    "click",
    needs=("response", "target"),
    optional=("image",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2401.10935",
    example={
        "response": '<answer>{"action": "click", "coordinate": [250, 260]}</answer>',
        "target": {"bbox_2d": [100, 100, 400, 400]},
    },
)
def click(
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
    several: Several = "refuse",
    edges: Edges = "inclusive",
    radius: float = 0.05,
) -> Any:
    """Click of a GUI agent on the element that is asked for: 1 for a hit, else 0.

    The target is a box, a polygon, a mask or a point, or a list of them, any of which is right (see
    `pointing`); `{"kind": "refusal"}` or an empty list where the element is not on the picture, and then the
    answer must say so: "None", [], `terminate(status='infeasible')`, or negative coordinates. An answer that
    cannot be read is no refusal. Of a box the centre is clicked. Several points are worth 0 unless the first
    or the last is declared to count.

    A point beside the picture hits nothing and counts in `off_picture`: many of them say that the space is
    declared wrongly, and nothing is rescaled. A target whose numbers cannot be of its space is an error.

    Args:
        space: of the response's coordinates, by model family: "pixel", "norm_1", "norm_1000", "qwen2.5-vl",
            "qwen3-vl", "ui-tars", "ui-tars-1.5", "claude" and more, see `verifiers.spaces`.
        target_space: of `sample.target`.
        several: "refuse", "first" or "last".
        edges: of a box: "inclusive", as ScreenSpot counts; "strict", as GUI-R1 and BTL-UI train; or
            "half_open" (left and top in).
        radius: how near a point must come to a target that is a point, in fractions of the picture's sides.

    Raises:
        ValueError: radius outside (0, 1].
    """
    if not 0 < radius <= 1:
        raise ValueError(f"radius {radius} lies in (0, 1]")
    response_space, truth_space = space_of(space), space_of(target_space)

    async def score(sample: Sample) -> Score:
        target = await read_aside(lambda one: target_of(one, truth_space, radius=radius), sample)
        noted("target", "nothing is to be clicked" if target.refusal else f"{len(target.regions)} regions")
        extent(response_space, sample)  # what it lacks is not the response's fault

        def check() -> Verdict:
            found = clicked(sample.response or "", response_space, sample)
            if found.refused or target.refusal:
                value = float(found.refused and target.refusal)
                off = sum(point is not None and not point.inside for point in found.points)
                parts = {"hit": value, "refused": float(found.refused), "off_picture": float(off)}
                return Verdict(value, {**parts, "found": float(len(found.points))})
            point = expect_one(found.points, several, "point")
            if point is None:
                raise Unscorable("the point cannot be read", "unparsable")
            value = float(hits(point, target, edges))
            noted("click", "{} of the picture: {}", tuple(point), "a hit" if value else "no hit")
            parts = {"hit": value, "refused": 0.0, "off_picture": float(not point.inside)}
            return Verdict(
                value, {**parts, "found": float(len(found.points))}, off_note(point, response_space, sample)
            )

        return verified(check, PARTS)

    return score


def off_note(point: Point, space: Space, sample: Sample) -> str:
    """Words about a point that cannot be of its space: beside the picture, or within one of its pixels."""
    size = extent(space, sample)
    x, y = point.x * size.width, point.y * size.height
    if not point.inside:
        return (
            f"({x:g}, {y:g}) lies beside a picture of {size.width:g} x {size.height:g}: "
            "is the space the model's?"
        )
    if min(size) >= 100 and x <= 1 and y <= 1 and not (number_of(x) in (0, 1) and number_of(y) in (0, 1)):
        return f"({x:g}, {y:g}) looks like fractions in a space of {size.width:g} x {size.height:g}"
    return ""

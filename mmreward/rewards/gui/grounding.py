"""Training rewards of GUI grounding by name: one box or point against the box of the element.

GUI-G2, GUI-G1, SE-GUI, UI-AGILE, InfiGUI-R1 and POINTS-GUI-G, with their formulas and weights; `aer` is that
of InfiGUI-G1, for answers of several points in the order of belief. All are bounded, grow towards the centre
or the box, and are 0 for boxes without area and for what is beside the picture. Nothing is evaluated as code,
and a format is worth something only where there is an answer to read.

Not kept: GUI-G2 adds 1e-8 under a root, which makes a perfect box of fractions worth up to 400; it is
computed by logarithms here. GUI-G1's IoU takes a pixel off each side. SE-GUI's distance is worth 0.8 at half
the picture's diagonal, which is kept: that is its formula.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

from ...errors import Unscorable
from ...limits import limits
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.actions import Point
from ...verifiers.boxes import Box, boxes_of, iou
from ...verifiers.coordinates import Axes
from ...verifiers.markup import box_items
from ...verifiers.response import Verdict, expect_one, read_aside, segment, verified
from ...verifiers.spaces import Named, Space, extent, space_of
from .click import answer_of, clicked, within
from .targets import centre, target_of

Parts = dict[str, float]
ALPHA = 0.5


class Answer(NamedTuple):
    """What a response points to.

    Args:
        point: of the click; the centre where a box was given.
        box: in fractions of the picture, None where a point was given.
        text: the whole response.
        thought: reasoning in it.
    """

    point: Point
    box: Box | None
    text: str
    thought: str


def gaussian_point(point: Point, true: Box) -> float:
    """GUI-G2: exp(-((dx / sx)^2 + (dy / sy)^2) / 2) from the centre, s half of the sides; 0.607 in the middle
    of an edge."""
    middle = centre(true)
    x = (point.x - middle.x) / (ALPHA * (true.x2 - true.x1))
    y = (point.y - middle.y) / (ALPHA * (true.y2 - true.y1))
    return math.exp(-(x * x + y * y) / 2)


def gaussian_overlap(found: Box, true: Box) -> float:
    """GUI-G2: Bhattacharyya coefficient of two Gaussians with half the sides as deviations, in (0, 1]."""
    log = 0.0
    for low, high in (("x1", "x2"), ("y1", "y2")):
        a, b = (ALPHA * (getattr(box, high) - getattr(box, low)) for box in (found, true))
        if a <= 0 or b <= 0:
            return 0.0
        away = sum(getattr(found, side) - getattr(true, side) for side in (low, high)) / 2
        mean = (a * a + b * b) / 2
        log -= away * away / mean / 8 + math.log(mean / (a * b)) / 2
    return math.exp(log)


def _gui_g2(answer: Answer, true: Box) -> Parts:
    parts = {"point": gaussian_point(answer.point, true)}
    parts["coverage"] = gaussian_overlap(answer.box, true) if answer.box else 0.0
    return {**parts, "format": float(bool(FOUR.fullmatch(answer.text)))}


def _gui_g1(answer: Answer, true: Box) -> Parts:
    if answer.box is None:
        return {"hit": float(within(answer.point, true)), "iou": 0.0, "size": 0.0}
    sides = [1 - abs(a - b) for a, b in zip(answer.box[:4], true[:4], strict=True)]
    size = 4 / sum(1 / side for side in sides) if min(sides) > 0 else 0.0
    hit = float(within(answer.point, true))
    return {"hit": hit, "iou": 0.25 * iou(answer.box, true), "size": 0.125 * size}


def _se_gui(answer: Answer, true: Box) -> Parts:
    middle = centre(true)
    farthest = math.hypot(max(middle.x, 1 - middle.x), max(middle.y, 1 - middle.y))
    away = math.hypot(answer.point.x - middle.x, answer.point.y - middle.y)
    dense = 1 - (away / farthest) ** 2 if answer.point.inside and away <= 1 else 0.0
    call = answer.text.partition("<tool_call>")[2].partition("</tool_call>")
    called = call[1] and PAIR.search(call[0], max(0, call[0].find("{")), call[0].rfind("}") + 1)
    return {"hit": float(within(answer.point, true)), "dense": max(0.0, dense), "format": float(bool(called))}


def _ui_agile(answer: Answer, true: Box) -> Parts:
    if answer.box is not None:
        fit = 2 * iou(answer.box, true)
    elif within(answer.point, true):
        middle = centre(true)
        x = abs(answer.point.x - middle.x) / ((true.x2 - true.x1) / 2)
        y = abs(answer.point.y - middle.y) / ((true.y2 - true.y1) / 2)
        fit = 1 + math.exp(-4 * max(x, y) ** 2)
    else:
        fit = 0.0
    length = len(answer.thought)
    thinks = math.exp(-((length - IDEAL) ** 2) / (2 * (IDEAL / 2) ** 2)) if fit > 0 and length else 0.0
    return {"fit": fit, "length": thinks, "format": float(bool(FORM.fullmatch(answer.text)))}


def _infigui_r1(answer: Answer, true: Box) -> Parts:
    if answer.box is None:
        return {"fit": float(within(answer.point, true))}
    return {"fit": min(1.0, iou(answer.box, true) / FULL)}


def _points(answer: Answer, true: Box) -> Parts:
    return {"hit": float(within(answer.point, true))}


FOUR = re.compile(r"\s{0,64}\[\s{0,9}\d{1,9}(?:\s{0,9},\s{0,9}\d{1,9}){3}\s{0,9}\]\s{0,64}")
PAIR = re.compile(r"\[\d{1,9},\s{0,9}\d{1,9}\]")
FORM = re.compile(r"<think>(?:(?!</think>).)*</think>\s*<answer>(?:(?!</answer>).)*</answer>", re.DOTALL)
IDEAL = 150
"""Characters of UI-AGILE's ideal thinking."""
FULL = 0.5
"""IoU from which InfiGUI-R1 pays a box in full."""
PROTOCOLS: Mapping[str, tuple[Callable[[Answer, Box], Parts], tuple[str, ...]]] = {
    "gui_g2": (_gui_g2, ("point", "coverage", "format")),
    "gui_g1": (_gui_g1, ("hit", "iou", "size")),
    "se_gui": (_se_gui, ("hit", "dense", "format")),
    "ui_agile": (_ui_agile, ("fit", "length", "format")),
    "infigui_r1": (_infigui_r1, ("fit",)),
    "points_gui_g": (_points, ("hit",)),
}
"""Name -> formula and the parts whose sum it is."""
RIGHT = {
    "gui_g2": 2.0,
    "gui_g1": 1.375,
    "se_gui": 2.0,
    "ui_agile": 2.0,
    "infigui_r1": 1.0,
    "points_gui_g": 1.0,
}
"""Name -> what the best point or box earns, its form aside."""
Protocol = Literal["gui_g2", "gui_g1", "se_gui", "ui_agile", "infigui_r1", "points_gui_g"]


def read_answer(sample: Sample, space: Space) -> Answer:
    """The one box or point of a response.

    Raises:
        Unscorable: "unparsable" when there is none, several, a refusal, or a box without area.
    """
    text = sample.response or ""
    parts = segment(text, bare=True)
    size = extent(space, sample)
    box = _only_box(answer_of(text), space, Axes(size.width, size.height, space.y_first))
    if box is not None:
        unit = Box(box.x1 / size.width, box.y1 / size.height, box.x2 / size.width, box.y2 / size.height)
        if unit.x1 >= unit.x2 or unit.y1 >= unit.y2 or not (unit.x1 >= -1 and unit.x2 <= 2):
            raise Unscorable("the box has no area, or lies far beside the picture", "unparsable")
        return Answer(centre(unit), unit, text, parts.thought)
    point = expect_one(clicked(text, space, sample).points, "refuse", "point")
    if point is None:
        raise Unscorable("the point cannot be read", "unparsable")
    return Answer(point, None, text, parts.thought)


def _only_box(answer: str, space: Space, axes: Axes) -> Box | None:
    """The box of an answer that holds no point, as `iou` reads it; None where it holds a point."""
    try:
        parsed = box_items(answer, only=True, axes=axes)
    except Unscorable:
        return None
    boxes = boxes_of(parsed.items, y_first=space.y_first)
    if len(boxes) > 1 and all(boxes):
        raise Unscorable(f"{len(boxes)} boxes where one is expected", "unparsable")
    return boxes[0] if len(boxes) == 1 and not parsed.dropped else None


PART_NAMES = tuple(dict.fromkeys(part for _, parts in PROTOCOLS.values() for part in parts))


@reward(
    "gui_grounding",
    needs=("response", "target"),
    optional=("image",),
    range=(0.0, 4.0),
    uses_prompt=False,
    paper="arXiv:2507.15846",
    example={
        "response": "<answer>[100, 100, 400, 400]</answer>",
        "target": {"bbox_2d": [100, 100, 400, 400]},
    },
)
def gui_grounding(
    protocol: Protocol = "gui_g2", space: Named = "norm_1000", target_space: Named = "norm_1000"
) -> Any:
    """Training rewards of GUI grounding by the name of their authors; the target is one box.

    - "gui_g2" (0 to 3): a Gaussian of the centre, the overlap of two Gaussians, and 1 for four bare integers.
    - "gui_g1" (to 1.375): hit, IoU / 4, and the mean nearness of the edges / 8.
    - "se_gui" (to 3): hit, 1 - (distance / the largest possible)^2 up to a distance of 1, and 1 for a tool
      call.
    - "ui_agile" (to 4): 1 + exp(-4 d^2) in the box, d the larger of the distances in half sides (a box: twice
      its IoU); for a hit, up to 1 for thinking of about 150 characters; 1 for the tags of thought and answer.
    - "infigui_r1" (to 1): a point in the box, or a box's IoU, in full from 0.5.
    - "points_gui_g" (to 1): a point in the box, or the centre of one; its report gives no more.

    An answer that cannot be read, several answers and a box without area are worth 0, form included.

    Args:
        protocol: one of these.
        space: of the response's coordinates, as in `click`.
        target_space: of `sample.target`.
    """
    formula, names = PROTOCOLS[protocol]
    response_space, truth_space = space_of(space), space_of(target_space)

    async def score(sample: Sample) -> Score:
        true = await read_aside(lambda one: true_box(one, truth_space), sample)
        extent(response_space, sample)

        def check() -> Verdict:
            answer = read_answer(sample, response_space)
            noted(
                "answer", "{} of the picture", tuple(answer.point) if answer.box is None else answer.box[:4]
            )
            parts = formula(answer, true)
            noted("worth", f"by {protocol}: {{}}", parts)
            return Verdict(sum(parts.values()), parts)

        return verified(check, names)

    score.right_value = RIGHT[protocol]  # type: ignore[attr-defined]  # for `mmreward check`
    return score


def true_box(sample: Sample, space: Space) -> Box:
    """The only box of a target.

    Raises:
        Unscorable: there is none, or there are several.
    """
    target = target_of(sample, space, radius=0.05)
    if len(target.boxes) != 1 or len(target.regions) != 1:
        raise Unscorable(f"the target is one box, not {str(sample.target)[:80]}")
    return target.boxes[0]


# --- exploration ----------------------------------------------------------------------------------

AER_PARTS = ("format", "accuracy", "found", "first", "aligned")
STRAIGHT = 1e-9
MAX_TRIPLES = 64
"""Points of which all threes are looked at; more are a scan whatever they are."""


def aligned(points: Sequence[Point]) -> bool:
    """True where three of the points lie on one line."""
    for a, b, c in combinations(points, 3):
        left, right = (b.y - a.y) * (c.x - a.x), (c.y - a.y) * (b.x - a.x)
        if math.isclose(left, right, rel_tol=1e-9, abs_tol=STRAIGHT):
            return True
    return False


@reward(
    "aer",
    needs=("response", "target"),
    optional=("image",),
    range=(-1.0, 2.0),
    uses_prompt=False,
    paper="arXiv:2508.05731",
    example={
        "response": '<think>left</think><answer>[{"point_2d": [250, 260]}]</answer>',
        "target": {"bbox_2d": [100, 100, 400, 400]},
    },
)
def aer(
    think: bool = True,
    guard: Literal["line", "none"] = "line",
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
) -> Any:
    """Adaptive exploration reward of InfiGUI-G1: several points in the order of belief, -1 or 0 to 2.

    1 + 1 / sqrt(N k) where the k-th of N points is the first in the box, 1 - 1 / N where none is, 0 for an
    empty list, and -1 for an answer that cannot be read, lacks its thinking, or scans. Note what that pays: a
    miss with many points comes near 1, so it rewards exploring and is no measure of success; `click` is.

    Args:
        think: thinking is demanded; off, the answer stands alone.
        guard: "line" calls three points on one line a scan, as the authors do, which also hits honest answers
            on a toolbar; "none" does not look. More than 64 points are a scan with either.
        space: of the response's coordinates, as in `click`; the authors' is "qwen2.5-vl".
        target_space: of `sample.target`, one box.
    """
    response_space, truth_space = space_of(space), space_of(target_space)

    async def score(sample: Sample) -> Score:
        true = await read_aside(lambda one: true_box(one, truth_space), sample)
        extent(response_space, sample)
        try:
            points = _explored(sample, response_space, think)
        except Unscorable as failure:
            if failure.status != "unparsable":
                raise
            noted("unreadable", f"the reading ends here: {failure}")
            parts = {"format": 0.0, "accuracy": -1.0, "found": 0.0, "first": 0.0, "aligned": 0.0}
            return Score(-1.0, {"parsed": 0.0, **parts}, note=str(failure))
        number = len(points)
        straight = number > MAX_TRIPLES or (guard == "line" and aligned(points))
        rank = next((k for k, point in enumerate(points, 1) if within(point, true)), 0)
        accuracy = 1 / math.sqrt(number * rank) if rank else -1 / max(number, 1)
        noted("points", f"{number}, the first in the box is number {{}}", rank or "none")
        parts = {"accuracy": accuracy, "found": float(number), "first": float(rank == 1)}
        if straight:
            return Score(-1.0, {"parsed": 1.0, "format": 0.0, **parts, "accuracy": -1.0, "aligned": 1.0},
                         note="three points on one line, or too many: a scan")  # fmt: skip
        return Score(1 + accuracy, {"parsed": 1.0, "format": 1.0, **parts, "aligned": 0.0})

    return score


def _explored(sample: Sample, space: Space, think: bool) -> list[Point]:
    parts = segment(sample.response or "", bare=True)
    if think and not parts.thought:
        raise Unscorable("there is no thinking before the answer", "unparsable")
    found = clicked(sample.response or "", space, sample)
    if found.refused and "[" not in parts.answer:
        raise Unscorable("no list of points", "unparsable")
    if len(found.points) > limits().boxes:
        raise Unscorable(f"{len(found.points)} points", "unparsable")
    points = [point for point in found.points if point is not None]
    if len(points) != len(found.points):
        raise Unscorable("a point of the list cannot be read", "unparsable")
    return points

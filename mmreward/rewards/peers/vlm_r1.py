"""VLM-R1's rewards of boxes with their bugs, for comparison only (arXiv:2504.07615; om-ai-lab/VLM-R1, commit
90052f4, Apache-2.0).

Four formulas over boxes in pixels, its reader of the last ```json fence, then the reward `vlm_r1` that
chooses among them. They can be gamed: average precision lets false boxes go free, the weighted sum pays for
wrong labels. `grounding` and `iou` replace them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ...errors import Unscorable
from ...limits import limits
from ...registry import reward
from ...tracing import heard, noted
from ...types import Sample, Score
from ...verifiers.boxes import Box, boxes_of, number_of
from ...verifiers.markup import box_items, target_items
from ...verifiers.response import Verdict, verified
from ...verifiers.spaces import Named, Size, Space, extent, space_of
from .average_precision import average_precision

THRESHOLD = 0.5
POSITION, COMPLETENESS = 0.7, 0.3
UNNAMED = "\0"
"""Label of a found box that has none, or one that is no text."""


class Overlap(NamedTuple):
    """IoU of a found and a true box, both given by their numbers."""

    iou: float
    found: int
    true: int


def inclusive_iou(a: Box, b: Box) -> float:
    """IoU whose intersection counts pixels inclusively and whose areas do not.

    Boxes in fractions of the picture and boxes one pixel wide have 0 with anything, themselves too.

    Raises:
        ZeroDivisionError: two boxes without area.
    """
    width = min(a.x2, b.x2) - 1 - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - 1 - max(a.y1, b.y1)
    shared = (width + 1) * (height + 1) if width > 0 and height > 0 else 0.0
    areas = sum((box.x2 - box.x1) * (box.y2 - box.y1) for box in (a, b))
    return shared / (areas - shared)


def mean_average_precision(found: Sequence[Box | None], truth: Sequence[Box]) -> float:
    """COCO mAP with constant scores: false boxes after the true ones are free. 1 for nothing on nothing, and
    COCO's -1 where all true boxes are too large to count."""
    if not found or not truth:
        return float(not found and not truth)
    known = _known(found, truth)
    return average_precision(known, truth).map if known else 0.0


def average_precision_at_half(found: Sequence[Box | None], truth: Sequence[Box]) -> float:
    """`mean_average_precision` at IoU 0.5 alone."""
    if not found or not truth:
        return float(not found and not truth)
    known = _known(found, truth)
    return average_precision(known, truth).ap50 if known else 0.0


def _known(found: Sequence[Box | None], truth: Sequence[Box]) -> list[Box]:
    """Boxes of a label of the truth; its except clause drops the others, and what is no box."""
    labels = {box.label for box in truth}
    return [box for box in found if box is not None and box.label in labels]


def od_length(found: Sequence[Box | None], truth: Sequence[Box]) -> float:
    """mAP times true / found where more boxes were found than there are: the answer to boxes being free.

    An order that puts the true boxes first still pays for spam, only less. What is no box counts as found.
    """
    return mean_average_precision(found, truth) * (min(1.0, len(truth) / len(found)) if found else 1.0)


def weighted_sum(found: Sequence[Box | None], truth: Sequence[Box]) -> float:
    """0.7 of the IoU matched under the right label per true box, 0.3 of a completeness that ignores labels.

    Perfect boxes under wrong labels earn 0.3. Nothing on nothing earns 1. A box without a label is taken to
    have the label of the match before it, as theirs forgets to reset it; where there is none before, theirs
    fails, and here the label is wrong.
    """
    if not found or not truth:
        return float(not found and not truth)
    pairs = [
        Overlap(_or_zero(box, true), i, j)
        for i, box in enumerate(found)
        if box is not None
        for j, true in enumerate(truth)
    ]
    taken: set[int] = set()
    matched: dict[int, Overlap] = {}
    for pair in sorted(pairs, key=lambda pair: -pair.iou):
        if pair.iou >= THRESHOLD and pair.found not in taken and pair.true not in matched:
            matched[pair.true] = pair
            taken.add(pair.found)
    right, label = 0.0, UNNAMED
    for pair in matched.values():
        box = found[pair.found]
        label = box.label if box is not None and box.label != UNNAMED else label
        right += pair.iou if label == truth[pair.true].label else 0.0
    missed, false = 1 - len(matched) / len(truth), 1 - len(matched) / len(found)
    return POSITION * right / len(truth) + COMPLETENESS * (1 - (missed + false) / 2)


def _or_zero(box: Box, true: Box) -> float:
    """Inclusive IoU, or 0 where two boxes have no area: only here does theirs catch the division by zero."""
    try:
        return inclusive_iou(box, true)
    except ZeroDivisionError:
        return 0.0


def _between(text: str, begin: str, end: str) -> list[str]:
    """All that `begin(.*?)end` finds, which as an expression takes quadratic time where no end follows."""
    found = []
    at = 0
    while (start := text.find(begin, at)) >= 0 and (stop := text.find(end, start + len(begin))) >= 0:
        found.append(text[start + len(begin) : stop])
        at = stop + len(end)
    return found


def fenced_boxes(answer: str, *, first: bool = False) -> list[Box | None] | None:
    """Boxes in the last (or first) ```json fence of an answer, None for an item that is none; None where
    there is no fence.

    Defects: a fence that is no JSON is an empty list, an object is the list of its keys, corners in the wrong
    order stay so, labels count with their case and spaces, further numbers are ignored, and a box needs no
    label.
    """
    fences = _between(answer, "```json", "```")
    if not fences:
        return None
    try:
        items = json.loads(fences[0 if first else -1].strip())
    except (ValueError, RecursionError):
        return []
    return [_box(item) for item in items] if isinstance(items, list | dict | str) else []


def _box(item: Any) -> Box | None:
    numbers = item.get("bbox_2d") if isinstance(item, dict) else None
    if not isinstance(numbers, list) or len(numbers) < 4:
        return None
    corners = [float(x) if isinstance(x, bool) else number_of(x) for x in numbers[:4]]
    if any(corner is None or isinstance(x, str) for corner, x in zip(corners, numbers, strict=False)):
        return None
    x1, y1, x2, y2 = (corner or 0.0 for corner in corners)
    return Box(x1, y1, x2, y2, item["label"] if isinstance(item.get("label"), str) else UNNAMED)


FORMULAS: dict[str, Callable[[Sequence[Box | None], Sequence[Box]], float]] = {
    "map": mean_average_precision,
    "ap50": average_precision_at_half,
    "od_length": od_length,
    "weighted_sum": weighted_sum,
}
PARTS = ("found", "true")
GRID = 1000
"""Pixels of a side that boxes are brought to, as the formulas count in pixels."""


@reward(
    "vlm_r1",
    needs=("response", "target"),
    optional=("image",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2504.07615",
    licence="written anew from Apache-2.0 code",
    example={
        "response": '<answer>[{"bbox_2d": [100, 120, 400, 410], "label": "red circle"}]</answer>',
        "target": [{"bbox_2d": [100, 100, 400, 400], "label": "red circle"}],
    },
)
def vlm_r1(
    formula: Literal["map", "ap50", "od_length", "weighted_sum"] = "od_length",
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
    bare: bool = False,
    fence: Literal["optional", "required"] = "optional",
) -> Any:
    """VLM-R1's reward of boxes, 0 to 1, defects included; for comparison, not for training.

    "map" is average precision with constant confidence, which lets false boxes after the true ones go free,
    and "ap50" the same at IoU 0.5 alone; "od_length" multiplies "map" by true / found where too many were
    found; "weighted_sum" pays 0.3 for perfect boxes under wrong labels. `iou` and `dynamic_iou` replace them.
    The answer is the last one with both tags, the thinking included, and its boxes stand in a ```json fence.
    One without a fence is read as `iou` reads it, so that the formulas can be compared on any answer, unless
    `fence` is "required": then it holds no boxes, as in their code, which is right on an empty picture.

    Args:
        formula: one of the four.
        space: of the response's coordinates, as in `iou`.
        target_space: of `sample.target`, a list of boxes.
        bare: accept an answer that is not inside `<answer>` tags.
        fence: "required" reads boxes in a fence alone, as theirs does.
    """
    response_space, truth_space, measure = space_of(space), space_of(target_space), FORMULAS[formula]
    lower = formula == "weighted_sum"  # cleaned before it is read, and its labels with it

    async def score(sample: Sample) -> Score:
        size, truth_size = extent(response_space, sample), extent(truth_space, sample)
        items = target_items(sample.target, 4, truth_space, truth_size)
        truth = [_own(item, truth_space, lower) for item in items]
        if any(box is None for box in truth):
            raise Unscorable(f"a target box cannot be read: {str(sample.target)[:200]}")
        true = [_pixels(box, truth_size) for box in truth if box is not None]

        def check() -> Verdict:
            answer = _answer(sample.response or "", bare or (lower and fence == "required"), lower)
            found = _found(answer, response_space, size, lower, fence, bool(true))
            parts = {"found": float(len(found)), "true": float(len(true))}
            noted("answer", "{}", answer)
            if heard():
                noted("found boxes", "{}", [list(box) if box else None for box in found])
                noted("compared", f"{formula}, with {len(true)} true: {{}}", measure(found, true))
            if lower and not true and (fence == "required" or "```" in answer):  # its own case
                return Verdict(float(answer == "none"), parts)
            return Verdict(measure(found, true), parts)

        return verified(check, PARTS)

    return score


def _answer(response: str, bare: bool, lower: bool) -> str:
    """Last answer with both tags, stripped; the weighted sum lowers its case and drops a last full stop."""
    answers = _between(response, "<answer>", "</answer>")
    if not answers and not bare:
        raise Unscorable("VLM-R1 finds no <answer> with both tags", "unparsable")
    answer = str(answers[-1] if answers else response).strip()
    return answer.rstrip(".").lower() if lower else answer


def _found(answer: str, space: Space, size: Size, lower: bool, fence: str, there: bool) -> list[Box | None]:
    boxes = fenced_boxes(answer, first=lower)
    if boxes is None and (fence == "required" or "```" in answer or answer in ("None", "none")):
        boxes = []
    if boxes is None:
        try:
            boxes = [_own(item, space, lower) for item in box_items(answer).items]
        except Unscorable:
            if there:
                raise
            boxes = []  # whatever is written, theirs finds no box, which is right on an empty picture
    return [_pixels(box, size) if box else None for box in boxes[: limits().boxes]] + [None] * len(
        boxes[limits().boxes :]
    )


def _own(item: Any, space: Space, lower: bool) -> Box | None:
    """Box with its label as it stands, which theirs compares."""
    (box,) = boxes_of([item], y_first=space.y_first)
    label = item.get("label") if isinstance(item, Mapping) else None
    if box is None or not isinstance(label, str):
        return box
    return box._replace(label=label.lower() if lower else label)


def _pixels(box: Box, size: Size) -> Box:
    """Box on the grid, neither clamped nor with its corners put in order."""
    across, down = GRID / size.width, GRID / size.height
    return Box(box.x1 * across, box.y1 * down, box.x2 * across, box.y2 * down, box.label)

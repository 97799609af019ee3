"""VLM-R1's rewards of boxes with their bugs, for comparison only (arXiv:2504.07615; om-ai-lab/VLM-R1, commit
90052f4, Apache-2.0).

Four formulas over boxes in pixels, then the reward `vlm_r1` that chooses among them. They can be gamed:
average precision lets false boxes go free, the weighted sum pays for wrong labels. `grounding` and `iou`
replace them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from ...registry import reward
from ...types import Sample, Score
from ...verifiers.boxes import Box
from ...verifiers.markup import found_boxes, true_boxes
from ...verifiers.response import Verdict, verified
from ...verifiers.spaces import Named, space_of
from .average_precision import average_precision

THRESHOLD = 0.5
POSITION, COMPLETENESS = 0.7, 0.3


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


def mean_average_precision(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """COCO mAP with constant scores: false boxes after the true ones are free. 1 for nothing on nothing, and
    COCO's -1 where all true boxes are too large to count."""
    if not found or not truth:
        return float(not found and not truth)
    return average_precision(found, truth).map if _any_known(found, truth) else 0.0


def average_precision_at_half(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """`mean_average_precision` at IoU 0.5 alone."""
    if not found or not truth:
        return float(not found and not truth)
    return average_precision(found, truth).ap50 if _any_known(found, truth) else 0.0


def _any_known(found: Sequence[Box], truth: Sequence[Box]) -> bool:
    known = {box.label for box in truth}
    return any(box.label in known for box in found)


def od_length(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """mAP times true / found where more boxes were found than there are: the answer to boxes being free.

    An order that puts the true boxes first still pays for spam, only less.
    """
    return mean_average_precision(found, truth) * (min(1.0, len(truth) / len(found)) if found else 1.0)


def weighted_sum(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """0.7 of the IoU matched under the right label per true box, 0.3 of a completeness that ignores labels.

    Perfect boxes under wrong labels earn 0.3. Nothing on nothing earns 1.
    """
    if not found or not truth:
        return float(not found and not truth)
    pairs = [
        Overlap(_or_zero(box, true), i, j) for i, box in enumerate(found) for j, true in enumerate(truth)
    ]
    matched: list[Overlap] = []
    for pair in sorted(pairs, key=lambda pair: -pair.iou):
        taken = any(pair.found == other.found or pair.true == other.true for other in matched)
        if pair.iou >= THRESHOLD and not taken:
            matched.append(pair)
    right = sum(pair.iou for pair in matched if found[pair.found].label == truth[pair.true].label)
    missed, false = 1 - len(matched) / len(truth), 1 - len(matched) / len(found)
    return POSITION * right / len(truth) + COMPLETENESS * (1 - (missed + false) / 2)


def _or_zero(box: Box, true: Box) -> float:
    """Inclusive IoU, or 0 where two boxes have no area: only here does theirs catch the division by zero."""
    try:
        return inclusive_iou(box, true)
    except ZeroDivisionError:
        return 0.0


FORMULAS: dict[str, Callable[[Sequence[Box], Sequence[Box]], float]] = {
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
) -> Any:
    """VLM-R1's reward of boxes, 0 to 1, defects included; for comparison, not for training.

    "map" is average precision with constant confidence, which lets false boxes after the true ones go free,
    and "ap50" the same at IoU 0.5 alone; "od_length" multiplies "map" by true / found where too many were
    found; "weighted_sum" pays 0.3 for perfect boxes under wrong labels. `iou` and `dynamic_iou` replace them.
    Unreadable boxes are left out, as theirs are.

    Args:
        formula: one of the four.
        space: of the response's coordinates, as in `iou`.
        target_space: of `sample.target`, a list of boxes.
        bare: accept a list that is not inside `<answer>` tags.
    """
    response_space, truth_space, measure = space_of(space), space_of(target_space), FORMULAS[formula]

    async def score(sample: Sample) -> Score:
        truth = true_boxes(sample, truth_space)

        def check() -> Verdict:
            found = [box for box in found_boxes(sample, response_space, bare=bare) if box is not None]
            parts = {"found": float(len(found)), "true": float(len(truth))}
            return Verdict(measure(_pixels(found), _pixels(truth)), parts)

        return verified(check, PARTS)

    return score


def _pixels(boxes: Sequence[Box]) -> list[Box]:
    return [Box(GRID * b.x1, GRID * b.y1, GRID * b.x2, GRID * b.y2, b.label) for b in boxes]

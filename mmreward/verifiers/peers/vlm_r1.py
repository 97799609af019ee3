"""VLM-R1's rewards of boxes with their bugs, for comparison only (arXiv:2504.07615; om-ai-lab/VLM-R1, commit
90052f4).

Only the reward `vlm_r1` uses it; what replaces it are the rewards `grounding` and `iou`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..boxes import Box
from .average_precision import average_precision

THRESHOLD = 0.5
POSITION, COMPLETENESS = 0.7, 0.3


class Overlap(NamedTuple):
    """IoU of a found and a true box, by number."""

    iou: float
    found: int
    true: int


def vlm_r1_iou(a: Box, b: Box) -> float:
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


def vlm_r1_map(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """COCO mAP with constant scores: false boxes after the true ones are free. 1 for nothing on nothing, and
    COCO's -1 where all true boxes are too large to count."""
    if not found or not truth:
        return float(not found and not truth)
    return average_precision(found, truth).map if _any_known(found, truth) else 0.0


def vlm_r1_ap50(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """`vlm_r1_map` at IoU 0.5 alone."""
    if not found or not truth:
        return float(not found and not truth)
    return average_precision(found, truth).ap50 if _any_known(found, truth) else 0.0


def _any_known(found: Sequence[Box], truth: Sequence[Box]) -> bool:
    known = {box.label for box in truth}
    return any(box.label in known for box in found)


def vlm_r1_od_length(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """mAP times true / found where more boxes were found than there are: the answer to boxes being free.

    An order that puts the true boxes first still pays for spam, only less.
    """
    return vlm_r1_map(found, truth) * (min(1.0, len(truth) / len(found)) if found else 1.0)


def vlm_r1_weighted_sum(found: Sequence[Box], truth: Sequence[Box]) -> float:
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
    """Here, and only here, theirs catches the division by zero."""
    try:
        return vlm_r1_iou(box, true)
    except ZeroDivisionError:
        return 0.0

"""Vision-R1's rewards of boxes with their bugs, for comparison only (arXiv:2503.18013; jefferyZhan/Griffon).

Nothing of this package uses it; what replaces it is the reward `dynamic_iou`. What they call IoU is the
generalised one, and labels only sway the matching, where distances in pixels drown them.
"""

# FOLDED mmreward/verifiers/peers/rex_omni.py: Rex-Omni's reward of boxes with its defect, for comparison only (IDEA-Research/Rex-Omni, issue 146).
#
# Nothing of this package uses it; what replaces it is the reward `iou`.
#
# FOLDED mmreward/verifiers/peers/visual_rft.py: Visual-RFT's rewards of boxes with their bugs, for comparison only (arXiv:2503.01785; Liuziyu77/Visual-RFT,
# commit 94866331).
#
# Nothing of this package uses it; what replaces it are the rewards `iou` and `grounding`. Their check of the
# whole response with math-verify, which pays a chance match of numbers in full, is left out.
#

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...verifiers.boxes import Box, giou, iou, matchable

STAGE = 1500
"""The step from which the stricter thresholds hold."""


def vision_r1_format(block: str, num_true: int) -> float:
    """1 for a JSON block that can be read, in which each item with a box and a label has four coordinates.

    Defects: any JSON will do, and where nothing is to be found the reward is turned round: nonsense earns 1
    and an empty list 0.
    """
    form = float(_in_form(block))
    return form if num_true else 1 - form


def _in_form(block: str) -> bool:
    try:
        value: Any = json.loads(block)
    except (ValueError, RecursionError):
        return False
    items = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    boxes = [item["bbox_2d"] for item in items if "bbox_2d" in item and "label" in item]
    return all(isinstance(box, list) and len(box) == 4 for box in boxes)


def vision_r1_overlaps(found: Sequence[Box], truth: Sequence[Box]) -> NDArray[np.float64]:
    """Generalised IoU of the matched pairs; the matching costs the summed distance of the edges in pixels,
    less 1 for an equal label, less the generalised IoU.

    Raises:
        ValueError: no true boxes and some found ones, where theirs fails, too.
    """
    from scipy.optimize import linear_sum_assignment  # an import that `mmreward list` does not need

    if not truth:
        raise ValueError("Vision-R1 has no value for boxes on an empty picture")
    shape = len(found), len(truth)
    overlap = np.array([[giou(box, true) for true in truth] for box in found]).reshape(shape)
    edges = [[np.abs(np.subtract(box[:4], true[:4])).sum() for true in truth] for box in found]
    same = [[float(box.label == true.label) for true in truth] for box in found]
    pairs = linear_sum_assignment(np.reshape(edges, shape) - np.reshape(same, shape) - overlap)
    return np.asarray(overlap[pairs])


def vision_r1_recall(found: Sequence[Box], truth: Sequence[Box], *, step: int | None) -> float:
    """Share of true boxes matched above 0.5 (0.75 from step 1500); a share under 0.5 is 0, over 0.75 is 1.

    Without a step the share is left as it is. Nothing on nothing earns 1.
    """
    if not found:
        return float(not truth)
    level = 0.5 if step is None or step < STAGE else 0.75
    share = sum(_stretched(float(value), level, level) for value in vision_r1_overlaps(found, truth)) / len(
        truth
    )
    return share if step is None else _stretched(share, 0.5, 0.75)


def vision_r1_precision(
    found: Sequence[Box],
    truth: Sequence[Box],
    *,
    step: int | None,
    over: Literal["matched", "found"] = "matched",
) -> float:
    """Mean overlap of matches, each 0 under 0.5 and 1 over 0.75 (0.75 and 0.9 from step 1500).

    Without a step only negative overlaps are cut. The first release takes the mean over matched pairs, so
    false boxes are free; the later port takes it over all found boxes. Nothing on nothing earns 1.
    """
    if not found:
        return float(not truth)
    low, high = (0.0, 1.0) if step is None else (0.5, 0.75) if step < STAGE else (0.75, 0.9)
    values = [_stretched(float(value), low, high) for value in vision_r1_overlaps(found, truth)]
    return sum(values) / (len(values) if over == "matched" else len(found))


def _stretched(value: float, low: float, high: float) -> float:
    if value < low:
        return 0.0
    return 1.0 if value > high else value


def rex_omni_f1(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """F1 of the mean best IoU of each true box and the mean best IoU of each found one, labels equal: 0 to 1.

    Defect: nothing is matched one to one, so ten copies of a right box are as good as one. Without boxes on
    either side it is 0.
    """
    if not found or not truth:
        return 0.0
    overlap = matchable(found, truth, "exact")
    precision, recall = float(overlap.max(axis=1).mean()), float(overlap.max(axis=0).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


THRESHOLD = 0.5


class Confident(NamedTuple):
    """A box and the confidence the model wrote; nothing keeps it in [0, 1]."""

    box: Box
    confidence: float


def visual_rft_matches(found: Sequence[Confident], truth: Sequence[Box]) -> list[tuple[float, float]]:
    """(IoU or 0, confidence) per found box, the most confident choosing first; IoU 0.5 is no match.

    Boxes at exactly the same coordinates are dropped silently, those a pixel apart are not.
    """
    unique = list({item.box[:4]: item for item in reversed(found)}.values())[::-1]
    left = dict(enumerate(truth))
    results = []
    for box, confidence in sorted(unique, key=lambda item: -item.confidence):
        worth = {j: iou(box, true) for j, true in left.items()}
        best = max(worth, key=lambda j: worth[j], default=None)
        matched = best is not None and worth[best] > THRESHOLD
        results.append((worth[best] if best is not None and matched else 0.0, confidence))
        if best is not None and matched:
            del left[best]
    return results


def visual_rft_iou(found: Sequence[Confident], truth: Sequence[Box]) -> float:
    """R_iou as shipped: summed IoU over the larger of both numbers, at most 1. No boxes at all earn 0."""
    results = visual_rft_matches(found, truth)
    return (
        min(1.0, sum(overlap for overlap, _ in results) / max(len(truth), len(results))) if results else 0.0
    )


def visual_rft_confidence(found: Sequence[Confident], truth: Sequence[Box]) -> float:
    """R_conf: mean over boxes of the confidence of a match and of 1 - confidence of a miss, cut to [0, 1].

    One box on nothing with confidence 0 earns 1.
    """
    results = visual_rft_matches(found, truth)
    pay = [confidence if overlap else 1 - confidence for overlap, confidence in results]
    return min(1.0, max(0.0, sum(pay) / len(pay))) if pay else 0.0


def visual_rft_grounding(box: Box, true: Box) -> float:
    """1 + generalised IoU, 0 to 2: a miss still earns up to 1."""
    return 1 + giou(box, true)

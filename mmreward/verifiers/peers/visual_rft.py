"""Visual-RFT's rewards of boxes with their bugs, for comparison only (arXiv:2503.01785; Liuziyu77/Visual-RFT,
commit 94866331).

Nothing of this package uses it; what replaces it are the rewards `iou` and `grounding`. Their check of the
whole response with math-verify, which pays a chance match of numbers in full, is left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..boxes import Box, giou, iou

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

"""Rex-Omni's reward of boxes with its defect, for comparison only (IDEA-Research/Rex-Omni, issue 146).

Nothing of this package uses it; what replaces it is the reward `iou`.
"""

from collections.abc import Sequence

from ..boxes import Box, matchable


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

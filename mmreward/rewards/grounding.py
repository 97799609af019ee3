"""The one box a referring expression asks for."""

from typing import Any, Literal

from ..failures import Unscorable
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.boxes import giou, iou
from ..verifiers.detections import found_boxes, true_boxes
from ..verifiers.expected import Several, expect_one
from ..verifiers.matching import ramp
from ..verifiers.spaces import Named, space_of
from ..verifiers.verdict import Verdict, verified

PARTS = ("iou", "giou", "found")


@reward(
    "grounding",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2504.07615",
    example={
        "response": '<answer>{"bbox_2d": [100, 120, 400, 410]}</answer>',
        "target": {"bbox_2d": [100, 100, 400, 400]},
    },
)
def grounding(
    measure: Literal["iou", "giou"] = "iou",
    threshold: float = 1.0,
    width: float = 1.0,
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
    several: Several = "refuse",
    bare: bool = False,
) -> Any:
    """How well one box fits the one that was asked for, 0 to 1.

    The answer holds one box, as JSON, in the tags of a model family, or as "(x1,y1),(x2,y2)"; its label is
    not looked at. Several boxes are worth 0 unless the first or the last is declared to count; the best of
    them never does. A box that does not touch the true one is worth 0 with either measure.

    Args:
        measure: "iou", or "giou" for (1 + generalised IoU) / 2, which still grows where the boxes barely
            touch.
        threshold: the measure from which a box counts in full.
        width: below the threshold, the span over which its worth falls to 0 (smoothstep).
        space: of the response's coordinates, as in `iou`.
        target_space: of `sample.target`, one box.
        several: "refuse", "first" or "last".
        bare: accept a box that is not inside `<answer>` tags.
    """
    if not 0 < threshold <= 1 or not 0 < width <= 1:
        raise ValueError(f"threshold {threshold} and width {width} lie in (0, 1]")
    said, meant = space_of(space), space_of(target_space)

    async def score(sample: Sample) -> Score:
        truth = true_boxes(sample, meant)
        if len(truth) != 1:
            raise Unscorable(f"the target of grounding is one box, not {len(truth)}; use iou for several")

        def check() -> Verdict:
            boxes = found_boxes(sample, said, bare=bare, only=several == "refuse")
            box = expect_one(boxes, several, "box")
            overlap = iou(box, truth[0]) if box else 0.0
            general = giou(box, truth[0]) if box else -1.0
            fit = overlap if measure == "iou" else (1 + general) / 2
            value = float(ramp(fit, threshold, width)) if overlap > 0 else 0.0
            return Verdict(value, {"iou": overlap, "giou": general, "found": float(len(boxes))})

        return verified(check, PARTS)

    return score

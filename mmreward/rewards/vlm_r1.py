"""VLM-R1's rewards of boxes, to compare ours with: they can be gamed, and how is known (arXiv:2504.07615)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.boxes import Box
from ..verifiers.detections import found_boxes, true_boxes
from ..verifiers.peers.vlm_r1 import vlm_r1_ap50, vlm_r1_map, vlm_r1_od_length, vlm_r1_weighted_sum
from ..verifiers.spaces import Named, space_of
from ..verifiers.verdict import Verdict, verified

FORMULAS: dict[str, Callable[[Sequence[Box], Sequence[Box]], float]] = {
    "map": vlm_r1_map,
    "ap50": vlm_r1_ap50,
    "od_length": vlm_r1_od_length,
    "weighted_sum": vlm_r1_weighted_sum,
}
PARTS = ("found", "true")
GRID = 1000
"""Their formulas take pixels."""


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
    """What VLM-R1 pays for boxes, 0 to 1, defects included; for comparison, not for training.

    "map" is average precision with constant confidence, which lets false boxes after the true ones go free,
    and "ap50" the same at IoU 0.5 alone; "od_length" multiplies "map" by true / found where too many were
    found; "weighted_sum" pays 0.3 for perfect boxes under wrong labels. `iou` and `dynamic_iou` replace them.
    Unreadable boxes are left out, as theirs are.

    Args:
        formula: which of the four.
        space: of the response's coordinates, as in `iou`.
        target_space: of `sample.target`, a list of boxes.
        bare: accept a list that is not inside `<answer>` tags.
    """
    said, meant, pay = space_of(space), space_of(target_space), FORMULAS[formula]

    async def score(sample: Sample) -> Score:
        truth = true_boxes(sample, meant)

        def check() -> Verdict:
            found = [box for box in found_boxes(sample, said, bare=bare) if box is not None]
            parts = {"found": float(len(found)), "true": float(len(truth))}
            return Verdict(pay(_pixels(found), _pixels(truth)), parts)

        return verified(check, PARTS)

    return score


def _pixels(boxes: Sequence[Box]) -> list[Box]:
    return [Box(GRID * b.x1, GRID * b.y1, GRID * b.x2, GRID * b.y2, b.label) for b in boxes]

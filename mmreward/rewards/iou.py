"""Soft F1 of the boxes a model wrote against the true ones: one to one, gated by label, and no pay for
spam."""

from typing import Any, Literal

from ..failures import Unscorable
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.answer import segment
from ..verifiers.boxes import PARTS, Box, boxes_of, soft_f1, to_unit
from ..verifiers.lists import parse_list
from ..verifiers.verdict import Verdict, verified

Space = Literal["pixel", "norm_1", "norm_100", "norm_1000"]


@reward(
    "iou",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    example={
        "response": '<answer>[{"bbox_2d": [100, 120, 400, 410], "label": "red circle"}]</answer>',
        "target": [{"bbox_2d": [100, 100, 400, 400], "label": "red circle"}],
    },
)
def iou(
    threshold: float = 1.0,
    width: float = 1.0,
    space: Space = "norm_1000",
    target_space: Space = "norm_1000",
    labels: Literal["exact", "ignore"] = "exact",
    empty_decay: float = 0.5,
    bare: bool = True,
) -> Any:
    """F1 over boxes, each match worth a smooth function of its IoU, 0 to 1.

    The response holds a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": ...} (other common keys are read
    too). Matching is optimal and one to one, so order does not matter, a duplicate counts as a false box, and
    adding a box pays only if it is a match; one that cannot be read is a false box. With no true boxes the
    value is 1 for an empty list, else `empty_decay` to the power of the number of boxes. A response without a
    readable list is worth 0, and has `parts["parsed"]` 0, which an empty list has not.

    Args:
        threshold: the IoU from which a match counts in full.
        width: below the threshold, the span over which a match's worth falls to 0 (smoothstep).
        space: of the response's coordinates; "pixel" needs `sample.meta["size"]` = (height, width) or an
            image.
        target_space: of `sample.target`, a list of boxes in the same form.
        labels: "exact" matches equal labels (case and spacing ignored), "ignore" any.
        empty_decay: 0 makes any box on an empty picture worth nothing.
        bare: accept a list that is not inside `<answer>` tags.
    """
    if not 0 < threshold <= 1 or not 0 < width <= 1 or not 0 <= empty_decay < 1:
        raise ValueError(
            f"threshold {threshold} and width {width} lie in (0, 1], empty_decay {empty_decay} in [0, 1)"
        )

    async def score(sample: Sample) -> Score:
        response, truth = sample.response or "", _truth(sample, target_space)

        def check() -> Verdict:
            parsed = parse_list(segment(response, bare=bare).answer)
            found = [_unit(box, sample, space) for box in boxes_of(parsed.items)] + [None] * parsed.dropped
            return soft_f1(found, truth, threshold=threshold, width=width, labels=labels, decay=empty_decay)

        return verified(check, PARTS)

    return score


def _truth(sample: Sample, space: Space) -> list[Box]:
    boxes = boxes_of(sample.target)
    broken = [box for box in boxes if box is None]
    if broken:
        raise Unscorable(
            f"{len(broken)} of {len(boxes)} target boxes cannot be read: {str(sample.target)[:200]}"
        )
    units = [_unit(box, sample, space) for box in boxes]
    if any(box is None for box in units):
        raise Unscorable(f"a target box has no area inside the picture: {str(sample.target)[:200]}")
    return [box for box in units if box is not None]


def _unit(box: Box | None, sample: Sample, space: Space) -> Box | None:
    if box is None:
        return None
    if space != "pixel":
        scale = float(space.removeprefix("norm_"))
        return to_unit(box, scale, scale)
    if "size" in sample.meta:
        height, width = sample.meta["size"]
    elif sample.image is not None:
        height, width = sample.image.size
    else:
        raise Unscorable('pixel coordinates need meta["size"] = (height, width) or an image', "missing")
    return to_unit(box, float(width), float(height))

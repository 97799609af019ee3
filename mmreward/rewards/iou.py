"""Soft F1 of the boxes a model wrote against the true ones: one to one, gated by label, and no pay for
spam."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.boxes import PARTS, label_table, soft_f1
from ..verifiers.detections import found_boxes, true_boxes
from ..verifiers.spaces import Named, space_of
from ..verifiers.verdict import Verdict, verified


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
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
    labels: Literal["exact", "ignore"] = "exact",
    aliases: Mapping[str, Sequence[str]] | None = None,
    empty_decay: float = 0.5,
    bare: bool = True,
) -> Any:
    """F1 over boxes, each match worth a smooth function of its IoU, 0 to 1.

    The response holds a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": ...} (other common keys are read
    too, and the box tags of Qwen, InternVL and GLM). Matching is optimal and one to one, so order does not
    matter, a duplicate counts as a false box, and adding a box pays only if it is a match; one that cannot be
    read is a false box. With no true boxes the value is 1 for an empty list, else `empty_decay` to the power
    of the number of boxes. A response without a readable list is worth 0, and has `parts["parsed"]` 0, which
    an empty list has not.

    Args:
        threshold: the IoU from which a match counts in full.
        width: below the threshold, the span over which a match's worth falls to 0 (smoothstep).
        space: of the response's coordinates: "pixel", "norm_1", "norm_100", "norm_1000", or a model family
            such as "qwen2.5-vl", see `verifiers.spaces`; pixels need `sample.meta["size"]` =
            (height, width) or an image.
        target_space: of `sample.target`, a list of boxes in the same form.
        labels: "exact" matches equal labels (case and spacing ignored), "ignore" any.
        aliases: other names of a label, such as {"person": ["man", "woman"]}.
        empty_decay: 0 makes any box on an empty picture worth nothing.
        bare: accept a list that is not inside `<answer>` tags.
    """
    if not 0 < threshold <= 1 or not 0 < width <= 1 or not 0 <= empty_decay < 1:
        raise ValueError(
            f"threshold {threshold} and width {width} lie in (0, 1], empty_decay {empty_decay} in [0, 1)"
        )
    said, meant, table = space_of(space), space_of(target_space), label_table(aliases or {})

    async def score(sample: Sample) -> Score:
        truth = true_boxes(sample, meant)

        def check() -> Verdict:
            found = found_boxes(sample, said, bare=bare)
            return soft_f1(
                found,
                truth,
                threshold=threshold,
                width=width,
                labels=labels,
                table=table,
                decay=empty_decay,
            )

        return verified(check, PARTS)

    return score

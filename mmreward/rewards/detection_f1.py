"""The fixed evaluation of boxes: the same thresholds at every step and in every run."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.boxes import PARTS, label_table, mean_f1
from ..verifiers.detections import found_boxes, true_boxes
from ..verifiers.spaces import Named, space_of
from ..verifiers.verdict import Verdict, verified


@reward(
    "detection_f1",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    example={
        "response": '<answer>[{"bbox_2d": [100, 120, 400, 410], "label": "red circle"}]</answer>',
        "target": [{"bbox_2d": [100, 100, 400, 400], "label": "red circle"}],
    },
)
def detection_f1(
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
    labels: Literal["exact", "ignore"] = "exact",
    aliases: Mapping[str, Sequence[str]] | None = None,
    bare: bool = False,
) -> Any:
    """Mean F1 over boxes at the IoU thresholds 0.50, 0.55, ... 0.95, 0 to 1.

    For evaluation: it has no schedule, and jumps at its thresholds where `iou` and `dynamic_iou` are smooth.
    Unlike average precision it needs no confidence, and every false box counts, duplicates and unreadable
    ones too. With no true boxes it is 1 for an empty list, else 0.

    Args:
        space: of the response's coordinates, as in `iou`.
        target_space: of `sample.target`, a list of boxes.
        labels: "exact" matches equal labels (case and spacing ignored), "ignore" any.
        aliases: other names of a label, such as {"person": ["man", "woman"]}.
        bare: accept a list that is not inside `<answer>` tags.
    """
    said, meant, table = space_of(space), space_of(target_space), label_table(aliases or {})

    async def score(sample: Sample) -> Score:
        truth = true_boxes(sample, meant)

        def check() -> Verdict:
            found = found_boxes(sample, said, bare=bare)
            return mean_f1(found, truth, labels=labels, table=table)

        return verified(check, PARTS)

    return score

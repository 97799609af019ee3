"""Boxes against a threshold that rises during training, but never above what a box's size lets anyone
reach."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.boxes import PARTS, label_table, mean_f1, soft_f1
from ..verifiers.detections import found_boxes, true_boxes
from ..verifiers.spaces import Named, space_of, steps
from ..verifiers.thresholds import capped, progress_of, scheduled, v_triune_steps
from ..verifiers.verdict import Verdict, verified

ALL_PARTS = (*PARTS, "threshold", "progress", "mean_f1")


@reward(
    "dynamic_iou",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    example={
        "response": '<answer>[{"bbox_2d": [100, 120, 400, 410], "label": "red circle"}]</answer>',
        "target": [{"bbox_2d": [100, 100, 400, 400], "label": "red circle"}],
        "meta": {"step": 30, "total_steps": 400},
    },
)
def dynamic_iou(
    schedule: Literal["capped", "v-triune"] = "capped",
    width: float = 0.5,
    progress: float | None = None,
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
    labels: Literal["exact", "ignore"] = "exact",
    aliases: Mapping[str, Sequence[str]] | None = None,
    empty_decay: float = 0.5,
    bare: bool = False,
) -> Any:
    """F1 over boxes whose IoU threshold rises with training, capped by what is attainable, 0 to 1.

    As `iou`, with a threshold per true box. `sample.meta["progress"]` in [0, 1], or `step` and `total_steps`
    there, say how far training is; a sample with neither fails with status "missing", since a guess would
    train at the wrong stage. `parts["mean_f1"]` is the fixed evaluation of `detection_f1`, which can be
    compared across steps as the value cannot.

    Args:
        schedule: "capped" rises without jumps through 0.50, 0.85, 0.95 (at 0, 0.1 and 0.25 of training) to
            0.99, and stays under the IoU of each true box with itself rounded to the response's grid.
            "v-triune" takes their steps 0.85, 0.95, 0.99 without the cap; for their exact score see
            `verifiers.peers.v_triune`.
        width: below the threshold, the span over which a match's worth falls to 0 (smoothstep).
        progress: fixes it for all samples, for evaluation or a curriculum of your own.
        space: of the response's coordinates, as in `iou`; its grid is what the cap is about.
        target_space: of `sample.target`.
        labels: "exact" matches equal labels (case and spacing ignored), "ignore" any.
        aliases: other names of a label, such as {"person": ["man", "woman"]}.
        empty_decay: 0 makes any box on an empty picture worth nothing.
        bare: accept a list that is not inside `<answer>` tags.
    """
    if not 0 < width <= 1 or not 0 <= empty_decay < 1:
        raise ValueError(f"width {width} lies in (0, 1], empty_decay {empty_decay} in [0, 1)")
    if progress is not None and not 0 <= progress <= 1:
        raise ValueError(f"progress {progress} lies in [0, 1]")
    said, meant, table = space_of(space), space_of(target_space), label_table(aliases or {})

    async def score(sample: Sample) -> Score:
        truth = true_boxes(sample, meant)
        grid = steps(said, sample)
        done = progress_of(sample.meta) if progress is None else progress
        if schedule == "capped":
            goals = capped(scheduled(done), truth, grid.height, grid.width)
        else:
            goals = [v_triune_steps(done)] * len(truth)

        def check() -> Verdict:
            found = found_boxes(sample, said, bare=bare)
            verdict = soft_f1(
                found, truth, threshold=goals, width=width, labels=labels, table=table, decay=empty_decay
            )
            more = {
                "threshold": sum(goals) / len(goals) if goals else 1.0,
                "progress": done,
                "mean_f1": mean_f1(found, truth, labels=labels, table=table).value,
            }
            return Verdict(verdict.value, {**verdict.parts, **more})

        return verified(check, ALL_PARTS)

    return score

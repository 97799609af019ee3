"""Boxes a model wrote against the true ones: F1 of an optimal one-to-one match, gated by label.

`iou` pays a smooth function of each match's IoU, `dynamic_iou` against a threshold that rises during
training, and `detection_f1` is the fixed evaluation: the same thresholds at every step and in every run.

Coordinates are written on a grid, so even the best answer for a small box falls short of IoU 0.99: of a box
of 26 x 19 steps, edges half a step off leave 0.91. A threshold above what is attainable turns every small box
into a wrong answer whatever the model does, so the schedule of `dynamic_iou` stays under it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ...registry import reward
from ...shaping import progress_of
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers import boxes
from ...verifiers.boxes import BOX_PARTS, Box, label_table, mean_f1, soft_f1
from ...verifiers.markup import found_boxes, true_boxes
from ...verifiers.response import Verdict, verified_aside
from ...verifiers.spaces import Named, space_of, steps


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

    The response holds a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": ...}, or boxes in any other dress
    that can be read in one way: other keys, lines of JSON, a tool's call, the tags of model families, "cat:
    [x1, y1, x2, y2]", see `verifiers.markup.box_items`. "None" and "no objects" are an empty list; "A or B"
    is no answer. Matching is optimal and one to one, so order does not matter, a duplicate counts as a false
    box, and adding a box pays only if it is a match; one that cannot be read is a false box. With no true
    boxes the value is 1 for an empty list, else `empty_decay` to the power of the number of boxes. A response
    without a readable list is worth 0, and has `parts["parsed"]` 0, which an empty list has not.

    Args:
        threshold: the IoU from which a match counts in full.
        width: below the threshold, the span over which a match's worth falls to 0 (smoothstep).
        space: of the response's coordinates: "pixel", "norm_1", "norm_100", "norm_1000", or a model family
            such as "qwen2.5-vl", see `verifiers.spaces`; pixels need `sample.meta["size"]` =
            (height, width) or an image.
        target_space: of `sample.target`, a list of boxes in the same form.
        labels: "exact" matches equal labels (case, spacing, hyphens, articles and a number behind ignored; a
            true box without a label takes any), "ignore" any.
        aliases: other names of a label, such as {"person": ["man", "woman"]}.
        empty_decay: 0 makes any box on an empty picture worth nothing.
        bare: accept a list that is not inside `<answer>` tags.
    """
    if not 0 < threshold <= 1 or not 0 < width <= 1 or not 0 <= empty_decay < 1:
        raise ValueError(
            f"threshold {threshold} and width {width} lie in (0, 1], empty_decay {empty_decay} in [0, 1)"
        )
    response_space, truth_space, table = space_of(space), space_of(target_space), label_table(aliases or {})

    async def score(sample: Sample) -> Score:
        truth = true_boxes(sample, truth_space)

        def check() -> Verdict:
            found = found_boxes(sample, response_space, bare=bare)
            return soft_f1(
                found,
                truth,
                threshold=threshold,
                width=width,
                labels=labels,
                table=table,
                decay=empty_decay,
            )

        length = len(sample.response or "")
        return await verified_aside(check, BOX_PARTS, found=length, true=len(truth))

    return score


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
        labels: "exact" matches equal labels (case, spacing, hyphens, articles and a number behind ignored; a
            true box without a label takes any), "ignore" any.
        aliases: other names of a label, such as {"person": ["man", "woman"]}.
        bare: accept a list that is not inside `<answer>` tags.
    """
    response_space, truth_space, table = space_of(space), space_of(target_space), label_table(aliases or {})

    async def score(sample: Sample) -> Score:
        truth = true_boxes(sample, truth_space)

        def check() -> Verdict:
            found = found_boxes(sample, response_space, bare=bare)
            return mean_f1(found, truth, labels=labels, table=table)

        length = len(sample.response or "")
        return await verified_aside(check, BOX_PARTS, found=length, true=len(truth))

    return score


# --- the threshold that rises ---------------------------------------------------------------------

KNOTS = ((0.0, 0.50), (0.10, 0.85), (0.25, 0.95), (1.0, 0.99))
"""(progress, IoU), straight in between."""
MARGIN = 0.005
FLOOR = 0.5
TIE = 1e-6


def scheduled_threshold(progress: float) -> float:
    """IoU threshold at this point of training, without jumps: 0.50 at the start, 0.99 at the end."""
    return float(np.interp(progress, [at for at, _ in KNOTS], [level for _, level in KNOTS]))


def v_triune_steps(progress: float) -> float:
    """V-Triune's Dynamic IoU (arXiv:2505.18129): 0.85 up to a tenth of training, 0.95 up to a quarter, then
    0.99."""
    if progress <= 0.10:
        return 0.85
    return 0.95 if progress <= 0.25 else 0.99


def attainable_iou(box: Box, rows: float, columns: float) -> float:
    """Attainable IoU: that of a box, in fractions of the picture, with itself rounded to rows x columns
    steps.

    An edge in the middle of two steps may be rounded either way; the worse counts.
    """
    xs = [_nearest(edge, columns) for edge in (box.x1, box.x2)]
    ys = [_nearest(edge, rows) for edge in (box.y1, box.y2)]
    return min(
        boxes.iou(box, Box(x1, y1, x2, y2))
        for x1, x2, y1, y2 in itertools.product(xs[0], xs[1], ys[0], ys[1])
    )


def _nearest(edge: float, steps: float) -> tuple[float, ...]:
    below = math.floor(edge * steps)
    over = edge * steps - below
    if abs(over - 0.5) < TIE:
        return below / steps, (below + 1) / steps
    return ((below + (over > 0.5)) / steps,)


def capped_thresholds(threshold: float, truth: Sequence[Box], rows: float, columns: float) -> list[float]:
    """IoU threshold of each true box: `threshold`, or a little under what is attainable where that is less,
    but not under 0.5."""
    return [
        max(min(threshold, attainable_iou(box, rows, columns) - MARGIN), min(threshold, FLOOR))
        for box in truth
    ]


DYNAMIC_PARTS = (*BOX_PARTS, "threshold", "progress", "mean_f1")


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
    there, is the progress of training; a sample with neither fails with status "missing", since a guess would
    train at the wrong stage. `parts["mean_f1"]` is the fixed evaluation of `detection_f1`, which can be
    compared across steps as the value cannot.

    Args:
        schedule: "capped" rises without jumps through 0.50, 0.85, 0.95 (at 0, 0.1 and 0.25 of training) to
            0.99, and stays under the IoU of each true box with itself rounded to the response's grid.
            "v-triune" takes their steps 0.85, 0.95, 0.99 without the cap; for their exact score see
            the reward `v_triune`.
        width: below the threshold, the span over which a match's worth falls to 0 (smoothstep).
        progress: a fixed one for all samples, for evaluation or a curriculum of your own.
        space: of the response's coordinates, as in `iou`; its grid is what the cap is about.
        target_space: of `sample.target`.
        labels: "exact" matches equal labels (case, spacing, hyphens, articles and a number behind ignored; a
            true box without a label takes any), "ignore" any.
        aliases: other names of a label, such as {"person": ["man", "woman"]}.
        empty_decay: 0 makes any box on an empty picture worth nothing.
        bare: accept a list that is not inside `<answer>` tags.
    """
    if not 0 < width <= 1 or not 0 <= empty_decay < 1:
        raise ValueError(f"width {width} lies in (0, 1], empty_decay {empty_decay} in [0, 1)")
    if progress is not None and not 0 <= progress <= 1:
        raise ValueError(f"progress {progress} lies in [0, 1]")
    response_space, truth_space, table = space_of(space), space_of(target_space), label_table(aliases or {})

    async def score(sample: Sample) -> Score:
        truth = true_boxes(sample, truth_space)
        grid = steps(response_space, sample)
        done = progress_of(sample.meta) if progress is None else progress
        if schedule == "capped":
            goals = capped_thresholds(scheduled_threshold(done), truth, grid.height, grid.width)
        else:
            goals = [v_triune_steps(done)] * len(truth)

        def check() -> Verdict:
            found = found_boxes(sample, response_space, bare=bare)
            verdict = soft_f1(
                found, truth, threshold=goals, width=width, labels=labels, table=table, decay=empty_decay
            )
            more = {
                "threshold": sum(goals) / len(goals) if goals else 1.0,
                "progress": done,
                "mean_f1": mean_f1(found, truth, labels=labels, table=table).value,
            }
            noted("threshold", "F1 {} where {} of training asks for an IoU of {}", verdict.value, done, goals)
            return Verdict(verdict.value, {**verdict.parts, **more})

        length = len(sample.response or "")
        return await verified_aside(check, DYNAMIC_PARTS, found=length, true=len(truth))

    return score

"""V-Triune's reward of boxes, to compare ours with: it loses right answers, and how is known
(arXiv:2505.18129)."""

# FOLDED mmreward/rewards/vlm_r1.py: VLM-R1's rewards of boxes, to compare ours with: they can be gamed, and how is known (arXiv:2504.07615).

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ...errors import Unscorable
from ...registry import reward
from ...shaping import progress_of
from ...types import Sample, Score
from ...verifiers.boxes import Box
from ...verifiers.markup import found_boxes, true_boxes
from ...verifiers.response import Verdict, verified
from ...verifiers.spaces import SPACES, Named, extent, space_of
from ..rules.boxes import v_triune_steps
from .boxes import (
    LEVELS,
    NAMES,
    RELEASED,
    v_triune_answer,
    v_triune_boxes,
    v_triune_detection,
    v_triune_detection_format,
    v_triune_grid,
    vlm_r1_ap50,
    vlm_r1_map,
    vlm_r1_od_length,
    vlm_r1_weighted_sum,
)

V_TRIUNE_PARTS = ("accuracy", "format", *NAMES)
GRID = 1000
ON_GRID = SPACES["norm_1000"]
"""Where its truth lies."""


@reward(
    "v_triune",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    licence="written anew from Apache-2.0 code",
    example={
        "response": '<think>One.</think>\n<answer>\n[{"bbox_2d": [100, 102, 400, 400], "label": "circle"}]'
        "\n</answer>",
        "target": [{"bbox_2d": [100, 100, 400, 400], "label": "circle"}],
        "meta": {"step": 30, "total_steps": 400},
    },
)
def v_triune(
    threshold: float | Literal["dynamic", "average"] = "dynamic",
    ratios: Mapping[str, float] | None = None,
    accuracy_ratio: float = 1.0,
    format_ratio: float = 0.1,
    pixels: bool = False,
) -> Any:
    """What V-Triune's detection verifier pays, 0 to 1, defects included; for comparison, not for training.

    (a * accuracy + f * format) / (a + f). The accuracy is 0.6 to the power of the difference in number, times
    the mean of the scores that have a ratio. Its matcher by boxes first loses perfect boxes in another order,
    average precision with constant confidence lets false boxes go free, apostrophes and code fences lose the
    answer, and nothing on an empty picture earns 0. `dynamic_iou` replaces it. `parts` holds all that it
    reports. An answer without readable boxes has no format either: it is worth 0, with `parts["parsed"]` 0.

    Args:
        threshold: "dynamic" is 0.85 up to a tenth of training, 0.95 up to a quarter, then 0.99, for which
            `sample.meta` says how far training is (as in `dynamic_iou`); "average" of its eleven levels, from
            0.5 to 0.99; or one of these.
        ratios: of iou_max_label_first, iou_max_iou_first, map, map50 and map75, each 0 to 1, and
            iou_completeness, the share of completeness in the first two; by default those of the one payload
            that was published, which weighs iou_max_label_first alone.
        accuracy_ratio: a.
        format_ratio: f.
        pixels: the response is in pixels of the picture as the model saw it (`sample.meta["size"]`, else the
            image), and is brought to the target's 0 to 1000 by cutting fractions off, as its
            det_verifier_normalized does. Otherwise it lies on 0 to 1000, too.

    Raises:
        ValueError: a threshold that is none of theirs, an unknown ratio, one outside [0, 1], or accuracy and
            format that weigh nothing.
    """
    shares = dict(RELEASED if ratios is None else ratios)
    known = {*RELEASED, "map", "map50", "map75"}
    if not set(shares) <= known or not all(0 <= share <= 1 for share in shares.values()):
        raise ValueError(f"ratios are shares in [0, 1] of {', '.join(sorted(known))}, not {shares}")
    if threshold not in ("dynamic", "average", *LEVELS):
        raise ValueError(f"threshold is 'dynamic', 'average' or one of {LEVELS}, not {threshold!r}")
    if accuracy_ratio < 0 or format_ratio < 0 or not accuracy_ratio + format_ratio > 0:
        raise ValueError(
            f"accuracy_ratio {accuracy_ratio} and format_ratio {format_ratio} are not negative, nor both 0"
        )

    async def score(sample: Sample) -> Score:
        truth = [
            Box(GRID * b.x1, GRID * b.y1, GRID * b.x2, GRID * b.y2, b.label)
            for b in true_boxes(sample, ON_GRID)
        ]
        size = extent(SPACES["pixel"], sample) if pixels else None
        level = v_triune_steps(progress_of(sample.meta)) if threshold == "dynamic" else threshold
        response = sample.response or ""

        def check() -> Verdict:
            found = v_triune_boxes(v_triune_answer(response))
            if found is None:
                raise Unscorable("V-Triune reads no boxes in the answer", "unparsable")
            if size is not None:
                found = v_triune_grid(found, size.width, size.height)
            told = v_triune_detection(found, truth, threshold=level, ratios=shares)
            accuracy, form = told["final_score"], v_triune_detection_format(response)
            value = (accuracy_ratio * accuracy + format_ratio * form) / (accuracy_ratio + format_ratio)
            return Verdict(value, {"accuracy": accuracy, "format": form, **told})

        return verified(check, V_TRIUNE_PARTS)

    return score


FORMULAS: dict[str, Callable[[Sequence[Box], Sequence[Box]], float]] = {
    "map": vlm_r1_map,
    "ap50": vlm_r1_ap50,
    "od_length": vlm_r1_od_length,
    "weighted_sum": vlm_r1_weighted_sum,
}
VLM_R1_PARTS = ("found", "true")
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

        return verified(check, VLM_R1_PARTS)

    return score


def _pixels(boxes: Sequence[Box]) -> list[Box]:
    return [Box(GRID * b.x1, GRID * b.y1, GRID * b.x2, GRID * b.y2, b.label) for b in boxes]

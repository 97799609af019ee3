"""V-Triune's reward of boxes, to compare ours with: it loses right answers, and how is known
(arXiv:2505.18129)."""

from collections.abc import Mapping
from typing import Any, Literal

from ..failures import Unscorable
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.boxes import Box
from ..verifiers.detections import true_boxes
from ..verifiers.peers.v_triune import (
    LEVELS,
    NAMES,
    RELEASED,
    v_triune_answer,
    v_triune_boxes,
    v_triune_detection,
    v_triune_detection_format,
    v_triune_grid,
)
from ..verifiers.spaces import SPACES, extent
from ..verifiers.thresholds import progress_of, v_triune_steps
from ..verifiers.verdict import Verdict, verified

PARTS = ("accuracy", "format", *NAMES)
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

        return verified(check, PARTS)

    return score

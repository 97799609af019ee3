"""V-Triune's detection reward with its bugs, for comparison only (One RL to See Them All, arXiv:2505.18129;
MiniMax-AI/One-RL-to-See-Them-All, commit 39bcf0d, Apache-2.0).

First its reader of boxes, then its two matchers, then its verifier and the reward `v_triune` around it. It
loses perfect boxes in another order, answers with an apostrophe or a code fence, and an honest nothing on an
empty picture; tests/rewards/test_box_peers.py pins each defect. `dynamic_iou` replaces it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ...errors import Unscorable
from ...registry import reward
from ...shaping import progress_of
from ...tracing import heard, noted
from ...types import Sample, Score
from ...verifiers.boxes import Box, overlaps
from ...verifiers.markup import true_boxes
from ...verifiers.response import Verdict, verified
from ...verifiers.spaces import SPACES, extent
from ..rules.boxes import v_triune_steps
from .average_precision import average_precision

LEVELS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
REPORTED = {"iou": (0.5, 0.95), "label": (0.5, 0.75, 0.95, 0.99)}
RELEASED = {"iou_max_label_first": 1.0, "iou_max_iou_first": 0.0, "iou_completeness": 0.3}
"""The weights of the one payload that was published; map, map50 and map75 have 0."""
SIZE_PENALTY = 0.6
MAX_EDGE = 1e100
"""Largest coordinate that is read: products of such are finite."""
COUNTED = ("pure", "precision", "recall")
SCORED = ("iou_score_max_iou", "iou_score_max_label", "map_score", "map50_score", "map75_score")
NAMES = (
    *("final_score", "size_penalty"),
    *(f"{kind}_{name}" for kind in ("pure", "weighted") for name in SCORED),
    *(
        f"report_iou_{round(100 * level)}_{name}_match_{count}"
        for name, levels in REPORTED.items()
        for level in levels
        for count in COUNTED
    ),
)
"""Names of all scores that its verifier reports."""


class Pair(NamedTuple):
    """A match: a found box, a true one, and the IoU it is credited with."""

    found: int
    true: int
    iou: float


class Counts(NamedTuple):
    """Scores of one matcher at one threshold; `weighted` mixes the mean IoU and the completeness."""

    mean_iou: float
    precision: float
    recall: float
    weighted: float


Matcher = Callable[[Sequence[Box], Sequence[Box], float], list[Pair]]
Threshold = float | Literal["average"]


def answer_of(response: str) -> str:
    """Content of the first answer tags, those in the thinking included; "" where there are none."""
    inside, closed, _ = response.partition("<answer>")[2].partition("</answer>")
    return inside if closed else ""


def format_score(response: str) -> float:
    """Format score: 1 for boxes that can be read and one closing tag, with the line breaks that its prompts
    ask for.

    Defects: several opening tags pass, no thinking is asked for, and an answer of no boxes is not in form.
    """
    tagged = "\n<answer>\n" in response and response.count("\n</answer>") == 1
    return float(tagged and read_boxes(answer_of(response)) is not None)


def read_boxes(answer: str) -> list[Box] | None:
    """Read boxes as V-Triune does; None where it reads none, which is also what `[]` gives.

    All quotes become double ones, so an apostrophe in a label loses the whole answer, as does a code fence.
    Boxes at the same coordinates are dropped silently. A coordinate beyond `MAX_EDGE` loses the whole answer,
    too: theirs fails at infinite ones, and its server answers with 0.
    """
    text = answer.strip().lower().replace("[[", "[").replace("]]", "]")
    if not text.endswith("]"):
        text = text.rsplit("},", 1)[0] + "}]"
    try:
        items = json.loads(text.replace("'", '"').replace("\\", ""))
    except (ValueError, RecursionError):
        return None
    boxes: dict[tuple[float, ...], Box] = {}
    for item in items if isinstance(items, list) else ():
        box = _read(item)
        if box is not None:
            boxes.setdefault(box[:4], box)
    if any(abs(edge) > MAX_EDGE for edges in boxes for edge in edges):
        return None
    return [Box._make((*map(float, edges), box.label)) for edges, box in boxes.items()] or None


def _read(item: Any) -> Box | None:
    if not isinstance(item, dict) or not isinstance(item.get("label"), str):
        return None
    numbers = item.get("bbox_2d")
    if not isinstance(numbers, list) or len(numbers) != 4:
        return None
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    x1, y1, x2, y2 = numbers
    return Box(x1, y1, x2, y2, item["label"]) if x1 <= x2 and y1 <= y2 else None


def to_grid(boxes: Sequence[Box], width: float, height: float) -> list[Box]:
    """Bring boxes from input pixels to 0..1000 by cutting off the fraction, which moves every edge up and
    left."""

    def cut(edge: float, side: float) -> float:
        return float(int(edge / side * 1000))

    return [
        Box(cut(b.x1, width), cut(b.y1, height), cut(b.x2, width), cut(b.y2, height), b.label) for b in boxes
    ]


def label_first(found: Sequence[Box], truth: Sequence[Box], threshold: float) -> list[Pair]:
    """Match by label first: true boxes in their order, each with the best box left of its label, greedily."""
    pairs: list[Pair] = []
    overlap = overlaps(found, truth)
    labels = np.array([box.label for box in found], dtype=object)
    left = np.ones(len(found), dtype=bool)
    for j, true in enumerate(truth):
        worth = np.where(left & (labels == true.label), overlap[:, j], -1.0)
        best = int(worth.argmax()) if worth.size else -1
        if best >= 0 and worth[best] >= threshold:
            pairs.append(Pair(best, j, float(worth[best])))
            left[best] = False
    return pairs


def iou_first_broken(found: Sequence[Box], truth: Sequence[Box], threshold: float) -> list[Pair]:
    """Match by IoU first, with the bug that loop variables overwrite the argmax: each round pairs the last
    box left with the last true one left, and credits them with the best IoU of all pairs left if their labels
    agree."""
    pairs: list[Pair] = []
    overlap = overlaps(found, truth)
    best = np.maximum.accumulate(np.maximum.accumulate(overlap, axis=0), axis=1)  # of all pairs up to here
    for i, j in zip(reversed(range(len(found))), reversed(range(len(truth))), strict=False):
        if best[i, j] < threshold:
            break
        pairs.append(Pair(i, j, float(best[i, j]) if found[i].label == truth[j].label else 0.0))
    return pairs


def counts(
    found: Sequence[Box], truth: Sequence[Box], matcher: Matcher, threshold: float, completeness: float
) -> Counts:
    """Mean IoU over true boxes, precision, recall, and their mixture with weight `completeness`."""
    pairs = matcher(found, truth, threshold)
    mean_iou = sum(pair.iou for pair in pairs) / len(truth)
    miss = (len(truth) - len(pairs)) / len(truth)
    false = (len(found) - len(pairs)) / len(found) if found else 0.0
    complete = 1 - (miss + false) / 2
    return Counts(mean_iou, 1 - false, 1 - miss, mean_iou * (1 - completeness) + complete * completeness)


def detection_scores(
    found: Sequence[Box],
    truth: Sequence[Box],
    *,
    threshold: Threshold = "average",
    ratios: Mapping[str, float] = RELEASED,
) -> dict[str, float]:
    """`final_score` and all sub-scores of V-Triune's detection verifier, 0 to 1, bugs included.

    Args:
        found: boxes of the answer on the target's grid.
        truth: the true ones. Without boxes on either side all is 0, even if there is nothing to be found.
        threshold: one of `LEVELS`, or their average; theirs of a step is `thresholds.v_triune_steps`.
        ratios: weights of iou_max_label_first, iou_max_iou_first, map, map50 and map75, and the share of
            completeness under iou_completeness.

    Raises:
        ValueError: a threshold that is none of theirs.
    """
    if threshold != "average" and threshold not in LEVELS:
        raise ValueError(f"V-Triune's threshold is one of {LEVELS} or 'average', not {threshold}")
    if not found or not truth:
        return dict.fromkeys(NAMES, 0.0)
    penalty = SIZE_PENALTY ** abs(len(found) - len(truth))
    levels = LEVELS if threshold == "average" else (threshold,)
    share = ratios.get("iou_completeness", 0.0)
    scores: dict[str, float] = {"size_penalty": penalty}
    matchers: dict[str, Matcher] = {"iou": iou_first_broken, "label": label_first}
    for name, matcher in matchers.items():
        at = [counts(found, truth, matcher, level, share).weighted for level in levels]
        scores[f"pure_iou_score_max_{name}"] = sum(at) / len(at)
        for level in REPORTED[name]:
            match = counts(found, truth, matcher, level, share)
            stem = f"report_iou_{round(100 * level)}_{name}_match"
            values = (match.mean_iou, match.precision, match.recall)
            scores |= {f"{stem}_{count}": value for count, value in zip(COUNTED, values, strict=True)}
    precisions = average_precision(found, truth)
    known = {box.label for box in truth}
    pure = precisions if any(box.label in known for box in found) else (0.0, 0.0, 0.0)
    for name, value in zip(("map", "map50", "map75"), pure, strict=True):
        scores[f"pure_{name}_score"] = value
    for name in SCORED:
        scores[f"weighted_{name}"] = scores[f"pure_{name}"] * penalty
    scores["final_score"] = _final(scores, ratios)
    return {name: scores[name] for name in NAMES}


def _final(scores: Mapping[str, float], ratios: Mapping[str, float]) -> float:
    terms = {
        "iou_max_iou_first": "weighted_iou_score_max_iou",
        "iou_max_label_first": "weighted_iou_score_max_label",
        "map": "weighted_map_score",
        "map50": "weighted_map50_score",
        "map75": "weighted_map75_score",
    }
    total = sum(ratios.get(name, 0.0) for name in terms)
    return (
        sum(ratios.get(name, 0.0) * scores[score] for name, score in terms.items()) / total if total else 0.0
    )


PARTS = ("accuracy", "format", *NAMES)
GRID = 1000
TARGET_SPACE = SPACES["norm_1000"]


@reward(
    "v_triune",
    needs=("response", "target"),
    optional=("image",),
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
    """V-Triune's reward of detection, 0 to 1, defects included; for comparison, not for training.

    (a * accuracy + f * format) / (a + f). The accuracy is 0.6 to the power of the difference in number, times
    the mean of the scores that have a ratio. Its matcher by boxes first loses perfect boxes in another order,
    average precision with constant confidence lets false boxes go free, apostrophes and code fences lose the
    answer, and nothing on an empty picture earns 0. `dynamic_iou` replaces it. `parts` holds all that it
    reports. An answer without readable boxes has no format either: it is worth 0, with `parts["parsed"]` 0.

    Args:
        threshold: "dynamic" is 0.85 up to a tenth of training, 0.95 up to a quarter, then 0.99, for which
            `sample.meta` gives the progress of training (as in `dynamic_iou`); "average" of its eleven
            levels, from 0.5 to 0.99; or one of these.
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
            for b in true_boxes(sample, TARGET_SPACE)
        ]
        size = extent(SPACES["pixel"], sample) if pixels else None
        level = v_triune_steps(progress_of(sample.meta)) if threshold == "dynamic" else threshold
        response = sample.response or ""

        def check() -> Verdict:
            found = read_boxes(answer_of(response))
            if found is None:
                raise Unscorable("V-Triune reads no boxes in the answer", "unparsable")
            if size is not None:
                found = to_grid(found, size.width, size.height)
            noted(
                "found boxes", "{} on the grid of {}", [list(box) for box in found] if heard() else None, GRID
            )
            scores = detection_scores(found, truth, threshold=level, ratios=shares)
            accuracy, form = scores["final_score"], format_score(response)
            noted("compared", "at the IoU threshold {}: accuracy {}, format {}", level, accuracy, form)
            value = (accuracy_ratio * accuracy + format_ratio * form) / (accuracy_ratio + format_ratio)
            return Verdict(value, {"accuracy": accuracy, "format": form, **scores})

        return verified(check, PARTS)

    return score

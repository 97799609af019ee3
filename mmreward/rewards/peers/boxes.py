"""V-Triune's detection reward with its bugs, for comparison only (One RL to See Them All, arXiv:2505.18129;
MiniMax-AI/One-RL-to-See-Them-All, commit 39bcf0d).

Only the reward `v_triune` uses it; what replaces it is the reward `dynamic_iou`.
"""

# FOLDED mmreward/verifiers/peers/average_precision.py: Average precision as COCO counts it, for boxes without confidence: what peers train on and report.
#
# Not for training here. With constant scores it depends on the order of the boxes, and false boxes after the
# true ones are free: two right boxes and 98 on nothing still have AP 1.
#
# FOLDED mmreward/verifiers/peers/vlm_r1.py: VLM-R1's rewards of boxes with their bugs, for comparison only (arXiv:2504.07615; om-ai-lab/VLM-R1, commit
# 90052f4).
#
# Only the reward `vlm_r1` uses it; what replaces it are the rewards `grounding` and `iou`.
#

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...verifiers.boxes import Box, Matrix, overlaps

AP_LEVELS = tuple(percent / 100 for percent in range(50, 100, 5))
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_FOUND = 100
"""Boxes per label that count; COCO drops the rest."""
MAX_AREA = 1e10
"""COCO ignores true boxes above this, in squared units of the coordinates."""


class Precisions(NamedTuple):
    """Each 0 to 1, or -1 where no true box counts."""

    map: float
    ap50: float
    ap75: float


def average_precision(found: Sequence[Box], truth: Sequence[Box]) -> Precisions:
    """AP over IoU 0.50 to 0.95, at 0.50 and at 0.75, averaged over the labels of the truth.

    All boxes have the same confidence, so they count in the order given. Boxes whose label is not in the
    truth are dropped for free, as COCO does; see the module for why this is no reward.
    """
    curves = [_by_level(found, truth, label) for label in sorted({box.label for box in truth})]
    counted = np.array([curve for curve in curves if curve is not None])
    if not len(counted):
        return Precisions(-1.0, -1.0, -1.0)
    at = counted.mean(axis=0)
    return Precisions(float(at.mean()), float(at[AP_LEVELS.index(0.5)]), float(at[AP_LEVELS.index(0.75)]))


def _by_level(found: Sequence[Box], truth: Sequence[Box], label: str) -> list[float] | None:
    """AP of one label at each IoU level; None when none of its true boxes counts."""
    mine = [box for box in found if box.label == label][:MAX_FOUND]
    true = sorted((box for box in truth if box.label == label), key=_too_large)  # those that count come first
    num_counted = sum(not _too_large(box) for box in true)
    if not num_counted:
        return None
    overlap = overlaps(mine, true)
    outside = np.array([_too_large(box) for box in mine], dtype=bool)
    return [
        _interpolated(_outcomes(overlap, level, num_counted, outside), num_counted) for level in AP_LEVELS
    ]


def _too_large(box: Box) -> bool:
    return (box.x2 - box.x1) * (box.y2 - box.y1) > MAX_AREA


def _outcomes(
    overlap: Matrix, level: float, num_counted: int, outside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """In the order of the found boxes, whether each is a true positive; ignored boxes are left out."""
    free = np.ones(overlap.shape[1], dtype=bool)
    right: list[bool] = []
    for row, too_large in zip(overlap, outside, strict=True):
        match = _best(row, free, level, slice(0, num_counted))
        if match is not None:
            free[match] = False
            right.append(True)
            continue
        ignored = _best(row, free, level, slice(num_counted, None))
        if ignored is not None:
            free[num_counted + ignored] = False
        elif not too_large:
            right.append(False)
    return np.array(right, dtype=bool)


def _best(row: NDArray[np.float64], free: NDArray[np.bool_], level: float, part: slice) -> int | None:
    """The last of the best free boxes in this part of the row that reach the level."""
    worth = np.where(free[part], row[part], -1.0)
    if not worth.size or worth.max() < min(level, 1 - 1e-10):
        return None
    return int(len(worth) - 1 - worth[::-1].argmax())


def _interpolated(right: NDArray[np.bool_], num_true: int) -> float:
    """Precision at 101 recalls, each the best at that recall or a higher one."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(hits / num_true, RECALLS, side="left")
    return float(np.append(best, 0.0)[np.minimum(at, len(best))].mean())


LEVELS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
REPORTED = {"iou": (0.5, 0.95), "label": (0.5, 0.75, 0.95, 0.99)}
RELEASED = {"iou_max_label_first": 1.0, "iou_max_iou_first": 0.0, "iou_completeness": 0.3}
"""The weights of the one payload that was published; map, map50 and map75 have 0."""
SIZE_PENALTY = 0.6
MAX_EDGE = 1e100
"""Products of such are finite."""
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
"""Of all that its verifier reports."""


class Pair(NamedTuple):
    """A found box, a true one, and the IoU the match is credited with."""

    found: int
    true: int
    iou: float


class Counts(NamedTuple):
    """Of one matcher at one threshold; `weighted` mixes the mean IoU and the completeness."""

    mean_iou: float
    precision: float
    recall: float
    weighted: float


Matcher = Callable[[Sequence[Box], Sequence[Box], float], list[Pair]]
Threshold = float | Literal["average"]


def v_triune_answer(response: str) -> str:
    """What the first answer tags hold, those in the thinking included; "" where there are none."""
    inside, closed, _ = response.partition("<answer>")[2].partition("</answer>")
    return inside if closed else ""


def v_triune_detection_format(response: str) -> float:
    """1 for boxes that can be read and one closing tag, with the line breaks that its prompts ask for.

    Defects: several opening tags pass, no thinking is asked for, and an answer of no boxes is not in form.
    """
    tagged = "\n<answer>\n" in response and response.count("\n</answer>") == 1
    return float(tagged and v_triune_boxes(v_triune_answer(response)) is not None)


def v_triune_boxes(answer: str) -> list[Box] | None:
    """Boxes of an answer as V-Triune reads them; None where it reads none, which is also what `[]` gives.

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


def v_triune_grid(boxes: Sequence[Box], width: float, height: float) -> list[Box]:
    """Input pixels to 0..1000 by cutting off the fraction, which moves every edge up and left."""

    def cut(edge: float, side: float) -> float:
        return float(int(edge / side * 1000))

    return [
        Box(cut(b.x1, width), cut(b.y1, height), cut(b.x2, width), cut(b.y2, height), b.label) for b in boxes
    ]


def label_first(found: Sequence[Box], truth: Sequence[Box], threshold: float) -> list[Pair]:
    """True boxes in their order, each with the best box left of its label: greedy, so not the best match."""
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
    """The matcher whose loop variables overwrite its argmax: each round pairs the last box left with the last
    true one left, and credits them with the best IoU of all pairs left if their labels agree."""
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


def v_triune_detection(
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
            got = counts(found, truth, matcher, level, share)
            stem = f"report_iou_{round(100 * level)}_{name}_match"
            told = (got.mean_iou, got.precision, got.recall)
            scores |= {f"{stem}_{count}": value for count, value in zip(COUNTED, told, strict=True)}
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


THRESHOLD = 0.5
POSITION, COMPLETENESS = 0.7, 0.3


class Overlap(NamedTuple):
    """IoU of a found and a true box, by number."""

    iou: float
    found: int
    true: int


def vlm_r1_iou(a: Box, b: Box) -> float:
    """IoU whose intersection counts pixels inclusively and whose areas do not.

    Boxes in fractions of the picture and boxes one pixel wide have 0 with anything, themselves too.

    Raises:
        ZeroDivisionError: two boxes without area.
    """
    width = min(a.x2, b.x2) - 1 - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - 1 - max(a.y1, b.y1)
    shared = (width + 1) * (height + 1) if width > 0 and height > 0 else 0.0
    areas = sum((box.x2 - box.x1) * (box.y2 - box.y1) for box in (a, b))
    return shared / (areas - shared)


def vlm_r1_map(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """COCO mAP with constant scores: false boxes after the true ones are free. 1 for nothing on nothing, and
    COCO's -1 where all true boxes are too large to count."""
    if not found or not truth:
        return float(not found and not truth)
    return average_precision(found, truth).map if _any_known(found, truth) else 0.0


def vlm_r1_ap50(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """`vlm_r1_map` at IoU 0.5 alone."""
    if not found or not truth:
        return float(not found and not truth)
    return average_precision(found, truth).ap50 if _any_known(found, truth) else 0.0


def _any_known(found: Sequence[Box], truth: Sequence[Box]) -> bool:
    known = {box.label for box in truth}
    return any(box.label in known for box in found)


def vlm_r1_od_length(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """mAP times true / found where more boxes were found than there are: the answer to boxes being free.

    An order that puts the true boxes first still pays for spam, only less.
    """
    return vlm_r1_map(found, truth) * (min(1.0, len(truth) / len(found)) if found else 1.0)


def vlm_r1_weighted_sum(found: Sequence[Box], truth: Sequence[Box]) -> float:
    """0.7 of the IoU matched under the right label per true box, 0.3 of a completeness that ignores labels.

    Perfect boxes under wrong labels earn 0.3. Nothing on nothing earns 1.
    """
    if not found or not truth:
        return float(not found and not truth)
    pairs = [
        Overlap(_or_zero(box, true), i, j) for i, box in enumerate(found) for j, true in enumerate(truth)
    ]
    matched: list[Overlap] = []
    for pair in sorted(pairs, key=lambda pair: -pair.iou):
        taken = any(pair.found == other.found or pair.true == other.true for other in matched)
        if pair.iou >= THRESHOLD and not taken:
            matched.append(pair)
    right = sum(pair.iou for pair in matched if found[pair.found].label == truth[pair.true].label)
    missed, false = 1 - len(matched) / len(truth), 1 - len(matched) / len(found)
    return POSITION * right / len(truth) + COMPLETENESS * (1 - (missed + false) / 2)


def _or_zero(box: Box, true: Box) -> float:
    """Here, and only here, theirs catches the division by zero."""
    try:
        return vlm_r1_iou(box, true)
    except ZeroDivisionError:
        return 0.0

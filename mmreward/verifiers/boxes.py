"""Boxes: reading them, bringing them to one coordinate space, and the soft F1 of a set against the truth."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .verdict import Verdict

KEYS = ("bbox_2d", "bbox", "box", "Position", "position")
LABELS = ("label", "class", "name", "category")
NUMERIC = re.compile(r"-?\d{1,9}(\.\d{1,9})?")
MAX_COORDINATE = 1e7
PARTS = ("precision", "recall", "mean_iou", "found", "true")
"""Of a soft F1."""


class Box(NamedTuple):
    """(x1, y1) top left, (x2, y2) bottom right; label casefolded, with single spaces."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str = ""


def boxes_of(items: Any) -> list[Box | None]:
    """Read boxes from parsed items or a target; None stands for one that cannot be read, which still counts
    as sent.

    An item is {"bbox_2d": [x1, y1, x2, y2], "label": ...}, or the bare four numbers. Gemini's "box_2d" is
    [y1, x1, y2, x2].
    """
    if isinstance(items, Mapping):
        items = [items]
    if not isinstance(items, Iterable) or isinstance(items, str | bytes):
        return [None]
    return [_box(item) for item in items]


def _box(item: Any) -> Box | None:
    label, numbers, swapped = "", item, False
    if isinstance(item, Mapping):
        key = next((key for key in (*KEYS, "box_2d") if item.get(key) is not None), None)
        if key is None:
            return None
        numbers, swapped = item[key], key == "box_2d"
        label = normalise_label(next((item[name] for name in LABELS if item.get(name) is not None), ""))
    if isinstance(numbers, Box):
        return numbers._replace(label=normalise_label(numbers.label))
    if isinstance(numbers, str | Mapping) or not isinstance(numbers, Iterable):
        return None
    values = [_number(value) for value in numbers]
    if len(values) != 4 or any(value is None for value in values):
        return None
    a, b, c, d = (value for value in values if value is not None)
    return Box(b, a, d, c, label) if swapped else Box(a, b, c, d, label)


def _number(value: Any) -> float | None:
    if isinstance(value, str) and NUMERIC.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if abs(number) <= MAX_COORDINATE else None  # NaN fails the comparison


def normalise_label(label: Any) -> str:
    return " ".join(unicodedata.normalize("NFKC", str(label)).casefold().split())


def to_unit(box: Box, width: float, height: float) -> Box | None:
    """Divide by the space's width and height and clamp to the picture; None when no area is left.

    Corners in the wrong order are not repaired: the box is worth nothing.
    """
    x1, x2 = (min(max(x / width, 0.0), 1.0) for x in (box.x1, box.x2))
    y1, y2 = (min(max(y / height, 0.0), 1.0) for y in (box.y1, box.y2))
    return Box(x1, y1, x2, y2, box.label) if x1 < x2 and y1 < y2 else None


def iou(a: Box, b: Box) -> float:
    """Intersection over union; 0 for boxes without area."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    return overlap / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - overlap)


def ramp(value: float, threshold: float, width: float) -> float:
    """Smoothstep: 0 up to threshold - width, 1 from threshold on."""
    x = min(max((value - threshold + width) / width, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def soft_f1(
    found: Sequence[Box | None],
    truth: Sequence[Box],
    *,
    threshold: float = 1.0,
    width: float = 1.0,
    labels: Literal["exact", "ignore"] = "exact",
    decay: float = 0.5,
) -> Verdict:
    """2 * tp / (boxes found + boxes true), tp being the best one-to-one sum of ramp(IoU) over equal labels.

    Every found box counts, duplicates and unreadable ones (None) too, so a box that matches nothing lowers
    the score.
    """
    from scipy.optimize import linear_sum_assignment  # an import that `mmreward list` does not need

    total = len(found) + len(truth)
    if not truth:
        right = float(not found)
        none = {"precision": right, "recall": 1.0, "mean_iou": right, "found": float(len(found)), "true": 0.0}
        return Verdict(decay ** len(found), none)
    worth = np.zeros((len(found), len(truth)))
    overlap = np.zeros((len(found), len(truth)))
    for i, box in enumerate(found):
        for j, other in enumerate(truth):
            if box is not None and (labels == "ignore" or box.label == other.label):
                overlap[i, j] = iou(box, other)
                worth[i, j] = ramp(overlap[i, j], threshold, width)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    tp = float(worth[rows, columns].sum())
    parts = {
        "precision": tp / len(found) if found else 0.0,
        "recall": tp / len(truth),
        "mean_iou": float(overlap[rows, columns].sum()) / len(truth),
        "found": float(len(found)),
        "true": float(len(truth)),
    }
    return Verdict(2 * tp / total, parts)

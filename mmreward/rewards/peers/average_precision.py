"""Average precision as COCO counts it, for boxes without confidence: what peers train on and report.

It is no reward of this suite's own. With constant scores it depends on the order of the boxes, and false
boxes after the true ones are free: two right boxes and 98 on nothing still have AP 1. Equal to pycocotools
2.0.11 with every score 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...verifiers.boxes import Box, Matrix, overlaps

AP_LEVELS = tuple(percent / 100 for percent in range(50, 100, 5))
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_FOUND = 100
"""Boxes per label that count; COCO drops the rest."""
MAX_AREA = 1e10
"""COCO ignores boxes above this, in squared units of the coordinates, and those whose area is negative."""


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
    true = sorted((box for box in truth if box.label == label), key=_ignored)  # those that count come first
    num_counted = sum(not _ignored(box) for box in true)
    if not num_counted:
        return None
    overlap = overlaps(mine, true)
    outside = np.array([_ignored(box) for box in mine], dtype=bool)
    return [
        _interpolated(_outcomes(overlap, level, num_counted, outside), num_counted) for level in AP_LEVELS
    ]


def _ignored(box: Box) -> bool:
    return not 0 <= (box.x2 - box.x1) * (box.y2 - box.y1) <= MAX_AREA


def _outcomes(
    overlap: Matrix, level: float, num_counted: int, outside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """In the order of the found boxes, whether each is a true positive; ignored boxes are left out."""
    free = np.ones(overlap.shape[1], dtype=bool)
    right: list[bool] = []
    for row, beyond in zip(overlap, outside, strict=True):
        match = _best(row, free, level, slice(0, num_counted))
        if match is not None:
            free[match] = False
            right.append(True)
            continue
        ignored = _best(row, free, level, slice(num_counted, None))
        if ignored is not None:
            free[num_counted + ignored] = False
        elif not beyond:
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

"""Which IoU a match must reach as training goes on, and which one a rounded answer can reach at all.

Coordinates are written on a grid, so even the best answer for a small box falls short of IoU 0.99: of a box
of 26 x 19 steps, edges half a step off leave 0.91. A threshold above what is attainable turns every small box
into a wrong answer whatever the model does.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..failures import Unscorable
from . import boxes
from .boxes import Box

KNOTS = ((0.0, 0.50), (0.10, 0.85), (0.25, 0.95), (1.0, 0.99))
"""(progress, IoU), straight in between."""
MARGIN = 0.005
FLOOR = 0.5
TIE = 1e-6


def progress_of(meta: Mapping[str, Any]) -> float:
    """How far training is, 0 to 1: `meta["progress"]`, else `meta["step"] / meta["total_steps"]`, cut at 1.

    Raises:
        Unscorable: "missing" when there is neither, since a guess would train at the wrong threshold; "error"
            when they are no such numbers.
    """
    if meta.get("progress") is not None:
        return _share(meta["progress"], 1.0, "progress")
    if meta.get("step") is None or meta.get("total_steps") is None:
        raise Unscorable(
            'the schedule needs meta["progress"] in [0, 1], or meta["step"] and meta["total_steps"]',
            "missing",
        )
    return _share(meta["step"], meta["total_steps"], "step / total_steps")


def _share(part: Any, whole: Any, name: str) -> float:
    try:
        share = float(part) / float(whole)
    except (TypeError, ValueError, ZeroDivisionError):
        share = math.nan
    if not 0 <= share < math.inf:
        raise Unscorable(f"{name} is {part!r} of {whole!r}, not a share from 0 to 1")
    return min(share, 1.0)


def scheduled(progress: float) -> float:
    """The threshold at this point of training, without jumps: 0.50 at the start, 0.99 at the end."""
    return float(np.interp(progress, [at for at, _ in KNOTS], [level for _, level in KNOTS]))


def v_triune_steps(progress: float) -> float:
    """V-Triune's Dynamic IoU (arXiv:2505.18129): 0.85 up to a tenth of training, 0.95 up to a quarter, then
    0.99."""
    if progress <= 0.10:
        return 0.85
    return 0.95 if progress <= 0.25 else 0.99


def attainable(box: Box, rows: float, columns: float) -> float:
    """The IoU of a box (in fractions of the picture) with itself rounded to a grid of rows x columns steps.

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


def capped(threshold: float, truth: Sequence[Box], rows: float, columns: float) -> list[float]:
    """A threshold for each true box: `threshold`, or a little under what is attainable where that is less,
    but not under 0.5."""
    return [
        max(min(threshold, attainable(box, rows, columns) - MARGIN), min(threshold, FLOOR)) for box in truth
    ]

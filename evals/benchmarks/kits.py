"""Clicks as other evaluation kits read them, for their numbers beside the exact ones.

What a kit calls right is computed from the words of a prediction, in whatever units it takes them to be, not
in the declared space. All are marked LEGACY where they are printed.

- VLMEvalKit: "x=..., y=...", else (0, 0); above 1 it divides by the picture's size, on OSWorld-G by 1000.
- lmms-eval (ScreenSpot's REC task): the first [x1, y1, x2, y2], in fractions of the picture, else [0, 0, 0,
  0]; IoU, and whether the centre lies in the true box.
- UI-I2E-Bench's own evaluator: the first four runs of digits as a box in pixels, or two as a point, so that
  "0.52" is 0 and 52, and a number in the words before shifts the box.
"""

import re
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from mmreward.rewards.gui.targets import Target
from mmreward.verifiers.boxes import Box

KIT = re.compile(r"x=([\d.]{1,32}), y=([\d.]{1,32})")
FOUR = re.compile(
    r"\[\s{0,64}(-?\d{1,32}(?:\.\d{1,32})?),\s{0,64}(-?\d{1,32}(?:\.\d{1,32})?)"
    r",\s{0,64}(-?\d{1,32}(?:\.\d{1,32})?),\s{0,64}(-?\d{1,32}(?:\.\d{1,32})?)\s{0,64}\]"
)
DIGITS = re.compile(r"\d{1,32}")


class Read(NamedTuple):
    """What kits make of the words of a prediction; 1 or 0, but for the IoU.

    Args:
        kit: VLMEvalKit.
        thousand: VLMEvalKit on OSWorld-G.
        lmms_iou: lmms-eval, IoU with the true box.
        lmms_centre: lmms-eval, the centre in the true box.
        digits: UI-I2E-Bench's evaluator.
    """

    kit: float
    thousand: float
    lmms_iou: float
    lmms_centre: float
    digits: float


def read_by_kits(text: str, target: Target, height: float, width: float) -> Read:
    """What the kits make of a prediction for a picture of this size in pixels."""
    kit, thousand = (kit_hit(text, target, height, width, always) for always in (False, True))
    box = lmms_box(text)
    centre = inside((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, target.boxes)
    overlap = max((lmms_iou(true[:4], box) for true in target.boxes), default=0.0)
    x, y = digits_point(text)
    return Read(kit, thousand, overlap, centre, inside(x / width, y / height, target.boxes))


def inside(x: float, y: float, boxes: Sequence[Box]) -> float:
    """1 for a point in one of the boxes, edges in."""
    return float(any(box.x1 <= x <= box.x2 and box.y1 <= y <= box.y2 for box in boxes))


def kit_point(text: str) -> tuple[float, float]:
    """Point that VLMEvalKit reads: of `pyautogui.click(x=..., y=...)`, and (0, 0) of everything else."""
    found = KIT.search(text)
    try:
        return (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    except ValueError:
        return 0.0, 0.0


def kit_hit(text: str, target: Target, height: float, width: float, always: bool) -> float:
    """VLMEvalKit's verdict: what is above 1 is divided by the picture's size (or all by 1000 `always`); a
    refusal is never right."""
    x, y = kit_point(text)
    if always:
        x, y = x / 1000, y / 1000
    elif x > 1 or y > 1:
        x, y = x / width, y / height
    return inside(x, y, target.boxes)


def lmms_box(text: str) -> tuple[float, ...]:
    """Box that lmms-eval reads; [0, 0, 0, 0] of everything else."""
    found = FOUR.search(text)
    return tuple(float(side) for side in found.groups()) if found else (0.0,) * 4


def lmms_iou(true: Sequence[float], found: Sequence[float]) -> float:
    """IoU as lmms-eval computes it, for boxes turned round too; 0 where it would divide by 0."""
    across = max(0.0, min(true[2], found[2]) - max(true[0], found[0]))
    down = max(0.0, min(true[3], found[3]) - max(true[1], found[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (true, found))
    union = areas - across * down
    return across * down / union if union else 0.0


def digits_point(text: str) -> tuple[float, float]:
    """Point that UI-I2E-Bench's evaluator reads, in pixels; (-1, -1) where there are not two numbers."""
    found = [float(one[0]) for one in islice(DIGITS.finditer(text), 4)]
    if len(found) == 4:
        return (found[0] + found[2]) / 2, (found[1] + found[3]) / 2
    return (found[0], found[1]) if len(found) >= 2 else (-1.0, -1.0)

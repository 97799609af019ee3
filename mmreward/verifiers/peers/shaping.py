"""VLM-R1's rewards of length and repetition, reproduced with their defects, for comparison only.

`mmreward.shaping.brevity`, `length` and `repetition` are what to train with.
"""

import math
from collections.abc import Mapping
from typing import Any

from ...failures import Unscorable
from ..lists import parse_list
from ..repetition import ngrams

COSINE_LIMIT = 1024


def vlm_r1_cosine(accuracy: float, tokens: int) -> float:
    """VLM-R1 (90052f4), `length`: 0.5 to 1, the shorter the more.

    Defects: the accuracy is overwritten by 1, so a wrong answer is paid as a right one, and the wave goes on
    beyond its limit, so that 2048 tokens earn as much as none.
    """
    del accuracy  # as the original does
    return 1.0 - 0.5 * (1 - math.cos(tokens * math.pi / COSINE_LIMIT)) / 2


def vlm_r1_repetition(text: str) -> float:
    """VLM-R1 (90052f4), `repetition`: minus the share of repeated boxes, or of 6-grams of words; -1 to 0.

    The original looks for boxes with an expression that takes 108 s for 7.2 KB; here they are read in linear
    time. Defects kept: once there is a list of boxes, the words around it may repeat for free, and under
    six words everything may.
    """
    boxes = _boxes(text)
    items, size = (tuple(boxes), 1) if boxes is not None else (tuple(text.lower().split()), 6)
    total, unique = ngrams(items, size)
    return unique / total - 1 if total else 0.0


def _boxes(text: str) -> list[str] | None:
    """Coordinates and label of each object of a list of boxes; None where there is no such list."""
    try:
        items = parse_list(text).items if "[" in text else []
    except Unscorable:
        return None
    boxes = [item for item in items if isinstance(item, Mapping)]
    keys = [_key(box) for box in boxes if "bbox_2d" in box and "label" in box]
    return keys if keys or (boxes and "```" in text) else None


def _key(box: Mapping[str, Any]) -> str:
    return f"{box['bbox_2d']}_{box['label']}"

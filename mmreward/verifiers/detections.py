"""The boxes of a response and of a target, as fractions of the picture."""

import json
from collections.abc import Sequence
from typing import Any

from ..failures import Unscorable
from ..types import Sample
from .answer import segment
from .boxes import Box, boxes_of, to_unit
from .markup import box_items
from .spaces import Space, extent


def found_boxes(sample: Sample, space: Space, *, bare: bool = False, only: bool = False) -> list[Box | None]:
    """The boxes of the response; None stands for one that is unreadable or has no area in the picture.

    Args:
        sample: its response is read.
        space: of the response.
        bare: read a response without answer tags.
        only: the answer is one list and nothing like another beside it.

    Raises:
        Unscorable: "unparsable" when the response holds no boxes, not even none; "missing" when a size is.
    """
    size = extent(space, sample)  # first: what is missing in the sample is not the response's fault
    parsed = box_items(segment(sample.response or "", bare=bare).answer, only=only)
    boxes = boxes_of(parsed.items, y_first=space.y_first)
    units = [to_unit(box, size.width, size.height) if box else None for box in boxes]
    return [*units, *[None] * parsed.dropped]


def true_boxes(sample: Sample, space: Space) -> list[Box]:
    """The boxes of the target: a list of them, or one, or the same as JSON, as a column of mixed data has it.

    Raises:
        Unscorable: one cannot be read or has no area in the picture, which is an error of the data.
    """
    target = _decoded(sample.target)
    target = [target] if four_numbers(target) else target
    boxes = boxes_of(target, y_first=space.y_first)
    broken = sum(box is None for box in boxes)
    if broken:
        raise Unscorable(f"{broken} of {len(boxes)} target boxes cannot be read: {str(sample.target)[:200]}")
    size = extent(space, sample)
    units = [to_unit(box, size.width, size.height) for box in boxes if box is not None]
    if any(box is None for box in units):
        raise Unscorable(f"a target box has no area inside the picture: {str(sample.target)[:200]}")
    return [box for box in units if box is not None]


def _decoded(target: Any) -> Any:
    if not isinstance(target, str):
        return target
    try:
        return json.loads(target)
    except ValueError:
        raise Unscorable(f"the target is text and no JSON: {target[:200]!r}") from None


def four_numbers(value: Any) -> bool:
    """Whether this is the four coordinates of one box, and not four boxes."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) != 4:
        return False
    return all(isinstance(number, int | float) for number in value)

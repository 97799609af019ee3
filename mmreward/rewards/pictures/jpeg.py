"""JPEG size of a picture: the two rewards of DDPO, which need no network and show that training works."""

import io
import math
from functools import partial
from typing import Any

from ...errors import Unscorable
from ...media import Media
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

QUALITY = 95
LONGEST = 65_500
"""Pixels of a side that libjpeg writes."""


def kilobytes(picture: Media) -> float:
    """Size of the picture as a JPEG of quality 95 by Pillow (4:2:0), in kilobytes of 1000 bytes.

    Raises:
        Unscorable: the picture is broken, or longer than a JPEG can be.
    """
    height, width = picture.size
    if max(height, width) > LONGEST:
        raise Unscorable(f"a JPEG has sides of up to {LONGEST} pixels, and the picture is {width} x {height}")
    file = io.BytesIO()
    picture.picture().save(file, format="JPEG", quality=QUALITY)
    return file.tell() / 1000


def _reward(sign: int, divide: float) -> Any:
    if not 0 < divide < math.inf:
        raise ValueError(f"divide is {divide!r}: a number above 0, in kilobytes")

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        size = await aside(partial(kilobytes, sample.image))
        noted("measured", "{} kilobytes as JPEG, divided by {}", size, divide)
        return Score(sign * size / divide, {"kilobytes": size})

    return score


@reward(
    "jpeg_compressibility",
    needs=("image",),
    range=(-math.inf, 0.0),
    uses_prompt=False,
    paper="arXiv:2305.13301",
)
def jpeg_compressibility(divide: float = 1.0) -> Any:
    """Minus the size of the picture as a JPEG of quality 95, in kilobytes of 1000 bytes (DDPO); 0 or below.

    Smooth pictures are worth more. The size grows with the number of pixels: compare pictures of one size.
    flow_grpo gives this over 500 (`divide: 500`), and the reward below undivided.

    Args:
        divide: kilobytes that make up 1.
    """
    return _reward(-1, divide)


@reward(
    "jpeg_incompressibility",
    needs=("image",),
    range=(0.0, math.inf),
    uses_prompt=False,
    paper="arXiv:2305.13301",
)
def jpeg_incompressibility(divide: float = 1.0) -> Any:
    """Size of the picture as a JPEG of quality 95, in kilobytes of 1000 bytes (DDPO); 0 or above.

    Detailed pictures are worth more, and noise most of all. The size grows with the number of pixels.

    Args:
        divide: kilobytes that make up 1.
    """
    return _reward(1, divide)

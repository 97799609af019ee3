"""Colour saturation of a picture: a measure that careless aesthetic scores pay for, and none of quality."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...media import Media
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch


@reward("saturation", needs=("image",), range=(0.0, 1.0), differentiable=True, uses_prompt=False)
def saturation() -> tuple[Any, Any]:
    """Mean saturation, 0 to 1, of the HSV model: (max - min) / max of each pixel's channels, 0 for black.

    Hold it out to see colours drift, give it a negative weight to hold them back, or a positive one to learn
    whether a run would notice that its reward is gamed (configs/tune/hack-mini-saturation.yaml).
    """

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        value = await aside(partial(_saturation_of, sample.image))
        noted("measured", "a mean saturation of {}", value)
        return Score(value)

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        from ...monitor.pictures import saturation

        return saturation(pixels)

    return score, score_tensor


ROWS = 1 << 20
"""Pixels measured at once: 8 MB of quotients."""


def _saturation_of(picture: Media) -> float:
    pixels = picture.array().reshape(-1, 3)
    total = 0.0
    for start in range(0, len(pixels), ROWS):
        red, green, blue = pixels[
            start : start + ROWS
        ].T  # by planes of bytes: 16 times as fast as in float64
        most = np.maximum(np.maximum(red, green), blue)
        least = np.minimum(np.minimum(red, green), blue)
        total += float(np.divide(most - least, np.maximum(most, 1), dtype=np.float64).sum())
    return total / len(pixels)

"""Colour saturation of a picture: a measure that careless aesthetic scores pay for, and none of quality."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...registry import reward
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
        pixels = sample.image.array().astype(np.float64)
        most, least = pixels.max(-1), pixels.min(-1)
        return Score(float(((most - least) / np.maximum(most, 1)).mean()))

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        from ...monitor.pictures import saturation

        return saturation(pixels)

    return score, score_tensor

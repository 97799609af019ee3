"""The saturation reward is that of HSV, and can be differentiated."""

import asyncio
import colorsys

import numpy as np
import pytest
import torch

from mmreward import Media, Sample, load


def test_it_is_the_mean_saturation_of_hsv_in_both_ways():
    saturation = load("saturation")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    pixels[0, 0] = 0  # black has none
    expected = np.mean(
        [colorsys.rgb_to_hsv(*pixel)[1] for pixel in pixels.reshape(-1, 3).tolist() if any(pixel)]
    )
    expected *= 19 / 20
    score = asyncio.run(saturation(Sample(id="1", image=Media(pixels))))
    assert score.value == pytest.approx(expected)
    floats = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    floats.requires_grad_()
    found = saturation.score_tensor(floats, [""])
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.sum().backward()
    assert floats.grad.abs().sum() > 0

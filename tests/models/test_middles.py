"""The middle of a long picture is what the crop of the whole resized picture is."""

import numpy as np
import pytest
import torch

from mmreward.models import middles, pixels
from mmreward.models.pixels import Recipe, resize, resize_float
from mmreward.models.weights import BACKENDS


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(40, 333), (3, 500), (101, 1001), (333, 20), (16, 90)])
def test_it_equals_the_crop_of_the_whole(kernel, shape, monkeypatch):
    recipe = Recipe(size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1), kernel=kernel)
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8))
    whole = {backend: resize(picture, recipe, backend) for backend in BACKENDS}
    monkeypatch.setattr(pixels, "WHOLE", 0)
    for backend in BACKENDS:
        middle = resize(picture, recipe, backend)
        assert middle.dtype == whole[backend].dtype and middle.shape == (3, 16, 16)
    torch.testing.assert_close(resize(picture, recipe), whole["tensor"], atol=3e-5, rtol=0)
    # Between its two passes the 8-bit kernel rounds and clips.
    assert (resize(picture, recipe, "uint8").int() - whole["uint8"].int()).abs().max() <= 12


def test_it_has_a_gradient():
    recipe = Recipe(size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    long = torch.rand(1, 3, 1, 6000, requires_grad=True)
    assert pixels.WHOLE < 32 * 32 * 6000
    resize_float(long, recipe).sum().backward()
    assert long.grad.abs().sum() > 0


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(333, 5), (1001, 1), (500, 15), (16, 90), (20, 12)])
def test_a_tall_thin_picture_is_squashed_height_first(kernel, shape, monkeypatch):
    recipe = Recipe(size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1), kernel=kernel, fit="squash")
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8))
    whole = {backend: resize(picture, recipe, backend) for backend in BACKENDS}
    monkeypatch.setattr(pixels, "WHOLE", 256)
    torch.testing.assert_close(resize(picture, recipe), whole["tensor"], atol=1e-5, rtol=0)
    # Between its two passes the 8-bit kernel rounds and clips.
    assert (resize(picture, recipe, "uint8").int() - whole["uint8"].int()).abs().max() <= 20


@pytest.mark.parametrize(
    ("shape", "whole"), [((40, 333), (16, 133)), ((200, 24), (133, 16)), ((16, 16), (16, 16))]
)
def test_frames_of_thin_clips_are_cropped_as_others(shape, whole, monkeypatch):
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, *shape), dtype=np.uint8))
    corner = tuple((length - 16) // 2 for length in whole)
    usual = middles.cropped(frames, whole, corner, (16, 16))
    monkeypatch.setattr(middles, "WHOLE", 0)
    thin = middles.cropped(frames, whole, corner, (16, 16))
    assert thin.shape == usual.shape == (2, 3, 16, 16)
    torch.testing.assert_close(thin, usual.clamp(0, 255), atol=0.01, rtol=0)

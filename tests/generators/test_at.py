"""A generator at another size is the one its constructor would make for that size, over the same networks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline, LTXImageToVideoPipeline, WanImageToVideoPipeline
from support import tiny_dit, tiny_stable_diffusion
from support.clip_pipelines import PROMPTS, ltx, pictures, wan, wan_image_to_video, wan_per_token

from mmreward import Media
from mmreward.generators.flux import Flux, FluxKontext
from mmreward.generators.ltx import LTX, LTXImageToVideo
from mmreward.generators.mini_flow import MiniFlow
from mmreward.generators.qwen_image import QwenImage, QwenImageEdit
from mmreward.generators.sd3 import SD3
from mmreward.generators.stable_diffusion import StableDiffusion, StableDiffusionInpaint, StableDiffusionXL
from mmreward.generators.wan import Wan, WanImageToVideo
from mmreward.generators.z_image import ZImage
from mmreward.mini import flow
from mmreward.sampling import sample
from mmreward.tune.learner import TrainedWeights

SMALL, LARGE = {"height": 32, "width": 64}, {"height": 64, "width": 96}
SEEDS = [11, 12]
STEPS = 3


class Family(NamedTuple):
    """Makes its pipeline once, and any number of generators of it."""

    pipe: Callable[[], Any]
    make: Callable[..., Any]
    sees: int = 0
    """Condition pictures per row."""


def with_options(family: type, **options: Any) -> Callable[..., Any]:
    return lambda pipe, **size: family(pipe, **options, **size)


FAMILIES = {
    "mini-flow": Family(lambda: flow.FOLDER, MiniFlow),
    "sd": Family(tiny_stable_diffusion.pipeline, StableDiffusion),
    "sd-inpaint": Family(lambda: tiny_stable_diffusion.pipeline(inpaints=True), StableDiffusionInpaint, 2),
    "sdxl": Family(tiny_stable_diffusion.pipeline_xl, StableDiffusionXL),
    "sd3": Family(lambda: tiny_dit.sd3(**tiny_dit.DYNAMIC), with_options(SD3, max_tokens=40)),
    "flux": Family(lambda: tiny_dit.flux(**tiny_dit.DYNAMIC), with_options(Flux, max_tokens=40)),
    "kontext": Family(
        lambda: tiny_dit.flux(kind=FluxKontextPipeline, **tiny_dit.DYNAMIC),
        with_options(FluxKontext, max_tokens=40, reference=(32, 16)),
        1,
    ),
    "qwen-image": Family(
        lambda: tiny_dit.qwen_image(**tiny_dit.DYNAMIC), with_options(QwenImage, max_tokens=256)
    ),
    "qwen-image-edit": Family(
        tiny_dit.qwen_image_edit, with_options(QwenImageEdit, max_tokens=512, area=64 * 64), 1
    ),
    "z-image": Family(lambda: tiny_dit.z_image(**tiny_dit.DYNAMIC), with_options(ZImage, max_tokens=128)),
    "wan": Family(lambda: wan(experts=True), with_options(Wan, frames=5, guidance_2=2.5)),
    "wan-picture": Family(wan_image_to_video, with_options(WanImageToVideo, frames=5), 1),
    "wan-picture-per-token": Family(
        lambda: wan_per_token(WanImageToVideoPipeline), with_options(WanImageToVideo, frames=5), 1
    ),
    "ltx": Family(lambda: ltx(denoising_vae=True), with_options(LTX, frames=9, fps=12)),
    "ltx-picture": Family(lambda: ltx(LTXImageToVideoPipeline), with_options(LTXImageToVideo, frames=9), 1),
}
BY_SIZE = ("sd3", "flux", "kontext", "qwen-image", "z-image", "ltx", "ltx-picture")
"""Families whose noise levels depend on the size."""


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def inputs(family: Family) -> list[list[Media]]:
    rows = pictures(2, 40)
    mask = Media(np.kron([[0, 255], [255, 0]], np.ones((20, 20))).astype(np.uint8)[:, :, None].repeat(3, 2))
    return {0: [], 1: rows, 2: [[*row, mask] for row in rows]}[family.sees]


@torch.no_grad()
def made(generator: Any, family: Family) -> dict[str, torch.Tensor]:
    """All that a generator does for two rows, by name."""
    told = generator.encode(PROMPTS, inputs(family))
    latents = generator.noise(SEEDS, STEPS)
    pixels = generator.decode(latents / 3)
    return {
        "sigmas": generator.sigmas(STEPS),
        "noise": latents,
        "velocity": generator.velocity(latents, 0.6, told, 2.0),
        "pixels": pixels,
        "latents": generator.to_latents(pixels),
        **{f"given/{name}": tensor for name, tensor in told.given.items()},
        **{f"blank/{name}": tensor for name, tensor in told.blank.items()},
    }


def test_it_is_what_the_constructor_makes(family, request):
    pipe = family.pipe()
    generator, expected = family.make(pipe, **SMALL), made(family.make(pipe, **LARGE), family)
    before = made(generator, family)
    large = generator.at(**LARGE)
    assert large.network is generator.network and type(large) is type(generator)
    found = made(large, family)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert found["pixels"].shape[-2:] == (64, 96) and found["pixels"].ndim == before["pixels"].ndim
    by_size = request.node.callspec.params["family"] in BY_SIZE
    assert torch.equal(found["sigmas"], before["sigmas"]) != by_size
    after = made(generator, family)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_layers_of_one_are_the_others(family):
    generator = family.make(family.pipe(), **SMALL)
    large = generator.at(**LARGE)
    weights = TrainedWeights(generator, rank=2)
    before = made(large, family)["velocity"]
    weights.set({name: torch.full_like(tensor, 0.1) for name, tensor in weights.copy().items()})
    after = made(large, family)["velocity"]
    assert (after - before).abs().max() > 1e-3
    with weights.reference():
        torch.testing.assert_close(made(large, family)["velocity"], before)


def test_a_size_is_refused_as_by_the_constructor(family):
    pipe = family.pipe()
    generator = family.make(pipe, **SMALL)
    for size in ({"height": 33, "width": 64}, {"height": 64, "width": 35}):
        with pytest.raises(ValueError, match=r"height|width") as expected:
            family.make(pipe, **size)
        with pytest.raises(ValueError, match=r"33|35") as found:
            generator.at(**size)
        assert str(found.value) == str(expected.value)


def test_sd3_is_not_asked_for_more_than_it_has_places_for():
    pipe = tiny_dit.sd3()
    assert SD3(pipe).at(128, 64).canvas.grid == (32, 16)
    for make in (lambda: SD3(pipe).at(132, 64), lambda: SD3(pipe, height=132, width=64)):
        with pytest.raises(ValueError, match=r"height 132 and width 64: .* places for 128 pixels"):
            make()


def test_the_miniature_draws_squares_and_oblongs():
    generator = MiniFlow()
    for height, width in ((48, 48), (64, 64), (32, 52)):
        pixels = sample(generator.at(height, width), ["a red circle"], [0], steps=2)
        assert pixels.shape == (1, 3, height, width)
        assert pixels.isfinite().all() and pixels.std() > 0.05
    assert torch.equal(generator.noise([5, 6]), flow.noise([5, 6]))

"""What a run saves is what diffusers loads: the same velocities, family by family."""

from functools import partial

import pytest
import torch
from diffusers import UNet2DConditionModel
from support import clip_pipelines, tiny_dit, tiny_stable_diffusion

from mmreward.generators.flux import Flux
from mmreward.generators.ltx import LTX
from mmreward.generators.mini_flow import MiniFlow
from mmreward.generators.qwen_image import QwenImage
from mmreward.generators.sd3 import SD3
from mmreward.generators.stable_diffusion import StableDiffusion, StableDiffusionXL
from mmreward.generators.wan import Wan
from mmreward.generators.z_image import ZImage
from mmreward.tune.learner import TrainedWeights

CLIP = {"height": 32, "width": 32, "frames": 5}
FAMILIES = {
    "sd": (tiny_stable_diffusion.pipeline, StableDiffusion),
    "sdxl": (tiny_stable_diffusion.pipeline_xl, StableDiffusionXL),
    "sd3": (tiny_dit.sd3, SD3),
    "flux": (tiny_dit.flux, partial(Flux, height=32, width=32)),
    "qwen-image": (tiny_dit.qwen_image, QwenImage),
    "z-image": (tiny_dit.z_image, partial(ZImage, height=32, width=32)),
    "wan": (clip_pipelines.wan, partial(Wan, **CLIP)),
    "wan-2.2": (partial(clip_pipelines.wan, experts=True), partial(Wan, **CLIP)),
    "ltx": (clip_pipelines.ltx, partial(LTX, **CLIP)),
}


def stirred(generator, **settings):
    """Weights that are not the first ones."""
    weights = TrainedWeights(generator, **settings)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in weights.parameters.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return weights


@torch.no_grad()
def velocities(generator):
    """At a high and at a low noise level: of two experts each has one."""
    latents, told = generator.noise([0]), generator.encode(["a red circle"])
    high, low = generator.sigmas(4)[[0, 3]]
    return torch.stack([generator.velocity(latents, level, told) for level in (high, low)])


@pytest.mark.parametrize("name", FAMILIES)
def test_diffusers_loads_the_lora_layers_that_a_run_saves(name, tmp_path):
    make, family = FAMILIES[name]
    generator = family(make())
    plain = velocities(generator)
    stirred(generator, rank=2, alpha=6).save(tmp_path)
    tuned = velocities(generator)
    pipe = make()
    pipe.load_lora_weights(tmp_path)
    if (tmp_path / "transformer_2").exists():
        pipe.load_lora_weights(tmp_path / "transformer_2", load_into_transformer_2=True)
    assert (tuned - plain).abs().flatten(1).mean(1).min() > 1e-4
    torch.testing.assert_close(velocities(family(pipe)), tuned, atol=1e-5, rtol=1e-4)


def test_diffusers_loads_a_whole_network_that_a_run_saves(tmp_path):
    generator = MiniFlow()
    stirred(generator, rank=0).save(tmp_path)
    loaded = UNet2DConditionModel.from_pretrained(tmp_path)
    for name, tensor in generator.network.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])

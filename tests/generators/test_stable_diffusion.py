"""Stable Diffusion in flow coordinates against the pipelines of diffusers, with the same random weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image
from support.tiny_stable_diffusion import BETAS, DDIM, pipeline, pipeline_xl

from mmreward.generators.stable_diffusion import (
    StableDiffusion,
    StableDiffusionInpaint,
    StableDiffusionXL,
    StableDiffusionXLInpaint,
)
from mmreward.media import Media
from mmreward.sampling import sample, solve

PROMPTS = ["a red cat", "two blue dogs in a garden"]
SEEDS = [3, 4]
STEPS = 4
FAMILIES = {
    "sd": (pipeline, StableDiffusion),
    "xl": (pipeline_xl, StableDiffusionXL),
    "inpaint": (pipeline, StableDiffusionInpaint),
    "xl-inpaint": (pipeline_xl, StableDiffusionXLInpaint),
}
SCHEDULERS = {
    "ddim": DDIMScheduler(**DDIM),
    "euler leading": EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
    "euler linspace": EulerDiscreteScheduler(**BETAS, steps_offset=1),
    "euler karras": EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True, steps_offset=1),
    "ddim v": DDIMScheduler(**DDIM, prediction_type="v_prediction"),
    "ddim v zero snr": DDIMScheduler(
        **DDIM, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    ),
    "euler v zero snr": EulerDiscreteScheduler(
        **BETAS,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
    ),
}


def pictures(size: int = 16) -> tuple[Image.Image, Image.Image]:
    """A picture, and a mask that leaves its upper left corner."""
    rng = np.random.default_rng(0)
    mask = np.full((size, size), 255, dtype=np.uint8)
    mask[: size // 2, : size // 2] = 0
    return Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)), Image.fromarray(mask)


def inputs(rows: int) -> list[tuple[Media, ...]]:
    return [tuple(Media(picture) for picture in pictures())] * rows


def draws(height: int = 16, width: int = 16) -> torch.Tensor:
    shape = (4, height // 2, width // 2)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS])


def official(pipe: Any, steps: int, guidance: float, **options: Any) -> torch.Tensor:
    options = {"latents": draws(), "output_type": "pt", **options}
    return torch.as_tensor(
        pipe(PROMPTS, num_inference_steps=steps, guidance_scale=guidance, **options).images
    )


@pytest.fixture(scope="module")
def made() -> Mapping[str, Any]:
    return {
        name: kind(build(inpaints=kind.inpaints), steps=STEPS) for name, (build, kind) in FAMILIES.items()
    }


@pytest.fixture(params=list(FAMILIES))
def family(request: Any, made: Mapping[str, Any]) -> Any:
    return made[request.param]


def encoded(family: Any, prompts: list[str]) -> Any:
    return family.encode(prompts, inputs(len(prompts)) if family.inpaints else ())


@pytest.mark.parametrize(
    ("scheduler", "guidance"), [("ddim", 1.0), *((scheduler, 4.0) for scheduler in SCHEDULERS)]
)
@pytest.mark.parametrize("name", ["sd", "xl"])
def test_samples_are_the_pipelines(name, scheduler, guidance):
    build, kind = FAMILIES[name]
    pipe = build(scheduler=SCHEDULERS[scheduler])
    expected = official(pipe, STEPS, guidance)
    ours = sample(kind(pipe, steps=STEPS), PROMPTS, SEEDS, guidance=guidance)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("size", "guidance"), [(16, 4.0), (23, 1.0)])
@pytest.mark.parametrize("name", ["inpaint", "xl-inpaint"])
def test_inpainting_is_the_pipelines(name, guidance, size):
    build, kind = FAMILIES[name]
    pipe = build(inpaints=True)
    image, mask = pictures(size)
    shown = {"image": [image] * 2, "mask_image": [mask] * 2, "height": 16, "width": 16, "strength": 1.0}
    expected = official(pipe, STEPS, guidance, **shown)
    rows = [(Media(image), Media(mask))] * 2
    ours = sample(kind(pipe, steps=STEPS), PROMPTS, SEEDS, guidance=guidance, inputs=rows)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["sd", "xl"])
@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, EulerAncestralDiscreteScheduler])
def test_turbo_models_take_one_step_without_guidance(name, kind):
    build, family = FAMILIES[name]
    pipe = build(scheduler=kind(**BETAS, timestep_spacing="trailing", steps_offset=1))
    generator = family(pipe)
    assert (generator.steps, generator.guidance) == (1, 1)
    expected = official(pipe, 1, 0.0)
    torch.testing.assert_close(sample(generator, PROMPTS, SEEDS), expected, atol=1e-4, rtol=0)
    told = family(pipe, steps=4, guidance=2.0)
    assert (told.steps, told.guidance) == (4, 2.0)


def test_trailing_spacing_with_zero_snr_is_no_turbo_model():
    generator = StableDiffusion(pipeline(scheduler=SCHEDULERS["ddim v zero snr"]))
    assert (generator.steps, generator.guidance) == (50, 7.5)


@pytest.mark.parametrize("name", ["sd", "xl"])
def test_negative_prompt_and_size(name):
    build, kind = FAMILIES[name]
    pipe = build()
    generator = kind(pipe, height=24, width=8, steps=STEPS, negative_prompt="ugly")
    expected = official(
        pipe, STEPS, 3.0, latents=draws(24, 8), height=24, width=8, negative_prompt=["ugly"] * 2
    )
    ours = sample(generator, PROMPTS, SEEDS, guidance=3.0)
    assert ours.shape == (2, 3, 24, 8)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_empty_negative_prompt_of_xl_is_zeros_only_where_the_pipeline_says_so():
    for zeros in (True, False):
        pipe = pipeline_xl(force_zeros_for_empty_prompt=zeros)
        ours = sample(StableDiffusionXL(pipe, steps=STEPS), PROMPTS, SEEDS, guidance=3.0)
        torch.testing.assert_close(ours, official(pipe, STEPS, 3.0), atol=1e-4, rtol=0)
        blank = StableDiffusionXL(pipe).encode(PROMPTS).blank
        assert (blank["pooled"].abs().sum() == 0) == zeros


def test_noise_for_other_steps_than_the_default():
    pipe = pipeline()
    generator = StableDiffusion(pipe)
    with torch.no_grad():
        latents = solve(
            generator, generator.noise(SEEDS, 10), generator.encode(PROMPTS), generator.sigmas(10)
        )
    expected = official(pipe, 10, 1.0, output_type="latent")
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)


def test_alone_as_in_a_batch(family):
    with torch.no_grad():
        noise, conditioning = family.noise(SEEDS), encoded(family, PROMPTS)
        levels = torch.tensor([0.9, 0.2])
        together = family.decode(family.velocity(noise, levels, conditioning, 3.0))
        for row in range(2):
            one = slice(row, row + 1)
            assert torch.equal(family.noise(SEEDS[one]), noise[one])
            alone = family.velocity(noise[one], float(levels[row]), encoded(family, PROMPTS[one]), 3.0)
            torch.testing.assert_close(family.decode(alone), together[one], atol=1e-5, rtol=0)


def test_gradients_reach_the_latents_and_the_network_alone(family):
    latents = family.noise([1]).requires_grad_()
    velocity = family.velocity(latents, 0.5, encoded(family, PROMPTS[:1]), 2.0)
    family.decode(latents - 0.5 * velocity).mean().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    assert sum(p.grad.abs().sum() for p in family.network.parameters() if p.grad is not None) > 0
    others = [part for role, part in family.parts.items() if role != "network"]
    assert all(not p.requires_grad for part in others for p in part.parameters())
    family.network.zero_grad()


def test_gradient_through_decode_is_right(made):
    generator = made["sd"]
    latents = generator.noise([1]).requires_grad_()
    (slope,) = torch.autograd.grad(generator.decode(latents).sum(), latents)
    step = torch.zeros_like(latents)
    step[0, 1, 2, 3] = 1e-2
    rise = (generator.decode(latents + step) - generator.decode(latents - step)).sum() / 2e-2
    assert slope[0, 1, 2, 3].item() == pytest.approx(rise.item(), rel=2e-2)


def test_lora_layers_change_the_velocity():
    for name in ("sd", "xl"):
        build, kind = FAMILIES[name]
        generator = kind(build())
        latents, conditioning = generator.noise(SEEDS), generator.encode(PROMPTS)
        before = generator.velocity(latents, 0.5, conditioning).detach()
        lora = LoraConfig(r=2, target_modules=list(generator.lora_targets), init_lora_weights=False)
        inject_adapter_in_model(lora, generator.network)
        reached = {
            name.split(".lora_A")[0] for name, _ in generator.network.named_parameters() if "lora" in name
        }
        assert all(any(layer.endswith(end) for layer in reached) for end in generator.lora_targets)
        assert (generator.velocity(latents, 0.5, conditioning) - before).abs().max() > 1e-3


def test_every_part_has_its_role(made):
    assert list(made["sd"].parts) == ["network", "vae", "text_encoder"]
    assert list(made["xl"].parts) == ["network", "vae", "text_encoder", "text_encoder_2"]


@pytest.mark.parametrize("name", ["sd", "xl"])
def test_a_long_prompt_is_cut_with_a_warning(made, name):
    generator = made[name]
    long = "a " * 100
    with pytest.warns(UserWarning, match="1 of 3 prompts have more than 77 tokens"):
        cut = generator.encode(["b", long])
    assert torch.equal(cut.given["hidden"][1], generator.encode(["a " * 75]).given["hidden"][0])


def test_wrong_inputs_name_the_row(made):
    picture = Media(pictures()[0])
    with pytest.raises(ValueError, match="row 1 has condition pictures, but StableDiffusion takes none"):
        made["sd"].encode(PROMPTS, [(), (picture,)])
    with pytest.raises(ValueError, match=r"2 prompts but 0 pairs \(image, mask\)"):
        made["inpaint"].encode(PROMPTS)
    with pytest.raises(ValueError, match="row 1 has 1 pictures"):
        made["inpaint"].encode(PROMPTS, [(picture, picture), (picture,)])
    with pytest.raises(ValueError, match=r"row 0: .*not an image"):
        made["inpaint"].encode(PROMPTS[:1], [(Media(b"no picture"), picture)])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="width must be a multiple of 2, not 15"):
        StableDiffusion(pipeline(), width=15)
    with pytest.raises(ValueError, match="height must be a multiple of 2, not 0"):
        StableDiffusion(pipeline(), height=0)
    with pytest.raises(ValueError, match="9 input channels, not 4: StableDiffusion "):
        StableDiffusion(pipeline(inpaints=True))
    with pytest.raises(ValueError, match="4 input channels, not 9: StableDiffusionInpaint "):
        StableDiffusionInpaint(pipeline())
    with pytest.raises(ValueError, match="latent consistency"):
        StableDiffusion(pipeline(time_cond_proj_dim=8))

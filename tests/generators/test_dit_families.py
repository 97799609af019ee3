"""Promises of every family of transformers: rows do not touch each other, gradients arrive, LoRA fits."""

from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from diffusers import FluxKontextPipeline
from support import tiny_dit

from mmreward.generator import Conditioning, Generator
from mmreward.generators.flux import Flux, FluxKontext
from mmreward.generators.latents import pack
from mmreward.generators.qwen_image import QwenImage, QwenImageEdit
from mmreward.generators.sd3 import SD3
from mmreward.generators.z_image import ZImage
from mmreward.media import Media

SIZE = {"height": 32, "width": 48}
PROMPTS = ["a red circle", "two blue squares above the green one", ""]


def picture(height: int, width: int) -> Media:
    draw = torch.Generator().manual_seed(height)
    return Media(torch.randint(0, 256, (3, height, width), generator=draw, dtype=torch.uint8))


PICTURES = [[picture(40, 80)], [picture(50, 50)], [picture(41, 81)]]

FAMILIES: dict[str, Callable[[], Any]] = {
    "sd3": lambda: SD3(tiny_dit.sd3(), max_tokens=40, **SIZE),
    "flux-dev": lambda: Flux(tiny_dit.flux(), max_tokens=40, **SIZE),
    "flux-schnell": lambda: Flux(tiny_dit.flux(guided=False), max_tokens=40, **SIZE),
    "kontext": lambda: FluxKontext(
        tiny_dit.flux(kind=FluxKontextPipeline), max_tokens=40, reference=(32, 16), **SIZE
    ),
    "qwen-image": lambda: QwenImage(tiny_dit.qwen_image(), max_tokens=256, **SIZE),
    "qwen-image-edit": lambda: QwenImageEdit(
        tiny_dit.qwen_image_edit(), max_tokens=512, area=64 * 64, **SIZE
    ),
    "qwen-image-edit-plus": lambda: QwenImageEdit(
        tiny_dit.qwen_image_edit(plus=True), max_tokens=512, area=64 * 64, most=2, **SIZE
    ),
    "z-image": lambda: ZImage(tiny_dit.z_image(), max_tokens=128, **SIZE),
}
EDITS = ("kontext", "qwen-image-edit", "qwen-image-edit-plus")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def generator(family: str) -> Generator:
    made: Generator = FAMILIES[family]()
    return made


@pytest.fixture
def scale(family: str) -> float:
    """Guidance the family was made for."""
    return 1.0 if family == "flux-schnell" else 4.0


@pytest.fixture
def encode(family: str, generator: Generator) -> Callable[[slice], Conditioning]:
    """Encodes some rows of PROMPTS, with their pictures where the family takes any."""

    def rows(which: slice) -> Conditioning:
        return generator.encode(PROMPTS[which], PICTURES[which] if family in EDITS else ())

    return rows


def test_a_row_is_the_same_alone_and_in_a_batch(generator, encode, scale):
    latents, levels = generator.noise([1, 2, 3]), torch.tensor([0.9, 0.5, 0.1])
    together = encode(slice(None))
    with torch.no_grad():
        batch = generator.velocity(latents, levels, together, scale)
        rows = [slice(row, row + 1) for row in range(3)]
        alone = [generator.velocity(latents[row], levels[row], encode(row), scale) for row in rows]
        joined = Conditioning.join([encode(slice(0, 1)), encode(slice(1, 3))])
        again = generator.velocity(latents, levels, joined, scale)
    assert len(together) == 3
    assert batch.dtype == torch.float32
    assert batch.shape == latents.shape
    assert batch.std() > 0.1
    torch.testing.assert_close(torch.cat(alone), batch, atol=1e-4, rtol=0)
    torch.testing.assert_close(again, batch, atol=1e-4, rtol=0)


def test_noise_depends_on_its_seed_alone(generator):
    noise = generator.noise([5, 6, 5])
    assert noise.dtype == torch.float32
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(generator.noise([6])[0], noise[1])
    assert generator.noise([]).shape == (0, *noise.shape[1:])


@pytest.mark.parametrize("family", ["sd3", "z-image"])
def test_guidance_is_linear_between_blank_and_prompt(generator, encode):
    latents, told = generator.noise([1, 2, 3]), encode(slice(None))
    with torch.no_grad():
        blank, plain, high = (generator.velocity(latents, 0.5, told, scale) for scale in (0.0, 1.0, 4.0))
    torch.testing.assert_close(high, blank + 4 * (plain - blank), atol=1e-4, rtol=0)
    assert (high - plain).abs().mean() > 0.01


@pytest.mark.parametrize("family", ["qwen-image", "qwen-image-edit"])
def test_guidance_leaves_every_token_its_norm(generator, encode):
    latents, told = generator.noise([1, 2, 3]), encode(slice(None))
    with torch.no_grad():
        plain, high = (pack(generator.velocity(latents, 0.5, told, scale)) for scale in (1.0, 4.0))
    torch.testing.assert_close(high.norm(dim=-1), plain.norm(dim=-1), atol=1e-4, rtol=0)
    assert (high - plain).abs().mean() > 0.01


def test_sigmas_fall_from_one_to_zero(generator):
    sigmas = generator.sigmas(7)
    assert sigmas.shape == (8,)
    assert sigmas.dtype == torch.float32
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_gradients_reach_latents_and_weights(generator, encode, scale):
    latents = generator.noise([1]).requires_grad_()
    velocity = generator.velocity(latents, 1.0, encode(slice(0, 1)), scale)
    pixels = generator.decode(0.3 * (latents - velocity))
    assert pixels.shape == (1, 3, 32, 48)
    assert pixels.dtype == torch.float32
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    pixels.mean().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    reached = [weight.grad is not None for weight in generator.network.parameters()]
    assert sum(reached) > len(reached) / 2
    frozen = [part for role, part in generator.parts.items() if role != "network"]
    assert len(frozen) >= 2
    assert not any(weight.requires_grad for part in frozen for weight in part.parameters())


def test_lora_fits_and_can_be_switched_off(generator, encode, scale):
    latents, told = generator.noise([1]), encode(slice(0, 1))
    with torch.no_grad():
        before = generator.velocity(latents, 0.7, told, scale)
        config = peft.LoraConfig(target_modules=list(generator.lora_targets), init_lora_weights=False)
        peft.inject_adapter_in_model(config, generator.network)
        layers = [m for m in generator.network.modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
        tuned = generator.velocity(latents, 0.7, told, scale)
        for layer in layers:
            layer.enable_adapters(False)
        off = generator.velocity(latents, 0.7, told, scale)
    assert len(layers) >= len(generator.lora_targets)
    assert (tuned - before).abs().mean() > 1e-3
    torch.testing.assert_close(off, before, atol=0, rtol=0)


def test_half_precision_stays_inside_the_network(generator, encode, scale, family):
    latents, told = generator.noise([1, 2, 3]), encode(slice(None))
    sigma = (
        0.5  # a level, and above a scale, whose thousandfold bfloat16 holds exactly, as networks round both
    )
    with torch.no_grad():
        whole = generator.velocity(latents, sigma, told, scale)
        pipe = generator.pipe.to(torch.bfloat16)
        half = type(generator)(pipe, **_arguments(generator))
        given = half.encode(PROMPTS, PICTURES if family in EDITS else ())
        rough = half.velocity(latents, sigma, given, scale)
        pixels = half.decode(latents)
    assert half.dtype == torch.bfloat16
    assert rough.dtype == pixels.dtype == torch.float32
    assert (rough - whole).pow(2).mean().sqrt() < 0.1 * whole.std()


def _arguments(generator: Any) -> dict[str, Any]:
    kept = {"height": 32, "width": 48, "max_tokens": generator.max_tokens}
    if isinstance(generator, FluxKontext):
        return {**kept, "reference": (32, 16)}
    if isinstance(generator, QwenImageEdit):
        return {**kept, "area": generator.area, "most": generator.most}
    return kept

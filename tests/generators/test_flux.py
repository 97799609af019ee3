import pytest
import torch
from diffusers import FluxKontextPipeline
from diffusers.pipelines.flux import pipeline_flux_kontext
from support import tiny_dit
from support.dit_checks import PROMPTS, SEEDS, assert_same_pixels, pipeline_pixels

from mmreward.generators import flux
from mmreward.generators.flux import Flux, FluxKontext
from mmreward.media import Media
from mmreward.sampling import sample


def picture(seed: int, height: int, width: int) -> Media:
    draw = torch.Generator().manual_seed(seed)
    return Media(torch.randint(0, 256, (3, height, width), generator=draw, dtype=torch.uint8))


@pytest.mark.parametrize("guidance", [1.0, 3.5])
@pytest.mark.parametrize("size", [(32, 48), (64, 64)])
def test_pixels_of_the_pipeline(guidance, size):
    pipe, (height, width) = tiny_dit.flux(**tiny_dit.DYNAMIC), size
    expected = pipeline_pixels(
        pipe, 4, prompt=PROMPTS, height=height, width=width, guidance_scale=guidance, max_sequence_length=40
    )
    generator = Flux(pipe, height=height, width=width, max_tokens=40)
    assert_same_pixels(generator, 4, guidance, expected)


def test_guidance_is_an_input_of_dev():
    generator = Flux(tiny_dit.flux(), height=32, width=32, max_tokens=20)
    low, high = (sample(generator, PROMPTS, SEEDS, 2, scale) for scale in (1.0, 5.0))
    assert (low - high).abs().mean() > 1e-3


def test_schnell_has_no_guidance():
    pipe = tiny_dit.flux(guided=False)
    expected = pipeline_pixels(pipe, 4, prompt=PROMPTS, height=32, width=32, max_sequence_length=40)
    generator = Flux(pipe, height=32, width=32, max_tokens=40)
    assert (generator.steps, generator.guidance) == (4, 1.0)
    assert_same_pixels(generator, 4, 1.0, expected)
    with pytest.raises(ValueError, match=r"use guidance 1, not 3\.5"):
        sample(generator, PROMPTS, SEEDS, 4, 3.5)


@pytest.mark.parametrize("size", [(32, 48), (48, 32)])
def test_kontext_pixels_of_the_pipeline(size):
    pipe = tiny_dit.flux(kind=FluxKontextPipeline, **tiny_dit.DYNAMIC)
    height, width = size
    pictures = [picture(seed, 40, 24) for seed in (1, 2)]
    expected = pipeline_pixels(
        pipe,
        3,
        prompt=PROMPTS,
        image=[one.picture() for one in pictures],
        height=height,
        width=width,
        max_area=height * width,
        guidance_scale=2.5,
        max_sequence_length=40,
        _auto_resize=False,
    )
    generator = FluxKontext(pipe, height=height, width=width, max_tokens=40, reference=(40, 24))
    assert_same_pixels(generator, 3, 2.5, expected, inputs=[[one] for one in pictures])


@pytest.fixture
def trained_sizes(monkeypatch):
    """Sizes Kontext was trained for, in miniature: pairs of width and height."""
    sizes = [(16, 36), (24, 24), (36, 16)]
    for module in (flux, pipeline_flux_kontext):
        monkeypatch.setattr(module, "PREFERRED_KONTEXT_RESOLUTIONS", sizes)


def test_kontext_brings_each_picture_to_the_trained_size_nearest_in_shape(trained_sizes):
    pipe = tiny_dit.flux(kind=FluxKontextPipeline)
    pictures = [picture(1, 20, 50), picture(2, 32, 30)]
    arguments = {
        "height": 32,
        "width": 32,
        "max_area": 32 * 32,
        "guidance_scale": 2.5,
        "max_sequence_length": 40,
    }
    expected = [
        pipeline_pixels(pipe, 2, [seed], prompt=[prompt], image=one.picture(), **arguments)
        for prompt, seed, one in zip(PROMPTS, SEEDS, pictures, strict=True)
    ]
    generator = FluxKontext(pipe, height=32, width=32, max_tokens=40)
    inputs = [[one] for one in pictures]
    assert generator.encode(PROMPTS, inputs).given["sizes"].tolist() == [[[4, 9]], [[6, 6]]]
    assert_same_pixels(generator, 2, 2.5, torch.cat(expected), inputs=inputs)


def test_kontext_wants_one_picture_per_row(trained_sizes):
    generator = FluxKontext(tiny_dit.flux(kind=FluxKontextPipeline), height=32, width=32, max_tokens=8)
    one = picture(1, 24, 24)
    with pytest.raises(ValueError, match="row 1 has 2 condition pictures; FLUX Kontext takes one"):
        generator.encode(PROMPTS, [[one], [one, one]])
    with pytest.raises(ValueError, match="2 prompts but condition pictures for 1 rows, so row 1"):
        generator.encode(PROMPTS, [[one]])
    with pytest.raises(ValueError, match="row 0 has 1 condition pictures, but FLUX takes none"):
        Flux(generator.pipe, height=32, width=32).encode(PROMPTS, [[one], []])

import pytest
import torch
from support import tiny_dit
from support.dit_checks import PROMPTS, SEEDS, assert_same_pixels, pipeline_pixels, quiet

from mmreward.generators.sd3 import SD3
from mmreward.media import Media
from mmreward.sampling import sample


@pytest.mark.parametrize("guidance", [1.0, 4.5])
@pytest.mark.parametrize("size", [(32, 48), (64, 64)])
@pytest.mark.parametrize("shift", [{"shift": 3.0}, tiny_dit.DYNAMIC], ids=["static", "dynamic"])
def test_pixels_of_the_pipeline(guidance, size, shift):
    pipe, (height, width) = tiny_dit.sd3(**shift), size
    expected = pipeline_pixels(
        pipe, 4, prompt=PROMPTS, height=height, width=width, guidance_scale=guidance, max_sequence_length=40
    )
    generator = SD3(pipe, height=height, width=width, max_tokens=40)
    assert_same_pixels(generator, 4, guidance, expected)


def test_works_without_t5():
    pipe = tiny_dit.sd3(t5=False)
    expected = pipeline_pixels(pipe, 2, prompt=PROMPTS, guidance_scale=4.5)
    assert_same_pixels(SD3(pipe), 2, 4.5, expected)


def test_negative_prompt_is_what_guidance_leads_away_from():
    pipe = tiny_dit.sd3()
    expected = pipeline_pixels(
        pipe, 2, prompt=PROMPTS, negative_prompt=["blurry"] * 2, guidance_scale=3.0, max_sequence_length=30
    )
    assert_same_pixels(SD3(pipe, max_tokens=30, negative_prompt="blurry"), 2, 3.0, expected)
    plain = sample(SD3(pipe, max_tokens=30), PROMPTS, SEEDS, 2, 3.0)
    assert (plain - expected).abs().mean() > 0.01


def test_sigmas_are_the_schedulers_and_leave_it_alone():
    pipe = tiny_dit.sd3(shift=3.0)
    before = pipe.scheduler.sigmas.clone()
    sigmas = SD3(pipe).sigmas(10)
    assert torch.equal(pipe.scheduler.sigmas, before)
    pipe.scheduler.set_timesteps(10)
    torch.testing.assert_close(sigmas, pipe.scheduler.sigmas, rtol=0, atol=0)
    even = torch.linspace(1, pipe.scheduler.sigma_min, 10)
    torch.testing.assert_close(sigmas[:-1], 3 * even / (1 + 2 * even))
    assert sigmas[-1] == 0


def test_wrong_arguments_are_named():
    pipe = quiet(tiny_dit.sd3())
    with pytest.raises(ValueError, match="height 30 is not a positive multiple of 4; try 28"):
        SD3(pipe, height=30)
    generator = SD3(pipe)
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        generator.sigmas(0)
    with pytest.raises(ValueError, match="row 1 has 1 condition pictures, but SD3 takes none"):
        generator.encode(PROMPTS, [[], [Media(torch.zeros(3, 8, 8, dtype=torch.uint8))]])
    pipe.text_encoder_2 = None
    with pytest.raises(ValueError, match="without text_encoder_2"):
        generator.encode(PROMPTS)

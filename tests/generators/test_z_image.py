import pytest
from support import tiny_dit
from support.dit_checks import PROMPTS, assert_same_pixels, pipeline_pixels

from mmreward.generators.z_image import ZImage


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("size", [(32, 48), (60, 36)])
@pytest.mark.parametrize("shift", [{"shift": 3.0}, tiny_dit.DYNAMIC], ids=["static", "dynamic"])
def test_pixels_of_the_pipeline(guidance, size, shift):
    pipe, (height, width) = tiny_dit.z_image(**shift), size
    expected = pipeline_pixels(
        pipe,
        4,
        prompt=[*PROMPTS],
        height=height,
        width=width,
        guidance_scale=guidance - 1,  # the pipeline's scale is what is added to the plain velocity
        max_sequence_length=128,
    )
    generator = ZImage(pipe, height=height, width=width, max_tokens=128)
    assert_same_pixels(generator, 4, guidance, expected)


def test_prompts_of_the_caller_are_left_alone():
    prompts = [*PROMPTS]
    ZImage(tiny_dit.z_image(), height=32, width=32).encode(prompts)
    assert prompts == PROMPTS

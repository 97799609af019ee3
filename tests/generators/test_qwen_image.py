import pytest
import torch
from support import tiny_dit
from support.dit_checks import PROMPTS, assert_same_pixels, pipeline_pixels

from mmreward.generators.qwen_image import QwenImage
from mmreward.media import Media


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("size", [(32, 48), (64, 64)])
def test_pixels_of_the_pipeline(guidance, size):
    pipe, (height, width) = tiny_dit.qwen_image(**tiny_dit.DYNAMIC), size
    expected = pipeline_pixels(
        pipe,
        4,
        prompt=PROMPTS,
        negative_prompt=[" "] * 2,
        height=height,
        width=width,
        true_cfg_scale=guidance,
        max_sequence_length=256,
    )
    generator = QwenImage(pipe, height=height, width=width, max_tokens=256)
    assert_same_pixels(generator, 4, guidance, expected)


def test_long_prompts_are_cut_as_the_pipeline_cuts_them():
    pipe = tiny_dit.qwen_image()
    size = {"height": 32, "width": 32}
    expected = pipeline_pixels(
        pipe, 2, prompt=PROMPTS, negative_prompt=[" "] * 2, max_sequence_length=165, **size
    )
    assert_same_pixels(QwenImage(pipe, max_tokens=165, **size), 2, 4.0, expected)


def test_condition_pictures_are_refused():
    generator = QwenImage(tiny_dit.qwen_image(), height=32, width=32)
    with pytest.raises(ValueError, match="row 0 has 1 condition pictures, but Qwen-Image takes none"):
        generator.encode(PROMPTS, [[Media(torch.zeros(3, 8, 8, dtype=torch.uint8))], []])

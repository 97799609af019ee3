from collections.abc import Iterator

import pytest
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from support import tiny_dit
from support.dit_checks import PROMPTS, SEEDS, assert_same_pixels, pipeline_pixels

from mmreward.generators.qwen_image import QwenImageEdit
from mmreward.media import Media

AREA = 64 * 64
SIZE = {"height": 32, "width": 48}


def picture(seed: int, height: int, width: int) -> Media:
    draw = torch.Generator().manual_seed(seed)
    return Media(torch.randint(0, 256, (3, height, width), generator=draw, dtype=torch.uint8))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The pipelines bring pictures to 64 x 64 pixels in place of 1024 x 1024."""
    fitted = pipeline_qwenimage_edit.calculate_dimensions
    monkeypatch.setattr(
        pipeline_qwenimage_edit, "calculate_dimensions", lambda area, ratio: fitted(AREA, ratio)
    )
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", AREA)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_pixels_of_the_pipeline(small, guidance):
    pipe = tiny_dit.qwen_image_edit(**tiny_dit.DYNAMIC)
    pictures = [picture(1, 40, 80), picture(2, 50, 50)]
    rows = [
        pipeline_pixels(
            pipe,
            3,
            [seed],
            prompt=[prompt],
            negative_prompt=[" "],
            image=one.picture(),
            true_cfg_scale=guidance,
            **SIZE,
        )
        for prompt, seed, one in zip(PROMPTS, SEEDS, pictures, strict=True)
    ]
    generator = QwenImageEdit(pipe, max_tokens=512, area=AREA, **SIZE)
    assert_same_pixels(generator, 3, guidance, torch.cat(rows), inputs=[[one] for one in pictures])


def test_plus_pixels_of_the_pipeline(small):
    pipe = tiny_dit.qwen_image_edit(plus=True, **tiny_dit.DYNAMIC)
    inputs = [[picture(1, 40, 80)], [picture(2, 50, 50), picture(3, 70, 40)]]
    rows = [
        pipeline_pixels(
            pipe,
            3,
            [seed],
            prompt=[prompt],
            negative_prompt=[" "],
            image=[one.picture() for one in pictures],
            true_cfg_scale=4.0,
            **SIZE,
        )
        for prompt, seed, pictures in zip(PROMPTS, SEEDS, inputs, strict=True)
    ]
    generator = QwenImageEdit(pipe, max_tokens=512, area=AREA, **SIZE)
    assert generator.plus
    assert_same_pixels(generator, 3, 4.0, torch.cat(rows), inputs=inputs)


def test_wrong_arguments_are_named():
    generator = QwenImageEdit(tiny_dit.qwen_image_edit(), max_tokens=512, area=AREA, **SIZE)
    one = picture(1, 40, 40)
    with pytest.raises(ValueError, match="row 0 has 2 condition pictures; Qwen-Image-Edit takes one"):
        generator.encode(PROMPTS, [[one, one], [one]])
    with pytest.raises(ValueError, match="2 prompts but condition pictures for 0 rows"):
        generator.encode(PROMPTS)
    with pytest.raises(ValueError, match="row 1 has a picture of 4 x 40 pixels; crop it"):
        generator.encode(PROMPTS, [[one], [picture(1, 40, 4)]])
    with pytest.raises(ValueError, match=r"row 0 has \d+ tokens of prompt and pictures; max_tokens is 512"):
        generator.encode(["long " * 100], [[one]])
    plus = QwenImageEdit(tiny_dit.qwen_image_edit(plus=True), area=AREA, most=2, **SIZE)
    with pytest.raises(ValueError, match="row 0 has 3 condition pictures; Qwen-Image-Edit takes 1 to 2"):
        plus.encode(["x"], [[one] * 3])

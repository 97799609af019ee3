"""Check of every family of transformers: the pixels are those of the pipeline it came from."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from mmreward.generator import Generator
from mmreward.sampling import sample

PROMPTS = ["a red circle", "two blue squares above a green one"]
SEEDS = [3, 14]


def quiet(pipe: Any) -> Any:
    """`pipe` without progress bars and without its notes on long prompts."""
    pipe.set_progress_bar_config(disable=True)
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return pipe


def pipeline_pixels(pipe: Any, steps: int, seeds: Sequence[int] = SEEDS, **arguments: Any) -> torch.Tensor:
    """Pixels (N, 3, H, W) of the pipeline's own call, one seed per row."""
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    pixels = quiet(pipe)(num_inference_steps=steps, generator=draws, output_type="pt", **arguments).images
    return torch.as_tensor(pixels)


def assert_same_pixels(
    generator: Generator, steps: int, guidance: float, expected: torch.Tensor, **arguments: Any
) -> None:
    """`sample` gives `expected`, and neither is so plain that anything would."""
    pixels = sample(generator, PROMPTS, SEEDS, steps, guidance, **arguments)
    assert expected.std() > 0.05
    assert (expected[0] - expected[1]).abs().mean() > 0.02
    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=0)

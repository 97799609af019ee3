"""Plain sampling of any generator by Euler steps, and pixels to media."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ..media import Media
from ..types import Sample
from .generator import Conditioning, Generator


@torch.no_grad()
def sample(
    generator: Generator,
    prompts: Sequence[str],
    seeds: Sequence[int],
    steps: int | None = None,
    guidance: float | None = None,
    *,
    inputs: Sequence[Sequence[Media]] = (),
    batch: int = 64,
) -> torch.Tensor:
    """Pixels (N, 3, H, W) or (N, T, 3, H, W) in [0, 1], one per (prompt, seed); the same pair gives the same
    pixels in any batch.

    Raises:
        ValueError: not as many seeds as prompts, fewer than one step, or as the generator's `encode`.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds; give one seed per prompt")
    steps = generator.steps if steps is None else steps
    guidance = generator.guidance if guidance is None else guidance
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    pixels = []
    for start in range(0, len(prompts), batch):
        rows = slice(start, start + batch)
        conditioning = generator.encode(prompts[rows], inputs[rows])
        noise = generator.noise(seeds[rows], steps)
        latents = solve(generator, noise, conditioning, generator.sigmas(steps), guidance)
        pixels.append(generator.decode(latents).cpu())
    return torch.cat(pixels) if pixels else torch.empty(0, 3, 0, 0)


def solve(
    generator: Generator,
    latents: torch.Tensor,
    conditioning: Conditioning,
    sigmas: torch.Tensor,
    guidance: float = 1.0,
) -> torch.Tensor:
    """Latents at the first of `sigmas` to latents at the last, by Euler steps; differentiable."""
    for now, after in itertools.pairwise(sigmas):
        latents = latents + (after - now) * generator.velocity(latents, now, conditioning, guidance)
    return latents


def media(pixels: torch.Tensor, fps: float | None = 16.0) -> list[Media]:
    """Pixels (N, 3, H, W) to pictures, or (N, T, 3, H, W) to clips of `fps` frames a second: 8 bits, on their
    device. Pass the generator's `fps`; pictures have none."""
    whole = (pixels.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)
    if whole.ndim == 5:
        return [Media(clip, kind="video", fps=fps) for clip in whole]
    return [Media(picture) for picture in whole]


def shown(sample: Sample, one: Media, **fields: Any) -> Sample:
    """The sample with what was drawn for it as its picture or clip."""
    if one.kind == "video":
        return replace(sample, video=one, **fields)
    return replace(sample, image=one, **fields)

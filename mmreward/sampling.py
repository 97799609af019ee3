"""From latents to pixels with a gradient, in little memory, and from pixels to samples that can be scored."""

# FOLDED mmreward/tune/sampling.py: Plain sampling of any generator by Euler steps, and pixels to media.

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from .generator import Conditioning, Generator
from .media import Media
from .types import Sample


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


def rendered(
    generator: Generator,
    latents: torch.Tensor,
    conditioning: Conditioning,
    sigmas: torch.Tensor,
    guidance: float = 1.0,
    *,
    checkpointed: bool = True,
) -> torch.Tensor:
    """Pixels in [0, 1] from latents at the first of `sigmas`, by Euler steps; differentiable.

    Args:
        checkpointed: keep the activations of one step (or of the decoder) at a time and compute the others
            again on the way back: the same gradient for one more forward per step.
    """

    def step(latents: torch.Tensor, now: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return latents + (after - now) * generator.velocity(latents, now, conditioning, guidance)

    for now, after in itertools.pairwise(sigmas):
        if checkpointed:
            latents = checkpoint(step, latents, now, after, use_reentrant=False)
        else:
            latents = step(latents, now, after)
    if checkpointed:
        return torch.as_tensor(checkpoint(generator.decode, latents, use_reentrant=False))
    return generator.decode(latents)


@contextmanager
def frozen(generator: Generator) -> Iterator[None]:
    """No parameter asks for a gradient in here, so that none of their activations are kept."""
    asking = [p for part in generator.parts.values() for p in part.parameters() if p.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def forwards(conditioning: Conditioning, guidance: float, steps: int) -> int:
    """Forward passes of the network for one row: two a step with classifier-free guidance, else one."""
    return steps * (2 if guidance != 1 and conditioning.blank else 1)


def encoded(generator: Generator, samples: Sequence[Sample]) -> Conditioning:
    """The samples' prompts, and their `inputs` where any has some."""
    inputs = [sample.inputs for sample in samples]
    return generator.encode([sample.prompt for sample in samples], inputs if any(inputs) else ())


def filled(samples: Sequence[Sample], pixels: torch.Tensor, fps: float | None = None) -> list[Sample]:
    """The samples with these pixels, (N, 3, H, W) or (N, T, 3, H, W), as their picture, or as their clip of
    `fps` frames a second."""
    pairs = zip(samples, media(pixels, fps), strict=True)
    if pixels.ndim == 5:
        return [replace(sample, video=clip) for sample, clip in pairs]
    return [replace(sample, image=picture) for sample, picture in pairs]

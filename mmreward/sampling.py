"""Sampling of any generator: prompts in, pixels out, as media in samples that can be scored.

`encoded`, `sample` and `shown` are the one way from samples to pictures for training, search and evaluation.
`sample` draws without a gradient; `solve` and `rendered` keep one, the second in little memory. Knows no
family, no reward and no training; steps with a density, which policy gradients need, are in `tune.kernels`.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch.utils.checkpoint import checkpoint

from .generator import Conditioning, Generator
from .media import Media
from .types import Sample

# From prompts to pixels.


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
    """Pixels (N, 3, H, W) or (N, T, 3, H, W) in [0, 1], one per (prompt, seed), on the CPU; the same pair
    gives the same pixels in any batch.

    Args:
        generator: draws them.
        prompts: N texts.
        seeds: N of them.
        steps, guidance: the generator's own where not given.
        inputs: condition pictures of each row, for families that take some; else empty.
        batch: rows drawn at a time.

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
    *,
    checkpointed: bool = False,
) -> torch.Tensor:
    """Latents at the first of `sigmas` to latents at the last, by Euler steps; differentiable.

    Args:
        checkpointed: keep the activations of one step at a time and compute the others again on the way
            back: the same gradient for one more forward per step.
    """

    def step(latents: torch.Tensor, now: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return latents + (after - now) * generator.velocity(latents, now, conditioning, guidance)

    for now, after in itertools.pairwise(sigmas):
        if checkpointed:
            latents = torch.as_tensor(checkpoint(step, latents, now, after, use_reentrant=False))
        else:
            latents = step(latents, now, after)
    return latents


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
        checkpointed: as for `solve`, and the decoder's activations are computed again too.
    """
    latents = solve(generator, latents, conditioning, sigmas, guidance, checkpointed=checkpointed)
    if checkpointed:
        return torch.as_tensor(checkpoint(generator.decode, latents, use_reentrant=False))
    return generator.decode(latents)


@contextmanager
def frozen(generator: Generator) -> Iterator[None]:
    """Context in which no parameter asks for a gradient, so that none of their activations are kept."""
    trainable = [p for part in generator.parts.values() for p in part.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def forwards(conditioning: Conditioning, guidance: float, steps: int) -> int:
    """Forward passes of the network for one row: two a step with classifier-free guidance, else one."""
    return steps * (2 if guidance != 1 and conditioning.blank else 1)


# From samples to conditioning, and from pixels to samples.


class Prompted(Protocol):
    """A row with a prompt and condition pictures: a `Sample` or a `PreferencePair`."""

    @property
    def prompt(self) -> str:
        """The text to draw."""
        ...

    @property
    def inputs(self) -> Sequence[Media]:
        """Condition pictures; empty for none."""
        ...


def encoded(generator: Generator, rows: Sequence[Prompted]) -> Conditioning:
    """Conditioning of the rows' prompts, and of their `inputs` where any has some.

    Raises:
        ValueError: as the generator's `encode`.
    """
    inputs = [row.inputs for row in rows]
    return generator.encode([row.prompt for row in rows], inputs if any(inputs) else ())


def media(pixels: torch.Tensor, fps: float | None = 16.0) -> list[Media]:
    """Pixels (N, 3, H, W) to pictures, or (N, T, 3, H, W) to clips of `fps` frames a second: 8 bits, on their
    device. Pass the generator's `fps`; pictures have none."""
    whole = (pixels.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)
    if whole.ndim == 5:
        return [Media(clip, kind="video", fps=fps) for clip in whole]
    return [Media(picture) for picture in whole]


def shown(sample: Sample, drawn: Media, **fields: Any) -> Sample:
    """The sample with `drawn` as its picture or clip, and further fields replaced."""
    if drawn.kind == "video":
        return replace(sample, video=drawn, **fields)
    return replace(sample, image=drawn, **fields)


def filled(samples: Sequence[Sample], pixels: torch.Tensor, fps: float | None = None) -> list[Sample]:
    """`shown` for a batch: the samples with these pixels, (N, 3, H, W) or (N, T, 3, H, W), as pictures or as
    clips of `fps` frames a second."""
    return [shown(sample, drawn) for sample, drawn in zip(samples, media(pixels, fps), strict=True)]

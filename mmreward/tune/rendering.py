"""From latents to pixels with a gradient, in little memory, and from pixels to samples that can be scored."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch.utils.checkpoint import checkpoint

from ..types import Sample
from .generator import Conditioning, Generator
from .sampling import media


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

"""What a flow-matching generator must offer to be sampled, tuned and optimised, and sampling of any of them.

Conventions of SD3 and FLUX: x_sigma = (1 - sigma) x0 + sigma noise, velocity = noise - x0, sigma falls from 1
to 0. Latents are (N, C, H, W) in whatever space the family works; only `decode` knows how they become pixels.
This file knows no family, no reward and no training.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Encoded prompts: hidden states (N, L, D), pooled embeddings (N, P), and both for the empty prompt."""

    hidden: torch.Tensor
    pooled: torch.Tensor
    blank_hidden: torch.Tensor
    """(1, L, D)"""
    blank_pooled: torch.Tensor
    """(1, P)"""

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, rows: slice | torch.Tensor) -> "Conditioning":
        return Conditioning(self.hidden[rows], self.pooled[rows], self.blank_hidden, self.blank_pooled)


class Generator(Protocol):
    """A text-to-image flow model.

    `network` is what is tuned: give it LoRA layers at `lora_targets` and every method below uses them.
    `velocity` and `decode` can be differentiated through.
    """

    network: torch.nn.Module
    lora_targets: tuple[str, ...]
    steps: int
    """Default number of steps."""
    guidance: float
    """Default guidance scale; 1 means none."""

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Prompts as the network wants them."""
        ...

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Starting latents, one per seed; a seed gives the same noise in any batch."""
        ...

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """d latents / d sigma at one noise level or at one per latent, with classifier-free guidance."""
        ...

    def sigmas(self, steps: int) -> torch.Tensor:
        """The `steps` + 1 noise levels from 1 to 0 that the family samples at."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels, float (N, 3, H, W) in [0, 1]."""
        ...


@torch.inference_mode()
def sample(
    generator: Generator,
    prompts: Sequence[str],
    seeds: Sequence[int],
    steps: int | None = None,
    guidance: float | None = None,
    batch: int = 64,
) -> list[Image.Image]:
    """One picture per (prompt, seed) by Euler steps; the same pair gives the same picture in any batch.

    Raises ValueError when there are not as many seeds as prompts, or fewer than one step.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds; give one seed per prompt")
    steps = generator.steps if steps is None else steps
    guidance = generator.guidance if guidance is None else guidance
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    pictures: list[Image.Image] = []
    for start in range(0, len(prompts), batch):
        conditioning = generator.encode(prompts[start : start + batch])
        latents = generator.noise(seeds[start : start + batch])
        for now, after in itertools.pairwise(generator.sigmas(steps)):
            latents = latents + (after - now) * generator.velocity(latents, now, conditioning, guidance)
        pictures += to_pil(generator.decode(latents))
    return pictures


def to_pil(pixels: torch.Tensor) -> list[Image.Image]:
    """Float (N, 3, H, W) in [0, 1] to pictures."""
    rows = (pixels.detach().float().cpu() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(row) for row in rows]

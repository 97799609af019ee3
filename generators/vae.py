"""Latents to pixels and back through an `AutoencoderKL`. Knows no transformer.

Slicing, tiling and gradient checkpointing are switched on at the VAE itself; all three keep the graph.
"""

from typing import Any

import torch


def decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents (N, C, h, w) to pixels (N, 3, H, W) in [0, 1], float32; differentiable inside the range."""
    raw = latents.float() / vae.config.scaling_factor + vae.config.shift_factor
    return fractions(vae.decode(raw.to(vae.dtype), return_dict=False)[0])


def encode(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (N, 3, H, W) in [-1, 1] to the most likely latents (N, C, h, w), float32."""
    mode = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode().float()
    return torch.as_tensor((mode - vae.config.shift_factor) * vae.config.scaling_factor)


def fractions(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels in [-1, 1] to [0, 1], float32, cut to the range."""
    return (pixels.float() / 2 + 0.5).clamp(0, 1)

"""Latents of the diffusers families: their sizes, starting noise, noise levels and autoencoders.

Latents are NCHW in every family of pictures, also where the transformer works on tokens: noise, kernels and
searches then need not know how a family orders its tokens. The last section holds the methods that families
of pictures share; a class takes one by assigning it in its body (`noise = canvas_noise`), and there is no
base class. Knows no network but the VAE, no prompt, and of clips only their pixels (see `clips`).

Slicing and tiling are switched on at the pipeline's VAE itself, and so is gradient checkpointing except in
`Autoencoder`, which switches it on; all three keep the graph.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

# Sizes of pictures: in pixels, in latents and in tokens.

SIDE = 1024
"""Default height and width in pixels of FLUX, Qwen-Image and Z-Image."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """One size of picture.

    Args:
        height: in pixels.
        width: in pixels.
        channels: of the latents.
        scale: pixels per latent along one side, as the VAE has it.
        patch: latents per token along one side.

    Raises:
        ValueError: a side is not a whole number of tokens.
    """

    height: int
    width: int
    channels: int
    scale: int
    patch: int = 2

    def __post_init__(self) -> None:
        side = self.scale * self.patch
        for name, pixels in (("height", self.height), ("width", self.width)):
            if pixels < side or pixels % side:
                fit = max(side, pixels // side * side)
                raise ValueError(f"{name} {pixels} is not a positive multiple of {side}; try {fit}")

    @property
    def latents(self) -> tuple[int, int, int]:
        """Shape of one picture's latents, (C, h, w)."""
        return self.channels, self.height // self.scale, self.width // self.scale

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        side = self.scale * self.patch
        return self.height // side, self.width // side

    @property
    def tokens(self) -> int:
        """Number of tokens, rows times columns."""
        rows, columns = self.grid
        return rows * columns

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Gaussian latents (N, C, h, w); see `gaussian`."""
        return gaussian(seeds, self.latents)


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Latents (N, C, h, w) to tokens (N, h/2 * w/2, 4 C), row by row, as FLUX and Qwen-Image order them."""
    return F.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def unpack(tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Tokens (N, rows * columns, 4 C) back to latents (N, C, 2 rows, 2 columns)."""
    return F.pixel_shuffle(tokens.transpose(1, 2).reshape(len(tokens), -1, *grid), 2)


# Starting noise and noise levels.


def gaussian(seeds: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal latents (N, *shape), float32, drawn on the CPU.

    A seed means the same in any batch and on every device, and the same as in a float32 pipeline that is
    given a CPU generator with that seed.
    """
    if not seeds:
        return torch.empty(0, *shape)
    draws = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
    return torch.stack([torch.randn(*shape, generator=draw) for draw in draws])


def row_levels(sigma: torch.Tensor | float, latents: torch.Tensor) -> torch.Tensor:
    """One noise level per row of `latents`, float32 (N,), from one for all or one per row."""
    return torch.as_tensor(sigma, dtype=torch.float32, device=latents.device).expand(len(latents))


def flow_sigmas(scheduler: Any, steps: int, tokens: int, *, linear: bool = True) -> torch.Tensor:
    """The `steps` + 1 noise levels a pipeline walks for pictures of `tokens` tokens, float32, the last one 0.

    The shift, static or by resolution, is applied once, by a copy of the pipeline's
    `FlowMatchEulerDiscreteScheduler`, so the pipeline's own state stays as it is.

    Args:
        scheduler: of the pipeline.
        steps: at least 1.
        tokens: image tokens of one picture; matters with `use_dynamic_shifting` only.
        linear: the pipeline hands linspace(1, 1/steps) to its scheduler; else the scheduler spreads the
            levels between the ends it was trained with.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    scheduler = copy.deepcopy(scheduler)
    shift = {"mu": _shift(scheduler.config, tokens)} if scheduler.config.use_dynamic_shifting else {}
    if linear:
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), **shift)
    else:
        scheduler.set_timesteps(steps, **shift)
    return torch.as_tensor(scheduler.sigmas).float()


def _shift(config: Any, tokens: int) -> float:
    """mu of the dynamic shift: linear in the tokens, through the two points the scheduler was given."""
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return float(config.base_shift + slope * (tokens - config.base_image_seq_len))


# Pixels on their way into a VAE and out of it.


def signed(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pixels (N, 3, H, W) in [0, 1] to [-1, 1], float32.

    Raises:
        ValueError: another shape; the message says what would fit.
    """
    if pixels.ndim != 4 or pixels.shape[1:] != (3, height, width):
        raise ValueError(
            f"pixels have shape {tuple(pixels.shape)}, and this generator makes (N, 3, {height}, {width}): "
            "give it their height and width"
        )
    return pixels.float() * 2 - 1


def signed_clip(pixels: torch.Tensor, frames: int, height: int, width: int) -> torch.Tensor:
    """Pixels (N, T, 3, H, W) in [0, 1] to (N, 3, T, H, W) in [-1, 1], float32.

    Raises:
        ValueError: another shape; the message says what would fit.
    """
    if pixels.ndim != 5 or pixels.shape[1:] != (frames, 3, height, width):
        raise ValueError(
            f"pixels have shape {tuple(pixels.shape)}, and this generator makes "
            f"(N, {frames}, 3, {height}, {width}): give it their frames, height and width"
        )
    return (pixels.float() * 2 - 1).movedim(1, 2)


def fractions(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels in [-1, 1] to [0, 1], float32, cut to the range."""
    return (pixels.float() / 2 + 0.5).clamp(0, 1)


# Autoencoders. The three ways to undo a VAE's normalisation differ in their rounding, so each stays as its
# pipelines have it.


class Autoencoder:
    """Variational autoencoder of the Stable Diffusion families: latents to pixels and back, with a gradient.

    Wraps a diffusers `AutoencoderKL`, which is frozen. It runs in float32 where the generator is float16 and
    the VAE's config says that half precision overflows; where a gradient is taken, it keeps few activations
    and computes the others again.
    """

    def __init__(self, vae: Any) -> None:
        if vae.dtype == torch.float16 and vae.config.force_upcast:
            vae.float()
        self.network: torch.nn.Module = vae.eval().requires_grad_(False)
        vae.enable_gradient_checkpointing()
        self._vae = vae
        self.channels: int = vae.config.latent_channels
        self.factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        """Pixels per latent along one side."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (N, C, h, w) to pixels (N, 3, H, W) in [0, 1], float32; differentiable inside the range."""
        shift, scale = self._normalisation(latents)
        pixels = self._vae.decode((latents * scale + shift).to(self._vae.dtype), return_dict=False)[0]
        return fractions(pixels)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [-1, 1] to latents (N, C, h, w), float32: the mean, not a draw around it."""
        latents = posterior_mode(self._vae, pixels)
        shift, scale = self._normalisation(latents)
        return (latents - shift) / scale

    def _normalisation(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the VAE's own latents, (C, 1, 1); ours have about 0 and 1."""
        config = self._vae.config
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is None or deviation is None:
            mean, deviation = [0.0] * self.channels, [1.0] * self.channels
        shift, scale = (latents.new_tensor(one).view(-1, 1, 1) for one in (mean, deviation))
        return shift, scale / config.scaling_factor


def posterior_mode(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels in [-1, 1] to the VAE's own latents, float32: the mean of its posterior, not a draw."""
    mode = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    return torch.as_tensor(mode).float()


def vae_decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents (N, C, h, w) to pixels (N, 3, H, W) in [0, 1] by an `AutoencoderKL` with a shift, float32."""
    raw = latents.float() / vae.config.scaling_factor + vae.config.shift_factor
    return fractions(vae.decode(raw.to(vae.dtype), return_dict=False)[0])


def vae_encode(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (N, 3, H, W) in [-1, 1] to latents (N, C, h, w), float32; the inverse of `vae_decode`."""
    raw = posterior_mode(vae, pixels)
    return torch.as_tensor((raw - vae.config.shift_factor) * vae.config.scaling_factor)


def channel_statistics(config: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the latents of Qwen-Image's and Wan's VAE, (C, 1, 1, 1), float32."""
    numbers = torch.tensor([config.latents_mean, config.latents_std], device=device)
    mean, std = numbers.view(2, -1, 1, 1, 1)
    return mean, std


# Methods of the families of pictures. The first argument is the generator.


class OnCanvas(Protocol):
    """A generator of pictures of one size, over a loaded pipeline."""

    pipe: Any
    device: torch.device
    canvas: Canvas


P = TypeVar("P", bound=OnCanvas)


def resized(self: P, height: int, width: int) -> P:
    """The same family and networks, for pictures of another size."""
    other = copy.copy(self)
    other.canvas = replace(self.canvas, height=height, width=width)
    return other


def canvas_noise(self: OnCanvas, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
    """Gaussian latents (N, C, h, w), float32; every number of steps begins with the same ones."""
    return self.canvas.noise(seeds).to(self.device)


def canvas_sigmas(self: OnCanvas, steps: int) -> torch.Tensor:
    """The noise levels that the family's pipeline walks for pictures of this size."""
    return flow_sigmas(self.pipe.scheduler, steps, self.canvas.tokens).to(self.device)


def decode_canvas(self: OnCanvas, latents: torch.Tensor) -> torch.Tensor:
    """Pixels (N, 3, H, W) in [0, 1]; differentiable inside the range."""
    return vae_decode(self.pipe.vae, latents)


@torch.no_grad()
def encode_canvas(self: OnCanvas, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (N, 3, H, W) in [0, 1] to latents, float32: the mean of the VAE's posterior."""
    return vae_encode(self.pipe.vae, signed(pixels, self.canvas.height, self.canvas.width))

"""The variational autoencoder of the Stable Diffusion families: latents to pixels, with a gradient."""

from typing import Any

import torch


class Autoencoder:
    """Wraps a diffusers `AutoencoderKL`, which is frozen.

    It runs in float32 where the generator is float16 and the VAE's config says that half precision
    overflows; where a gradient is taken, it keeps few activations and computes the others again.
    """

    def __init__(self, vae: Any) -> None:
        if vae.dtype == torch.float16 and vae.config.force_upcast:
            vae.float()
        self.network: torch.nn.Module = vae.eval().requires_grad_(False)
        vae.enable_gradient_checkpointing()
        self._vae = vae
        self.channels: int = vae.config.latent_channels
        self.factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        """Pixels a latent is wide."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (N, C, h, w) to pixels (N, 3, H, W) in [0, 1], float32; differentiable inside the range."""
        shift, scale = self._normalisation(latents)
        pixels = self._vae.decode((latents * scale + shift).to(self._vae.dtype), return_dict=False)[0]
        return torch.as_tensor(pixels.float() / 2 + 0.5).clamp(0, 1)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [-1, 1] to latents (N, C, h, w), float32: the mean, not a draw around it."""
        latents = self._vae.encode(pixels.to(self._vae.device, self._vae.dtype)).latent_dist.mode().float()
        shift, scale = self._normalisation(latents)
        return torch.as_tensor((latents - shift) / scale)

    def _normalisation(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of what the VAE speaks, (C, 1, 1); ours have about 0 and 1."""
        config = self._vae.config
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is None or deviation is None:
            mean, deviation = [0.0] * self.channels, [1.0] * self.channels
        shift, scale = (latents.new_tensor(one).view(-1, 1, 1) for one in (mean, deviation))
        return shift, scale / config.scaling_factor

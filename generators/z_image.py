"""Z-Image and Z-Image-Turbo as a `Generator`."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch

from mmreward.generator import Conditioning
from mmreward.media import Media

from .conditioning import frozen, last_is_blank, padded, refuse_references, require_networks, velocity_pair
from .latents import Canvas, flow_sigmas, row_levels, signed, vae_decode, vae_encode

SIDE = 1024
"""Default height and width in pixels."""


class ZImage:
    """Z-Image and Z-Image-Turbo (Z-Image team 2025, arXiv 2511.22699); see `tune.generator`.

    Latents are (N, 16, H/8, W/8). The network counts time from noise to picture and predicts x0 - noise, so
    both are turned around here. Its pipeline's scale of guidance is one less than here: 0 is none there. The
    defaults are those of Turbo, which needs no guidance; Z-Image itself wants about 50 steps and guidance 5.

    Args:
        pipe: a loaded `ZImagePipeline`.
        height: of the pictures in pixels; 1024 by default.
        width: likewise.
        max_tokens: tokens per prompt with its chat template; longer prompts are cut, shorter ones padded.
        negative_prompt: what guidance leads away from.

    Raises:
        ValueError: a side is not a multiple of 16.
    """

    fps: float | None = None
    lora_targets: tuple[str, ...] = (
        "attention.to_q",
        "attention.to_k",
        "attention.to_v",
        "attention.to_out.0",
    )
    steps = 8
    guidance = 1.0

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        max_tokens: int = 512,
        negative_prompt: str = "",
    ) -> None:
        self.pipe = pipe
        self.network: torch.nn.Module = pipe.transformer
        self.device, self.dtype = torch.device(pipe.transformer.device), pipe.transformer.dtype
        self.canvas = Canvas(
            height or SIDE, width or SIDE, pipe.transformer.in_channels, pipe.vae_scale_factor
        )
        self.max_tokens, self.negative_prompt = max_tokens, negative_prompt
        self._frozen = frozen(pipe)

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, **self._frozen}

    def at(self, height: int, width: int) -> Self:
        """The same family and networks, for pictures of another size."""
        other = copy.copy(self)
        other.canvas = replace(self.canvas, height=height, width=width)
        return other

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Hidden states (N, max_tokens, D), padded, and how many of them count (N,).

        Raises:
            ValueError: condition pictures were given, or the pipeline has no text encoder.
        """
        refuse_references(inputs, "Z-Image")
        require_networks(self.pipe, "text_encoder")
        rows, _ = self.pipe.encode_prompt(
            [*prompts, self.negative_prompt],
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
        )
        hidden = torch.stack([padded(row, self.max_tokens) for row in rows])
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        return last_is_blank({"hidden": hidden.to(self.dtype), "lengths": lengths})

    def noise(self, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
        """Gaussian latents (N, 16, H/8, W/8), float32."""
        return self.canvas.noise(seeds).to(self.device)

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """Velocity in the shape of `latents`; guidance 1 costs one forward per latent, anything else two."""
        levels = row_levels(sigma, latents)
        if guidance == 1:
            return self._forward(latents, levels, conditioning.given)
        given, blank = velocity_pair(self._forward, latents, levels, conditioning)
        return blank + guidance * (given - blank)

    def _forward(
        self, latents: torch.Tensor, levels: torch.Tensor, told: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        words = [row[:length] for row, length in zip(told["hidden"], told["lengths"].tolist(), strict=True)]
        pictures = list(latents.to(self.dtype)[:, :, None].unbind())
        out = self.network(pictures, 1 - levels, words, return_dict=False)[0]
        return -torch.stack(out)[:, :, 0].float()

    def sigmas(self, steps: int) -> torch.Tensor:
        """The noise levels `ZImagePipeline` walks for pictures of this size."""
        return flow_sigmas(self.pipe.scheduler, steps, self.canvas.tokens).to(self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1]; differentiable inside the range."""
        return vae_decode(self.pipe.vae, latents)

    @torch.no_grad()
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1] to latents, float32: the mean of the VAE's posterior."""
        return vae_encode(self.pipe.vae, signed(pixels, self.canvas.height, self.canvas.width))

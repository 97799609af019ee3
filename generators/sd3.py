"""Stable Diffusion 3 and 3.5 as a `Generator`."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch

from mmreward.generator import Conditioning
from mmreward.media import Media

from .conditioning import (
    JOINT_ATTENTION,
    frozen,
    last_is_blank,
    refuse_references,
    require_networks,
    velocity_pair,
)
from .latents import Canvas, flow_sigmas, row_levels, signed, vae_decode, vae_encode


class SD3:
    """Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206); see `tune.generator`.

    Latents are (N, 16, H/8, W/8). Padding of prompts is not masked, as the model was trained. The defaults of
    steps and guidance are those of SD3.5 medium.

    Args:
        pipe: a loaded `StableDiffusion3Pipeline`; without its T5 encoder it uses zeros in its place.
        height: of the pictures in pixels; by default the size the transformer was trained for.
        width: likewise.
        max_tokens: T5 tokens per prompt; longer prompts are cut, shorter ones padded.
        negative_prompt: what guidance leads away from.

    Raises:
        ValueError: a side is not a multiple of 16, or longer than the transformer has places for.
    """

    fps: float | None = None
    lora_targets: tuple[str, ...] = JOINT_ATTENTION
    steps = 40
    guidance = 4.5

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        max_tokens: int = 256,
        negative_prompt: str = "",
    ) -> None:
        self.pipe = pipe
        self.network: torch.nn.Module = pipe.transformer
        self.device, self.dtype = torch.device(pipe.transformer.device), pipe.transformer.dtype
        config, default = pipe.transformer.config, pipe.default_sample_size * pipe.vae_scale_factor
        self.canvas = self._fitting(
            Canvas(
                height or default,
                width or default,
                config.in_channels,
                pipe.vae_scale_factor,
                config.patch_size,
            )
        )
        self.max_tokens, self.negative_prompt = max_tokens, negative_prompt
        self._frozen = frozen(pipe)

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, **self._frozen}

    def at(self, height: int, width: int) -> Self:
        """The same family and networks, for pictures of another size."""
        other = copy.copy(self)
        other.canvas = self._fitting(replace(self.canvas, height=height, width=width))
        return other

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Hidden states of CLIP then T5 (N, 77 + max_tokens, D) and pooled CLIP embeddings (N, P).

        Raises:
            ValueError: condition pictures were given, or the pipeline has no CLIP encoders.
        """
        refuse_references(inputs, "SD3")
        require_networks(self.pipe, "text_encoder", "text_encoder_2")
        hidden, _, pooled, _ = self.pipe.encode_prompt(
            [*prompts, self.negative_prompt],
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
        )
        return last_is_blank({"hidden": hidden.to(self.dtype), "pooled": pooled.to(self.dtype)})

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

    def _fitting(self, canvas: Canvas) -> Canvas:
        """The canvas, where every token has a place in the transformer's table of positions."""
        most = self.pipe.transformer.config.pos_embed_max_size * canvas.scale * canvas.patch
        if max(canvas.height, canvas.width) > most:
            raise ValueError(
                f"height {canvas.height} and width {canvas.width}: this SD3 has places for {most} pixels "
                "along a side"
            )
        return canvas

    def _forward(
        self, latents: torch.Tensor, levels: torch.Tensor, told: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        out = self.network(
            hidden_states=latents.to(self.dtype),
            timestep=levels * 1000,
            encoder_hidden_states=told["hidden"],
            pooled_projections=told["pooled"],
            return_dict=False,
        )[0]
        return torch.as_tensor(out).float()

    def sigmas(self, steps: int) -> torch.Tensor:
        """The noise levels `StableDiffusion3Pipeline` walks for pictures of this size."""
        return flow_sigmas(self.pipe.scheduler, steps, self.canvas.tokens, linear=False).to(self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1]; differentiable inside the range."""
        return vae_decode(self.pipe.vae, latents)

    @torch.no_grad()
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1] to latents, float32: the mean of the VAE's posterior."""
        return vae_encode(self.pipe.vae, signed(pixels, self.canvas.height, self.canvas.width))

"""FLUX.1 (dev, schnell) and FLUX.1 Kontext as `Generator`s."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

from mmreward.generator import Conditioning
from mmreward.media import Media

from .conditioning import (
    JOINT_ATTENTION,
    Sizes,
    frozen,
    in_groups,
    padded,
    refuse_references,
    require_networks,
    require_references,
)
from .latents import Canvas, flow_sigmas, pack, row_levels, signed, unpack, vae_decode, vae_encode

SIDE = 1024
"""Default height and width in pixels."""


class Flux:
    """FLUX.1 dev and schnell (github.com/black-forest-labs/flux); see `tune.generator`.

    Latents are (N, 16, H/8, W/8); the transformer sees 2 x 2 of them as a token. dev was distilled with
    guidance, so the scale is one of its inputs and every velocity costs one forward; schnell was distilled
    without. Padding of prompts is not masked, as the model was trained.

    Args:
        pipe: a loaded `FluxPipeline`.
        height: of the pictures in pixels; 1024 by default.
        width: likewise.
        max_tokens: T5 tokens per prompt; longer prompts are cut, shorter ones padded. By default 512 for dev
            and 256 for schnell, as their cards have it.

    Raises:
        ValueError: a side is not a multiple of 16.
    """

    fps: float | None = None
    lora_targets: tuple[str, ...] = JOINT_ATTENTION

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.pipe = pipe
        self.network: torch.nn.Module = pipe.transformer
        self.device, self.dtype = torch.device(pipe.transformer.device), pipe.transformer.dtype
        config = pipe.transformer.config
        self.canvas = Canvas(height or SIDE, width or SIDE, config.in_channels // 4, pipe.vae_scale_factor)
        self.guided: bool = config.guidance_embeds
        """The scale of guidance is an input of the network."""
        self.steps, self.guidance = (28, 3.5) if self.guided else (4, 1.0)
        self.max_tokens = max_tokens or (512 if self.guided else 256)
        self._frozen = frozen(pipe)

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, **self._frozen}

    def at(self, height: int, width: int) -> Self:
        """The same family and networks, for pictures of another size."""
        other = copy.copy(self)
        other.canvas = replace(self.canvas, height=height, width=width)
        return other

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Hidden states of T5 (N, max_tokens, D) and pooled CLIP embeddings (N, P).

        Raises:
            ValueError: condition pictures were given, or the pipeline has no text encoders.
        """
        refuse_references(inputs, "FLUX")
        return Conditioning(self._encode_text(prompts))

    @torch.no_grad()
    def _encode_text(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        require_networks(self.pipe, "text_encoder", "text_encoder_2")
        hidden, pooled, _ = self.pipe.encode_prompt(
            list(prompts), device=self.device, max_sequence_length=self.max_tokens
        )
        return {"hidden": hidden.to(self.dtype), "pooled": pooled.to(self.dtype)}

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
        """Velocity in the shape of `latents`, from one forward.

        Raises:
            ValueError: guidance other than 1 of a model that was distilled without.
        """
        levels = row_levels(sigma, latents)
        tokens, ids = pack(latents), _ids(self.canvas.grid)
        return unpack(self._forward(tokens, levels, conditioning.given, ids, guidance), self.canvas.grid)

    def _forward(
        self,
        tokens: torch.Tensor,
        levels: torch.Tensor,
        told: Mapping[str, torch.Tensor],
        ids: torch.Tensor,
        guidance: float,
    ) -> torch.Tensor:
        """Velocity of the tokens (N, L, 4 C), whose places are `ids` (L, 3)."""
        if guidance != 1 and not self.guided:
            raise ValueError(f"this FLUX was distilled without guidance; use guidance 1, not {guidance}")
        out = self.network(
            hidden_states=tokens.to(self.dtype),
            timestep=(levels * 1000).to(self.dtype) / 1000,
            guidance=torch.full_like(levels, guidance) if self.guided else None,
            pooled_projections=told["pooled"],
            encoder_hidden_states=told["hidden"],
            txt_ids=torch.zeros(told["hidden"].shape[1], 3, device=tokens.device),
            img_ids=ids.to(tokens.device),
            return_dict=False,
        )[0]
        return torch.as_tensor(out).float()

    def sigmas(self, steps: int) -> torch.Tensor:
        """The noise levels `FluxPipeline` walks for pictures of this size."""
        return flow_sigmas(self.pipe.scheduler, steps, self.canvas.tokens).to(self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1]; differentiable inside the range."""
        return vae_decode(self.pipe.vae, latents)

    @torch.no_grad()
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1] to latents, float32: the mean of the VAE's posterior."""
        return vae_encode(self.pipe.vae, signed(pixels, self.canvas.height, self.canvas.width))


class FluxKontext(Flux):
    """FLUX.1 Kontext (Black Forest Labs 2025, arXiv 2506.15742): edits one picture per prompt.

    The picture's latents go along as further tokens of the transformer, at noise level 0.

    Args:
        pipe: a loaded `FluxKontextPipeline`.
        height: of the pictures that come out, in pixels; 1024 by default.
        width: likewise.
        max_tokens: T5 tokens per prompt, as for `Flux`.
        reference: height and width in pixels every condition picture is brought to. By default each is
            brought to that of the trained sizes, all of about 1024 x 1024 pixels, nearest in shape.

    Raises:
        ValueError: a side is not a multiple of 16.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        max_tokens: int | None = None,
        reference: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(pipe, height=height, width=width, max_tokens=max_tokens)
        self.guidance = 2.5
        trained = [(high, wide) for wide, high in PREFERRED_KONTEXT_RESOLUTIONS]
        self._references = [
            Canvas(high, wide, self.canvas.channels, self.canvas.scale)
            for high, wide in (trained if reference is None else [reference])
        ]

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """As `Flux`, and of the picture: tokens (N, L, 64), padded, and how many rows and columns (N, 1, 2).

        Raises:
            ValueError: a row does not have one condition picture, or the pipeline has no text encoders.
        """
        require_references(inputs, len(prompts), "FLUX Kontext")
        told = self._encode_text(prompts)
        length = max(canvas.tokens for canvas in self._references)
        pairs = [self._encode_picture(one) for (one,) in inputs]
        told["picture"] = torch.stack([padded(tokens, length) for tokens, _ in pairs])
        told["sizes"] = torch.tensor([[grid] for _, grid in pairs], device=self.device)
        return Conditioning(told)

    @torch.no_grad()
    def _encode_picture(self, media: Media) -> tuple[torch.Tensor, tuple[int, int]]:
        picture = media.picture()
        shape = picture.width / picture.height
        canvas = min(self._references, key=lambda one: (abs(shape - one.width / one.height), one.width))
        pixels = self.pipe.image_processor.preprocess(picture, canvas.height, canvas.width)
        return pack(vae_encode(self.pipe.vae, pixels))[0].to(self.device, self.dtype), canvas.grid

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """Velocity in the shape of `latents`, from one forward per size of condition picture.

        Raises:
            ValueError: guidance other than 1 of a model that was distilled without.
        """
        levels, tokens = row_levels(sigma, latents), pack(latents)

        def run(rows: torch.Tensor, sizes: Sizes) -> torch.Tensor:
            told = conditioning[rows].given
            pictures = told["picture"][:, : sizes[0][0] * sizes[0][1]]
            ids = torch.cat([_ids(self.canvas.grid), _ids(sizes[0], 1)])
            joined = torch.cat([tokens[rows], pictures], dim=1)
            return self._forward(joined, levels[rows], told, ids, guidance)[:, : self.canvas.tokens]

        return unpack(in_groups(conditioning.given["sizes"], run), self.canvas.grid)


def _ids(grid: tuple[int, int], picture: int = 0) -> torch.Tensor:
    """Places of tokens, (rows * columns, 3): which picture, row, column."""
    ids = torch.cartesian_prod(torch.tensor([picture]), *(torch.arange(side) for side in grid))
    return ids.float()

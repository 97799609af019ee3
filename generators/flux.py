"""FLUX.1 (dev, schnell) and FLUX.1 Kontext as `Generator`s; numbers agree with diffusers' `FluxPipeline` and
`FluxKontextPipeline`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

from mmreward.generator import Conditioning
from mmreward.media import Media

from .conditioning import (
    JOINT_ATTENTION,
    Sizes,
    beside_references,
    loaded,
    padded,
    refuse_references,
    require_networks,
    require_references,
)
from .latents import (
    SIDE,
    Canvas,
    canvas_noise,
    canvas_sigmas,
    decode_canvas,
    encode_canvas,
    pack,
    resized,
    row_levels,
    unpack,
    vae_encode,
)


class Flux:
    """FLUX.1 dev and schnell (github.com/black-forest-labs/flux); see `mmreward.generator`.

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
    at = resized
    noise = canvas_noise
    sigmas = canvas_sigmas
    decode = decode_canvas
    to_latents = encode_canvas

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.pipe = pipe
        self.network, self.device, self.dtype, self._frozen = loaded(pipe)
        config = pipe.transformer.config
        self.canvas = Canvas(height or SIDE, width or SIDE, config.in_channels // 4, pipe.vae_scale_factor)
        self.guided: bool = config.guidance_embeds
        """True where the scale of guidance is an input of the network."""
        self.steps, self.guidance = (28, 3.5) if self.guided else (4, 1.0)
        self.max_tokens = max_tokens or (512 if self.guided else 256)

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, **self._frozen}

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

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """Velocity in the shape of `latents`, from one forward; Kontext's from one per size of condition
        picture.

        Raises:
            ValueError: guidance other than 1 of a model that was distilled without.
        """
        levels, tokens = row_levels(sigma, latents), pack(latents)
        return unpack(self._of_tokens(tokens, levels, conditioning.given, guidance), self.canvas.grid)

    def _of_tokens(
        self, tokens: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor], guidance: float
    ) -> torch.Tensor:
        """Velocity of the picture's tokens (N, L, 4 C)."""
        return self._forward(tokens, levels, given, _ids(self.canvas.grid), guidance)

    def _forward(
        self,
        tokens: torch.Tensor,
        levels: torch.Tensor,
        given: Mapping[str, torch.Tensor],
        ids: torch.Tensor,
        guidance: float,
    ) -> torch.Tensor:
        """Velocity of tokens (N, L, 4 C) at the places `ids` (L, 3)."""
        if guidance != 1 and not self.guided:
            raise ValueError(f"this FLUX was distilled without guidance; use guidance 1, not {guidance}")
        out = self.network(
            hidden_states=tokens.to(self.dtype),
            timestep=(levels * 1000).to(self.dtype) / 1000,
            guidance=torch.full_like(levels, guidance) if self.guided else None,
            pooled_projections=given["pooled"],
            encoder_hidden_states=given["hidden"],
            txt_ids=torch.zeros(given["hidden"].shape[1], 3, device=tokens.device),
            img_ids=ids.to(tokens.device),
            return_dict=False,
        )[0]
        return torch.as_tensor(out).float()


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
        given = self._encode_text(prompts)
        length = max(canvas.tokens for canvas in self._references)
        pairs = [self._encode_picture(one) for (one,) in inputs]
        given["picture"] = torch.stack([padded(tokens, length) for tokens, _ in pairs])
        given["sizes"] = torch.tensor([[grid] for _, grid in pairs], device=self.device)
        return Conditioning(given)

    @torch.no_grad()
    def _encode_picture(self, media: Media) -> tuple[torch.Tensor, tuple[int, int]]:
        picture = media.picture()
        shape = picture.width / picture.height
        canvas = min(self._references, key=lambda one: (abs(shape - one.width / one.height), one.width))
        pixels = self.pipe.image_processor.preprocess(picture, canvas.height, canvas.width)
        return pack(vae_encode(self.pipe.vae, pixels))[0].to(self.device, self.dtype), canvas.grid

    def _of_tokens(
        self, tokens: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor], guidance: float
    ) -> torch.Tensor:
        def run(
            tokens: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor], sizes: Sizes
        ) -> torch.Tensor:
            ids = torch.cat([_ids(self.canvas.grid), _ids(sizes[0], 1)])
            return self._forward(tokens, levels, given, ids, guidance)

        return beside_references(run, tokens, levels, given)


def _ids(grid: tuple[int, int], picture: int = 0) -> torch.Tensor:
    """Places of tokens, (rows * columns, 3): which picture, row, column."""
    ids = torch.cartesian_prod(torch.tensor([picture]), *(torch.arange(side) for side in grid))
    return ids.float()

"""Stable Diffusion 3 and 3.5 as a `Generator`; numbers agree with diffusers' `StableDiffusion3Pipeline`."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch

from mmreward.generator import Conditioning
from mmreward.media import Media

from .conditioning import (
    JOINT_ATTENTION,
    guided_velocity,
    last_is_blank,
    loaded,
    refuse_references,
    require_networks,
)
from .latents import Canvas, canvas_noise, decode_canvas, encode_canvas, flow_sigmas, resized


class SD3:
    """Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206); see `mmreward.generator`.

    Latents are (N, 16, H/8, W/8). Padding of prompts is not masked, as the model was trained. The defaults of
    steps and guidance are those of SD3.5 medium.

    Args:
        pipe: a loaded `StableDiffusion3Pipeline`; without its T5 encoder it uses zeros in its place.
        height: of the pictures in pixels; by default the size the transformer was trained for.
        width: likewise.
        max_tokens: T5 tokens per prompt; longer prompts are cut, shorter ones padded.
        negative_prompt: text that guidance leads away from.

    Raises:
        ValueError: a side is not a multiple of 16, or longer than the transformer has places for.
    """

    fps: float | None = None
    lora_targets: tuple[str, ...] = JOINT_ATTENTION
    steps = 40
    guidance = 4.5
    noise = canvas_noise
    velocity = guided_velocity
    decode = decode_canvas
    to_latents = encode_canvas

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
        self.network, self.device, self.dtype, self._frozen = loaded(pipe)
        config, default = pipe.transformer.config, pipe.default_sample_size * pipe.vae_scale_factor
        self.canvas = Canvas(
            height or default, width or default, config.in_channels, pipe.vae_scale_factor, config.patch_size
        )
        self._check_places()
        self.max_tokens, self.negative_prompt = max_tokens, negative_prompt

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, **self._frozen}

    def at(self, height: int, width: int) -> Self:
        """The same family and networks, for pictures of another size."""
        other = resized(self, height, width)
        other._check_places()
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

    def _check_places(self) -> None:
        """Raise ValueError unless every token has a place in the transformer's table of positions."""
        canvas = self.canvas
        most = self.pipe.transformer.config.pos_embed_max_size * canvas.scale * canvas.patch
        if max(canvas.height, canvas.width) > most:
            raise ValueError(
                f"height {canvas.height} and width {canvas.width}: this SD3 has places for {most} pixels "
                "along a side"
            )

    def forward(
        self, latents: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Velocity (N, 16, H/8, W/8), float32, from one forward of the transformer."""
        out = self.network(
            hidden_states=latents.to(self.dtype),
            timestep=levels * 1000,
            encoder_hidden_states=given["hidden"],
            pooled_projections=given["pooled"],
            return_dict=False,
        )[0]
        return torch.as_tensor(out).float()

    def sigmas(self, steps: int) -> torch.Tensor:
        """The noise levels `StableDiffusion3Pipeline` walks for pictures of this size."""
        return flow_sigmas(self.pipe.scheduler, steps, self.canvas.tokens, linear=False).to(self.device)

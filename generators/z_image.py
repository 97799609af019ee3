"""Z-Image and Z-Image-Turbo as a `Generator`; numbers agree with diffusers' `ZImagePipeline`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmreward.generator import Conditioning
from mmreward.media import Media

from .conditioning import guided_velocity, last_is_blank, loaded, padded, refuse_references, require_networks
from .latents import SIDE, Canvas, canvas_noise, canvas_sigmas, decode_canvas, encode_canvas, resized


class ZImage:
    """Z-Image and Z-Image-Turbo (Z-Image team 2025, arXiv 2511.22699); see `mmreward.generator`.

    Latents are (N, 16, H/8, W/8). The network counts time from noise to picture and predicts x0 - noise, so
    both are turned around here. Its pipeline's scale of guidance is one less than here: 0 is none there. The
    defaults are those of Turbo, which needs no guidance; Z-Image itself wants about 50 steps and guidance 5.

    Args:
        pipe: a loaded `ZImagePipeline`.
        height: of the pictures in pixels; 1024 by default.
        width: likewise.
        max_tokens: tokens per prompt with its chat template; longer prompts are cut, shorter ones padded.
        negative_prompt: text that guidance leads away from.

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
    at = resized
    noise = canvas_noise
    velocity = guided_velocity
    sigmas = canvas_sigmas
    decode = decode_canvas
    to_latents = encode_canvas

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
        self.network, self.device, self.dtype, self._frozen = loaded(pipe)
        self.canvas = Canvas(
            height or SIDE, width or SIDE, pipe.transformer.in_channels, pipe.vae_scale_factor
        )
        self.max_tokens, self.negative_prompt = max_tokens, negative_prompt

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, **self._frozen}

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

    def forward(
        self, latents: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Velocity (N, 16, H/8, W/8), float32, from one forward of the transformer."""
        lengths = given["lengths"].tolist()
        words = [row[:length] for row, length in zip(given["hidden"], lengths, strict=True)]
        pictures = list(latents.to(self.dtype)[:, :, None].unbind())
        out = self.network(pictures, 1 - levels, words, return_dict=False)[0]
        return -torch.stack(out)[:, :, 0].float()

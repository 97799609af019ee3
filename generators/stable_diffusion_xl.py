"""Stable Diffusion XL: two text encoders and the picture's size as further conditions; also SDXL-Turbo."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from . import clip_text
from .stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """SDXL as a `Generator` (arXiv:2307.01952); arguments as for `StableDiffusion`.

    Without a negative prompt, guidance leads away from zeros where the pipeline is so configured, as SDXL's
    is. The network is told that the picture was neither resized nor cropped.

    Raises:
        ValueError: as `StableDiffusion`; also a network that expects other numbers than six about sizes.
    """

    full_guidance = 5.0

    @property
    def _text_encoders(self) -> Mapping[str, torch.nn.Module]:
        return {"text_encoder": self._pipe.text_encoder, "text_encoder_2": self._pipe.text_encoder_2}

    def _check(self, pipe: Any) -> None:
        super()._check(pipe)
        told = pipe.text_encoder_2.config.projection_dim + 6 * pipe.unet.config.addition_time_embed_dim
        if pipe.unet.add_embedding.linear_1.in_features != told:
            raise ValueError("the UNet is not told the six sizes of a base model; refiners are not supported")

    def _embed(self, prompts: Sequence[str]) -> tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]]:
        pipe = self._pipe
        texts = [*prompts, self.negative_prompt or ""]
        first = clip_text.encode(pipe.tokenizer, pipe.text_encoder, texts)
        second = clip_text.encode(pipe.tokenizer_2, pipe.text_encoder_2, texts)
        hidden, pooled = torch.cat([first.penultimate, second.penultimate], dim=-1), second.pooled
        if self.negative_prompt is None and pipe.config.force_zeros_for_empty_prompt:
            hidden[-1], pooled[-1] = 0, 0
        sizes = torch.tensor([[self.height, self.width, 0, 0, self.height, self.width]], device=self.device)
        rows = len(prompts)
        shared = {"sizes": sizes.float().expand(rows, -1)}
        given = {"hidden": hidden[:-1], "pooled": pooled[:-1]}
        blank = {"hidden": hidden[-1:].expand(rows, -1, -1), "pooled": pooled[-1:].expand(rows, -1)}
        return {**given, **shared}, {**blank, **shared}

    def _added(self, told: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        return {"text_embeds": told["pooled"].to(self.dtype), "time_ids": told["sizes"]}


class StableDiffusionXLInpaint(StableDiffusionXL):
    """SDXL inpainting by a UNet made for it; every row of `inputs` is (image, mask), white where to paint."""

    inpaints = True

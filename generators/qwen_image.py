"""Qwen-Image and Qwen-Image-Edit as `Generator`s; numbers agree with diffusers' `QwenImagePipeline`,
`QwenImageEditPipeline` and `QwenImageEditPlusPipeline`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import QwenImageEditPlusPipeline
from PIL import Image

from mmreward.generator import Conditioning
from mmreward.media import Media

from .conditioning import (
    JOINT_ATTENTION,
    Sizes,
    beside_references,
    last_is_blank,
    loaded,
    padded,
    refuse_references,
    require_networks,
    require_references,
    velocity_pair,
    with_both,
)
from .latents import (
    SIDE,
    Canvas,
    canvas_noise,
    canvas_sigmas,
    channel_statistics,
    fractions,
    pack,
    posterior_mode,
    resized,
    row_levels,
    signed,
    unpack,
)

LONGEST = 8
"""How many times longer than wide a condition picture may be; decides the length rows are padded to."""


class QwenImage:
    """Qwen-Image (Wu et al. 2025, arXiv 2508.02324); see `mmreward.generator`.

    Latents are (N, 16, H/8, W/8); the transformer sees 2 x 2 of them as a token. Padding of prompts is
    masked. Guidance turns the velocity but leaves every token the norm it has without.

    Args:
        pipe: a loaded `QwenImagePipeline`.
        height: of the pictures in pixels; 1024 by default.
        width: likewise.
        max_tokens: tokens per prompt; longer prompts are cut, shorter ones padded.
        negative_prompt: text that guidance leads away from; a space, as in the model's card.

    Raises:
        ValueError: a side is not a multiple of 16.
    """

    fps: float | None = None
    lora_targets: tuple[str, ...] = JOINT_ATTENTION
    steps = 50
    guidance = 4.0
    at = resized
    noise = canvas_noise
    sigmas = canvas_sigmas

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        max_tokens: int = 512,
        negative_prompt: str = " ",
    ) -> None:
        self.pipe = pipe
        self.network, self.device, self.dtype, self._frozen = loaded(pipe)
        channels = pipe.transformer.config.in_channels // 4
        self.canvas = Canvas(height or SIDE, width or SIDE, channels, pipe.vae_scale_factor)
        self.max_tokens, self.negative_prompt = max_tokens, negative_prompt

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, **self._frozen}

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Hidden states (N, max_tokens, D) and their mask (N, max_tokens), false where padded.

        Raises:
            ValueError: condition pictures were given, or the pipeline has no text encoder.
        """
        refuse_references(inputs, "Qwen-Image")
        require_networks(self.pipe, "text_encoder")
        hidden, mask = self.pipe.encode_prompt(
            [*prompts, self.negative_prompt], device=self.device, max_sequence_length=self.max_tokens
        )
        return last_is_blank(self._padded(hidden, mask))

    def _padded(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Hidden states (N, L, D) and their mask at full length; the pipeline leaves out a mask of ones."""
        whole = hidden.new_zeros(len(hidden), self.max_tokens, hidden.shape[2], dtype=self.dtype)
        kept = torch.zeros(whole.shape[:2], dtype=torch.bool, device=hidden.device)
        whole[:, : hidden.shape[1]] = hidden
        kept[:, : hidden.shape[1]] = True if mask is None else mask.bool()
        return {"hidden": whole, "mask": kept}

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """Velocity in the shape of `latents`; guidance 1 costs one forward per latent, anything else two."""
        levels, tokens = row_levels(sigma, latents), pack(latents)
        if guidance == 1:
            return unpack(self._of_tokens(tokens, levels, conditioning.given), self.canvas.grid)
        given, blank = velocity_pair(self._of_tokens, tokens, levels, conditioning)
        mixed = blank + guidance * (given - blank)
        scale = given.norm(dim=-1, keepdim=True) / mixed.norm(dim=-1, keepdim=True)
        return unpack(mixed * scale, self.canvas.grid)

    def _of_tokens(
        self, tokens: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Velocity of the picture's tokens (N, L, 4 C)."""
        return self._forward(tokens, levels, given, (self.canvas.grid,))

    def _forward(
        self, tokens: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor], grids: Sizes
    ) -> torch.Tensor:
        """Velocity of tokens (N, L, 4 C) of pictures of `grids`; padding that all rows have is left out."""
        words = int(given["mask"].sum(dim=1).max())
        out = self.network(
            hidden_states=tokens.to(self.dtype),
            timestep=(levels * 1000).to(self.dtype) / 1000,
            encoder_hidden_states=given["hidden"][:, :words],
            encoder_hidden_states_mask=given["mask"][:, :words],
            img_shapes=[[(1, *grid) for grid in grids]] * len(tokens),
            return_dict=False,
        )[0]
        return torch.as_tensor(out).float()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1]; differentiable inside the range."""
        mean, std = channel_statistics(self.pipe.vae.config, latents.device)
        raw = (latents.float()[:, :, None] * std + mean).to(self.pipe.vae.dtype)
        return fractions(self.pipe.vae.decode(raw, return_dict=False)[0][:, :, 0])

    @torch.no_grad()
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1] to latents, float32: the mean of the VAE's posterior."""
        return self._latents(signed(pixels, self.canvas.height, self.canvas.width))

    def _latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [-1, 1] to the most likely latents (N, C, h, w), float32."""
        mode = posterior_mode(self.pipe.vae, pixels[:, :, None])
        mean, std = channel_statistics(self.pipe.vae.config, mode.device)
        return ((mode - mean) / std)[:, :, 0]


class QwenImageEdit(QwenImage):
    """Qwen-Image-Edit, which edits one picture, and its Plus form (2509 and later), which takes several.

    A picture goes to the text encoder and, as latents, along as further tokens of the transformer. In both it
    keeps its shape and is brought to the area the pipeline has for it.

    Args:
        pipe: a loaded `QwenImageEditPipeline` or `QwenImageEditPlusPipeline`.
        height: of the pictures that come out, in pixels; 1024 by default.
        width: likewise.
        max_tokens: tokens of prompt and pictures together that rows are padded to.
        negative_prompt: text that guidance leads away from, with the same pictures; a space, as in the
            card.
        area: pixels a condition picture is brought to for the transformer, and for the text encoder too,
            except with Plus, whose text encoder sees 384 x 384.
        most: pictures per row with Plus.

    Raises:
        ValueError: a side is not a multiple of 16.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        max_tokens: int = 2048,
        negative_prompt: str = " ",
        area: int = 1024 * 1024,
        most: int = 3,
    ) -> None:
        super().__init__(
            pipe, height=height, width=width, max_tokens=max_tokens, negative_prompt=negative_prompt
        )
        self.plus = isinstance(pipe, QwenImageEditPlusPipeline)
        self.most = most if self.plus else 1
        self.area, self.seen_area = area, 384 * 384 if self.plus else area

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """As `QwenImage`, and of the pictures: tokens (N, L, 64), padded, and rows and columns (N, K, 2).

        Raises:
            ValueError: a row has no condition picture or too many, is too long for `max_tokens` or has a
                picture more than 8 times as long as wide, or the pipeline has no text encoder.
        """
        require_references(inputs, len(prompts), "Qwen-Image-Edit", self.most)
        require_networks(self.pipe, "text_encoder")
        given, blank, shown = [], [], []
        for row, (prompt, media) in enumerate(zip(prompts, inputs, strict=True)):
            pictures = [one.picture() for one in media]
            shown.append(self._pictures(row, pictures))
            given.append(self._words(row, prompt, pictures))
            blank.append(self._words(row, self.negative_prompt, pictures))
        return with_both(Conditioning(_stacked(given), _stacked(blank)), _stacked(shown))

    def _words(self, row: int, prompt: str, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Text states of one prompt and its pictures, and their mask, without a dimension for rows."""
        resized = []
        for picture in pictures:
            height, width = _fitted(self.seen_area, picture)
            resized.append(self.pipe.image_processor.resize(picture, height, width))
        hidden, mask = self.pipe.encode_prompt([prompt], image=resized, device=self.device)
        if hidden.shape[1] > self.max_tokens:
            raise ValueError(
                f"row {row} has {hidden.shape[1]} tokens of prompt and pictures; "
                f"max_tokens is {self.max_tokens}"
            )
        return {name: rows[0] for name, rows in self._padded(hidden, mask).items()}

    def _pictures(self, row: int, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Tokens of all pictures of one row and the grid of each, without a dimension for rows."""
        tokens, grids = [], torch.zeros(self.most, 2, dtype=torch.long, device=self.device)
        for index, picture in enumerate(pictures):
            if not 1 / LONGEST <= picture.width / picture.height <= LONGEST:
                raise ValueError(
                    f"row {row} has a picture of {picture.width} x {picture.height} pixels; crop it until no "
                    f"side is more than {LONGEST} times the other"
                )
            height, width = _fitted(self.area, picture)
            pixels = self.pipe.image_processor.preprocess(picture, height, width)
            tokens.append(pack(self._latents(pixels))[0])
            side = self.canvas.scale * self.canvas.patch
            grids[index] = torch.tensor([height // side, width // side])
        length = self.most * self._longest()
        return {"picture": padded(torch.cat(tokens), length).to(self.dtype), "sizes": grids}

    def _longest(self) -> int:
        """At least as many tokens as any picture has: sides are rounded up by 16 pixels at most."""
        long, short = math.sqrt(self.area * LONGEST) + 16, math.sqrt(self.area / LONGEST) + 16
        return int(long * short) // (self.canvas.scale * self.canvas.patch) ** 2

    def _of_tokens(
        self, tokens: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        def run(
            tokens: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor], sizes: Sizes
        ) -> torch.Tensor:
            return self._forward(tokens, levels, given, (self.canvas.grid, *sizes))

        return beside_references(run, tokens, levels, given)


def _fitted(area: int, picture: Image.Image) -> tuple[int, int]:
    """Height and width of about `area` pixels in the picture's shape, multiples of 32."""
    ratio = picture.width / picture.height
    width = math.sqrt(area * ratio)
    return round(width / ratio / 32) * 32, round(width / 32) * 32


def _stacked(rows: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

"""Wan 2.1 and 2.2 as generators of clips: text to video, and a first frame with text to video.

Wan 2.2 A14B has two transformers, one for high and one for low noise; Wan 2.2 5B gives every token its own
timestep. Paper: https://arxiv.org/abs/2503.20314; numbers agree with diffusers' WanPipeline and
WanImageToVideoPipeline under Euler steps on the same noise levels.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch

from mmreward.generator import Conditioning
from mmreward.media import Media

from . import clips
from .latents import signed_clip

if TYPE_CHECKING:
    from diffusers import WanImageToVideoPipeline, WanPipeline

TOKENS = 512
"""Text is padded to this length; the image-to-video networks split their context there."""


class Experts(torch.nn.ModuleDict):
    """Wan 2.2's two transformers, called like one: every row goes to the one for its noise level.

    Args:
        high: for timesteps from `boundary` up.
        low: for those below.
        boundary: a timestep, 0 to 1000.
    """

    def __init__(self, high: torch.nn.Module, low: torch.nn.Module, boundary: float) -> None:
        super().__init__({"high": high, "low": low})
        self.boundary = boundary

    def forward(
        self, *, timestep: torch.Tensor, return_dict: bool = False, **rows: torch.Tensor | None
    ) -> tuple[torch.Tensor]:
        high = timestep >= self.boundary
        order, parts = [], []
        for name, mine in (("high", high), ("low", ~high)):
            if (index := mine.nonzero().flatten()).numel():
                told = {key: None if value is None else value[index] for key, value in rows.items()}
                order.append(index)
                parts.append(self[name](timestep=timestep[index], return_dict=return_dict, **told)[0])
        return (torch.cat(parts)[torch.cat(order).argsort()],)


class Wan:
    """Wan text to video (see `tune.generator`). Latents are (N, C, T, h, w).

    Args:
        pipe: a loaded pipeline; its networks are used where they are, and all but the denoiser are frozen.
        height: of the clip, in pixels; a multiple of 16, or of 32 for the 5B model.
        width: likewise. None takes what the checkpoint was made for: 832 x 480, or 1280 x 704 for 5B.
        frames: of the clip; 1 more than a multiple of 4. None: 81, or 121 for 5B.
        fps: frames a second; None: 16, or 24 for 5B.
        guidance_2: guidance scale of the low-noise transformer; None: the same as the other's.
        negative_prompt: what guidance leads away from.

    Raises:
        ValueError: the size cannot be made; the pipeline is one of another task; `guidance_2` is given, but
            there is one transformer only.
    """

    lora_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "ffn.net.0.proj",
        "ffn.net.2",
    )
    steps = 50
    guidance = 5.0

    def __init__(
        self,
        pipe: "WanPipeline | WanImageToVideoPipeline",
        *,
        height: int | None = None,
        width: int | None = None,
        frames: int | None = None,
        fps: float | None = None,
        guidance_2: float | None = None,
        negative_prompt: str = "",
    ) -> None:
        self.pipe, self.vae, self.negative_prompt = pipe, pipe.vae, negative_prompt
        self.per_token = bool(pipe.config.expand_timesteps)
        self._check()
        self.network: torch.nn.Module = _denoiser(pipe)
        if guidance_2 is not None and not isinstance(self.network, Experts):
            raise ValueError("guidance_2 is for a second transformer, but this pipeline has only one")
        self.guidance_2, self.boundary = guidance_2, (pipe.config.boundary_ratio or 0) * clips.TIMESTEPS
        self.device, self.dtype = pipe.transformer.device, pipe.transformer.dtype
        known, known_fps = ((121, 704, 1280), 24.0) if self.per_token else ((81, 480, 832), 16.0)
        self.fps: float | None = known_fps if fps is None else fps
        self._resize(clips.ClipSize(*known).changed(frames, height, width))
        facts = torch.tensor([self.vae.config.latents_mean, self.vae.config.latents_std], device=self.device)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.mean, self.std = facts.view(2, 1, -1, 1, 1, 1)
        for name, part in self.parts.items():
            if name != "network":
                part.requires_grad_(False)

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, "vae": self.vae, "text_encoder": self.pipe.text_encoder}

    def at(self, height: int, width: int) -> Self:
        """The same family and networks, for clips of another size."""
        other = copy.copy(self)
        other._resize(self.size.changed(None, height, width))
        return other

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Text (N, 512, D)."""
        clips.refuse_pictures(inputs, "WanImageToVideo")
        text = self._encode_text([*prompts, self.negative_prompt])
        return Conditioning({"text": text[:-1]}, {"text": text[-1:].expand(len(prompts), -1, -1)})

    def noise(self, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
        """Gaussian latents (N, C, T, h, w), float32; those of the pipeline for the same seed."""
        return clips.noise(seeds, self.shape, self.device)

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """Velocity in the shape of `latents`; guidance 1 costs one forward, anything else two, one after the
        other: a clip fills a GPU by itself."""
        levels = clips.levels(sigma, latents)
        given = self._predict(latents, levels, conditioning.given)
        if guidance == 1:
            return given
        blank = self._predict(latents, levels, conditioning.blank)
        return blank + self._scale(levels, guidance) * (given - blank)

    def sigmas(self, steps: int) -> torch.Tensor:
        """The noise levels of the pipeline's scheduler, from exactly 1; its flow shift bends them."""
        return clips.schedule(self.pipe.scheduler, num_inference_steps=steps).to(self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, T, 3, H, W) in [0, 1]; differentiable inside the range, through the causal cache too."""
        scaled = latents.float() * self.std + self.mean
        return clips.pixels(self.vae.decode(scaled.to(self.vae.dtype), return_dict=False)[0])

    @torch.no_grad()
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, T, 3, H, W) in [0, 1] to latents, float32: the mean of the VAE's posterior."""
        return self._encode_clip(signed_clip(pixels, *self.size))

    def _encode_clip(self, clip: torch.Tensor) -> torch.Tensor:
        """A clip (N, 3, T, H, W) in [-1, 1] to the most likely latents, float32."""
        mode = self.vae.encode(clip.to(self.device, self.vae.dtype)).latent_dist.mode()
        return torch.as_tensor((mode.float() - self.mean) / self.std)

    def _resize(self, size: clips.ClipSize) -> None:
        """Make clips of this size, and what follows from it."""
        pipe, patch = self.pipe, self.pipe.transformer.config.patch_size[1]
        grid = size.latent(pipe.vae_scale_factor_temporal, pipe.vae_scale_factor_spatial, patch)
        self.size, self.shape = size, (self.vae.config.z_dim, *grid)
        self.tokens = (grid[1] // patch) * (grid[2] // patch)

    def _check(self) -> None:
        """Raise ValueError when the pipeline is not one of this task."""
        channels, latent = self.pipe.transformer.config.in_channels, self.vae.config.z_dim
        if channels != latent:
            raise ValueError(f"the transformer takes {channels} channels, not {latent}; use WanImageToVideo")

    def _encode_text(self, prompts: list[str]) -> torch.Tensor:
        with torch.no_grad():
            text: torch.Tensor = self.pipe.encode_prompt(
                prompts, do_classifier_free_guidance=False, max_sequence_length=TOKENS, device=self.device
            )[0]
        return text.to(self.dtype)

    def _scale(self, levels: torch.Tensor, guidance: float) -> torch.Tensor:
        """The guidance scale of each row, (N, 1, 1, 1, 1)."""
        scale = torch.full_like(levels, guidance)
        if self.guidance_2 is not None:
            scale[levels * clips.TIMESTEPS < self.boundary] = self.guidance_2
        return scale.view(-1, 1, 1, 1, 1)

    def _predict(
        self, latents: torch.Tensor, levels: torch.Tensor, told: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return self._forward(latents, self._timesteps(levels), told)

    def _timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        """(N,), or (N, tokens) where every token has its own; the first frame's tokens come first."""
        timesteps = levels * clips.TIMESTEPS
        if not self.per_token:
            return timesteps
        return timesteps[:, None].repeat(1, self.shape[1] * self.tokens)

    def _forward(
        self, seen: torch.Tensor, timesteps: torch.Tensor, told: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        velocity: torch.Tensor = self.network(
            hidden_states=seen.to(self.dtype),
            timestep=timesteps,
            encoder_hidden_states=told["text"],
            encoder_hidden_states_image=told.get("image"),
            return_dict=False,
        )[0]
        return velocity.float()


class WanImageToVideo(Wan):
    """Wan image to video: every row of `inputs` holds one picture, the first frame. See `Wan`.

    Wan 2.1 and 2.2 A14B see the picture as channels beside the latents, Wan 2.1 as CLIP embeddings too; for
    5B it is the first latent frame itself. Checkpoints that want a last frame as well are refused.

    Raises:
        ValueError: as `Wan`; the checkpoint wants two pictures, or CLIP embeddings without an image encoder.
    """

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        encoder = self.pipe.image_encoder
        return {**super().parts} | ({} if encoder is None else {"image_encoder": encoder})

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Text (N, 512, D); "channels" (N, 4 + C, T, h, w), or "frame" (N, C, 1, h, w) for 5B; and "image"
        (N, 257, D') where the transformer looks at CLIP embeddings. Pictures are resized to the clip's."""
        pictures = clips.first_frames(inputs, len(prompts))
        text = self._encode_text([*prompts, self.negative_prompt])
        name = "frame" if self.per_token else "channels"
        shown = {name: torch.cat([self._encode_picture(picture) for picture in pictures])}
        if self.pipe.transformer.config.image_dim is not None:
            with torch.no_grad():
                shown["image"] = self.pipe.encode_image(pictures, self.device).to(self.dtype)
        blank = text[-1:].expand(len(prompts), -1, -1)
        return Conditioning({"text": text[:-1], **shown}, {"text": blank, **shown})

    def _check(self) -> None:
        config, latent = self.pipe.transformer.config, self.vae.config.z_dim
        expected = latent if self.per_token else 2 * latent + self.pipe.vae_scale_factor_temporal
        if config.in_channels != expected:
            raise ValueError(f"the transformer takes {config.in_channels} channels, not {expected}; use Wan")
        if config.pos_embed_seq_len is not None:
            raise ValueError("this checkpoint wants a last frame too; WanImageToVideo gives only the first")
        if config.image_dim is not None and self.pipe.image_encoder is None:
            raise ValueError("the transformer wants CLIP embeddings, but the pipeline has no image_encoder")

    @torch.no_grad()
    def _encode_picture(self, picture: Any) -> torch.Tensor:
        """One picture as latents: of itself for 5B, else of a clip that goes on in grey, below the mask that
        marks its first frame as known."""
        image = self.pipe.video_processor.preprocess(picture, height=self.size.height, width=self.size.width)
        clip = image.unsqueeze(2)
        if not self.per_token:
            clip = torch.nn.functional.pad(clip, (0, 0, 0, 0, 0, self.size.frames - 1))
        latents = self._encode_clip(clip)
        if self.per_token:
            return latents
        mask = latents.new_zeros(1, self.pipe.vae_scale_factor_temporal, *self.shape[1:])
        mask[:, :, 0] = 1
        return torch.cat([mask, latents], dim=1)

    def _predict(
        self, latents: torch.Tensor, levels: torch.Tensor, told: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        timesteps = self._timesteps(levels)
        if not self.per_token:
            return self._forward(torch.cat([latents, told["channels"]], dim=1), timesteps, told)
        timesteps[:, : self.tokens] = 0
        velocity = self._forward(clips.hold(latents, told["frame"]), timesteps, told)
        return clips.held_velocity(velocity, latents, levels, told["frame"])


def _denoiser(pipe: "WanPipeline | WanImageToVideoPipeline") -> torch.nn.Module:
    """The transformer, or both of them where the pipeline names the boundary between them."""
    transformer: torch.nn.Module = pipe.transformer
    if pipe.config.boundary_ratio is None:
        return transformer
    if pipe.transformer_2 is None:
        raise ValueError("boundary_ratio is set, but the pipeline has no transformer_2; load both")
    return Experts(transformer, pipe.transformer_2, pipe.config.boundary_ratio * clips.TIMESTEPS)

"""Wan 2.1 and 2.2 as a generator of clips: text to video, and a first frame with text to video.

Wan 2.2 A14B has two transformers, one for high and one for low noise; Wan 2.2 5B gives every token its own
timestep. Paper: https://arxiv.org/abs/2503.20314; numbers agree with diffusers' WanPipeline and
WanImageToVideoPipeline under Euler steps on the same noise levels.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from mmreward.generator import Conditioning
from mmreward.media import Media

from . import clips
from .conditioning import last_is_blank, with_both
from .latents import channel_statistics

if TYPE_CHECKING:
    from diffusers import WanImageToVideoPipeline, WanPipeline

TOKENS = 512
"""Text is padded to this length; the image-to-video networks split their context there."""


class Experts(torch.nn.ModuleDict):
    """Wan 2.2's two transformers behind one call: every row goes to that of its noise level.

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
                own = {key: None if value is None else value[index] for key, value in rows.items()}
                order.append(index)
                parts.append(self[name](timestep=timestep[index], return_dict=return_dict, **own)[0])
        return (torch.cat(parts)[torch.cat(order).argsort()],)


class Wan:
    """Wan text to video (see `mmreward.generator`). Latents are (N, C, T, h, w).

    Args:
        pipe: a loaded pipeline; its networks are used where they are, and all but the denoiser are frozen.
        height: of the clip, in pixels; a multiple of 16, or of 32 for the 5B model.
        width: likewise. None takes what the checkpoint was made for: 832 x 480, or 1280 x 704 for 5B.
        frames: of the clip; 1 more than a multiple of 4. None: 81, or 121 for 5B.
        fps: frames a second; None: 16, or 24 for 5B.
        guidance_2: guidance scale of the low-noise transformer; None: the same as the other's.
        negative_prompt: text that guidance leads away from.

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
    at = clips.at
    noise = clips.noise
    velocity = clips.velocity
    to_latents = clips.to_latents

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
        self.resize(clips.ClipSize(*known).changed(frames, height, width))
        self.mean, self.std = channel_statistics(self.vae.config, self.device)
        for name, part in self.parts.items():
            if name != "network":
                part.requires_grad_(False)

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, "vae": self.vae, "text_encoder": self.pipe.text_encoder}

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Text (N, 512, D)."""
        clips.refuse_pictures(inputs, "WanImageToVideo")
        return self._encode_text(prompts)

    def sigmas(self, steps: int) -> torch.Tensor:
        """The noise levels of the pipeline's scheduler, from exactly 1; its flow shift bends them."""
        return clips.schedule(self.pipe.scheduler, num_inference_steps=steps).to(self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, T, 3, H, W) in [0, 1]; differentiable inside the range, through the causal cache too."""
        scaled = latents.float() * self.std + self.mean
        return clips.frames_first(self.vae.decode(scaled.to(self.vae.dtype), return_dict=False)[0])

    def normalised(self, raw: torch.Tensor) -> torch.Tensor:
        """The VAE's own latents, brought to about mean 0 and variance 1; `decode` undoes it."""
        return (raw - self.mean) / self.std

    def resize(self, size: clips.ClipSize) -> None:
        """Make clips of this size from now on; sets the shape of the latents and the tokens of a frame."""
        pipe, patch = self.pipe, self.pipe.transformer.config.patch_size[1]
        grid = size.latent(pipe.vae_scale_factor_temporal, pipe.vae_scale_factor_spatial, patch)
        self.size = size
        self.shape: tuple[int, ...] = (self.vae.config.z_dim, *grid)
        self.tokens = (grid[1] // patch) * (grid[2] // patch)

    def _check(self) -> None:
        """Raise ValueError when the pipeline is not one of this task."""
        channels, latent = self.pipe.transformer.config.in_channels, self.vae.config.z_dim
        if channels != latent:
            raise ValueError(f"the transformer takes {channels} channels, not {latent}; use WanImageToVideo")

    @torch.no_grad()
    def _encode_text(self, prompts: Sequence[str]) -> Conditioning:
        text: torch.Tensor = self.pipe.encode_prompt(
            [*prompts, self.negative_prompt],
            do_classifier_free_guidance=False,
            max_sequence_length=TOKENS,
            device=self.device,
        )[0]
        return last_is_blank({"text": text.to(self.dtype)})

    def scale(self, levels: torch.Tensor, guidance: float) -> torch.Tensor:
        """The guidance scale of each row, (N, 1, 1, 1, 1)."""
        scale = torch.full_like(levels, guidance)
        if self.guidance_2 is not None:
            scale[levels * clips.TIMESTEPS < self.boundary] = self.guidance_2
        return scale.view(-1, 1, 1, 1, 1)

    def forward(
        self, latents: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Velocity (N, C, T, h, w), float32, from one forward of the transformer."""
        if self.per_token:
            timesteps = clips.token_timesteps(levels, self.shape[1] * self.tokens)
        else:
            timesteps = levels * clips.TIMESTEPS
        return self._run(latents, timesteps, given)

    def _run(
        self, seen: torch.Tensor, timesteps: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Velocity in the shape of the latents among `seen`, at timesteps (N,) or (N, tokens)."""
        velocity: torch.Tensor = self.network(
            hidden_states=seen.to(self.dtype),
            timestep=timesteps,
            encoder_hidden_states=given["text"],
            encoder_hidden_states_image=given.get("image"),
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
        text = self._encode_text(prompts)
        if self.per_token:
            seen = {"frame": clips.encode_frames(self, pictures)}
        else:
            seen = {"channels": self._masked(clips.encode_frames(self, pictures, self.size.frames))}
        if self.pipe.transformer.config.image_dim is not None:
            with torch.no_grad():
                seen["image"] = self.pipe.encode_image(pictures, self.device).to(self.dtype)
        return with_both(text, seen)

    def _check(self) -> None:
        config, latent = self.pipe.transformer.config, self.vae.config.z_dim
        expected = latent if self.per_token else 2 * latent + self.pipe.vae_scale_factor_temporal
        if config.in_channels != expected:
            raise ValueError(f"the transformer takes {config.in_channels} channels, not {expected}; use Wan")
        if config.pos_embed_seq_len is not None:
            raise ValueError("this checkpoint wants a last frame too; WanImageToVideo gives only the first")
        if config.image_dim is not None and self.pipe.image_encoder is None:
            raise ValueError("the transformer wants CLIP embeddings, but the pipeline has no image_encoder")

    def _masked(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (N, C, T, h, w) below the mask (N, 4, T, h, w) that marks their first frame as known."""
        mask = latents.new_zeros(len(latents), self.pipe.vae_scale_factor_temporal, *self.shape[1:])
        mask[:, :, 0] = 1
        return torch.cat([mask, latents], dim=1)

    def forward(
        self, latents: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """As `Wan.forward`, with the picture as further channels, or as the first frame for 5B."""
        if self.per_token:
            return clips.first_frame_velocity(self._run, latents, levels, self.tokens, given)
        seen = torch.cat([latents, given["channels"]], dim=1)
        return self._run(seen, levels * clips.TIMESTEPS, given)


def _denoiser(pipe: "WanPipeline | WanImageToVideoPipeline") -> torch.nn.Module:
    """The transformer, or both of them where the pipeline names the boundary between them."""
    transformer: torch.nn.Module = pipe.transformer
    if pipe.config.boundary_ratio is None:
        return transformer
    if pipe.transformer_2 is None:
        raise ValueError("boundary_ratio is set, but the pipeline has no transformer_2; load both")
    return Experts(transformer, pipe.transformer_2, pipe.config.boundary_ratio * clips.TIMESTEPS)

"""LTX-Video as a generator of clips: text to video, and a first frame with text to video.

Paper: https://arxiv.org/abs/2501.00103. Numbers agree with diffusers' LTXPipeline and
LTXImageToVideoPipeline.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift

from mmreward.generator import Conditioning
from mmreward.media import Media

from . import clips
from .conditioning import last_is_blank, with_both
from .latents import gaussian

if TYPE_CHECKING:
    from diffusers import LTXImageToVideoPipeline, LTXPipeline

TOKENS = 128
"""Text is padded to this length."""


class LTX:
    """LTX-Video text to video (see `mmreward.generator`).

    Latents are (N, C, T, h, w); the network gets them as tokens.

    Args:
        pipe: a loaded pipeline; its networks are used where they are, and all but the denoiser are frozen.
        height: of the clip, in pixels; a multiple of 32, by default 512.
        width: likewise, by default 704.
        frames: of the clip; 1 more than a multiple of 8, by default 161.
        fps: frames a second, by default 25; an input of the network too.
        negative_prompt: text that guidance leads away from.
        decode_timestep: where the VAE is one more denoiser (0.9.1 and later), the noise level that is its
            input, 0 to 1.
        decode_noise_scale: share of noise mixed into the latents for such a VAE, 0 to 1. It is the same noise
            for every clip, so decoding stays a function of the latents. Both defaults are those of LTX-Video.

    Raises:
        ValueError: the size cannot be made, or the transformer cuts the latents into patches.
    """

    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
    steps = 50
    guidance = 3.0
    at = clips.at
    noise = clips.noise
    velocity = clips.velocity
    to_latents = clips.to_latents

    def __init__(
        self,
        pipe: "LTXPipeline | LTXImageToVideoPipeline",
        *,
        height: int | None = None,
        width: int | None = None,
        frames: int | None = None,
        fps: float | None = None,
        negative_prompt: str = "",
        decode_timestep: float = 0.05,
        decode_noise_scale: float = 0.025,
    ) -> None:
        self.pipe, self.vae, self.negative_prompt = pipe, pipe.vae, negative_prompt
        self.network: torch.nn.Module = pipe.transformer
        self.device, self.dtype = pipe.transformer.device, pipe.transformer.dtype
        config = pipe.transformer.config
        if (config.patch_size, config.patch_size_t) != (1, 1):
            raise ValueError(f"patches of {config.patch_size_t} x {config.patch_size}: LTX-Video has 1 x 1")
        self.temporal, self.spatial = pipe.vae_temporal_compression_ratio, pipe.vae_spatial_compression_ratio
        self.resize(clips.ClipSize(161, 512, 704).changed(frames, height, width))
        self.mean: torch.Tensor = self.vae.latents_mean.float().view(1, -1, 1, 1, 1)
        self.std: torch.Tensor = self.vae.latents_std.float().view(1, -1, 1, 1, 1)
        self.frame_rate = 25.0 if fps is None else fps
        self.fps: float | None = self.frame_rate
        self.decode_timestep, self.decode_noise_scale = decode_timestep, decode_noise_scale
        for name, part in self.parts.items():
            if name != "network":
                part.requires_grad_(False)

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, "vae": self.vae, "text_encoder": self.pipe.text_encoder}

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Text (N, 128, D) and which of its tokens count, "mask" (N, 128)."""
        clips.refuse_pictures(inputs, "LTXImageToVideo")
        return self._encode_text(prompts)

    def sigmas(self, steps: int) -> torch.Tensor:
        """The noise levels of the pipeline's scheduler, bent more the more latents a clip has."""
        if steps == 1:  # a schedule stretched to end at `shift_terminal` needs a second level
            return torch.tensor([1.0, 0.0], device=self.device)
        config = self.pipe.scheduler.config
        mu = calculate_shift(
            self.grid[0] * self.grid[1] * self.grid[2],
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        even = torch.linspace(1, 1 / steps, steps, dtype=torch.float64).tolist()
        return clips.schedule(self.pipe.scheduler, sigmas=even, mu=mu).to(self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, T, 3, H, W) in [0, 1]; differentiable inside the range. The same latents give the same
        pixels, though some LTX-Video decoders draw noise."""
        scaled = latents.float() * self.std / self.vae.config.scaling_factor + self.mean
        timestep = None
        if self.vae.config.timestep_conditioning:
            timestep = scaled.new_full((len(scaled),), self.decode_timestep).to(self.vae.dtype)
            noise = gaussian([0], self.shape).to(self.device)
            scaled = torch.lerp(scaled, noise.expand_as(scaled), self.decode_noise_scale)
        with _same_noise(self.device):
            video = self.vae.decode(scaled.to(self.vae.dtype), timestep, return_dict=False)[0]
        return clips.frames_first(video)

    def resize(self, size: clips.ClipSize) -> None:
        """Make clips of this size from now on; sets the grid and the shape of the latents."""
        self.size, self.grid = size, size.latent(self.temporal, self.spatial, 1)
        self.shape: tuple[int, ...] = (self.pipe.transformer.config.in_channels, *self.grid)

    def normalised(self, raw: torch.Tensor) -> torch.Tensor:
        """The VAE's own latents, brought to about mean 0 and variance 1; `decode` undoes it."""
        return (raw - self.mean) * float(self.vae.config.scaling_factor) / self.std

    def _encode_text(self, prompts: Sequence[str]) -> Conditioning:
        with torch.no_grad():
            text, mask, *_ = self.pipe.encode_prompt(
                [*prompts, self.negative_prompt],
                do_classifier_free_guidance=False,
                max_sequence_length=TOKENS,
                device=self.device,
            )
        return last_is_blank({"text": text.to(self.dtype), "mask": mask})

    def scale(self, levels: torch.Tensor, guidance: float) -> float:
        """The guidance scale, the same at every noise level."""
        return guidance

    def forward(
        self, latents: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Velocity (N, C, T, h, w), float32, from one forward of the transformer."""
        return self._run(latents, levels * clips.TIMESTEPS, given)

    def _run(
        self, seen: torch.Tensor, timesteps: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Velocity in the shape of the latents `seen`, at timesteps (N,) or (N, tokens)."""
        frames, height, width = self.grid
        tokens: torch.Tensor = self.network(
            hidden_states=seen.to(self.dtype).flatten(2).transpose(1, 2),
            encoder_hidden_states=given["text"],
            timestep=timesteps,
            encoder_attention_mask=given["mask"],
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(self.temporal / self.frame_rate, self.spatial, self.spatial),
            return_dict=False,
        )[0]
        return tokens.float().transpose(1, 2).reshape(seen.shape)


class LTXImageToVideo(LTX):
    """LTX-Video image to video: every row of `inputs` holds one picture, the first frame. See `LTX`.

    The network sees the picture's latents in place of the first frame's, at timestep 0. They are the mode of
    the VAE's posterior, not a sample of it as in diffusers, so that the same picture is always the same
    condition.
    """

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """As `LTX.encode`, and "frame" (N, C, 1, h, w); pictures are resized to the clip's size."""
        pictures = clips.first_frames(inputs, len(prompts))
        text = self._encode_text(prompts)
        return with_both(text, {"frame": clips.encode_frames(self, pictures)})

    def forward(
        self, latents: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """As `LTX.forward`, with the known first frame in place."""
        _, height, width = self.grid
        return clips.first_frame_velocity(self._run, latents, levels, height * width, given)


@contextmanager
def _same_noise(device: torch.device) -> Iterator[None]:
    """Global random numbers begin at seed 0 inside, and go on outside as if nothing had been drawn."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        else:
            torch.default_generator.manual_seed(0)
        yield

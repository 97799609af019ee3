"""Stable Diffusion 1.x, 2.x and XL as `Generator`s: text to picture, inpainting, and their turbo models.

XL has two text encoders and the picture's size as further conditions. Numbers agree with the pipelines of
diffusers under Euler steps on the same noise levels. The coordinates of rectified flow come from `diffusion`.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch

from mmreward.errors import Unscorable
from mmreward.generator import Conditioning
from mmreward.media import Media

from .conditioning import encode_clip_text, guided_velocity, last_is_blank, with_both
from .diffusion import Schedule, spread
from .latents import Autoencoder, gaussian, signed


class StableDiffusion:
    """A latent diffusion UNet as a `Generator` (see `mmreward.generator`); arXiv:2112.10752.

    Turbo models (arXiv:2311.17042), known by the trailing spacing of their scheduler, make a picture in one
    step without guidance by default. The VAE and the text encoder are frozen.

    Args:
        pipe: the loaded diffusers pipeline.
        height, width: of the pictures, in pixels; the model's own size where not given.
        steps, guidance: defaults for sampling; 50 and `full_guidance`, 1 and 1 for a turbo model.
        negative_prompt: text that guidance leads away from; the empty prompt where not given.

    Raises:
        ValueError: a size that is no multiple of the VAE's factor, a scheduler that is not VP, or a network
            of another kind.
    """

    fps: float | None = None
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    full_steps = 50
    full_guidance = 7.5
    inpaints = False
    velocity = guided_velocity

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        negative_prompt: str | None = None,
    ) -> None:
        self._check(pipe)
        self.network: torch.nn.Module = pipe.unet.eval()
        self.device, self.dtype = pipe.unet.device, pipe.unet.dtype
        self.vae = Autoencoder(pipe.vae)
        self.schedule = Schedule(pipe.scheduler)
        usual = (1, 1.0) if _is_turbo(pipe.scheduler.config) else (self.full_steps, self.full_guidance)
        self.steps = usual[0] if steps is None else steps
        self.guidance = usual[1] if guidance is None else guidance
        self.negative_prompt = negative_prompt
        self.height, self.width = _size(pipe.unet.config.sample_size, self.vae.factor, height, width)
        self._pipe = pipe
        for encoder in self._text_encoders.values():
            encoder.eval().requires_grad_(False)

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, "vae": self.vae.network, **self._text_encoders}

    def at(self, height: int, width: int) -> Self:
        """The same family and networks, for pictures of another size."""
        other = copy.copy(self)
        other.height, other.width = _size(self._pipe.unet.config.sample_size, self.vae.factor, height, width)
        return other

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Hidden states (N, 77, D); of an inpainting model also "mask" and "masked".

        See `inpainting_channels` for the last two. A prompt of more than 77 tokens is cut, with a warning.

        Raises:
            ValueError: as the protocol's.
        """
        text = self._embed(prompts)
        return with_both(text, self._channels(inputs, len(prompts)))

    def noise(self, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
        """Starting latents (N, C, h, w), float32; a seed means the same on every device.

        Args:
            seeds: one per row.
            steps: of the sampling that begins with them; the default number where not given. Under leading
                spacing the first noise level depends on it, and with it the latents' scale.
        """
        shape = (self.vae.channels, self.height // self.vae.factor, self.width // self.vae.factor)
        start = self.schedule.start(self.steps if steps is None else steps)
        return gaussian(seeds, shape).to(self.device) * start

    def sigmas(self, steps: int) -> torch.Tensor:
        """The noise levels of the scheduler's own spacing."""
        return self.schedule.sigmas(steps).to(self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1]; differentiable inside the range."""
        return self.vae.decode(latents)

    @torch.no_grad()
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1] to latents, float32: the mean of the VAE's posterior."""
        return self.vae.encode(signed(pixels, self.height, self.width))

    @property
    def _text_encoders(self) -> Mapping[str, torch.nn.Module]:
        return {"text_encoder": self._pipe.text_encoder}

    def _check(self, pipe: Any) -> None:
        unet, latents = pipe.unet.config, pipe.vae.config.latent_channels
        if unet.get("time_cond_proj_dim") is not None:
            raise ValueError("the UNet is a latent consistency model, which follows no ODE; load its teacher")
        expected = 2 * latents + 1 if self.inpaints else latents
        if unet["in_channels"] != expected:
            made = "inpainting" if self.inpaints else "text alone"
            raise ValueError(
                f"the UNet has {unet['in_channels']} input channels, not {expected}: {type(self).__name__} "
                f"takes one made for {made}"
            )

    def _embed(self, prompts: Sequence[str]) -> Conditioning:
        """Text states of the prompts, and of the negative prompt in as many rows."""
        texts = [*prompts, self.negative_prompt or ""]
        encoded = encode_clip_text(self._pipe.tokenizer, self._pipe.text_encoder, texts)
        return last_is_blank({"hidden": encoded.last})

    def _channels(self, inputs: Sequence[Sequence[Media]], rows: int) -> Mapping[str, torch.Tensor]:
        """Further channels of the network's input; none where it does not inpaint."""
        if self.inpaints:
            if len(inputs) != rows:
                raise ValueError(f"{rows} prompts but {len(inputs)} pairs (image, mask); give one per prompt")
            return inpainting_channels(self._pipe, self.vae, inputs, self.height, self.width)
        for row, pictures in enumerate(inputs):
            if pictures:
                raise ValueError(f"row {row} has condition pictures, but {type(self).__name__} takes none")
        return {}

    def forward(
        self, latents: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Velocity (N, C, h, w), float32, from one forward of the UNet."""
        sigma = levels.view(-1, 1, 1, 1)
        seen = [given[name] for name in ("mask", "masked") if name in given]
        channels = torch.cat([latents / spread(sigma), *seen], dim=1)
        predicted = self.network(
            channels.to(self.dtype),
            self.schedule.timesteps(levels),
            encoder_hidden_states=given["hidden"].to(self.dtype),
            added_cond_kwargs=self._added(given),
            return_dict=False,
        )[0]
        return self.schedule.velocity(predicted, latents, sigma)

    def _added(self, given: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor] | None:
        """Conditions that the network adds to its embedding of the timestep."""
        return None


class StableDiffusionInpaint(StableDiffusion):
    """Inpainting with a UNet of its own; every row of `inputs` is (image, mask), white where to paint."""

    inpaints = True


class StableDiffusionXL(StableDiffusion):
    """SDXL as a `Generator` (arXiv:2307.01952); arguments as for `StableDiffusion`.

    Without a negative prompt, guidance leads away from zeros where the pipeline is so configured, as SDXL's
    is. The sizes among the network's inputs are those of a picture neither resized nor cropped.

    Raises:
        ValueError: as `StableDiffusion`; also a network that expects other numbers than six about sizes.
    """

    full_guidance = 5.0

    @property
    def _text_encoders(self) -> Mapping[str, torch.nn.Module]:
        return {"text_encoder": self._pipe.text_encoder, "text_encoder_2": self._pipe.text_encoder_2}

    def _check(self, pipe: Any) -> None:
        super()._check(pipe)
        width = pipe.text_encoder_2.config.projection_dim + 6 * pipe.unet.config.addition_time_embed_dim
        if pipe.unet.add_embedding.linear_1.in_features != width:
            raise ValueError("the UNet is not told the six sizes of a base model; refiners are not supported")

    def _embed(self, prompts: Sequence[str]) -> Conditioning:
        pipe = self._pipe
        texts = [*prompts, self.negative_prompt or ""]
        first = encode_clip_text(pipe.tokenizer, pipe.text_encoder, texts)
        second = encode_clip_text(pipe.tokenizer_2, pipe.text_encoder_2, texts)
        hidden, pooled = torch.cat([first.penultimate, second.penultimate], dim=-1), second.pooled
        if self.negative_prompt is None and pipe.config.force_zeros_for_empty_prompt:
            hidden[-1], pooled[-1] = 0, 0
        sizes = torch.tensor([[self.height, self.width, 0, 0, self.height, self.width]], device=self.device)
        text = last_is_blank({"hidden": hidden, "pooled": pooled})
        return with_both(text, {"sizes": sizes.float().expand(len(prompts), -1)})

    def _added(self, given: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        return {"text_embeds": given["pooled"].to(self.dtype), "time_ids": given["sizes"]}


class StableDiffusionXLInpaint(StableDiffusionXL):
    """SDXL inpainting by a UNet made for it; every row of `inputs` is (image, mask), white where to paint."""

    inpaints = True


def inpainting_channels(
    pipe: Any, vae: Autoencoder, inputs: Sequence[Sequence[Media]], height: int, width: int
) -> Mapping[str, torch.Tensor]:
    """Mask and masked image, which join the latents as further channels; resized and cut as the pipelines do.

    Args:
        pipe: its processors resize the pictures.
        vae: encodes the part of the image that is kept.
        inputs: N pairs (image, mask); the mask is white where the model may paint.
        height, width: of the pictures to make, in pixels.

    Returns:
        "mask" (N, 1, h, w) of 0 and 1, and "masked" (N, C, h, w), the latents of the image without the part
        to paint.

    Raises:
        ValueError: a row is not a pair, or cannot be read; the message names it.
    """
    size = {"height": height, "width": width}
    images, masks = [], []
    for row, pair in enumerate(inputs):
        if len(pair) != 2:
            raise ValueError(f"row {row} has {len(pair)} pictures; inpainting takes (image, mask)")
        try:
            image, mask = (one.picture() for one in pair)
        except Unscorable as error:
            raise ValueError(f"row {row}: {error}") from None
        images.append(pipe.image_processor.preprocess(image, **size))
        masks.append(pipe.mask_processor.preprocess(mask, **size))
    pixels, holes = torch.cat(images), torch.cat(masks)
    with torch.no_grad():
        masked = vae.encode(pixels * (holes < 0.5))
    small = torch.nn.functional.interpolate(holes, size=masked.shape[-2:])
    return {"mask": small.to(masked), "masked": masked}


def _is_turbo(config: Mapping[str, Any]) -> bool:
    """Trailing spacing without zero terminal SNR, which models of many steps pair it with."""
    return config.get("timestep_spacing") == "trailing" and not config.get("rescale_betas_zero_snr", False)


def _size(
    sample_size: int | Sequence[int], factor: int, height: int | None, width: int | None
) -> tuple[int, int]:
    own = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    size = (
        own[0] * factor if height is None else height,
        own[1] * factor if width is None else width,
    )
    for name, length in zip(("height", "width"), size, strict=True):
        if length < factor or length % factor:
            raise ValueError(f"{name} must be a multiple of {factor}, not {length}")
    return size

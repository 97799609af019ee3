"""Clips of LTX-Video and Wan: their sizes, noise levels and known first frames, and the methods both share.

Latents of a clip are (N, C, T, h, w) in every family: T latent frames of h x w. A class takes a method of the
last section by assigning it in its body (`noise = clips.noise`). Knows no network.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import torch

from mmreward.generator import Conditioning
from mmreward.media import Media

from .conditioning import Forward
from .latents import fractions, gaussian, posterior_mode, row_levels, signed_clip

if TYPE_CHECKING:
    from PIL import Image

TIMESTEPS = 1000
"""The timestep at noise level 1."""


class ClipSize(NamedTuple):
    """Size of a clip in frames and pixels."""

    frames: int
    height: int
    width: int

    def changed(self, frames: int | None, height: int | None, width: int | None) -> "ClipSize":
        """The size with the given numbers in place of its own; None keeps its own."""
        given = {"frames": frames, "height": height, "width": width}
        return self._replace(**{name: value for name, value in given.items() if value is not None})

    def latent(self, temporal: int, spatial: int, patch: int) -> tuple[int, int, int]:
        """(T, h, w) of the latents, for a causal VAE that shrinks by `temporal` and `spatial`, and a network
        that cuts them into squares of `patch`.

        Raises:
            ValueError: the clip cannot be cut so; the message names a size that can.
        """
        if self.frames < 1 or (self.frames - 1) % temporal:
            near = 1 + max(0, round((self.frames - 1) / temporal)) * temporal
            raise ValueError(f"frames must be 1 more than {temporal} times n, not {self.frames}: {near}")
        step = spatial * patch
        for name, pixels in (("height", self.height), ("width", self.width)):
            if pixels < 1 or pixels % step:
                near = max(1, round(pixels / step)) * step
                raise ValueError(f"{name} must be a multiple of {step}, not {pixels}: {near}")
        return (self.frames - 1) // temporal + 1, self.height // spatial, self.width // spatial


def schedule(scheduler: Any, **grid: Any) -> torch.Tensor:
    """Noise levels of a pipeline's scheduler, which is left as it was; `grid` goes to its `set_timesteps`.

    Raises:
        ValueError: the scheduler does not walk the noise levels of rectified flow, or finds none.
    """
    if "FlowMatch" not in type(scheduler).__name__ and not scheduler.config.get("use_flow_sigmas"):
        name = type(scheduler).__name__
        raise ValueError(f"{name} has no flow sigmas; use FlowMatchEulerDiscreteScheduler")
    fresh = copy.deepcopy(scheduler)
    fresh.set_timesteps(**grid)
    sigmas: torch.Tensor = fresh.sigmas.float().cpu().clone()
    if not sigmas.isfinite().all():
        raise ValueError(f"{type(scheduler).__name__} finds no noise levels for {grid}; make a smaller clip")
    # UniPC starts at 1 - 1e-6 to keep its logarithm finite; an SDE step would divide by that 1e-6.
    sigmas[sigmas > 1 - 1e-5] = 1.0
    return sigmas


def frames_first(video: torch.Tensor) -> torch.Tensor:
    """A VAE's clips (N, 3, T, H, W) in [-1, 1] as pixels (N, T, 3, H, W) in [0, 1], float32."""
    return fractions(video).movedim(2, 1)


# The known first frame of image to video.


def refuse_pictures(inputs: Sequence[Sequence[Media]], instead: str) -> None:
    """Raise ValueError, naming the row and the family to use `instead`, when there are condition pictures."""
    for row, given in enumerate(inputs):
        if given:
            raise ValueError(f"row {row} has a condition picture, but this family takes none; use {instead}")


def first_frames(inputs: Sequence[Sequence[Media]], number: int) -> "list[Image.Image]":
    """The one condition picture of each of `number` rows.

    Raises:
        ValueError: a row has none, or several; the message names it.
        Unscorable: a picture cannot be read.
    """
    if len(inputs) != number:
        raise ValueError(f"{number} prompts but {len(inputs)} rows of inputs; give each its first frame")
    for row, given in enumerate(inputs):
        if len(given) != 1:
            raise ValueError(f"row {row} has {len(given)} condition pictures; give one, the first frame")
    return [given[0].picture() for given in inputs]


@torch.no_grad()
def encode_frames(self: "MakesClips", pictures: "Sequence[Image.Image]", frames: int = 1) -> torch.Tensor:
    """Latents (N, C, T, h, w) of clips of `frames` frames: a picture, resized to the clip's size, then grey.

    Each is encoded by itself, so that it has the same latents in any batch.
    """
    size = {"height": self.size.height, "width": self.size.width}
    latents = []
    for picture in pictures:
        first = self.pipe.video_processor.preprocess(picture, **size).unsqueeze(2)
        clip = torch.nn.functional.pad(first, (0, 0, 0, 0, 0, frames - 1))
        latents.append(self.normalised(posterior_mode(self.vae, clip)))
    return torch.cat(latents)


def first_frame_velocity(
    run: Forward,
    latents: torch.Tensor,
    levels: torch.Tensor,
    tokens: int,
    given: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """Velocity of clips whose first latent frame, `given["frame"]` (N, C, 1, h, w), is known.

    The network sees the frame in place of the latents', at timestep 0. Its own velocity there is replaced by
    the straight way from the noisy frame to the known one: so the noise of the first frame falls with that of
    the others, any solver ends on the frame itself, and neither noise nor decoding has to know the picture.

    Args:
        run: the network, called with one timestep per token, (N, tokens of the clip).
        latents: (N, C, T, h, w).
        levels: noise levels (N,).
        tokens: of one latent frame; the first frame's come first.
        given: the network's other inputs.
    """
    frame = given["frame"]
    timesteps = token_timesteps(levels, latents.shape[2] * tokens)
    timesteps[:, :tokens] = 0
    velocity = run(torch.cat([frame, latents[:, :, 1:]], dim=2), timesteps, given)
    level = levels.clamp_min(1e-6).view(-1, 1, 1, 1, 1)
    return torch.cat([(latents[:, :, :1] - frame) / level, velocity[:, :, 1:]], dim=2)


def token_timesteps(levels: torch.Tensor, tokens: int) -> torch.Tensor:
    """The same timestep for every token of a clip, (N, tokens), from noise levels (N,)."""
    return (levels * TIMESTEPS)[:, None].repeat(1, tokens)


# Methods of the families of clips. The first argument is the generator.


class MakesClips(Protocol):
    """A generator of clips of one size, over a loaded pipeline."""

    pipe: Any
    vae: Any
    device: torch.device
    size: ClipSize
    shape: tuple[int, ...]

    def forward(
        self, latents: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Velocity (N, C, T, h, w), float32, at noise levels (N,)."""
        ...

    def scale(self, levels: torch.Tensor, guidance: float) -> torch.Tensor | float:
        """The guidance scale, of all rows or of each."""
        ...

    def normalised(self, raw: torch.Tensor) -> torch.Tensor:
        """The VAE's own latents, brought to about mean 0 and variance 1."""
        ...

    def resize(self, size: ClipSize) -> None:
        """Make clips of this size from now on."""
        ...


C = TypeVar("C", bound=MakesClips)


def at(self: C, height: int, width: int) -> C:
    """The same family and networks, for clips of another size."""
    other = copy.copy(self)
    other.resize(self.size.changed(None, height, width))
    return other


def noise(self: MakesClips, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
    """Gaussian latents (N, C, T, h, w), float32; those of the pipeline for the same seed."""
    return gaussian(seeds, self.shape).to(self.device)


def velocity(
    self: MakesClips,
    latents: torch.Tensor,
    sigma: torch.Tensor | float,
    conditioning: Conditioning,
    guidance: float = 1.0,
) -> torch.Tensor:
    """Velocity in the shape of `latents`; guidance 1 costs one forward, anything else two, one after the
    other: a clip fills a GPU by itself."""
    levels = row_levels(sigma, latents)
    given = self.forward(latents, levels, conditioning.given)
    if guidance == 1:
        return given
    blank = self.forward(latents, levels, conditioning.blank)
    return blank + self.scale(levels, guidance) * (given - blank)


@torch.no_grad()
def to_latents(self: MakesClips, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (N, T, 3, H, W) in [0, 1] to latents, float32: the mean of the VAE's posterior."""
    return self.normalised(posterior_mode(self.vae, signed_clip(pixels, *self.size)))

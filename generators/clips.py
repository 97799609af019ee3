"""What the families of clips share: sizes, starting noise, noise levels and first frames. Knows no network.

Latents of a clip are (N, C, T, h, w) in every family: T latent frames of h x w.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mmreward.media import Media

if TYPE_CHECKING:
    from PIL import Image

TIMESTEPS = 1000
"""What a network is told at noise level 1."""


class ClipSize(NamedTuple):
    """Size of a clip in frames and pixels."""

    frames: int
    height: int
    width: int

    def changed(self, frames: int | None, height: int | None, width: int | None) -> "ClipSize":
        """The size with what is given in place of its own."""
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


def noise(seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """Gaussian latents (N, *shape), float32. Drawn on the CPU: a seed means the same on every device."""
    rows = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device)


def levels(sigma: torch.Tensor | float, latents: torch.Tensor) -> torch.Tensor:
    """One noise level per row, (N,) float32."""
    return torch.as_tensor(sigma, dtype=torch.float32, device=latents.device).expand(len(latents))


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


def pixels(video: torch.Tensor) -> torch.Tensor:
    """What a VAE decodes, (N, 3, T, H, W) in [-1, 1], as (N, T, 3, H, W) in [0, 1], float32."""
    return (video.float() / 2 + 0.5).clamp(0, 1).movedim(2, 1)


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


def hold(latents: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """The latents with their first frame replaced by the known one (N, C, 1, h, w)."""
    return torch.cat([frame, latents[:, :, 1:]], dim=2)


def held_velocity(
    velocity: torch.Tensor, latents: torch.Tensor, sigma: torch.Tensor, frame: torch.Tensor
) -> torch.Tensor:
    """The velocity with that of the known first frame put in: straight from where it is to where it must be.

    So the noise of the first frame falls with that of the others, any solver ends on `frame` itself, and
    neither noise nor decoding has to know the picture.
    """
    level = sigma.clamp_min(1e-6).view(-1, 1, 1, 1, 1)
    return torch.cat([(latents[:, :, :1] - frame) / level, velocity[:, :, 1:]], dim=2)

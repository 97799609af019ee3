"""The generator protocol: the methods by which a generator is sampled, tuned and searched.

Knows no family, no reward and no training; the families are in `mmreward.generators`. Conventions of
rectified flow, for every family: x_s = (1 - s) x0 + s noise, velocity = noise - x0, and the noise level s
falls to 0. A model that predicts noise or x0 is brought to these coordinates by its family's file: with
alpha-bar ab, s = sqrt(1 - ab) / (sqrt(ab) + sqrt(1 - ab)), latents are divided by the same sum, and DDIM
becomes Euler's rule exactly. So kernels, losses and searches are written once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from .media import Media


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Encoded prompts (and condition pictures), row by row.

    Args:
        given: inputs of the network besides latents and noise level; every tensor has the rows first,
            (N, ...).
        blank: the same for the empty or negative prompt, in the same rows; empty when the family has no
            classifier-free guidance.
    """

    given: Mapping[str, torch.Tensor]
    blank: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self.given.values())))

    def __getitem__(self, rows: slice | torch.Tensor) -> "Conditioning":
        """The rows of a slice, an index or a mask."""
        return self._each(lambda tensor: tensor[rows])

    def repeat(self, times: int) -> "Conditioning":
        """Every row `times` times, copies next to each other."""
        return self._each(lambda tensor: tensor.repeat_interleave(times, dim=0))

    def to(self, device: torch.device | str) -> "Conditioning":
        """All rows on `device`."""
        return self._each(lambda tensor: tensor.to(device))

    @staticmethod
    def join(parts: "Sequence[Conditioning]") -> "Conditioning":
        """The rows of several, one after the other; all come from the same generator."""
        return Conditioning(
            {name: torch.cat([part.given[name] for part in parts]) for name in parts[0].given},
            {name: torch.cat([part.blank[name] for part in parts]) for name in parts[0].blank},
        )

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Conditioning":
        return Conditioning(
            {name: change(tensor) for name, tensor in self.given.items()},
            {name: change(tensor) for name, tensor in self.blank.items()},
        )


class Generator(Protocol):
    """A text-to-image or text-to-video model.

    `network` is the part that is tuned: give it LoRA layers at `lora_targets` and every method below uses
    them. `velocity` and `decode` can be differentiated through; `encode` and `to_latents` are not.
    """

    @property
    def network(self) -> torch.nn.Module:
        """The denoiser; a ModuleDict where a family has several."""
        ...

    @property
    def lora_targets(self) -> tuple[str, ...]:
        """Ends of the names of the layers that LoRA usually goes to."""
        ...

    @property
    def steps(self) -> int:
        """Default number of steps."""
        ...

    @property
    def guidance(self) -> float:
        """Default guidance scale."""
        ...

    @property
    def fps(self) -> float | None:
        """Frames a second of the clips it makes; None where it makes pictures."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of its networks and latents."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Type of the network's weights. Latents, noise levels and the mathematics of a step are float32."""
        ...

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        """Every network by its role: "network", and where there are any "vae", "text_encoder", ..."""
        ...

    def at(self, height: int, width: int) -> "Generator":
        """A generator of pictures of another size, or of clips with as many frames, over the same networks.

        LoRA layers and weights that either gets are the other's too. Conditionings, latents and noise levels
        depend on the size: take them from the generator that uses them.

        Args:
            height, width: in pixels.

        Raises:
            ValueError: a size that the family cannot make; the message names one that it can.
        """
        ...

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Conditioning of prompts, one row each, padded to the same length in every call.

        Args:
            prompts: N texts.
            inputs: for families with condition pictures, N sequences of them; else empty.

        Raises:
            ValueError: inputs are missing, or given to a family that takes none; the message names the row.
        """
        ...

    def noise(self, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
        """Starting latents (N, ...) at the first noise level; a seed gives the same ones in any batch.

        Args:
            seeds: N of them.
            steps: of the grid that starts there, where the first level depends on it (Stable Diffusion with
                leading timesteps); None stands for the generator's own.
        """
        ...

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """d latents / d s, float32 in the shape of `latents`, at one noise level or at one per row.

        Guidance 1 is none and costs one forward; where the network was distilled with guidance, the scale is
        one of its inputs.
        """
        ...

    def sigmas(self, steps: int) -> torch.Tensor:
        """The `steps` + 1 noise levels, float32, from the family's highest down to 0."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels in [0, 1], float32: (N, 3, H, W), or (N, T, 3, H, W) for clips."""
        ...

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels, as `decode` makes them, back to finished latents, float32: the mean where an autoencoder
        has a distribution.

        Raises:
            ValueError: another size than the generator makes.
        """
        ...

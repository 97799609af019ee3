"""How large a generator's pictures are: in pixels, in latents and in tokens. Knows no network.

Latents are NCHW in every family of transformers, also where the transformer works on tokens: noise, kernels
and searches then need not know how a family orders its tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True)
class Canvas:
    """One size of picture.

    Args:
        height: in pixels.
        width: in pixels.
        channels: of the latents.
        scale: pixels per latent along one side, as the VAE has it.
        patch: latents per token along one side.

    Raises:
        ValueError: a side is not a whole number of tokens.
    """

    height: int
    width: int
    channels: int
    scale: int
    patch: int = 2

    def __post_init__(self) -> None:
        side = self.scale * self.patch
        for name, pixels in (("height", self.height), ("width", self.width)):
            if pixels < side or pixels % side:
                fit = max(side, pixels // side * side)
                raise ValueError(f"{name} {pixels} is not a positive multiple of {side}; try {fit}")

    @property
    def latents(self) -> tuple[int, int, int]:
        """Shape of one picture's latents, (C, h, w)."""
        return self.channels, self.height // self.scale, self.width // self.scale

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        side = self.scale * self.patch
        return self.height // side, self.width // side

    @property
    def tokens(self) -> int:
        rows, columns = self.grid
        return rows * columns

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Gaussian latents (N, C, h, w), float32, drawn on the CPU.

        A seed means the same in any batch, and the same as in a float32 pipeline that is given a CPU
        generator with that seed.
        """
        if not seeds:
            return torch.empty(0, *self.latents)
        draws = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        return torch.stack([torch.randn(self.latents, generator=draw) for draw in draws])


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Latents (N, C, h, w) to tokens (N, h/2 * w/2, 4 C), row by row, as FLUX and Qwen-Image order them."""
    return F.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def unpack(tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Tokens (N, rows * columns, 4 C) back to latents (N, C, 2 rows, 2 columns)."""
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, grid), 2)

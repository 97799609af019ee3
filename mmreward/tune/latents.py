"""Latents of pictures and clips that are there already, each made once."""

from collections.abc import Sequence

import torch

from ..media import Media
from .generator import Generator


class KnownLatents:
    """Encodes media and remembers the latents, up to a limit; the others are encoded again each time.

    Each is encoded alone, so that its latents do not depend on what it is drawn together with.

    Args:
        generator: whose latents they are.
        limit: bytes of latents that are kept, in the memory of the CPU.
    """

    def __init__(self, generator: Generator, limit: int) -> None:
        self._generator, self._limit = generator, limit
        self._kept: dict[str, torch.Tensor] = {}
        self._size = 0

    def of(self, media: Sequence[Media]) -> torch.Tensor:
        """Latents (N, ...), float32, on the generator's device.

        Raises:
            ValueError: one cannot be read, or has another size than the generator makes; the message names
                it.
        """
        return torch.stack([self._one(each) for each in media]).to(self._generator.device)

    def _one(self, media: Media) -> torch.Tensor:
        try:
            known = self._kept.get(media.key)
            if known is not None:
                return known
            pixels = media.pixels().to(self._generator.device).float() / 255
            latents = self._generator.to_latents(pixels[None])[0].cpu()
        except ValueError as error:
            raise ValueError(f"{media!r} has no latents: {error}") from error
        size = latents.nbytes
        if self._size + size <= self._limit:
            self._kept[media.key] = latents
            self._size += size
        return latents

"""A dual encoder whose prompts are moved by a map that was fitted on it. `map_file` has the map's file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional as F

from ..batching import Cost
from ..engine import current
from ..media import Media
from .base import TorchNetwork, content_of
from .encoders import Encoder, Text, Vector
from .map_file import read_map


class MappedEncoder(TorchNetwork):
    """Answers as its encoder does, but that the embeddings of prompts are moved. Op "text", float32.

    Args:
        file: path of a file that `map_file.write_map` wrote.
        kind: of the map it must hold, "d2-align" or "pisces".
        encoder: what embeds pictures and prompts.

    Raises:
        ValueError: no such file, no map in it, one of another kind, or one that was fitted on other weights.
    """

    def __init__(self, file: str, kind: str, encoder: Encoder) -> None:
        super().__init__(file, kind=kind, encoder=encoder.fingerprint)
        self.encoder = encoder
        self._kind = kind
        self.content = content_of(self.source)  # now, as it is read: the file may be written again
        self._map, self.origin = read_map(Path(self.source))
        self.origin.check(self.source, kind, encoder)

    def build(self) -> torch.nn.Module:
        # Again: of an encoder on the hub, the content was not known before it had been downloaded.
        self.origin.check(self.source, self._kind, self.encoder)
        return self._map

    async def image(self, media: Media) -> Vector:
        """The encoder's unit embedding of a picture, (D,)."""
        return await self.encoder.image(media)

    async def text(self, text: str) -> Text:
        """The moved embedding of a text, (D,), of unit length."""
        plain = await self.encoder.text(text)
        moved = await current().submit(self, "text", plain.vector, key=text)
        return Text(cast(Vector, moved), plain.truncated)

    def similarity(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Differentiable cosines (N,) of float pixels (N, 3, H, W) in [0, 1] with N moved prompts, where the
        pixels are; see `Encoder.similarity`."""
        images = self.encoder.embed_pixels(pixels)
        if self.device != images.device:
            self.load(str(images.device))
        return (images * self._moved(self.encoder.embed_texts(prompts))).sum(-1)

    def cost(self, op: str, item: Any) -> Cost:
        return Cost(1, item.nbytes)

    def prepare(self, op: str, items: list[Any]) -> Any:
        return torch.from_numpy(np.stack(items))

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        return list(self._moved(batch.to(self.device)).cpu().numpy())

    def _moved(self, texts: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.module(texts), dim=-1)

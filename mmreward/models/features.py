"""Picture embedders: networks that turn a picture into one unit vector, and know no text. Op "image".

`PictureEmbedder` is what they share: preprocessing by a recipe, batches, gradients. `VisionTransformer` is a
self-supervised ViT in transformers format (DINO, DINOv2), whose class token is the embedding; DreamSim is in
`dreamsim`.

Knows nothing of samples or of what a similarity is used for.
"""

from abc import abstractmethod
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F

from ..engine.batching import Cost
from ..engine.engine import current
from ..media import Media
from .base import TorchNetwork, loading
from .pictures import prepared
from .pixels import Group, Recipe, to_input
from .weights import known_backend, placed

Vector = np.ndarray[Any, np.dtype[np.float32]]
PROCESSINGS = ("publisher", "checkpoint")


class PictureEmbedder(TorchNetwork):
    """Network of one unit vector per picture, float32.

    Args:
        weights, dtype: see `TorchNetwork`.
        resize: see `mmreward.models.clip`.
        options: whatever else changes the numbers.

    Raises:
        ValueError: an unknown way to resize.
    """

    def __init__(self, weights: str, *, dtype: str, resize: str, **options: Any) -> None:
        known_backend(resize)
        super().__init__(weights, dtype=dtype, resize=resize, **options)
        self.resize = resize
        self._runs_on = self.device
        """The device of the last load, for which pictures are prepared while the network is swapped out."""

    @property
    @abstractmethod
    def recipe(self) -> Recipe:
        """Preprocessing of its input."""

    @abstractmethod
    def embedding(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W), preprocessed, in the weights' dtype -> (N, D); its length does not matter."""

    async def image(self, media: Media) -> Vector:
        """The unit embedding of a picture, (D,) float32."""
        return cast(Vector, await current().submit(self, "image", media, key=media.key))

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Differentiable unit embeddings (N, D), float32, of float pixels (N, 3, H, W) in [0, 1].

        Runs where the pixels are: the weights are moved there. Always resizes as "tensor" does, the only way
        with a gradient.
        """
        if self.device != pixels.device:
            self.load(str(pixels.device))
        return self._unit(to_input([Group(list(range(len(pixels))), pixels)], self.recipe))

    def _unit(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.embedding(pixels.to(self.dtype)).float(), dim=-1)

    def load(self, device: str) -> None:
        super().load(device)
        self._runs_on = self.device

    def cost(self, op: str, item: Media) -> Cost:
        height, width = item.size
        return Cost(256, 3 * height * width)

    def prepare(self, op: str, items: list[Media]) -> Any:
        return prepared([(media, self.resize) for media in items], self.recipe, self._runs_on)

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        return list(self._unit(batch.on(self.device, self.recipe)).cpu().numpy())


class VisionTransformer(PictureEmbedder):
    """Class token of the last layer, after its norm, of a ViT or DINOv2 in transformers format.

    Args:
        weights, dtype, resize, processing: see `mmreward.models.embedder`.

    Raises:
        ValueError: an unknown processing.
    """

    def __init__(
        self, weights: str, *, dtype: str = "float32", resize: str = "pil", processing: str = "publisher"
    ) -> None:
        if processing not in PROCESSINGS:
            raise ValueError(f"processing is one of {', '.join(PROCESSINGS)}, not {processing!r}")
        super().__init__(placed(weights), dtype=dtype, resize=resize, processing=processing)
        self.name = weights
        self.processing_of = processing
        self._recipe: Recipe | None = None

    @property
    def recipe(self) -> Recipe:
        if self._recipe is None:
            with loading(self.name):
                self._recipe = self._read()
        return self._recipe

    def _read(self) -> Recipe:
        from transformers import AutoConfig, AutoImageProcessor

        from .encoders import recipe_of

        with self.processing:
            config: Any = AutoConfig.from_pretrained(self.source)
            own = recipe_of(AutoImageProcessor.from_pretrained(self.source))
        if self.processing_of == "checkpoint" or config.model_type != "vit":
            return own  # DINOv2's processor on the hub is its publisher's evaluation
        side = int(config.image_size)
        # DINO's own evaluation, where the processor on the hub squashes the picture, bilinearly.
        return Recipe(size=(side, side), edge=side * 8 // 7, kernel="bicubic", mean=own.mean, std=own.std)

    def build(self) -> torch.nn.Module:
        from transformers import AutoConfig, AutoModel

        kind = AutoConfig.from_pretrained(self.source).model_type
        if not (kind == "vit" or kind.startswith("dinov2")):
            raise ValueError(f"a {kind} model is not a ViT or DINOv2, whose class token is the embedding")
        # The pooling layer that `AutoModel` would add has no weights in DINO's checkpoint.
        given = {"add_pooling_layer": False} if kind == "vit" else {}
        return cast(torch.nn.Module, AutoModel.from_pretrained(self.source, dtype=self.dtype, **given))

    def embedding(self, pixels: torch.Tensor) -> torch.Tensor:
        module = self.module
        # DINOv2 was trained at 518 pixels and interpolates by itself; a ViT is shown its own size.
        return cast(torch.Tensor, module(pixel_values=pixels).last_hidden_state[:, 0])

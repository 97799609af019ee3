"""Image classifiers in transformers format. Op "image" gives the probability of every label."""

import math
from functools import cached_property
from typing import Any, cast

import torch

from ..batching import Cost
from ..engine import current
from ..media import Media
from ..preprocess import Recipe, normalise, resize_float
from .base import TorchNetwork
from .encoders import recipe_of
from .pictures import decoded, in_turn


class Classifier(TorchNetwork):
    """Label probabilities of one picture, softmax in float32; preprocessing is the checkpoint's own.

    Args:
        weights, dtype: see `mmreward.models.classifier`.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype)

    async def probabilities(self, media: Media) -> dict[str, float]:
        """label -> probability, summing to one."""
        return cast(dict[str, float], await current().submit(self, "image", media, key=media.key))

    def probabilities_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Differentiable probabilities (N, labels), float32, of float pixels (N, 3, H, W) in [0, 1].

        Runs where the pixels are: the weights are moved there. Resizes in float where `probabilities` resizes
        8-bit values: equal for pictures of the network's size, within rounding to 1/255 for others.

        Raises:
            ValueError: the checkpoint's preprocessing is none of resize, rescale to [0, 1] and normalise.
        """
        if self.device != pixels.device:
            self.load(str(pixels.device))
        ready = normalise(resize_float(pixels, self.recipe), self.recipe)
        logits = self.module(pixel_values=ready.to(self.dtype)).logits
        return cast(torch.Tensor, logits.float().softmax(-1))

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of `probabilities_of`."""
        names = self.module.config.id2label
        return [names[index] for index in range(len(names))]

    @cached_property
    def recipe(self) -> Recipe:
        """The checkpoint's preprocessing, for tensors."""
        with self.processing:
            processor = self.processor
        for step in ("do_resize", "do_rescale", "do_normalize"):
            if not getattr(processor, step):
                raise ValueError(f"{self.name} sets {step} to False, which has no differentiable form here")
        if not math.isclose(processor.rescale_factor, 1 / 255):
            raise ValueError(f"{self.name} rescales by {processor.rescale_factor}, not by 1/255")
        return recipe_of(processor)

    def build(self) -> torch.nn.Module:
        from transformers import AutoModelForImageClassification

        return cast(
            torch.nn.Module, AutoModelForImageClassification.from_pretrained(self.source, dtype=self.dtype)
        )

    @cached_property
    def processor(self) -> Any:
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(self.source)

    def cost(self, op: str, item: Media) -> Cost:
        height, width = item.size
        return Cost(256, 3 * height * width)

    def prepare(self, op: str, items: list[Media]) -> Any:
        pictures = in_turn(items, lambda index: decoded(items[index]).cpu())
        with self.processing:
            processor = self.processor
        inputs = processor(images=pictures, input_data_format="channels_first", return_tensors="pt")
        return inputs["pixel_values"].to(self.dtype)

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        logits = self.module(pixel_values=batch.to(self.device)).logits.float()
        return [dict(zip(self.labels, row, strict=True)) for row in logits.softmax(-1).cpu().tolist()]

"""Image classifiers in transformers format. Op "image" gives the probability of every label."""

from functools import cached_property
from typing import Any, cast

import torch

from ..batching import Cost
from ..engine import current
from ..media import Media
from .base import TorchNetwork
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
        labels = [self.module.config.id2label[i] for i in range(logits.shape[-1])]
        return [dict(zip(labels, row, strict=True)) for row in logits.softmax(-1).cpu().tolist()]

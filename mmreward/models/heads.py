"""Scalar heads on image embeddings, and image classifiers in transformers format.

`Head` is an affine map on a dual encoder's embedding, such as the LAION aesthetic predictors
(github.com/LAION-AI); op "embedding". A chain of linear layers without activations is one affine map: it is
folded into a single vector in float64, which is exact to float32 and cannot be run with its dropout left on.

`Classifier` gives the probability of every label of one picture; op "image".
"""

import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np
import torch

from ..engine.batching import Cost
from ..engine.engine import current
from ..errors import Unavailable
from ..media import Media
from .base import TorchNetwork, loading
from .checkpoints import state_of
from .encoder_handle import Encoder, Vector
from .encoders import recipe_of
from .pictures import decoded, in_turn
from .pixels import Recipe, normalise, resize_float

# --- scalar heads ---------------------------------------------------------------------------------


class Embeds(Protocol):
    """What gives a picture its unit embedding: a dual encoder, or an embedder of frames."""

    name: str

    @property
    def fingerprint(self) -> str: ...

    async def image(self, media: Media) -> Vector: ...


class EmbeddingHead(TorchNetwork):
    """Affine head: value = w . (unit image embedding) + b, in float32, unbounded.

    Args:
        weights: a safetensors file or a pickle of tensors (.pth) with `weight` and `bias`, or
            `layers.0.weight`, `layers.0.bias`, `layers.2.weight` and so on (even indices: dropout between
            them, no activation); `scoring_head.0.weight` and so on likewise.
        encoder: embeds the picture.

    Raises:
        ValueError: layer indices that mean there are activations in between, or shapes that do not chain.
    """

    def __init__(self, weights: str, encoder: Embeds) -> None:
        super().__init__(weights, encoder=encoder.fingerprint)
        self.embeds = encoder

    async def value(self, media: Media) -> float:
        """The head's output for one picture."""
        vector = await self.embeds.image(media)
        return cast(float, await current().submit(self, "embedding", vector, key=media.key))

    def _applied(self, vectors: torch.Tensor) -> torch.Tensor:
        wanted, given = self.module.in_features, vectors.shape[1]
        if wanted != given:
            raise Unavailable(
                f"{self.name} takes {wanted} numbers and {self.embeds.name} gives {given}: name the encoder "
                "that the head was trained on"
            )
        return cast(torch.Tensor, self.module(vectors)[:, 0])

    def build(self) -> torch.nn.Module:
        weight, bias = fold({name: value.double().numpy() for name, value in state_of(self.source).items()})
        linear = torch.nn.Linear(weight.size, 1)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight)[None])
            linear.bias.fill_(bias)
        return linear

    def cost(self, op: str, item: Any) -> Cost:
        return Cost(1, item.nbytes)

    def prepare(self, op: str, items: list[Any]) -> Any:
        return torch.from_numpy(np.stack(items))

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        return self._applied(batch.to(self.device)).cpu().tolist()


class Head(EmbeddingHead):
    """A head on a dual encoder's image embedding, differentiable in the picture."""

    def __init__(self, weights: str, encoder: Encoder) -> None:
        super().__init__(weights, encoder)
        self.encoder = encoder

    def values_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Differentiable outputs (N,) of float pixels (N, 3, H, W) in [0, 1], run where the pixels are;
        resizes as `Encoder.embed_pixels` does."""
        vectors = self.encoder.embed_pixels(pixels)
        if self.device != vectors.device:
            self.load(str(vectors.device))
        return self._applied(vectors)


def fold(state: Mapping[str, np.ndarray[Any, Any]]) -> tuple[np.ndarray[Any, Any], float]:
    """One vector (D,) and a bias from a chain of linear layers, in float64.

    Raises:
        ValueError: see `Head`.
    """
    state = {name.replace("scoring_head.", "layers."): value for name, value in state.items()}
    layers = {name.rpartition(".")[0] for name in state}
    odd = sorted(
        {f"{layer}.{part}".lstrip(".") for layer in layers for part in ("weight", "bias")} ^ set(state)
    )
    if odd or not (layers == {""} or all(re.fullmatch(r"layers\.\d+", layer) for layer in layers)):
        raise ValueError(
            "no affine head: expected weight and bias, or those of layers.0, layers.2 and so on, and found "
            f"{', '.join(sorted(state)[:4])} (odd one out: {', '.join(odd[:2]) or 'the names'})"
        )
    if "weight" in state:
        return state["weight"].astype(np.float64).reshape(-1), float(state["bias"].reshape(()))
    indices = sorted(int(name.split(".")[1]) for name in state if name.endswith(".weight"))
    if indices not in ([0, 2, 4, 6, 7], list(range(0, 2 * len(indices), 2))):
        raise ValueError(
            f"layers {indices} have activations between them, so they do not fold into one affine map"
        )
    weight, bias = np.eye(state[f"layers.{indices[0]}.weight"].shape[1]), np.zeros(1)
    bias = np.zeros(weight.shape[0])
    for index in indices:
        matrix = state[f"layers.{index}.weight"].astype(np.float64)
        if matrix.shape[1] != weight.shape[0]:
            raise ValueError(
                f"layers.{index} takes {matrix.shape[1]} numbers, the one before gives {weight.shape[0]}"
            )
        weight, bias = matrix @ weight, matrix @ bias + state[f"layers.{index}.bias"].astype(np.float64)
    if weight.shape[0] != 1:
        raise ValueError(f"the last layer gives {weight.shape[0]} numbers, not one")
    return weight[0], float(bias[0])


# --- classifiers ----------------------------------------------------------------------------------


class Classifier(TorchNetwork):
    """Label probabilities of one picture, 0 to 1, softmax in float32; preprocessing is the checkpoint's own.

    Args:
        weights, dtype: see `mmreward.models.classifier`.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype)

    async def probabilities(self, media: Media) -> dict[str, float]:
        """Probability of every label; they sum to one."""
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

        with loading(self.name):
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

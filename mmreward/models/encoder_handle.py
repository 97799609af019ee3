"""Handles of dual encoders (CLIP, SigLIP, open_clip), which rewards hold: a network that several share, and a
way to resize pictures.

Imports no torch before something is embedded: whether stored scores are still those of these weights is
answered without it.
"""

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ..engine.engine import current
from ..media import Media
from .wants import BODY
from .weights import (
    base_of,
    content_of,
    fingerprint_of,
    folder_of,
    is_file_of_weights,
    known_backend,
    known_dtype,
    locate,
    placed,
)

if TYPE_CHECKING:
    import torch

    from .encoders import DualEncoder

Vector = np.ndarray[Any, np.dtype[np.float32]]


class Text(NamedTuple):
    """Unit embedding of a text; `truncated` when the text was longer than the encoder reads."""

    vector: Vector
    truncated: bool


class Logit(NamedTuple):
    """What a checkpoint was trained to make of a cosine: `scale` times it, plus `bias` (0 of a CLIP)."""

    scale: float
    bias: float


class Look(NamedTuple):
    """Picture to embed, and the backend that resizes it."""

    media: Media
    resize: str


class Encoder:
    """Handle of a dual encoder: a network shared with other rewards, and a way to resize pictures.

    Args:
        weights, dtype, resize, architecture, letterbox: see `mmreward.models.clip`. The fingerprint is that
            of this name's content.
        unit: embeddings of length one; False leaves them as long as transformers gives them.

    Raises:
        ValueError: an unknown way to resize, no such dtype, or no such weights.
        ModuleNotFoundError: torch is not installed.
    """

    def __init__(
        self,
        weights: str,
        *,
        dtype: str = "float32",
        resize: str = "tensor",
        architecture: str = "",
        letterbox: bool = False,
        unit: bool = True,
    ) -> None:
        if find_spec("torch") is None:
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        self.name = weights
        self.resize = known_backend(resize)
        self.dtype = known_dtype(dtype)
        self.source = locate(placed(weights))
        folder = None if is_file_of_weights(self.source) else folder_of(self.source)
        self.base = base_of(folder / "config.json") if folder is not None else ""
        """The model of which a checkpoint of imscore's takes the processor; "" of any other."""
        if self.base:
            from .checkpoints import needed

            needed(self.base, *BODY)
        given = {"architecture": architecture, "letterbox": letterbox}
        # Options that are not used are not named, so that the fingerprints of other networks stand.
        self.options: dict[str, Any] = {key: value for key, value in given.items() if value}
        self._unit = unit

    @cached_property
    def network(self) -> "DualEncoder":
        """The network, made when something is first embedded; it is shared by all names of equal content."""
        from .sharing import dual_encoder

        return dual_encoder(self.name, self.dtype, **self.options, unit=self._unit)

    def make(self) -> None:
        """Make the network, see `Reward.make`."""
        _ = self.network

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that changes the embeddings: weights, dtype, resize and the rule of the crop."""
        rounded = self.options.get("letterbox") or is_open_clip(self.source)
        options = {"resize": self.resize} | ({} if rounded else {"crop": "floor"}) | self.options
        return fingerprint_of("DualEncoder", content_of(self.source), f"torch.{self.dtype}", options)

    async def image(self, media: Media) -> Vector:
        """The unit embedding of a picture, (D,) float32."""
        look = Look(media, self.resize)
        key = (media.key, self.resize)
        return cast(Vector, await current().submit(self.network, "image", look, key=key))

    async def text(self, text: str) -> Text:
        """The unit embedding of a text; the part beyond the context length is dropped, the end token kept."""
        return cast(Text, await current().submit(self.network, "text", text, key=text))

    async def logit(self) -> Logit:
        """The checkpoint's scale and bias, from wherever the network runs."""
        return cast(Logit, await current().submit(self.network, "logit", None, key="logit"))

    def similarity(self, pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        """Differentiable cosine similarities (N,) of float pixels (N, 3, H, W) in [0, 1] with N prompts.

        Runs where the pixels are: the weights are moved there. Always resizes as "tensor" does, the only way
        with a gradient.
        """
        return self.network.similarity(pixels, prompts)

    def embed_pixels(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Differentiable unit embeddings (N, D), float32, of float pixels (N, 3, H, W) in [0, 1]; moves the
        weights and resizes as `similarity` does."""
        return self.network.embed_pixels(pixels)

    def embed_texts(self, texts: Sequence[str]) -> "torch.Tensor":
        """Unit embeddings (N, D) of texts, float32 and without a gradient, where the weights are."""
        return self.network.embed_texts(texts)

    def logits(self, pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        """`similarity` times the checkpoint's scale, plus its bias."""
        scale, bias = self.network.towers.logit()
        return scale * self.similarity(pixels, prompts) + bias


def is_open_clip(source: str) -> bool:
    return source.startswith("open_clip:") or (Path(source) / "open_clip_config.json").is_file()

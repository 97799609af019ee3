"""Dual encoders: CLIP and SigLIP through transformers, and everything open_clip has. Ops "image" and "text".

`DualEncoder` is the network: one per weights and dtype. `Encoder` is the handle that a reward holds: it
shares the network with others, and has its own way to resize pictures.

Knows nothing of samples or of what a similarity is used for.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F

from ..engine.batching import Cost
from ..engine.engine import current
from ..media import Media
from .base import TorchNetwork, content_of, fingerprint_of, loading, locate, pooled
from .pictures import decoded, in_turn, resized
from .pixels import BACKENDS, Group, Recipe, grouped, to_input

Vector = np.ndarray[Any, np.dtype[np.float32]]


class Text(NamedTuple):
    """Unit embedding of a text; `truncated` when the text was longer than the encoder reads."""

    vector: Vector
    truncated: bool


class Towers(NamedTuple):
    """Common form of both families: two encoders, a tokenizer, the published preprocessing,
    exp(logit_scale)."""

    module: torch.nn.Module
    image: Callable[[torch.Tensor], torch.Tensor]
    text: Callable[[dict[str, torch.Tensor]], torch.Tensor]
    tokenize: Callable[[list[str]], tuple[dict[str, torch.Tensor], list[bool]]]
    recipe: Recipe
    scale: Callable[[], float]


class Look(NamedTuple):
    """Picture to embed, and the backend that resizes it."""

    media: Media
    resize: str


class DualEncoder(TorchNetwork):
    """Network of two towers into one space; embeddings are unit vectors in float32.

    Args:
        weights, dtype: see `mmreward.models.clip`.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype)
        self._towers: Towers | None = None
        self._runs_on = self.device
        """The device of the last load: while the network is swapped out, pictures are still prepared for
        it."""

    def similarity(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """See `Encoder.similarity`."""
        images = self.embed_pixels(pixels)
        return (images * self.embed_texts(prompts)).sum(-1)

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """See `Encoder.embed_pixels`."""
        if self.device != pixels.device:
            self.load(str(pixels.device))
        whole = [Group(list(range(len(pixels))), pixels)]
        return self._unit(self.towers.image(to_input(whole, self.towers.recipe).to(self.dtype)))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """See `Encoder.embed_texts`."""
        unique = list(dict.fromkeys(texts))
        with self.processing:
            tokens, _ = self._built().tokenize(unique)
        embeddings = self._unit(self.towers.text(self._on_device(tokens)))
        return embeddings[[unique.index(text) for text in texts]]

    @property
    def towers(self) -> Towers:
        """Both encoders, built on first use."""
        with self.processing:
            return self._built()

    def _built(self) -> Towers:
        if self._towers is None:
            path = Path(self.source)
            is_open_clip = self.source.startswith("open_clip:") or (path / "open_clip_config.json").is_file()
            towers = open_clip_towers if is_open_clip else transformers_towers
            with loading(self.name):
                self._towers = towers(self.source, self.dtype)
        return self._towers

    def build(self) -> torch.nn.Module:
        return self.towers.module

    def load(self, device: str) -> None:
        super().load(device)
        self._runs_on = self.device

    def cost(self, op: str, item: Any) -> Cost:
        if op == "text":
            return Cost(77)
        height, width = item.media.size
        return Cost(256, 3 * height * width)

    def prepare(self, op: str, items: list[Any]) -> Any:
        if op == "text":
            tokenize = self.towers.tokenize
            with self.processing:
                return tokenize(items)
        pixels = in_turn([look.media for look in items], lambda index: self._pixels(items[index]))
        return grouped(pixels, pinned=self._runs_on.type == "cuda")

    def _pixels(self, look: Look) -> torch.Tensor:
        """Input of `forward`: resized by a worker for the CPU, and whole for a GPU, which resizes faster.

        Before the first load the device is not known, and the pictures of the first batches are resized here.
        """
        if look.resize == "tensor" and self._runs_on.type != "cpu":
            return decoded(look.media)
        return resized(look.media, self.towers.recipe, look.resize)

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        if op == "text":
            tokens, truncated = batch
            vectors = self._unit(self.towers.text(self._on_device(tokens))).cpu().numpy()
            return [Text(vector, cut) for vector, cut in zip(vectors, truncated, strict=True)]
        pixels = to_input(batch, self.towers.recipe, self.device)
        return list(self._unit(self.towers.image(pixels.to(self.dtype))).cpu().numpy())

    def _unit(self, embedding: torch.Tensor) -> torch.Tensor:
        return F.normalize(embedding.float(), dim=-1)

    def _on_device(self, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tokens.items()}


class Encoder:
    """Handle of a dual encoder: a network shared with other rewards, and a way to resize pictures.

    Args:
        network: the weights.
        weights: their name in the reward's arguments; the fingerprint is that of this name's content.
        resize: see `mmreward.models.clip`.

    Raises:
        ValueError: an unknown way to resize.
    """

    def __init__(self, network: DualEncoder, weights: str, resize: str) -> None:
        if resize not in BACKENDS:
            raise ValueError(f"resize is one of {', '.join(BACKENDS)}, not {resize!r}")
        self.network = network
        self.name = weights
        self.resize = resize

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that changes the embeddings: weights, dtype and resize."""
        content = content_of(locate(self.name))
        return fingerprint_of("DualEncoder", content, self.network.dtype, {"resize": self.resize})

    async def image(self, media: Media) -> Vector:
        """The unit embedding of a picture, (D,) float32."""
        look = Look(media, self.resize)
        key = (media.key, self.resize)
        return cast(Vector, await current().submit(self.network, "image", look, key=key))

    async def text(self, text: str) -> Text:
        """The unit embedding of a text; the part beyond the context length is dropped, the end token kept."""
        return cast(Text, await current().submit(self.network, "text", text, key=text))

    def similarity(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Differentiable cosine similarities (N,) of float pixels (N, 3, H, W) in [0, 1] with N prompts.

        Runs where the pixels are: the weights are moved there. Always resizes as "tensor" does, the only way
        with a gradient.
        """
        return self.network.similarity(pixels, prompts)

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Differentiable unit embeddings (N, D), float32, of float pixels (N, 3, H, W) in [0, 1]; moves the
        weights and resizes as `similarity` does."""
        return self.network.embed_pixels(pixels)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit embeddings (N, D) of texts, float32 and without a gradient, where the weights are."""
        return self.network.embed_texts(texts)

    @property
    def scale(self) -> float:
        """exp(logit_scale), the factor the model was trained to put before the cosine."""
        return self.network.towers.scale()


def transformers_towers(source: str, dtype: torch.dtype) -> Towers:
    """Towers of a CLIP, SigLIP or SigLIP 2 checkpoint in transformers format."""
    from transformers import AutoModel, AutoProcessor

    model: Any = AutoModel.from_pretrained(source, dtype=dtype)
    processor: Any = AutoProcessor.from_pretrained(source)
    limit = model.config.text_config.max_position_embeddings
    # SigLIP was trained on text padded to the full length; CLIP reads at the end token, wherever that is.
    padding = "max_length" if model.config.model_type.startswith("siglip") else True

    def tokenize(texts: list[str]) -> tuple[dict[str, torch.Tensor], list[bool]]:
        tokens = processor.tokenizer(
            texts, padding=padding, truncation=True, max_length=limit, return_tensors="pt"
        )
        lengths = [len(ids) for ids in processor.tokenizer(texts)["input_ids"]]
        return dict(tokens), [length > limit for length in lengths]

    return Towers(
        model,
        lambda pixels: pooled(model.get_image_features(pixel_values=pixels)),
        lambda tokens: pooled(model.get_text_features(**tokens)),
        tokenize,
        recipe_of(processor.image_processor),
        lambda: float(model.logit_scale.exp()),
    )


def open_clip_towers(source: str, dtype: torch.dtype) -> Towers:
    """Towers of an open_clip folder (open_clip_config.json beside the weights), or
    "open_clip:ARCHITECTURE/TAG"."""
    import open_clip

    name, tag = f"local-dir:{source}", None
    if source.startswith("open_clip:"):
        name, _, tag = source.removeprefix("open_clip:").partition("/")
    model: Any = open_clip.create_model(name, pretrained=tag or None, precision="fp32").to(dtype)
    tokenizer: Any = open_clip.get_tokenizer(name)
    cfg = open_clip.get_model_preprocess_cfg(model)

    def tokenize(texts: list[str]) -> tuple[dict[str, torch.Tensor], list[bool]]:
        ids = tokenizer(texts)
        limit = ids.shape[1]
        wide = tokenizer([*texts, ""], context_length=2 * limit)
        return {"ids": ids}, (wide[:-1, limit:] != wide[-1, -1]).any(dim=1).tolist()

    height, width = cfg["size"] if isinstance(cfg["size"], tuple | list) else (cfg["size"], cfg["size"])
    common: Any = {"mean": tuple(cfg["mean"]), "std": tuple(cfg["std"]), "fit": cfg["resize_mode"]}
    recipe = Recipe(size=(int(height), int(width)), kernel=cfg["interpolation"], **common)
    return Towers(
        model,
        model.encode_image,
        lambda tokens: cast(torch.Tensor, model.encode_text(tokens["ids"])),
        tokenize,
        recipe,
        lambda: float(model.logit_scale.exp()),
    )


def recipe_of(processor: Any) -> Recipe:
    """Resize, crop and normalisation of a transformers image processor.

    Raises:
        ValueError: a combination this recipe cannot express.
    """
    size, crop = dict(processor.size), dict(getattr(processor, "crop_size", None) or {})
    kernel = {0: "nearest", 2: "bilinear", 3: "bicubic"}.get(int(processor.resample))
    if kernel is None:
        raise ValueError(f"resample {processor.resample} of {type(processor).__name__} is not supported")
    common: Any = {"mean": tuple(processor.image_mean), "std": tuple(processor.image_std), "kernel": kernel}
    if "height" in size:
        return Recipe(size=(size["height"], size["width"]), fit="squash", **common)
    if not getattr(processor, "do_center_crop", False) or crop.get("height") != size["shortest_edge"]:
        raise ValueError(f"{type(processor).__name__} with size {size} and crop {crop} is not supported")
    return Recipe(size=(crop["height"], crop["width"]), fit="shortest", **common)

"""Dual encoders: CLIP and SigLIP through transformers, and everything open_clip has. Ops "image" and "text".

Knows nothing of samples or of what a similarity is used for.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F

from ..batching import Cost
from ..engine import current
from ..media import Media
from ..preprocess import Recipe, normalise, resize_pil, to_input
from .base import TorchNetwork, pooled

Vector = np.ndarray[Any, np.dtype[np.float32]]


class Text(NamedTuple):
    """A text's unit embedding, and whether the text was longer than the encoder reads."""

    vector: Vector
    truncated: bool


class Towers(NamedTuple):
    """What the two families are reduced to: two encoders, a tokenizer, and the published preprocessing."""

    module: torch.nn.Module
    image: Callable[[torch.Tensor], torch.Tensor]
    text: Callable[[dict[str, torch.Tensor]], torch.Tensor]
    tokenize: Callable[[list[str]], tuple[dict[str, torch.Tensor], list[bool]]]
    recipe: Recipe
    scale: Callable[[], float]


class DualEncoder(TorchNetwork):
    """Embeds pictures and texts into one space; embeddings are unit vectors in float32.

    Args:
        weights, dtype, resize: see `mmreward.models.clip`.

    Raises:
        ValueError: resize is neither "tensor" nor "pil".
    """

    def __init__(self, weights: str, *, dtype: str = "float32", resize: str = "tensor") -> None:
        if resize not in ("tensor", "pil"):
            raise ValueError(f"resize is 'tensor' or 'pil', not {resize!r}")
        super().__init__(weights, dtype=dtype, resize=resize)
        self._towers: Towers | None = None

    async def image(self, media: Media) -> Vector:
        """The unit embedding of a picture, (D,) float32."""
        return cast(Vector, await current().submit(self, "image", media, key=media.key))

    async def text(self, text: str) -> Text:
        """The unit embedding of a text; the part beyond the context length is dropped, the end token kept."""
        return cast(Text, await current().submit(self, "text", text, key=text))

    def similarity(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Differentiable cosine similarities (N,) of float pixels (N, 3, H, W) in [0, 1] with N prompts.

        Runs where the pixels are: the weights are moved there.
        """
        if self.device != pixels.device:
            self.load(str(pixels.device))
        unique = list(dict.fromkeys(prompts))
        with torch.no_grad():
            tokens, _ = self.towers.tokenize(unique)
            texts = self._unit(self.towers.text(self._on_device(tokens)))
        rows = [unique.index(prompt) for prompt in prompts]
        images = self._unit(self.towers.image(to_input(list(pixels), self.towers.recipe).to(self.dtype)))
        return (images * texts[rows]).sum(-1)

    @property
    def towers(self) -> Towers:
        with self.processing:
            return self._built()

    def _built(self) -> Towers:
        if self._towers is None:
            path = Path(self.source)
            is_open_clip = self.source.startswith("open_clip:") or (path / "open_clip_config.json").is_file()
            self._towers = (open_clip_towers if is_open_clip else transformers_towers)(
                self.source, self.dtype
            )
        return self._towers

    @property
    def scale(self) -> float:
        """exp(logit_scale), the factor the model was trained to put before the cosine."""
        return self.towers.scale()

    def build(self) -> torch.nn.Module:
        return self.towers.module

    def cost(self, op: str, item: Any) -> Cost:
        if op == "text":
            return Cost(77)
        height, width = item.size
        return Cost(256, 3 * height * width)

    def prepare(self, op: str, items: list[Any]) -> Any:
        if op == "text":
            tokenize = self.towers.tokenize
            with self.processing:
                return tokenize(items)
        if self.options["resize"] == "pil":
            return [resize_pil(media.array(), self.towers.recipe) for media in items]
        return [media.pixels() for media in items]

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        if op == "text":
            tokens, truncated = batch
            vectors = self._unit(self.towers.text(self._on_device(tokens))).cpu().numpy()
            return [Text(vector, cut) for vector, cut in zip(vectors, truncated, strict=True)]
        pixels = [picture.to(self.device, non_blocking=True) for picture in batch]
        if self.options["resize"] == "pil":
            prepared = normalise(torch.stack(pixels), self.towers.recipe)
        else:
            prepared = to_input(pixels, self.towers.recipe)
        return list(self._unit(self.towers.image(prepared.to(self.dtype))).cpu().numpy())

    def _unit(self, embedding: torch.Tensor) -> torch.Tensor:
        return F.normalize(embedding.float(), dim=-1)

    def _on_device(self, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tokens.items()}


def transformers_towers(source: str, dtype: torch.dtype) -> Towers:
    """CLIP, SigLIP and SigLIP 2 checkpoints in transformers format."""
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
    """An open_clip folder (open_clip_config.json beside the weights), or "open_clip:ARCHITECTURE/TAG"."""
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
    """Read a transformers image processor's settings.

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

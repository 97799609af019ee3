"""Dual encoders: CLIP and SigLIP through transformers, and everything open_clip has. Ops "image", "text" and
"logit" (what the checkpoint was trained to make of the cosine).

`DualEncoder` is the network: one per weights and dtype. A reward holds an `encoder_handle.Encoder`, which
shares the network with others, and has its own way to resize pictures.

Knows nothing of samples or of what a similarity is used for.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..engine.batching import Cost
from .base import TorchNetwork, loading, pooled
from .building import building
from .checkpoints import fill, state_of
from .encoder_handle import Logit, Text, is_open_clip
from .pictures import prepared
from .pixels import Group, Recipe, normalise, resize, to_input
from .weights import base_of, is_file_of_weights, placed


class Towers(NamedTuple):
    """Common form of both families: two encoders, a tokenizer, the published preprocessing, exp(logit_scale)
    and logit_bias, and the numbers of one picture's widest layer, 0 where that is not known."""

    module: torch.nn.Module
    image: Callable[[torch.Tensor], torch.Tensor]
    text: Callable[[dict[str, torch.Tensor]], torch.Tensor]
    tokenize: Callable[[list[str]], tuple[dict[str, torch.Tensor], list[bool]]]
    recipe: Recipe
    logit: Callable[[], Logit]
    widest: int = 0


CACHED = 5 << 20
"""Bytes of the widest layer that a CPU works on at once, for each thread: above, its caches are left, and a
ViT-B/32 takes a tenth longer over 64 pictures than over eight times eight."""


class DualEncoder(TorchNetwork):
    """Network of two towers into one space; embeddings are unit vectors in float32.

    Args:
        weights, dtype, architecture, letterbox: see `mmreward.models.clip`.
    """

    def __init__(
        self, weights: str, *, dtype: str = "float32", architecture: str = "", letterbox: bool = False
    ) -> None:
        given = {"architecture": architecture, "letterbox": letterbox}
        # Options that are not used are not named, so that the fingerprints of other networks stand.
        super().__init__(
            placed(weights), dtype=dtype, **{key: value for key, value in given.items() if value}
        )
        self.name = weights
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
        tokenize = self.towers.tokenize
        with self.processing:
            tokens, _ = tokenize(unique)
        embeddings = self._unit(self.towers.text(self._on_device(tokens)))
        return embeddings[[unique.index(text) for text in texts]]

    @property
    def towers(self) -> Towers:
        """Both encoders, built on first use."""
        if self._towers is None:
            with building(self.of_transformers), loading(self.name):
                if self._towers is None:
                    self._towers = self._read()
        return self._towers

    @property
    def of_transformers(self) -> bool:
        """False for a folder of open_clip's whose text tower is open_clip's own, too."""
        config = Path(self.source) / "open_clip_config.json"
        return not config.is_file() or "hf_model_name" in config.read_text("utf-8")

    def _read(self) -> Towers:
        architecture = self.options.get("architecture", "")
        if architecture and is_file_of_weights(self.name):
            towers = file_towers(self.name, architecture, self.dtype)
        elif is_open_clip(self.source):
            towers = open_clip_towers(self.source, self.dtype)
        else:
            towers = transformers_towers(self.source, self.dtype)
        if not self.options.get("letterbox"):
            return towers
        whole: Any = {"fit": "letterbox", "edge": None, "kernel": "bicubic", "fill": 0, "crop": "round"}
        return towers._replace(recipe=replace(towers.recipe, **whole))

    def build(self) -> torch.nn.Module:
        return self.towers.module

    def load(self, device: str) -> None:
        super().load(device)
        self._runs_on = self.device

    def cost(self, op: str, item: Any) -> Cost:
        if op == "logit":
            return Cost(1)
        if op == "text":
            return Cost(77)
        height, width = item.media.size
        return Cost(256, 3 * height * width)

    def prepare(self, op: str, items: list[Any]) -> Any:
        if op == "logit":
            return len(items)
        if op == "text":
            tokenize = self.towers.tokenize
            with self.processing:
                return tokenize(items)
        # Before the first load the device is not known, and the pictures of the first batches are resized on
        # the CPU.
        return prepared(items, self.towers.recipe, self._runs_on)

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        if op == "logit":
            return [self.towers.logit()] * batch
        if op == "text":
            tokens, truncated = batch
            vectors = self._unit(self.towers.text(self._on_device(tokens))).cpu().numpy()
            return [Text(vector, cut) for vector, cut in zip(vectors, truncated, strict=True)]
        pixels = batch.on(self.device, self.towers.recipe).to(self.dtype)
        units = [
            self._unit(self.towers.image(some)) for some in torch.split(pixels, self._together(len(pixels)))
        ]
        return list(torch.cat(units).cpu().numpy())

    def _together(self, pictures: int) -> int:
        """How many of a batch's pictures go through the tower at once."""
        widest = self.towers.widest * self.dtype.itemsize
        if self.device.type != "cpu" or not widest:
            return pictures
        return max(1, min(pictures, CACHED * torch.get_num_threads() // widest))

    def _unit(self, embedding: torch.Tensor) -> torch.Tensor:
        return F.normalize(embedding.float(), dim=-1)

    def _on_device(self, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tokens.items()}


class UnscaledEncoder(DualEncoder):
    """A dual encoder whose embeddings keep their length, as transformers gives them."""

    def _unit(self, embedding: torch.Tensor) -> torch.Tensor:
        return embedding.float()


def transformers_towers(source: str, dtype: torch.dtype) -> Towers:
    """Towers of a CLIP, SigLIP or SigLIP 2 checkpoint in transformers format.

    One of imscore's has a model's tensors under `model.` and the name of that model alone in its config. As
    imscore does, its pictures are resized with a bilinear kernel, whatever the model's processor has.

    Raises:
        ValueError: imscore's tensors do not fit the model that they name.
    """
    from transformers import AutoConfig, AutoModel, AutoProcessor
    from transformers.utils import cached_file

    model: Any
    if base := base_of(str(cached_file(source, "config.json"))):
        model = AutoModel.from_config(AutoConfig.from_pretrained(base), dtype=dtype)
        state = state_of(f"{source}/model.safetensors")
        fill(model, {name.removeprefix("model."): one for name, one in state.items()}, f"{source} on {base}")
    else:
        model = AutoModel.from_pretrained(source, dtype=dtype)
    processor: Any = AutoProcessor.from_pretrained(base or source)
    recipe = recipe_of(processor.image_processor)
    if base:
        recipe = replace(recipe, kernel="bilinear", crop="round")
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
        recipe,
        lambda: logit_of(model),
        widest_of(model.vision_model, recipe.size),
    )


def logit_of(model: Any) -> Logit:
    """exp(logit_scale) and logit_bias of a model; a CLIP has no bias."""
    bias = getattr(model, "logit_bias", None)
    return Logit(
        float(model.logit_scale.detach().float().exp()), 0.0 if bias is None else float(bias.detach())
    )


def widest_of(tower: torch.nn.Module, size: tuple[int, int]) -> int:
    """Numbers of the widest layer of a tower of patches for one picture; 0 for a tower of another kind."""
    convolutions = [layer for layer in tower.modules() if isinstance(layer, torch.nn.Conv2d)]
    widths = [layer.out_features for layer in tower.modules() if isinstance(layer, torch.nn.Linear)]
    if len(convolutions) != 1 or convolutions[0].stride != convolutions[0].kernel_size or not widths:
        return 0
    rows, columns = (side // step for side, step in zip(size, convolutions[0].kernel_size, strict=True))
    return rows * columns * max(widths)


def open_clip_towers(source: str, dtype: torch.dtype) -> Towers:
    """Towers of an open_clip folder (open_clip_config.json beside the weights), or
    "open_clip:ARCHITECTURE/TAG".

    Raises:
        ValueError: as `published_cfg`.
    """
    import open_clip

    name, tag = f"local-dir:{source}", None
    if source.startswith("open_clip:"):
        name, _, tag = source.removeprefix("open_clip:").partition("/")
        published_cfg(name, tag)
    model: Any = open_clip.create_model(name, pretrained=tag or None, precision="fp32")
    return _towers_of(model.to(dtype), name)


def published_cfg(architecture: str, tag: str) -> dict[str, Any]:
    """What open_clip knows of published weights: where they are and how they were trained; {} of others.

    Raises:
        ValueError: weights that were trained with the quick GELU, of an architecture that has the other one.
            open_clip warns of it and computes other numbers than the publisher's.
    """
    import open_clip

    cfg: dict[str, Any] = open_clip.get_pretrained_cfg(architecture, tag) or {}
    if cfg.get("quick_gelu") and not (open_clip.get_model_config(architecture) or {}).get("quick_gelu"):
        raise ValueError(
            f"open_clip's weights {tag} were trained with the quick GELU, which its {architecture} has not: "
            f"give open_clip:{architecture}-quickgelu/{tag}"
        )
    return cfg


def file_towers(file: str, architecture: str, dtype: torch.dtype) -> Towers:
    """Towers of an open_clip architecture whose weights were published as one file, pickled or not.

    Raises:
        ValueError: a file that is no state dict of this architecture.
    """
    import open_clip

    state = state_of(file, "liv")
    if state and all(name.startswith("model.") for name in state):  # LIV's class holds a CLIP of that name
        state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    if architecture.endswith(".json"):  # of your own, as open_clip's training writes it
        open_clip.add_model_config(Path(architecture))
        architecture = Path(architecture).stem
    model: Any = open_clip.create_model(architecture, precision="fp32")
    fill(model, state, f"{file} of {architecture}")
    return _towers_of(model.to(dtype), architecture)


def _towers_of(model: Any, name: str) -> Towers:
    import open_clip

    tokenizer: Any = open_clip.get_tokenizer(name)
    cfg = open_clip.get_model_preprocess_cfg(model)

    def tokenize(texts: list[str]) -> tuple[dict[str, torch.Tensor], list[bool]]:
        ids = tokenizer(texts)
        limit = ids.shape[1]
        wide = tokenizer([*texts, ""], context_length=2 * limit)
        return {"ids": ids}, (wide[:-1, limit:] != wide[-1, -1]).any(dim=1).tolist()

    height, width = cfg["size"] if isinstance(cfg["size"], tuple | list) else (cfg["size"], cfg["size"])
    common: Any = {"mean": tuple(cfg["mean"]), "std": tuple(cfg["std"]), "fit": cfg["resize_mode"]}
    common |= {"fill": cfg["fill_color"] if cfg["resize_mode"] == "longest" else 0}
    recipe = Recipe(size=(int(height), int(width)), kernel=cfg["interpolation"], **common)
    return Towers(
        model,
        model.encode_image,
        lambda tokens: cast(torch.Tensor, model.encode_text(tokens["ids"])),
        tokenize,
        recipe,
        lambda: logit_of(model),
        widest_of(model.visual, recipe.size),
    )


def recipe_of(processor: Any) -> Recipe:
    """Resize, crop and normalisation of a transformers image processor, as its configuration has them.

    `do_resize`, `do_center_crop`, a size other than the crop, `do_rescale`, `rescale_factor` and
    `do_normalize` are all followed. The recipe is then held against the processor itself on one picture.

    Raises:
        ValueError: preprocessing that a recipe cannot express, or pictures that would come out in several
            sizes.
    """
    name = type(processor).__name__
    size = {key: side for key, side in dict(getattr(processor, "size", None) or {}).items() if side}
    crop = dict(getattr(processor, "crop_size", None) or {})
    common: Any = _normalisation(processor) | {"crop": "floor"}
    cropped = (crop["height"], crop["width"]) if getattr(processor, "do_center_crop", False) else None
    if not getattr(processor, "do_resize", False):
        if cropped is None:
            raise ValueError(f"{name} neither resizes nor crops: do_resize and do_center_crop are both false")
        recipe = Recipe(size=cropped, fit="none", **common)
    else:
        kernel = {0: "nearest", 2: "bilinear", 3: "bicubic"}.get(int(processor.resample))
        if kernel is None:
            raise ValueError(f"resample {processor.resample} of {name} is not supported: use 0, 2 or 3")
        common |= {"kernel": kernel}
        if set(size) == {"height", "width"}:
            whole = size["height"], size["width"]
            recipe = Recipe(size=cropped or whole, fit="squash", edge=whole if cropped else None, **common)
        elif set(size) == {"shortest_edge"} and cropped is not None:
            recipe = Recipe(size=cropped, fit="shortest", edge=size["shortest_edge"], **common)
        else:
            raise ValueError(
                f"size {size} of {name} with crop {cropped} gives many sizes: set a crop_size, or height and "
                "width"
            )
    return _proven(recipe, processor)


def _normalisation(processor: Any) -> dict[str, Any]:
    """Mean and std of pixels in [0, 1]; the processor's are of pixels times `rescale_factor`."""
    factor = float(processor.rescale_factor) if getattr(processor, "do_rescale", False) else 1.0
    unit = 1.0 if math.isclose(factor, 1 / 255) else 255 * factor
    mean: Any = (0.0, 0.0, 0.0)
    std: Any = (1.0, 1.0, 1.0)
    if getattr(processor, "do_normalize", False):
        mean, std = processor.image_mean, processor.image_std
    mean, std = ([v] * 3 if isinstance(v, int | float) else v for v in (mean, std))
    return {"mean": tuple(v / unit for v in mean), "std": tuple(v / unit for v in std)}


PROVEN = 1e-3
"""Largest difference, in parts of the widest normalised pixel, between a recipe and its processor."""


def _proven(recipe: Recipe, processor: Any) -> Recipe:
    """The recipe, if the processor itself makes the same of one picture of noise by either backend.

    Some processors do more than their switches say (a `crop_pct`, channels turned round, an offset).

    Raises:
        ValueError: it makes something else.
    """
    height, width = recipe.scaled(*recipe.size)
    shape = (height // 2 + 5, width // 2 + 40, 3)
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    wanted = processor(images=[Image.fromarray(picture)], return_tensors="pt")["pixel_values"]
    pixels = torch.from_numpy(picture).permute(2, 0, 1)
    made = [normalise(resize(pixels, recipe, backend)[None], recipe) for backend in ("uint8", "pil")]
    scale = PROVEN * max(float(one.abs().max()) for one in made)
    if not any(one.shape == wanted.shape and (one - wanted).abs().max() <= scale for one in made):
        name = type(processor).__name__
        raise ValueError(f"{name} does more to a picture than resize, crop and normalise: not supported")
    return recipe

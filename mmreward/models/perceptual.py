"""DreamSim: one to three ViTs with LoRA, tuned on which of two pictures people find more like a third.

Reads the files that the publisher's package downloads: of each backbone one file, and a folder with a PEFT
adapter, whose low-rank products are added to the weights here, so that PEFT is not needed. The backbones are
DINO's code, into which the publisher has brought CLIP's weights as well.
"""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from .checkpoints import fill, state_of
from .features import PictureEmbedder
from .perceptual_files import BACKBONES, VARIANTS, Backbone, adapter_file, backbone_file
from .pixels import Recipe
from .weights import content_of

SIDE = 224
HEAD = 64
"""Channels of an attention head, in all of the backbones."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class DreamSim(PictureEmbedder):
    """Embedding whose cosine distance is DreamSim's: backbones' features side by side, their mean taken off.

    Args:
        weights, variant, dtype, resize: see `mmreward.models.dreamsim`.
    """

    def __init__(self, weights: str, variant: str, *, dtype: str = "float32", resize: str = "pil") -> None:
        super().__init__(weights, dtype=dtype, resize=resize, variant=variant)
        self.variant = VARIANTS[variant]
        self.name = f"DreamSim {variant}"

    @property
    def recipe(self) -> Recipe:
        # Every backbone has a normalisation of its own.
        unit: Any = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        return Recipe(size=(SIDE, SIDE), fit="squash", kernel="bicubic", **unit)

    @property
    def files(self) -> list[Path]:
        """All that is read, in order."""
        backbones = [backbone_file(self.source, BACKBONES[name]) for name in self.variant.backbones]
        folder = Path(self.source) / self.variant.adapter
        return [*backbones, folder / "adapter_config.json", adapter_file(folder)]

    @cached_property
    def content(self) -> str:
        """Hash of the files that are read; others may lie beside them."""
        return " ".join(content_of(str(file)) for file in self.files)

    @property
    def nbytes(self) -> int:
        if self._module is not None:
            return super().nbytes
        return sum(file.stat().st_size for file in self.files)

    def build(self) -> nn.Module:
        states = []
        for name in self.variant.backbones:
            file = backbone_file(self.source, BACKBONES[name])
            states.append(backbone_state(str(file)))
        add_adapter(states, Path(self.source) / self.variant.adapter)
        branches = [
            Branch(state, BACKBONES[name], self.variant.patches)
            for name, state in zip(self.variant.backbones, states, strict=True)
        ]
        return nn.ModuleList(branches).to(self.dtype)

    def embedding(self, pixels: torch.Tensor) -> torch.Tensor:
        found = torch.cat([branch(pixels) for branch in self.module], -1).float()  # (N, tokens, D)
        found = found - found.mean(-1, keepdim=True)
        if not self.variant.patches:
            return found[:, 0]
        # Of the patches, each brought to unit length, the mean.
        found = F.normalize(found, dim=-1)
        return torch.cat([found[:, 0], found[:, 1:].mean(1)], -1)


def backbone_state(file: str) -> dict[str, torch.Tensor]:
    """Tensors of a backbone by DINO's names; SynCLR's file has them under `model` and with a prefix."""
    state = state_of(file, "model" if Path(file).name.startswith("synclr") else "state_dict")
    return {name.removeprefix("visual."): value for name, value in state.items() if name != "mask_token"}


LORA = re.compile(r"(?:.*\.)?extractor_list\.(\d+)\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")


def add_adapter(states: list[dict[str, torch.Tensor]], folder: Path) -> None:
    """Add scale * B @ A of a LoRA adapter to the weights of the backbones it names.

    Raises:
        ValueError: an adapter that is more than LoRA on these linear layers.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    odd = [
        key
        for key in ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save")
        if config.get(key)
    ]
    if odd or config.get("bias", "none") != "none" or config.get("peft_type", "LORA") != "LORA":
        raise ValueError(f"{folder.name} is more than a plain LoRA: {', '.join(odd) or 'bias or peft_type'}")
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    factors: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
    for key, value in state_of(str(adapter_file(folder))).items():
        if (named := LORA.fullmatch(key)) is None:
            raise ValueError(f"{folder.name} has {key}, which is no LoRA factor of a backbone")
        factors.setdefault((int(named[1]), f"{named[2]}.weight"), {})[named[3]] = value
    for (branch, name), pair in factors.items():
        if set(pair) != {"A", "B"} or branch >= len(states) or name not in states[branch]:
            raise ValueError(f"{folder.name} has a factor of {name} in backbone {branch}, which fits nothing")
        weight = states[branch][name]
        states[branch][name] = (weight.double() + scale * (pair["B"].double() @ pair["A"].double())).to(
            weight.dtype
        )


# --- architecture -----------------------------------------------------------------------------------------


class Branch(nn.Module):
    """One backbone: pixels (N, 3, H, W) in [0, 1] -> features (N, tokens, D); one token, or all.

    Args:
        state: its tensors, from which the sizes are taken.
        backbone: its form.
        patches: all tokens, and not the class token alone.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, state: Mapping[str, torch.Tensor], backbone: Backbone, patches: bool) -> None:
        super().__init__()
        state = dict(state)
        self.patches = patches
        mean, std = CLIP if backbone.projects else IMAGENET
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        projection = state.pop("proj", None) if backbone.projects else None
        if backbone.projects and projection is None:
            raise ValueError(f"{backbone.file} has no tensor proj, CLIP's projection")
        self.projection = None if projection is None else nn.Parameter(projection.float())
        self.vit = Transformer(state, backbone)
        fill(self.vit, {name: value.float() for name, value in state.items()}, backbone.file)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.vit((pixels - self.mean) / self.std)
        if self.projection is not None:
            return cast(torch.Tensor, self.vit.norm(tokens[:, :1]) @ self.projection)
        return cast(torch.Tensor, tokens if self.patches else tokens[:, :1])


class Transformer(nn.Module):
    """DINO's ViT, with CLIP's norm before the blocks (called `pos_drop`, as in the files) and DINOv2's layer
    scale where the state has them. Its result is that of the last block, before the norm."""

    def __init__(self, state: Mapping[str, torch.Tensor], backbone: Backbone) -> None:
        super().__init__()
        missing = [name for name in ("pos_embed", "patch_embed.proj.weight") if name not in state]
        if missing:
            raise ValueError(f"{backbone.file} has no tensor {missing[0]}: it is no ViT of DINO's form")
        kernel = state["patch_embed.proj.weight"]
        width, patch = kernel.shape[0], kernel.shape[-1]
        depth = 1 + max((int(n.split(".")[1]) for n in state if n.startswith("blocks.")), default=-1)
        scaled = "blocks.0.ls1.gamma" in state
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(state["pos_embed"].shape))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        if "pos_drop.weight" in state:
            self.pos_drop = nn.LayerNorm(width, backbone.eps)
        self.blocks = nn.ModuleList(Block(width, backbone, scaled) for _ in range(depth))
        self.norm = nn.LayerNorm(width, backbone.eps)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        grid = self.patch_embed["proj"](pixels)
        tokens = torch.cat([self.cls_token.expand(len(grid), -1, -1), grid.flatten(2).mT], 1)
        tokens = tokens + self._positions(grid.shape[-1])
        if hasattr(self, "pos_drop"):
            tokens = self.pos_drop(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def _positions(self, side: int) -> torch.Tensor:
        """Positions of a grid of `side` x `side` patches: DINOv2's are stored for 37 x 37."""
        stored = round((self.pos_embed.shape[1] - 1) ** 0.5)
        if stored == side:
            return self.pos_embed
        first, rest = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        square = rest.float().reshape(1, stored, stored, -1).permute(0, 3, 1, 2)
        # The publisher scales by a tenth of a patch more than the size asks for, and so moves every position.
        factor = (side + 0.1) / stored
        made = F.interpolate(square, scale_factor=(factor, factor), mode="bicubic")
        return torch.cat([first, made.flatten(2).mT.to(first.dtype)], 1)


class Block(nn.Module):
    """Attention and MLP, each after its norm."""

    def __init__(self, width: int, backbone: Backbone, scaled: bool) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.quick = backbone.gelu == "quick"
        self.norm1, self.norm2 = (nn.LayerNorm(width, backbone.eps) for _ in range(2))
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        if scaled:
            self.ls1, self.ls2 = (nn.ParameterDict({"gamma": torch.ones(width)}) for _ in range(2))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mixed = self._attended(self.norm1(tokens))
        tokens = tokens + (mixed * self.ls1["gamma"] if hasattr(self, "ls1") else mixed)
        wide = self.mlp["fc1"](self.norm2(tokens))
        wide = wide * torch.sigmoid(1.702 * wide) if self.quick else F.gelu(wide)
        made = self.mlp["fc2"](wide)
        return cast(torch.Tensor, tokens + (made * self.ls2["gamma"] if hasattr(self, "ls2") else made))

    def _attended(self, tokens: torch.Tensor) -> torch.Tensor:
        shape = (*tokens.shape[:2], 3, self.heads, HEAD)
        split = self.attn["qkv"](tokens).reshape(shape).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(split[0], split[1], split[2])
        return cast(torch.Tensor, self.attn["proj"](mixed.transpose(1, 2).flatten(2)))

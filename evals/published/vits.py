"""Tiny ViTs with random weights in their publishers' formats: DINO as transformers has it, and DreamSim's
archive, which `peft` and `timm` write with the names that the publisher's package gives them.
"""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

WIDTH = 128
DEPTH = 2
PUBLISHED_DEPTH = 12
"""Blocks that the publisher's package counts on."""
BRANCHES = {
    "ensemble": ("dino_vitb16", "clip_vitb16", "open_clip_vitb16"),
    "dino_vitb16": ("dino_vitb16",),
    "clip_vitb32": ("clip_vitb32",),
    "open_clip_vitb32": ("open_clip_vitb32",),
    "dinov2_vitb14": ("dinov2_vitb14",),
    "synclr_vitb16": ("synclr_vitb16",),
    "dino_vitb16_patch": ("dino_vitb16",),
    "dinov2_vitb14_patch": ("dinov2_vitb14",),
}


def dino_folder(folder: Path, kind: str = "vit") -> str:
    """A DINO ("vit") or DINOv2 ("dinov2") of a few thousand weights, 32 pixels a side."""
    from transformers import (
        BitImageProcessor,
        Dinov2Config,
        Dinov2Model,
        ViTConfig,
        ViTImageProcessor,
        ViTModel,
    )

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
    common = {**size, "image_size": 32, "initializer_range": 0.3}
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    torch.manual_seed(11)
    if kind == "vit":
        model = ViTModel(ViTConfig(**common, intermediate_size=64), add_pooling_layer=False)
        processor = ViTImageProcessor(
            size={"height": 32, "width": 32}, image_mean=mean, image_std=std, resample=2
        )
    else:
        model = Dinov2Model(Dinov2Config(**common, mlp_ratio=2))
        processor = BitImageProcessor(
            size={"shortest_edge": 36},
            crop_size={"height": 32, "width": 32},
            image_mean=mean,
            image_std=std,
            resample=3,
        )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


class Quick(torch.nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


def timm_vit(name: str, depth: int = DEPTH) -> torch.nn.Module:
    """timm's ViT in the form of one backbone, with random weights large enough to have opinions."""
    room: Any = import_module("timm.models.vision_transformer")  # open_clip brings it

    clip, v2 = "clip" in name, name.startswith("dinov2")
    vit: torch.nn.Module = room.VisionTransformer(
        img_size=518 if v2 else 224,
        patch_size=int(name[-2:]),
        num_classes=0,
        embed_dim=WIDTH,
        depth=depth,
        num_heads=WIDTH // 64,
        init_values=1.0 if v2 else None,
        pre_norm=clip,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-5 if clip else 1e-6),
        act_layer=Quick if name.startswith("clip") else torch.nn.GELU,
    ).eval()
    torch.manual_seed(sum(map(ord, name)))
    for key, tensor in vit.state_dict().items():
        tensor.normal_(1.0 if ".gamma" in key or ("norm" in key and "weight" in key) else 0.0, 0.1)
    return vit


def published(vit: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The tensors by DINO's names."""
    clip = "clip" in name
    state = {key.replace("norm_pre.", "pos_drop."): value for key, value in vit.state_dict().items()}
    state.setdefault("patch_embed.proj.bias", torch.zeros(WIDTH))
    if name.startswith("dinov2"):
        state["mask_token"] = torch.zeros(1, WIDTH)
    if clip:
        state["proj"] = vit.projection
    return state


class Extractor(torch.nn.Module):
    """The publisher's nesting, from which the names of the adapter's tensors come."""

    def __init__(self, vit: torch.nn.Module) -> None:
        super().__init__()
        self.model = vit


class Perceptual(torch.nn.Module):
    def __init__(self, vits: list[torch.nn.Module]) -> None:
        super().__init__()
        self.extractor_list = torch.nn.ModuleList(Extractor(vit) for vit in vits)


def dreamsim_folder(folder: Path, variant: str = "ensemble", depth: int = DEPTH) -> list[torch.nn.Module]:
    """Write a variant's files; returns timm's ViTs with the adapter in them."""
    from peft import LoraConfig, get_peft_model

    vits = []
    for name in BRANCHES[variant]:
        vit = timm_vit(name, depth)
        if "clip" in name:
            vit.projection = torch.randn(WIDTH, 24) / 8
        if name.startswith("dino_"):
            (folder / "checkpoints").mkdir(exist_ok=True)
            torch.save(published(vit, name), folder / "checkpoints" / "dino_vitbase16_pretrain.pth")
        elif name.startswith("dinov2"):
            torch.save(published(vit, name), folder / f"{name}_pretrain.pth")
        elif name.startswith("synclr"):
            state = {f"module.visual.{key}": value for key, value in published(vit, name).items()}
            torch.save({"model": state, "epoch": 3}, folder / "synclr_vit_b_16.pth")
        else:
            torch.save({"state_dict": published(vit, name)}, folder / f"{name}_pretrain.pth.tar")
        vits.append(vit)
    torch.manual_seed(5)
    adapted = get_peft_model(Perceptual(vits), LoraConfig(r=4, lora_alpha=2, target_modules=["qkv"]))
    for key, parameter in adapted.named_parameters():
        if ".lora_" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    tag = (
        f"{variant}_lora" if variant == "ensemble" or variant.endswith("_patch") else f"{variant}_single_lora"
    )
    adapted.save_pretrained(folder / tag)
    return vits

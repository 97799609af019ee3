"""DreamSim's published files: its variants, where their backbones and adapters lie, and what is missing.

Imports no torch, so that a command can say what a variant needs without it.
"""

from pathlib import Path
from typing import NamedTuple

from .wants import Want, address_of, hub_folder

FACEBOOK = "https://dl.fbaipublicfiles.com"


class Backbone(NamedTuple):
    """File of one ViT, and the form of its architecture; `url` where the publisher's archive lacks it."""

    file: str
    gelu: str = "gelu"
    projects: bool = False
    """The embedding is the class token after the norm and CLIP's projection; else that of the last block."""
    eps: float = 1e-6
    url: str = ""


BACKBONES = {
    "dino_vitb16": Backbone(
        "dino_vitbase16_pretrain.pth",
        url=f"{FACEBOOK}/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    ),
    "dinov2_vitb14": Backbone(
        "dinov2_vitb14_pretrain.pth", url=f"{FACEBOOK}/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth"
    ),
    "synclr_vitb16": Backbone("synclr_vit_b_16.pth"),
    "clip_vitb16": Backbone("clip_vitb16_pretrain.pth.tar", "quick", projects=True, eps=1e-5),
    "clip_vitb32": Backbone("clip_vitb32_pretrain.pth.tar", "quick", projects=True, eps=1e-5),
    "open_clip_vitb16": Backbone("open_clip_vitb16_pretrain.pth.tar", projects=True, eps=1e-5),
    "open_clip_vitb32": Backbone("open_clip_vitb32_pretrain.pth.tar", projects=True, eps=1e-5),
}
ENSEMBLE = ("dino_vitb16", "clip_vitb16", "open_clip_vitb16")
RELEASES = "https://github.com/ssundaram21/dreamsim/releases/download"


class Variant(NamedTuple):
    """One published model: its backbones, the folder of its adapter, the archive that has both."""

    backbones: tuple[str, ...]
    adapter: str
    archive: str
    patches: bool = False


def _variant(name: str, release: str, *backbones: str, adapter: str = "", patches: bool = False) -> Variant:
    archive = f"{RELEASES}/{release}-checkpoints/dreamsim_{name}_checkpoint.zip"
    return Variant(backbones or (name,), adapter or f"{name}_single_lora", archive, patches)


VARIANTS = {
    "ensemble": _variant("ensemble", "v0.2.0", *ENSEMBLE, adapter="ensemble_lora"),
    "dino_vitb16": _variant("dino_vitb16", "v0.2.0"),
    "clip_vitb32": _variant("clip_vitb32", "v0.2.0"),
    "open_clip_vitb32": _variant("open_clip_vitb32", "v0.2.0"),
    "dinov2_vitb14": _variant("dinov2_vitb14", "v0.2.1"),
    "synclr_vitb16": _variant("synclr_vitb16", "v0.2.1"),
    "dino_vitb16_patch": _variant(
        "dino_vitb16_patch", "v0.2.1", "dino_vitb16", adapter="dino_vitb16_patch_lora", patches=True
    ),
    "dinov2_vitb14_patch": _variant(
        "dinov2_vitb14_patch", "v0.2.1", "dinov2_vitb14", adapter="dinov2_vitb14_patch_lora", patches=True
    ),
}


def place_of(weights: str) -> Path:
    """Folder of the published files: the one that was named, or ours in torch.hub's cache."""
    return Path(weights) if weights else hub_folder() / "dreamsim"


def lacking(folder: Path, variant: str) -> list[str]:
    """Names of a variant's files that are not there."""
    own = VARIANTS[variant]
    missing = []
    for name in own.backbones:
        try:
            backbone_file(str(folder), BACKBONES[name])
        except ValueError:
            missing.append(BACKBONES[name].file)
    try:
        if not (folder / own.adapter / "adapter_config.json").is_file():
            missing.append(f"{own.adapter}/adapter_config.json")
        adapter_file(folder / own.adapter)
    except ValueError:
        missing.append(f"{own.adapter}/adapter_model.safetensors")
    return missing


def wanted(folder: Path, variant: str) -> list[Want]:
    """What a variant needs: its publisher's archive, and the backbones that it does not have."""
    own = VARIANTS[variant]
    backbones = [BACKBONES[name] for name in own.backbones]
    files = tuple(one.file for one in backbones if not one.url)
    wants = [Want("archive", own.archive, "dreamsim", str(folder), (*files, f"{own.adapter}/"))]
    return wants + [
        Want("url", one.url, "dreamsim", str(address_of(one.url))) for one in backbones if one.url
    ]


def backbone_file(folder: str, backbone: Backbone) -> Path:
    """Where a backbone's file lies: beside the adapter, or where torch.hub keeps it."""
    places = [Path(folder), Path(folder) / "checkpoints", hub_folder()]
    found = [place / backbone.file for place in places if (place / backbone.file).is_file()]
    if not found:
        raise ValueError(f"{backbone.file} is not in {folder}")
    return found[0]


def adapter_file(folder: Path) -> Path:
    """The tensors of a PEFT adapter."""
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} has no adapter_model.safetensors and no adapter_model.bin")

"""VIP and R3M as their publishers save them, on the smallest ResNet there is; LIV on a tiny CLIP."""

import json
from pathlib import Path

import open_clip
import torch
import torchvision

from mmreward.models.building import building

ARCHITECTURE = "tiny-liv"


def resnet(family: str) -> torch.nn.Module:
    torch.manual_seed(len(family))
    with building():
        module = torchvision.models.resnet18(weights=None)
    module.fc = torch.nn.Linear(512, 24) if family == "vip" else torch.nn.Identity()
    return module.eval()


def save_resnet(file: Path, family: str) -> str:
    """The publisher's file: tensors of a wrapped network under the family's name, R3M's with its language."""
    state = {f"module.convnet.{name}": tensor for name, tensor in resnet(family).state_dict().items()}
    if family == "r3m":
        state |= {"module.lang_enc.model.x": torch.zeros(2), "module.lang_rew.pred.0.weight": torch.zeros(2)}
    torch.save({family: state, "global_step": 7}, file)
    return str(file)


def save_liv(folder: Path) -> dict[str, str]:
    """The published file around a tiny CLIP with a ResNet, of an architecture that open_clip then knows."""
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    config = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (folder / f"{ARCHITECTURE}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{ARCHITECTURE}.json")
    torch.manual_seed(5)
    with building():
        model = open_clip.create_model(ARCHITECTURE, precision="fp32")
    state = {f"module.model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"liv": state}, folder / "model.pt")
    return {"weights": str(folder / "model.pt"), "architecture": ARCHITECTURE}

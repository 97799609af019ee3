"""Second writings of CLIP-I, DINO-I and DreamSim, in plain transformers, timm and peft calls.

The references are files of the networks' input size, so that no resize of theirs enters a gradient.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from . import vits
from .upstream import Reference, pixels_of

Args = Mapping[str, Any]
Embed = Callable[[torch.Tensor], torch.Tensor]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BICUBIC = InterpolationMode.BICUBIC


def _against(
    args: Args, sized: Embed, small: Callable[[Image.Image], Image.Image], embed: Embed
) -> Reference:
    """Mean cosine with the references; 1 minus it for DreamSim.

    Args:
        sized: float pixels -> those that the network is shown, before they are normalised.
        small: the same of a picture, with Pillow.
        embed: such pixels -> (1, D).
    """
    pictures = [Image.open(path).convert("RGB") for path in args["references"]]
    with torch.no_grad():
        known = F.normalize(torch.cat([embed(pixels_of(small(one))) for one in pictures]), dim=-1)

    def likeness(pixels: torch.Tensor) -> torch.Tensor:
        cosines = (F.normalize(embed(pixels), dim=-1) @ known.T).mean(1)
        return 1 - cosines if "variant" in args else cosines

    return Reference(
        lambda picture, prompt: likeness(pixels_of(small(picture))).item(),
        lambda pixels, prompt: likeness(sized(pixels)),
        resizes=True,
    )


def _middle(edge: int, side: int, start: Callable[[float], int]) -> tuple[Any, Any]:
    """Shorter side to `edge` and the middle of it, of float pixels and of a picture."""

    def corner(height: int, width: int) -> tuple[int, int]:
        return start((height - side) / 2), start((width - side) / 2)

    def sized(pixels: torch.Tensor) -> torch.Tensor:
        small = pixels
        if min(pixels.shape[-2:]) != edge:
            small = v2.functional.resize(pixels, [edge], BICUBIC, antialias=True).clamp(0, 1)
        top, left = corner(*small.shape[-2:])
        return small[..., top : top + side, left : left + side]

    def small(picture: Image.Image) -> Image.Image:
        resized = v2.functional.resize(picture, [edge], BICUBIC)
        top, left = corner(resized.height, resized.width)
        cropped: Image.Image = resized.crop((left, top, left + side, top + side))
        return cropped

    return sized, small


def clip_i(args: Args) -> Reference:
    """The cosine of CLIP's picture embeddings."""
    from transformers import CLIPModel

    model: Any = CLIPModel.from_pretrained(args["weights"]).eval()

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        values = v2.functional.normalize(pixels, list(CLIP_MEAN), list(CLIP_STD))
        found = model.get_image_features(pixel_values=values)
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    return _against(args, *_middle(32, 32, int), embed)


def dino_i(args: Args) -> Reference:
    """The cosine of class tokens, preprocessed as DINO's evaluation does (DINOv2: as its processor does)."""
    from transformers import AutoConfig, Dinov2Model, ViTModel

    first = AutoConfig.from_pretrained(args["weights"]).model_type == "vit"
    model: Any = (
        ViTModel.from_pretrained(args["weights"], add_pooling_layer=False)
        if first
        else Dinov2Model.from_pretrained(args["weights"])
    ).eval()

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        values = v2.functional.normalize(pixels, list(MEAN), list(STD))
        found: torch.Tensor = model(pixel_values=values).last_hidden_state[:, 0]
        return found

    return _against(args, *_middle(36, 32, round if first else int), embed)


def dreamsim(args: Args) -> Reference:
    """The cosine distance of features side by side, their mean taken off."""
    with TemporaryDirectory() as folder:
        networks = vits.dreamsim_folder(Path(folder), args["variant"], vits.PUBLISHED_DEPTH)

    def features(vit: Any, name: str, pixels: torch.Tensor) -> torch.Tensor:
        mean, std = (CLIP_MEAN, CLIP_STD) if "clip" in name else (MEAN, STD)
        tokens = vit.patch_embed.proj(v2.functional.normalize(pixels, list(mean), list(std)))
        tokens = tokens.flatten(2).mT
        tokens = torch.cat([vit.cls_token.expand(len(tokens), -1, -1), tokens], 1) + vit.pos_embed
        tokens = vit.blocks(vit.norm_pre(tokens))[:, 0]
        found: torch.Tensor = vit.norm(tokens) @ vit.projection if "clip" in name else tokens
        return found

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        names = vits.BRANCHES[args["variant"]]
        found = [features(vit, name, pixels) for vit, name in zip(networks, names, strict=True)]
        whole = torch.cat(found, -1)
        return whole - whole.mean(-1, keepdim=True)

    def sized(pixels: torch.Tensor) -> torch.Tensor:
        small: torch.Tensor = v2.functional.resize(pixels, [224, 224], BICUBIC, antialias=True)
        return small.clamp(0, 1)

    return _against(args, sized, lambda picture: v2.functional.resize(picture, [224, 224], BICUBIC), embed)

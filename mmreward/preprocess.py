"""From uint8 pictures to a network's input: resize, crop, normalise, by one explicit recipe.

Two backends. "tensor" works in float on whatever device the pixels are on, grouped by shape, and can be
differentiated. "pil" resizes with Pillow on 8-bit values, as published preprocessing does. They differ by
rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

KERNELS = {
    "nearest": (Image.Resampling.NEAREST, tv.InterpolationMode.NEAREST_EXACT),
    "bilinear": (Image.Resampling.BILINEAR, tv.InterpolationMode.BILINEAR),
    "bicubic": (Image.Resampling.BICUBIC, tv.InterpolationMode.BICUBIC),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a picture becomes a network's input.

    Args:
        size: (height, width) of the input.
        fit: "shortest" scales the shorter side to fit and crops the middle, "longest" scales the longer side
            and pads with black, "squash" ignores the aspect ratio.
        kernel: of the resize; always anti-aliased.
        mean, std: per channel, of pixels in [0, 1].

    Raises:
        ValueError: an unknown kernel or fit.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: Literal["shortest", "longest", "squash"] = "shortest"
    kernel: str = "bicubic"

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel {self.kernel!r} is not one of {', '.join(KERNELS)}")
        if self.fit not in ("shortest", "longest", "squash"):
            raise ValueError(f"fit {self.fit!r} is not shortest, longest or squash")

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """The size a picture is resized to before cropping or padding.

        The free side is truncated under "shortest" and rounded under "longest": torchvision does the one,
        open_clip the other, and published scores depend on it.
        """
        target_h, target_w = self.size
        if self.fit == "squash":
            return self.size
        if self.fit == "longest":
            ratio = max(height / target_h, width / target_w)
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        if height <= width:
            return target_h, max(1, int(target_h * width / height))
        return max(1, int(target_w * height / width)), target_w


def to_input(pictures: Sequence[torch.Tensor], recipe: Recipe) -> torch.Tensor:
    """Prepare pictures of any sizes in float on their own device: uint8 CHW, or float CHW in [0, 1] with
    gradient.

    Returns float32 (N, 3, H, W), normalised.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, picture in enumerate(pictures):
        groups.setdefault(tuple(picture.shape), []).append(index)
    done: list[torch.Tensor | None] = [None] * len(pictures)
    for members in groups.values():
        batch = torch.stack([pictures[i] for i in members])
        batch = batch.float() / 255 if batch.dtype == torch.uint8 else batch.float()
        for index, row in zip(members, _resize(batch, recipe), strict=True):
            done[index] = row
    return normalise(torch.stack([row for row in done if row is not None]), recipe)


def resize_pil(picture: np.ndarray[Any, Any], recipe: Recipe) -> torch.Tensor:
    """Resize and crop one uint8 HWC picture with Pillow; returns uint8 CHW of the recipe's size."""
    height, width = recipe.scaled(*picture.shape[:2])
    resized = Image.fromarray(picture).resize((width, height), KERNELS[recipe.kernel][0])
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    return cast(torch.Tensor, tv.center_crop(pixels, list(recipe.size)))


def normalise(pixels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """(N, 3, H, W), uint8 or float in [0, 1] -> (pixels - mean) / std in float32."""
    scaled = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    return cast(torch.Tensor, tv.normalize(scaled, list(recipe.mean), list(recipe.std)))


def _resize(batch: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    size = recipe.scaled(*batch.shape[-2:])
    if size != tuple(batch.shape[-2:]):
        batch = tv.resize(batch, list(size), KERNELS[recipe.kernel][1], antialias=True).clamp(0, 1)
    return cast(torch.Tensor, tv.center_crop(batch, list(recipe.size)))

"""Preprocessing of pictures: resize, crop and normalise by one explicit recipe.

Three ways to resize. "tensor" works in float, on the CPU or on a GPU, and can be differentiated. "pil"
resizes with Pillow on 8-bit values, as published preprocessing does. "uint8" does the same with torchvision's
vectorised kernel, ten times as fast. They differ by rounding: `evals/drift.md` has the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from .middles import WHOLE, resized_middle

BACKENDS = ("tensor", "pil", "uint8")

KERNELS = {
    "nearest": (Image.Resampling.NEAREST, tv.InterpolationMode.NEAREST_EXACT),
    "bilinear": (Image.Resampling.BILINEAR, tv.InterpolationMode.BILINEAR),
    "bicubic": (Image.Resampling.BICUBIC, tv.InterpolationMode.BICUBIC),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Preprocessing of a network's input: size, fit, kernel and normalisation.

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

    @property
    def geometry(self) -> tuple[Any, ...]:
        """Size, fit and kernel: networks that agree on these share resized pictures."""
        return self.size, self.fit, self.kernel

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

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """First row and column of the middle of a resized picture that is not smaller than the input."""
        return round((height - self.size[0]) / 2), round((width - self.size[1]) / 2)


class Group(NamedTuple):
    """Pictures of one shape, type and device as one tensor, and their rows in the batch."""

    rows: list[int]
    pixels: torch.Tensor


def grouped(pictures: Sequence[torch.Tensor], *, pinned: bool = False) -> list[Group]:
    """Stacks of CHW pictures that agree in shape, type and device.

    Args:
        pictures: of any sizes.
        pinned: put those on the CPU into page-locked memory, from where a GPU fetches them without waiting.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for row, picture in enumerate(pictures):
        alike.setdefault((picture.shape, picture.dtype, picture.device), []).append(row)
    return [Group(rows, _stacked([pictures[row] for row in rows], pinned)) for rows in alike.values()]


def to_input(
    groups: Sequence[Group], recipe: Recipe, device: torch.device | str | None = None
) -> torch.Tensor:
    """Network input from pictures: brought to the recipe's size in float, and normalised.

    Args:
        groups: (n, 3, H, W) uint8, or float in [0, 1], which may carry a gradient.
        recipe: size, crop and normalisation.
        device: where to work; None leaves every group where it is.

    Returns:
        float32 (N, 3, height, width), normalised, in the order of the groups' rows.
    """
    done: dict[int, torch.Tensor] = {}
    for rows, pixels in groups:
        there = pixels if device is None else pixels.to(device, non_blocking=True)
        done.update(zip(rows, resize_float(there, recipe), strict=True))
    return normalise(torch.stack([done[row] for row in range(len(done))]), recipe)


def resize(picture: torch.Tensor, recipe: Recipe, backend: str = "tensor") -> torch.Tensor:
    """Resize and crop one uint8 CHW picture on the CPU.

    Returns:
        CHW of the recipe's size in memory of its own: float32 in [0, 1] for "tensor", uint8 for the others.

    Raises:
        ValueError: an unknown backend.
    """
    if backend in BACKENDS and _is_long(recipe, *picture.shape[1:]):
        middle = _middle_of(picture[None], recipe)[0]
        return middle if backend == "tensor" else (middle * 255).round().to(torch.uint8)
    if backend == "pil":
        return resize_pil(picture.permute(1, 2, 0).numpy(), recipe)
    if backend == "uint8":
        pixels = tv.resize(picture, list(recipe.scaled(*picture.shape[1:])), _kernel(recipe), antialias=True)
        return _own_crop(pixels, recipe)
    if backend == "tensor":
        # One channel at a time stays in the processor's cache; a whole float picture does not.
        channels = [resize_float(channel[None, None], recipe)[0] for channel in picture]
        return torch.cat(channels)
    raise ValueError(f"resize is one of {', '.join(BACKENDS)}, not {backend!r}")


def resize_float(pixels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """(N, C, H, W), uint8 or float in [0, 1] -> float32 (N, C, height, width) in [0, 1], where the pixels
    are."""
    if _is_long(recipe, *pixels.shape[-2:]):
        return _middle_of(pixels, recipe)
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
    size = recipe.scaled(*pixels.shape[-2:])
    if size != tuple(pixels.shape[-2:]):
        pixels = tv.resize(pixels, list(size), _kernel(recipe), antialias=True).clamp(0, 1)
    return cast(torch.Tensor, tv.center_crop(pixels, list(recipe.size)))


def resize_pil(picture: np.ndarray[Any, Any], recipe: Recipe) -> torch.Tensor:
    """Resize and crop one uint8 HWC picture with Pillow; returns uint8 CHW of the recipe's size."""
    height, width = recipe.scaled(*picture.shape[:2])
    resized = Image.fromarray(picture).resize((width, height), KERNELS[recipe.kernel][0])
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    return _own_crop(pixels, recipe)


def _is_long(recipe: Recipe, height: int, width: int) -> bool:
    """True where the resized picture, before the crop, is too large to be made."""
    rows, columns = recipe.scaled(height, width)
    return rows * columns > WHOLE and rows >= recipe.size[0] and columns >= recipe.size[1]


def _middle_of(pixels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    whole = recipe.scaled(*pixels.shape[-2:])
    return resized_middle(pixels, whole, recipe.corner(*whole), recipe.size, recipe.kernel)


def normalise(pixels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """(N, 3, H, W), uint8 or float in [0, 1] -> (pixels - mean) / std in float32."""
    scaled = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    return cast(torch.Tensor, tv.normalize(scaled, list(recipe.mean), list(recipe.std)))


def _own_crop(pixels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """The middle, in memory of its own: a view would keep the whole picture."""
    cropped = cast(torch.Tensor, tv.center_crop(pixels, list(recipe.size)))
    return cropped.clone(memory_format=torch.contiguous_format)


def _kernel(recipe: Recipe) -> Any:
    return KERNELS[recipe.kernel][1]


def _stacked(pictures: list[torch.Tensor], pinned: bool) -> torch.Tensor:
    first = pictures[0]
    if not pinned or first.device.type != "cpu":
        return torch.stack(pictures)
    staging = torch.empty((len(pictures), *first.shape), dtype=first.dtype, pin_memory=True)
    return torch.stack(pictures, out=staging)

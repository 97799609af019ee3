"""Preprocessing of pictures: resize, crop and normalise by one explicit recipe.

Four ways to resize. "tensor" works in float, on the CPU or on a GPU, and can be differentiated. "pil" resizes
with Pillow on 8-bit values, as published preprocessing does. "uint8" does the same with torchvision's
vectorised kernel, ten times as fast. They differ by rounding. "draft" is "uint8" of JPEG files that their
decoder has halved as often as leaves more than the network takes, which is another filter: `evals/drift.md`
has the figures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .building import turn
from .middles import WHOLE, resized_middle
from .weights import known_backend

KERNELS = {
    "nearest": (Image.Resampling.NEAREST, "nearest-exact"),
    "bilinear": (Image.Resampling.BILINEAR, "bilinear"),
    "bicubic": (Image.Resampling.BICUBIC, "bicubic"),
}
"""Name -> Pillow's kernel, and torchvision's name of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Preprocessing of a network's input: size, fit, crop, kernel and normalisation.

    Args:
        size: (height, width) of the input.
        fit: "shortest" scales the shorter side and crops the middle, "longest" scales the longer side and
            pads, "letterbox" does the same by HPSv2's rounding and lets the kernel's overshoot stand,
            "squash" ignores the aspect ratio, "none" crops or pads without resizing.
        edge: what "shortest" scales the shorter side to, and "squash" both, before the crop; None: `size`.
        crop: which pixel the middle begins at when the margin is odd. "round" is torchvision's and
            open_clip's (half to even: a margin of 3 begins at 2), "floor" is transformers' (at 1).
        kernel: of the resize; always anti-aliased.
        mean, std: per channel, of pixels in [0, 1].
        fill: 0 to 255, of pixels where the resized picture is smaller than the input.

    Raises:
        ValueError: an unknown kernel, fit or crop.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: Literal["shortest", "longest", "letterbox", "squash", "none"] = "shortest"
    kernel: str = "bicubic"
    edge: int | tuple[int, int] | None = None
    crop: Literal["round", "floor"] = "round"
    fill: int = 0

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel {self.kernel!r} is not one of {', '.join(KERNELS)}")
        if self.fit not in ("shortest", "longest", "letterbox", "squash", "none"):
            raise ValueError(f"fit {self.fit!r} is not shortest, longest, letterbox, squash or none")
        if self.crop not in ("round", "floor"):
            raise ValueError(f"crop {self.crop!r} is not round or floor")

    @property
    def geometry(self) -> tuple[Any, ...]:
        """All but the normalisation: networks that agree on these share resized pictures."""
        return self.size, self.fit, self.kernel, self.edge, self.crop, self.fill

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """The size a picture is resized to before cropping or padding.

        The free side is truncated under "shortest" and rounded under "longest", and under "shortest" for an
        input that is not square: torchvision does the one, open_clip the other, and published scores depend
        on it.
        """
        target_h, target_w = self.size
        if self.fit == "none":
            return height, width
        if self.fit == "squash":
            return self.edge if isinstance(self.edge, tuple) else self.size
        if self.fit == "letterbox":
            # A factor times the side: one row in thirty thousand sizes is not that of a side by a ratio.
            factor = min(target_h, target_w) / float(max(height, width))
            return max(1, round(height * factor)), max(1, round(width * factor))
        if self.fit == "longest" or (self.edge is None and target_h != target_w):
            most = max if self.fit == "longest" else min
            ratio = most(height / target_h, width / target_w)
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        edge = self.edge if isinstance(self.edge, int) else target_h
        if height <= width:
            return edge, max(1, int(edge * width / height))
        return max(1, int(edge * height / width)), edge

    def corner(self, height: int, width: int, backend: str = "tensor") -> tuple[int, int]:
        """First row and column of the middle of a resized picture; negative: so many are padded before it.

        The odd pixel of a padding stands after the picture, but before it in transformers' Pillow backend.
        """
        before = math.ceil if self.crop == "floor" and backend == "pil" else math.floor
        start = round if self.crop == "round" else math.floor
        spare_h, spare_w = height - self.size[0], width - self.size[1]
        top, left = (start(s / 2) if s >= 0 else -before(-s / 2) for s in (spare_h, spare_w))
        return top, left


class Group(NamedTuple):
    """Pictures of one shape, type and device as one tensor, and their rows in the batch.

    `ready` pictures have been resized and cropped. Their size alone does not say so: where a recipe's edge is
    not its size, a whole picture may have the size of an input.
    """

    rows: list[int]
    pixels: torch.Tensor
    ready: bool = False


def grouped(
    pictures: Sequence[torch.Tensor], *, pinned: bool = False, ready: Sequence[bool] = ()
) -> list[Group]:
    """Stacks of CHW pictures that agree in shape, type and device.

    Args:
        pictures: of any sizes.
        pinned: put those on the CPU into page-locked memory, from where a GPU fetches them without waiting.
        ready: for each picture, True where it has been resized and cropped; empty: none has.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for row, picture in enumerate(pictures):
        done = bool(ready) and ready[row]
        alike.setdefault((done, picture.shape, picture.dtype, picture.device), []).append(row)
    return [
        Group(rows, _stacked([pictures[row] for row in rows], pinned), key[0]) for key, rows in alike.items()
    ]


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
    for rows, pixels, ready in groups:
        there = pixels if device is None else pixels.to(device, non_blocking=True)
        made = _unit(there) if ready else resize_float(there, recipe)
        if len(groups) == 1 and rows == list(range(len(rows))):  # as they are, without a copy of each
            return normalise(made, recipe, inplace=pixels.dtype == torch.uint8)  # floats may be the caller's
        done.update(zip(rows, made, strict=True))
    return normalise(torch.stack([done[row] for row in range(len(done))]), recipe, inplace=True)


def resize(
    picture: torch.Tensor, recipe: Recipe, backend: str = "tensor", whole: tuple[int, int] | None = None
) -> torch.Tensor:
    """Resize and crop one uint8 CHW picture on the CPU.

    Args:
        picture: all of it.
        recipe: size and crop.
        backend: one of the four ways.
        whole: (height, width) of which it is a reduced copy, which decides the size; None: its own.

    Returns:
        CHW of the recipe's size in memory of its own: float32 in [0, 1] for "tensor", uint8 for the others.

    Raises:
        ValueError: an unknown backend.
    """
    known_backend(backend)
    height, width = whole or picture.shape[1:]
    if _is_long(recipe, height, width):
        middle = _middle_of(picture[None], recipe, recipe.scaled(height, width))[0]
        return middle if backend == "tensor" else (middle * 255).round().to(torch.uint8)
    if backend == "pil":
        return resize_pil(picture.permute(1, 2, 0).numpy(), recipe)
    if backend != "tensor":
        size = list(recipe.scaled(height, width))
        pixels = _scaled(picture, size, recipe)
        return _middle(pixels, recipe, backend).clone(memory_format=torch.contiguous_format)
    # One channel at a time stays in the processor's cache; a whole float picture does not.
    channels = [resize_float(channel[None, None], recipe)[0] for channel in picture]
    return torch.cat(channels)


def resize_float(pixels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """(N, C, H, W), uint8 or float in [0, 1] -> float32 (N, C, height, width) in [0, 1], where the pixels
    are."""
    if _is_long(recipe, *pixels.shape[-2:]):
        return _middle_of(pixels, recipe, recipe.scaled(*pixels.shape[-2:]))
    pixels = _unit(pixels)
    size = recipe.scaled(*pixels.shape[-2:])
    if size != tuple(pixels.shape[-2:]):
        pixels = _scaled(pixels, list(size), recipe)
        if recipe.kernel == "bicubic" and recipe.fit != "letterbox":  # others do not overshoot
            pixels = pixels.clamp(0, 1)
    return _middle(pixels, recipe)


def _scaled(pixels: torch.Tensor, size: list[int], recipe: Recipe) -> torch.Tensor:
    """All of the pictures at this size, whatever their shape.

    PyTorch scales the width first. A tall and thin picture that is squashed, such as one of 3,000,000 x 1 to
    224 x 224, would be 3,000,000 x 224 in between: 2.7 GB a channel.
    """
    (height, width), (rows, columns) = pixels.shape[-2:], size
    if height * columns > WHOLE and rows < height and columns > width:
        pixels = _by_torch(pixels, [rows, width], recipe)
    return _by_torch(pixels, size, recipe)


def _by_torch(pixels: torch.Tensor, size: list[int], recipe: Recipe) -> torch.Tensor:
    """torchvision's anti-aliased resize. A single column of floats is made by way of two: alone, it has other
    numbers in PyTorch (2.14), up to the whole range off."""

    def scaled(part: torch.Tensor, to: list[int]) -> torch.Tensor:
        return cast(torch.Tensor, _torchvision().resize(part, to, _kernel(recipe), antialias=True))

    if size[1] > 1 or size[0] == pixels.shape[-2]:
        return scaled(pixels, size)
    column = scaled(pixels, [pixels.shape[-2], 1])
    return scaled(column.expand(*column.shape[:-1], 2), [size[0], 2])[..., :1]


def resize_pil(picture: np.ndarray[Any, Any], recipe: Recipe) -> torch.Tensor:
    """Resize and crop one uint8 HWC picture with Pillow; returns uint8 CHW of the recipe's size."""
    height, width = recipe.scaled(*picture.shape[:2])
    resized = Image.fromarray(picture).resize((width, height), KERNELS[recipe.kernel][0])
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    return _middle(pixels, recipe, "pil").clone(memory_format=torch.contiguous_format)


def _is_long(recipe: Recipe, height: int, width: int) -> bool:
    """True where the resized picture, before the crop, is too large to be made."""
    rows, columns = recipe.scaled(height, width)
    return rows * columns > WHOLE and rows >= recipe.size[0] and columns >= recipe.size[1]


def _middle_of(pixels: torch.Tensor, recipe: Recipe, scaled: tuple[int, int]) -> torch.Tensor:
    return resized_middle(pixels, scaled, recipe.corner(*scaled), recipe.size, recipe.kernel)


def normalise(pixels: torch.Tensor, recipe: Recipe, *, inplace: bool = False) -> torch.Tensor:
    """(N, 3, H, W), uint8 or float in [0, 1] -> (pixels - mean) / std in float32.

    Args:
        pixels: of which floats are overwritten under `inplace`: a batch is larger than a processor's caches.
        recipe: its mean and std.
        inplace: see there.
    """
    scaled = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    normalised = _torchvision().normalize(scaled, list(recipe.mean), list(recipe.std), inplace)
    return cast(torch.Tensor, normalised)


def _middle(pixels: torch.Tensor, recipe: Recipe, backend: str = "tensor") -> torch.Tensor:
    """A view of the middle, or a padded copy: clone it where the whole picture must not be kept."""
    height, width = pixels.shape[-2:]
    top, left = recipe.corner(height, width, backend)
    rows, columns = recipe.size
    if height < rows or width < columns:
        fill = recipe.fill if pixels.dtype == torch.uint8 else recipe.fill / 255
        right, bottom = (max(0, side) for side in (columns - width + left, rows - height + top))
        pixels = F.pad(pixels, (max(0, -left), right, max(0, -top), bottom), value=fill)
    top, left = max(0, top), max(0, left)
    return pixels[..., top : top + rows, left : left + columns]


def _unit(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.float()


def _kernel(recipe: Recipe) -> Any:
    return _torchvision().InterpolationMode(KERNELS[recipe.kernel][1])


@cache
def _torchvision() -> Any:
    """torchvision's functions on tensors, imported with the first picture: they drag in torch's compiler,
    which takes as long to import as the rest of torch, and a run that has nothing to do needs neither."""
    with turn():
        from torchvision.transforms.v2 import functional

        return functional


def _stacked(pictures: list[torch.Tensor], pinned: bool) -> torch.Tensor:
    first = pictures[0]
    if not pinned or first.device.type != "cpu":
        return torch.stack(pictures)
    staging = torch.empty((len(pictures), *first.shape), dtype=first.dtype, pin_memory=True)
    return torch.stack(pictures, out=staging)

"""The middle of a resized picture, made without the rest: for pictures so long that the whole has no place.

A picture of 10000 x 1 pixels, scaled to 224 rows, has 2.2 million columns, of which a network sees 224. Here
the kernels of torch and Pillow (anti-aliased, Keys' cubic with a = -0.5) are applied as two small matrices to
the part of the source that these columns are made of.
"""

from typing import NamedTuple, cast

import torch

WHOLE = 1 << 22
"""Pixels of a resized picture above which only its middle is made."""


def resized_middle(
    pixels: torch.Tensor, whole: tuple[int, int], corner: tuple[int, int], size: tuple[int, int], kernel: str
) -> torch.Tensor:
    """Crop of the resized picture, as if all of it had been resized; differentiable.

    Args:
        pixels: (N, C, H, W), uint8 or float in [0, 1].
        whole: (height, width) the picture is scaled to.
        corner: first row and column of the crop.
        size: (height, width) of the crop, within `whole`.
        kernel: "nearest", "bilinear" or "bicubic".

    Returns:
        float32 (N, C, height, width) in [0, 1].
    """
    rows, columns = (
        _axis(length, scaled, first, count, kernel)
        for length, scaled, first, count in zip(pixels.shape[-2:], whole, corner, size, strict=True)
    )
    part = pixels[..., rows.first : rows.last, columns.first : columns.last]
    part = part.float() / 255 if part.dtype == torch.uint8 else part.float()
    mixed = rows.weights.to(part.device) @ part @ columns.weights.to(part.device).T
    return mixed.clamp(0, 1) if kernel == "bicubic" else mixed


def cropped(
    pixels: torch.Tensor, whole: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """Crop of 8-bit frames that torchvision resizes in float with a bicubic kernel, as clips' networks do.

    Args:
        pixels: (N, C, H, W) uint8.
        whole: (height, width) they are scaled to.
        corner: first row and column of the crop.
        size: (height, width) of the crop, within `whole`.

    Returns:
        float32 (N, C, height, width), 0 to 255, and beyond where the kernel overshoots; within, of frames so
        thin that no more than the crop can be made.
    """
    from torchvision.transforms.v2 import functional as tv

    if whole[0] * whole[1] > WHOLE:
        return 255 * resized_middle(pixels, whole, corner, size, "bicubic")
    made = tv.resize(pixels.float(), list(whole), tv.InterpolationMode.BICUBIC, antialias=True)
    (top, left), (height, width) = corner, size
    return cast(torch.Tensor, made[..., top : top + height, left : left + width])


class _Axis(NamedTuple):
    """Source pixels [first, last), and `weights` (pixels made, source pixels)."""

    first: int
    last: int
    weights: torch.Tensor


def _axis(length: int, scaled: int, first: int, count: int, kernel: str) -> _Axis:
    scale = length / scaled
    wide = max(scale, 1.0)  # of the kernel: anti-aliasing
    centres = (torch.arange(first, first + count, dtype=torch.float64) + 0.5) * scale
    if kernel == "nearest":
        nearest = centres.floor().long().clamp(0, length - 1)
        start, end = int(nearest[0]), int(nearest[-1]) + 1
        return _Axis(start, end, torch.nn.functional.one_hot(nearest - start, end - start).float())
    reach = (2 if kernel == "bicubic" else 1) * wide
    lows = (centres - reach + 0.5).long().clamp(min=0)
    highs = (centres + reach + 0.5).long().clamp(max=length)
    start, end = int(lows[0]), int(highs[-1])
    places = torch.arange(start, end)
    away = ((places + 0.5 - centres[:, None]) / wide).abs()
    weights = _cubic(away) if kernel == "bicubic" else (1 - away).clamp(min=0)
    weights = weights * ((places >= lows[:, None]) & (places < highs[:, None]))
    return _Axis(start, end, (weights / weights.sum(1, keepdim=True)).float())


def _cubic(x: torch.Tensor) -> torch.Tensor:
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))

"""Second writings of measures of pixels, in SciPy, colorsys and Pillow, and in float64 where ours
counts in whole numbers."""

import colorsys
import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from .upstream import Reference

Args = Mapping[str, Any]


def _plain(measure: Callable[[np.ndarray[Any, Any]], float]) -> Callable[[Args], Reference]:
    """A measure of float64 RGB pixels (H, W, 3), 0 to 255."""
    return lambda args: Reference(lambda picture, _: float(measure(np.asarray(picture, np.float64))))


def _luma(pixels: np.ndarray[Any, Any]) -> Any:
    return pixels @ (0.299, 0.587, 0.114) / 255


def _sharpness(pixels: np.ndarray[Any, Any]) -> float:
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    return float(ndimage.convolve(_luma(pixels), kernel)[1:-1, 1:-1].var())


def _edge_density(pixels: np.ndarray[Any, Any]) -> float:
    luma = _luma(pixels)
    steps = [ndimage.sobel(luma, axis)[1:-1, 1:-1] / 4 for axis in (0, 1)]
    return float((np.hypot(*steps) > 0.1).mean())


def _colour_entropy(pixels: np.ndarray[Any, Any]) -> float:
    counts = np.histogramdd(pixels.reshape(-1, 3), bins=8, range=[(0, 256)] * 3)[0].ravel()
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _saturation(args: Args) -> Reference:
    def value(picture: Image.Image, prompt: str) -> float:
        pixels = np.asarray(picture).reshape(-1, 3).tolist()
        return math.fsum(colorsys.rgb_to_hsv(*(v / 255 for v in one))[1] for one in pixels) / len(pixels)

    def tensor(pixels: torch.Tensor, prompt: str) -> torch.Tensor:
        most, least = pixels.amax(1), pixels.amin(1)
        return ((most - least) / most.clamp(min=1e-12)).mean((1, 2))

    return Reference(value, tensor, resizes=True)


def _jpeg(sign: int) -> Callable[[Args], Reference]:
    def value(picture: Image.Image, prompt: str) -> float:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=95)
        return sign * len(file.getvalue()) / 1000

    return lambda args: Reference(value)


PIXELS: dict[str, Callable[[Args], Reference]] = {
    "colour_entropy": _plain(_colour_entropy),
    "dark_share": _plain(lambda pixels: float((_luma(pixels) < 0.15).mean())),
    "edge_density": _plain(_edge_density),
    "jpeg_compressibility": _jpeg(-1),
    "jpeg_incompressibility": _jpeg(1),
    "saturation": _saturation,
    "sharpness": _plain(_sharpness),
}
"""Scorer -> its second writing."""

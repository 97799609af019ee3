"""Guards: four measures of pixels that fall or rise when a generator is trained to please a narrow reward.

In a run on text rendering alone (github.com/Tencent-Hunyuan/UniRL, pull request 407) the reward's gain was
real, and the pictures around the text went black: dark pixels from 0.45 to 0.93, edges by -60 %, colour
entropy by -54 %, and no measure of text saw it. These are that correction: hold them out, or give one a small
weight. None is a measure of quality.

Luma is Rec. 601, Y = 0.299 R + 0.587 G + 0.114 B, as a fraction of full scale; it is computed in whole
numbers, so that equal pictures have equal values everywhere. Kernels see the interior: no border is made up.
The values depend on the resolution: compare pictures of one size.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ...errors import Unscorable
from ...media import Media
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

FULL = 255_000
"""Luma of white, in thousandths of a grey level."""
PIXELS = 1 << 20
"""Pixels measured at once, which bounds the scratch memory."""
BINS = 8
"""Bins of each channel for the entropy of colours: 512 colours, 9 bits."""

Integers = np.ndarray[Any, np.dtype[np.int32]]


def _luma(picture: Media) -> Iterator[Integers]:
    """Luma of the picture in strips of rows; each begins with the last two rows of the one before."""
    pixels = picture.array()
    step = max(1, PIXELS // pixels.shape[1])
    for start in range(0, max(1, len(pixels) - 2), step):
        red, green, blue = np.moveaxis(pixels[start : start + step + 2].astype(np.int32), -1, 0)
        yield 299 * red + 587 * green + 114 * blue


def _interior(picture: Media) -> Iterator[Integers]:
    height, width = picture.size
    if min(height, width) < 3:
        raise Unscorable(f"a picture of {width} x {height} has no interior: 3 x 3 pixels at least")
    return _luma(picture)


def sharpness_of(picture: Media) -> float:
    """Variance of the Laplacian; see `sharpness`."""
    count, total, squares = 0, 0.0, 0.0
    for luma in _interior(picture):
        inner = luma[1:-1, 1:-1]
        bend = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
        scaled = bend / FULL
        count += scaled.size
        total += float(scaled.sum())
        squares += float(np.square(scaled).sum())
    return max(0.0, squares / count - (total / count) ** 2)


def edge_density_of(picture: Media, threshold: float) -> float:
    """Share of pixels on an edge; see `edge_density`."""
    count = edges = 0
    for luma in _interior(picture):
        rows = luma[:-2] + 2 * luma[1:-1] + luma[2:]
        across = (rows[:, 2:] - rows[:, :-2]) / (4 * FULL)
        fall = luma[2:] - luma[:-2]
        along = (fall[:, :-2] + 2 * fall[:, 1:-1] + fall[:, 2:]) / (4 * FULL)
        edges += int((np.hypot(across, along) > threshold).sum())
        count += across.size
    return edges / count


def colour_entropy_of(picture: Media) -> float:
    """Entropy of the colours in bits; see `colour_entropy`."""
    pixels = picture.array().reshape(-1, 3)
    counts = np.zeros(BINS**3, np.int64)
    for start in range(0, len(pixels), PIXELS):
        red, green, blue = (pixels[start : start + PIXELS] // (256 // BINS)).astype(np.int32).T
        counts += np.bincount((red * BINS + green) * BINS + blue, minlength=BINS**3)
    shares = counts[counts > 0] / len(pixels)
    return max(0.0, float(-(shares * np.log2(shares)).sum()))


def dark_share_of(picture: Media, threshold: float) -> float:
    """Share of dark pixels; see `dark_share`."""
    pixels = picture.array().reshape(-1, 3)
    dark = 0
    for start in range(0, len(pixels), PIXELS):
        red, green, blue = pixels[start : start + PIXELS].astype(np.int32).T
        dark += int((299 * red + 587 * green + 114 * blue < threshold * FULL).sum())
    return dark / len(pixels)


def _measured(measure: Callable[[Media], float]) -> Any:
    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        value = await aside(partial(measure, sample.image))
        noted("measured", "{}", value)
        return Score(value)

    return score


def _checked(threshold: float) -> float:
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is a fraction of full scale between 0 and 1, not {threshold}")
    return threshold


@reward("sharpness", needs=("image",), range=(0.0, 16.0), uses_prompt=False)
def sharpness() -> Any:
    """Sharpness of a picture: the variance of the Laplacian of its luma, 0 (flat or blurred) to 16.

    L(x, y) = Y(x-1, y) + Y(x+1, y) + Y(x, y-1) + Y(x, y+1) - 4 Y(x, y), Y in [0, 1]. Noise and text have much
    of it, blurred pictures little. On the scale 0 to 255, as OpenCV has it, it is 65,025 times this.
    """
    return _measured(sharpness_of)


@reward("edge_density", needs=("image",), range=(0.0, 1.0), uses_prompt=False)
def edge_density(threshold: float = 0.1) -> Any:
    """Share of pixels, 0 to 1, on an edge: those whose luma changes by more than `threshold` around them.

    The change is hypot(Gx, Gy) of the Sobel kernels ([1 2 1] x [-1 0 1]) over 4, so that a step between two
    flat areas has its own height. It falls when a run empties the background.

    Args:
        threshold: as a fraction of full scale.
    """
    return _measured(partial(edge_density_of, threshold=_checked(threshold)))


@reward("colour_entropy", needs=("image",), range=(0.0, 9.0), uses_prompt=False)
def colour_entropy() -> Any:
    """Entropy of a picture's colours in bits, 0 (one colour) to 9 (all 512 alike).

    -sum p log2 p over the histogram of RGB with 8 equal bins for each channel. It falls when a run empties
    the background or drifts to few colours; noise has the most.
    """
    return _measured(colour_entropy_of)


@reward("dark_share", needs=("image",), range=(0.0, 1.0), higher_is_better=False, uses_prompt=False)
def dark_share(threshold: float = 0.15) -> Any:
    """Share of dark pixels, 0 to 1: those whose luma is below `threshold`. Lower is better.

    It rises when a run blacks out what its reward does not see; a picture of the night has much of it too, so
    compare with the untuned generator on the same prompts.

    Args:
        threshold: as a fraction of full scale.
    """
    return _measured(partial(dark_share_of, threshold=_checked(threshold)))

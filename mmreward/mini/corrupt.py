"""Artifacts and harmless disturbances of pictures: `corrupt` spoils visibly, `soften` harms no fact.

The kinds of artifact are those generators make: noise patches, torn strips, grids, melted shapes, ghosts,
colour bleeding, blocks. This file knows nothing of scenes: a corrupted picture may still show its caption.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

Pixels = np.ndarray
"""float64 (height, width, 3) in [0, 255]."""
Spoil = Callable[[Pixels, np.random.Generator, float], Pixels]

VISIBLE = 6.0
"""Smallest root-mean-square change (in grey levels of 255) that counts as plainly visible."""
PLAIN = 0.35
"""From this level on, `corrupt` guarantees a plainly visible artifact."""


def corrupt(picture: Image.Image, rng: np.random.Generator, level: float) -> Image.Image:
    """Spoil an RGB picture with one or two kinds of artifact; `level` in (0, 1] is the strength.

    From level 0.35 on a draw too faint to be seen (a tear through empty background, say) is drawn again.
    """
    if not 0 < level <= 1:
        raise ValueError(f"level must be in (0, 1], not {level}")
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64)
    kinds = list(KINDS.values())
    while True:
        spoiled = pixels
        for index in rng.permutation(len(kinds))[: int(rng.integers(1, 3))]:
            spoiled = kinds[index](spoiled, rng, level)
        if level < PLAIN or np.sqrt(((spoiled - pixels) ** 2).mean()) >= VISIBLE:
            return _picture(spoiled)


def soften(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Disturb an RGB picture mildly: at most two of blur, noise, sub-pixel warp, contrast and rescaling.

    Not an artifact: every shape keeps its kind, its colour and its place to within a pixel.
    """
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64)
    for index in rng.permutation(len(NUISANCES))[: int(rng.integers(1, 3))]:
        pixels = NUISANCES[index](pixels, rng)
    return _picture(pixels)


def _picture(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


# --- artifacts -------------------------------------------------------------------------------------------


def _noise_patch(pixels: Pixels, rng: np.random.Generator, level: float) -> Pixels:
    out = pixels.copy()
    for _ in range(int(rng.integers(1, 3))):
        rows, columns = _window(pixels, rng, 0.2 + 0.35 * level)
        patch = out[rows, columns]
        channels = 3 if rng.random() < 0.7 else 1
        noise = rng.normal(0, 50 + 90 * level, (*patch.shape[:2], channels))
        out[rows, columns] = patch + noise
    return out


def _tear(pixels: Pixels, rng: np.random.Generator, level: float) -> Pixels:
    """Shift a few strips sideways (or up and down)."""
    axis = int(rng.integers(0, 2))
    side, across = pixels.shape[axis], pixels.shape[1 - axis]
    out = np.moveaxis(pixels, axis, 0).copy()
    strips = int(rng.integers(2, 4 + round(3 * level)))
    for _ in range(strips):
        thick = max(2, int(side * rng.uniform(0.06, 0.16)))
        start = int(rng.integers(0, side - thick))
        shift = max(2, int(across * rng.uniform(0.06, 0.1 + 0.25 * level)))
        shift *= int(rng.choice((-1, 1)))
        out[start : start + thick] = np.roll(out[start : start + thick], shift, axis=1)
    return np.moveaxis(out, 0, axis)


def _grid(pixels: Pixels, rng: np.random.Generator, level: float) -> Pixels:
    """Checkerboard or stripes of one or two pixels over all or a part of the picture."""
    ys, xs = np.indices(pixels.shape[:2]) // int(rng.integers(1, 3))
    waves = np.stack(((ys + xs) % 2, ys % 2, xs % 2, (ys % 2) * (xs % 2)))
    wave = waves[int(rng.integers(len(waves)))][..., None] * 1.0 - 0.5
    tint = rng.uniform(0.4, 1.0, 3) if rng.random() < 0.5 else np.ones(3)
    mask = np.ones(pixels.shape[:2])
    if rng.random() < 0.5:
        mask[:] = 0
        mask[_window(pixels, rng, 0.4 + 0.4 * level)] = 1
    return np.asarray(pixels + mask[..., None] * (wave * tint * (30 + 80 * level) + 10 * level))


def _melt(pixels: Pixels, rng: np.random.Generator, level: float) -> Pixels:
    side = max(pixels.shape[:2])
    return _warp(pixels, rng, amount=side * (0.04 + 0.07 * level), smooth=side * rng.uniform(0.045, 0.08))


def _ghost(pixels: Pixels, rng: np.random.Generator, level: float) -> Pixels:
    """Add a displaced, half-transparent copy."""
    side = max(pixels.shape[:2])
    angle, reach = rng.uniform(0, 2 * np.pi), side * rng.uniform(0.07, 0.2)
    shift = (round(reach * np.sin(angle)), round(reach * np.cos(angle)), 0)
    ghost = ndimage.shift(pixels, shift, order=1, mode="nearest")
    return np.asarray(np.maximum(pixels, pixels * 0.4 + (0.35 + 0.4 * level) * ghost))


def _bleed(pixels: Pixels, rng: np.random.Generator, level: float) -> Pixels:
    """Smear some channels along a direction, so that colours leave their shapes."""
    side = max(pixels.shape[:2])
    axis, length = int(rng.integers(0, 2)), max(3, round(side * (0.1 + 0.3 * level)))
    out = pixels.copy()
    for channel in rng.permutation(3)[: int(rng.integers(1, 3))]:
        origin = length // 2 - 1
        smear = ndimage.uniform_filter1d(pixels[..., channel], length, axis, mode="nearest", origin=origin)
        out[..., channel] = (1 - 0.35 * level) * pixels[..., channel] * 0.6 + (0.6 + 0.7 * level) * smear
    return out


def _blocks(pixels: Pixels, rng: np.random.Generator, level: float) -> Pixels:
    """Pixelate into blocks whose brightness and tint wander, as a broken decoder does."""
    height, width = pixels.shape[:2]
    block = max(2, round(max(height, width) * (0.08 + 0.06 * level)))
    rows, columns = -(-height // block), -(-width // block)
    ys = np.minimum(np.arange(rows) * block + block // 2, height - 1)
    xs = np.minimum(np.arange(columns) * block + block // 2, width - 1)
    coarse = ndimage.uniform_filter(pixels, (block, block, 1), mode="nearest")[np.ix_(ys, xs)]
    coarse = coarse + rng.normal(0, 25 * level, coarse.shape)
    return np.asarray(coarse.repeat(block, 0).repeat(block, 1)[:height, :width])


def _window(pixels: Pixels, rng: np.random.Generator, size: float) -> tuple[slice, slice]:
    spans = []
    for side in pixels.shape[:2]:
        length = max(3, round(side * size * rng.uniform(0.8, 1.2)))
        start = int(rng.integers(0, max(1, side - length)))
        spans.append(slice(start, start + length))
    return spans[0], spans[1]


def _warp(pixels: Pixels, rng: np.random.Generator, amount: float, smooth: float) -> Pixels:
    """Move every pixel along a smooth random field of root-mean-square length `amount`."""
    shape = pixels.shape[:2]
    fields = []
    for base in np.indices(shape).astype(np.float64):
        bend = ndimage.gaussian_filter(rng.normal(size=shape), smooth, mode="wrap")
        fields.append(base + bend * amount / max(float(bend.std()), 1e-9))
    moved = [ndimage.map_coordinates(pixels[..., c], fields, order=1, mode="nearest") for c in range(3)]
    return np.stack(moved, -1)


# --- nuisances -------------------------------------------------------------------------------------------


def _blur(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    sigma = rng.uniform(0.2, 0.006 * max(pixels.shape[:2]) + 0.25)
    return np.asarray(ndimage.gaussian_filter(pixels, (sigma, sigma, 0)))


def _grain(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return pixels + rng.normal(0, rng.uniform(1, 5), pixels.shape)


def _nudge(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    side = max(pixels.shape[:2])
    return _warp(pixels, rng, amount=rng.uniform(0.1, 0.005 * side + 0.1), smooth=side * 0.12)


def _contrast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return pixels * rng.uniform(0.93, 1.07) + rng.uniform(-3, 3)


def _rescale(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Scale down a little and up again."""
    height, width = pixels.shape[:2]
    factor = rng.uniform(0.75, 0.95)
    small = _picture(pixels).resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)


KINDS: dict[str, Spoil] = {
    "noise": _noise_patch,
    "tear": _tear,
    "grid": _grid,
    "melt": _melt,
    "ghost": _ghost,
    "bleed": _bleed,
    "blocks": _blocks,
}
NUISANCES: tuple[Callable[[Pixels, np.random.Generator], Pixels], ...] = (
    _blur,
    _grain,
    _nudge,
    _contrast,
    _rescale,
)

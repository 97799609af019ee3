"""Statistics of pictures that over-optimised generators change: colour, saturation, fine texture, patch grid,
diversity.

Textures are one number per picture, from pixels (N, 3, H, W) in [0, 1]; nothing here is a reward. Compare the
numbers with those of the untuned generator for the same prompts and seeds, also at a higher resolution than
in training.

Diversity is how different samples are, inside the group of a prompt and across prompts; a collapsing policy
loses it. It is measured on embeddings (CLIP, DINO) by cosine distance or, without an encoder, on
`thumbnails`. A row that is not finite could not be embedded, and is left out.

`measure` gives one evaluation's monitors by name, for a log and for `alarms.OverOptimisation`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)
_INVISIBLE = (0.1 / 255) ** 2
"""Power of a ripple of a tenth of a grey level of 255."""


def colourfulness(pixels: Tensor) -> Tensor:
    """Colourfulness (N,) of Hasler and Suesstrunk (https://doi.org/10.1117/12.477378), for values 0 to 255.

    0 is grey, about 15 slightly, 45 quite and 109 extremely colourful, in their viewers' words.

    Raises:
        ValueError: pixels that are not (N, 3, H, W) in [0, 1].
    """
    red, green, blue = (255 * _checked(pixels)).flatten(2).unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue])
    spread = opponents.var(-1, correction=0).sum(0).sqrt()
    return spread + 0.3 * opponents.mean(-1).square().sum(0).sqrt()


def saturation(pixels: Tensor) -> Tensor:
    """Mean saturation (N,) of the HSV model, in [0, 1]: (max - min) / max of the channels, 0 for black.

    Raises:
        ValueError: pixels that are not (N, 3, H, W) in [0, 1].
    """
    pixels = _checked(pixels)
    most, least = pixels.amax(1), pixels.amin(1)
    return ((most - least) / most.clamp(min=1e-6)).mean((1, 2))


def high_frequency(pixels: Tensor, cutoff: float = 0.25) -> Tensor:
    """Strength (N,) of texture finer than `cutoff` cycles per pixel: its standard deviation in luminance.

    In [0, 0.5]; 0.02 is a ripple of 5 grey levels of 255. 0.25 cycles per pixel are structures of 4 pixels.

    Raises:
        ValueError: pixels that are not (N, 3, H, W) in [0, 1], or a cutoff outside (0, 0.5).
    """
    if not 0 < cutoff < 0.5:
        raise ValueError(f"cutoff must lie between 0 and 0.5 cycles per pixel, not {cutoff}")
    luminance = _luminance(pixels)
    height, width = luminance.shape[1:]
    rows, columns = (torch.fft.fftfreq(size, device=luminance.device) for size in (height, width))
    fine = torch.hypot(rows[:, None], columns) > cutoff
    power: Tensor = torch.fft.fft2(luminance, norm="forward").abs().square()
    return (power * fine).sum((1, 2)).sqrt()


def grid_energy(pixels: Tensor, patch: int = 16) -> Tensor:
    """Grid energy (N,): strength of edges that recur every `patch` pixels against other distances, 1 without
    a grid.

    Visible patch borders or a lattice give 3 and more, often much more. Measured on the profile of edges
    across the picture: power at the multiples of 1 / patch over that of their neighbours, as geometric means
    over multiples, neighbours and both directions. A grid of 8 pixels is also one of 16.

    Raises:
        ValueError: pixels that are not (N, 3, H, W) in [0, 1], or a patch below 3 pixels or above a
            quarter of the picture.
    """
    luminance = _luminance(pixels)
    if patch < 3 or min(luminance.shape[1:]) < 4 * patch:
        size = "x".join(str(length) for length in luminance.shape[1:])
        raise ValueError(
            f"a patch of {patch} px: from 3 px up to a quarter of the pictures, which are {size}"
        )
    return ((_recurrence(luminance, patch) + _recurrence(luminance.transpose(1, 2), patch)) / 2).exp()


def _recurrence(luminance: Tensor, patch: int) -> Tensor:
    """Logarithm (N,) of the ratio in one direction."""
    edges = luminance.diff(dim=-1).abs().mean(1)
    # One edge fewer than pixels: their mean stands in for the one between the last column and the first.
    profile = torch.cat([edges, edges.mean(1, keepdim=True)], 1)
    number = profile.shape[1] // patch  # patches; a multiple of 1 / patch is a multiple of this many bins
    spectrum = torch.fft.rfft(profile[:, : number * patch], norm="forward")
    power: Tensor = (spectrum.abs().square() + _INVISIBLE / profile.shape[1]).log()
    reach = (number - 1) // 2  # neighbours up to half-way to the next multiple, where that of 2 patch lies
    offsets = torch.arange(1, reach + 1, device=power.device)
    peaks = number * torch.arange(1, (patch - 1) // 2 + 1, device=power.device)
    around = torch.cat([peaks[:, None] + offsets, peaks[:, None] - offsets], 1)
    return power[:, peaks].mean(1) - power[:, around].mean((1, 2))


def _luminance(pixels: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=pixels.device)
    return torch.einsum("nchw,c->nhw", _checked(pixels), weights)


def _checked(pixels: Tensor) -> Tensor:
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(f"pixels must be (N, 3, H, W), not {tuple(pixels.shape)}")
    if not pixels.is_floating_point():
        raise ValueError(f"pixels must be floats in [0, 1], not {pixels.dtype}: divide by 255")
    if pixels.numel() and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"pixels must lie in [0, 1], not from {pixels.min():.3g} to {pixels.max():.3g}")
    return pixels.float()


# --- diversity ----------------------------------------------------------------------------------------------


def within_groups(embeddings: Tensor, groups: Sequence[int] | Tensor) -> float:
    """Mean cosine distance of two samples of one prompt, in [0, 2]; every group counts alike.

    Args:
        embeddings: (N, D), any length but 0.
        groups: N group ids.

    Raises:
        ValueError: shapes that do not fit, an embedding of length 0, or no group with two usable rows.
    """
    sums, sizes = _group_sums(*_usable(embeddings, groups))
    several = sizes > 1
    if not several.any():
        raise ValueError("no group has two samples: diversity inside a group needs at least two of a prompt")
    sums, sizes = sums[several], sizes[several]
    similarity = (sums.square().sum(1) - sizes) / (sizes * (sizes - 1))
    return max(0.0, 1 - similarity.mean().item())


def across_groups(embeddings: Tensor, groups: Sequence[int] | Tensor) -> float:
    """Mean cosine distance of two samples of different prompts, in [0, 2]; every pair counts alike.

    Args:
        embeddings: (N, D), any length but 0.
        groups: N group ids.

    Raises:
        ValueError: shapes that do not fit, an embedding of length 0, or fewer than two groups.
    """
    sums, sizes = _group_sums(*_usable(embeddings, groups))
    if len(sizes) < 2:
        raise ValueError(f"{len(sizes)} group(s): diversity across prompts needs at least two")
    similarity = sums.sum(0).square().sum() - sums.square().sum()
    pairs = sizes.sum().square() - sizes.square().sum()
    return max(0.0, 1 - (similarity / pairs).item())


def thumbnails(pixels: Tensor, size: int = 8) -> Tensor:
    """Embeddings (N, 6 size^2) that need no network: means over a coarse grid, and what they lack to white.

    Equal pictures have distance 0, black and white 1; layout and colour count, content does not.

    Raises:
        ValueError: pixels that are not (N, 3, H, W).
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(f"pixels must be (N, 3, H, W), not {tuple(pixels.shape)}")
    coarse = torch.nn.functional.adaptive_avg_pool2d(pixels.detach().float(), size).flatten(1)
    return torch.cat([coarse, 1 - coarse], 1)


def _usable(embeddings: Tensor, groups: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
    """Unit rows in float64 and their groups, without the rows that are not finite."""
    ids = torch.as_tensor(groups, device=embeddings.device)
    if embeddings.ndim != 2 or ids.shape != embeddings.shape[:1]:
        raise ValueError(
            f"embeddings {tuple(embeddings.shape)} and groups {tuple(ids.shape)}: (N, D) and (N,)"
        )
    finite = embeddings.isfinite().all(1)
    rows, ids = embeddings[finite].detach().double(), ids[finite]
    lengths = rows.norm(dim=1, keepdim=True)
    if (lengths == 0).any():
        raise ValueError("an embedding of length 0 has no direction")
    return rows / lengths, ids


def _group_sums(rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the unit rows of each group (G, D), and their number (G,). |sum|^2 holds every pair's cosine."""
    names, places = np.unique(ids.cpu().numpy(), return_inverse=True)
    indices = torch.as_tensor(places, device=rows.device)
    sums = rows.new_zeros(len(names), rows.shape[1]).index_add_(0, indices, rows)
    return sums, torch.bincount(indices, minlength=len(names)).double()


# --- by name ------------------------------------------------------------------------------------------------


HARMFUL: dict[str, Literal["up", "down"]] = {
    "grid_8": "up",
    "grid_16": "up",
    "diversity_within": "down",
    "diversity_across": "down",
}
"""The direction that is bad news; colours and fine texture may go wrong both ways."""


LARGER = "larger/"
"""Prefix of the alarm's names for monitors of pictures that are larger than those of the training."""


def measure(
    pixels: Tensor,
    groups: Sequence[int] | Tensor,
    embeddings: Tensor | None = None,
    patches: Sequence[int] | None = None,
) -> dict[str, float]:
    """Monitors of pictures: means of all textures over the pictures, `grid_P` for every patch size P, and
    both diversities; the one within groups only where a prompt has two pictures.

    Args:
        pixels: (N, 3, H, W) in [0, 1]; for clips some of their frames.
        groups: N ids; pictures of one prompt share theirs.
        embeddings: (N, D) for the diversities; coarse thumbnails of the pictures unless given.
        patches: sizes in pixels of what the generator decodes at once; those of 8 and 16 that fit four times
            into the pictures unless given.

    Raises:
        ValueError: as the single monitors; among others for fewer than two groups.
    """
    if patches is None:
        patches = [patch for patch in (8, 16) if 4 * patch <= min(pixels.shape[-2:])]
    rows = thumbnails(pixels) if embeddings is None else embeddings
    textures = {
        "colourfulness": colourfulness(pixels),
        "saturation": saturation(pixels),
        "high_frequency": high_frequency(pixels),
        **{f"grid_{patch}": grid_energy(pixels, patch) for patch in patches},
    }
    found = {name: values.mean().item() for name, values in textures.items()}
    ids = torch.as_tensor(groups).tolist()
    if len(set(ids)) < len(ids):
        found["diversity_within"] = within_groups(rows, groups)
    return {**found, "diversity_across": across_groups(rows, groups)}

"""One evaluation's monitors by name, ready for a log and for `alarms.OverOptimisation`."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .diversity import across_groups, thumbnails, within_groups
from .textures import colourfulness, grid_energy, high_frequency, saturation

HARMFUL: dict[str, Literal["up", "down"]] = {
    "grid_8": "up",
    "grid_16": "up",
    "diversity_within": "down",
    "diversity_across": "down",
}
"""The direction that is bad news; colours and fine texture may go wrong both ways."""


LARGER = "larger/"
"""Begins the alarm's names for monitors of pictures that are larger than those of the training."""


def measure(
    pixels: Tensor,
    groups: Sequence[int] | Tensor,
    embeddings: Tensor | None = None,
    patches: Sequence[int] | None = None,
) -> dict[str, float]:
    """Means of all textures over the pictures, `grid_P` for every patch size P, and both diversities; the one
    within groups only where a prompt has two pictures.

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


def kl_summary(kl: Tensor) -> dict[str, float]:
    """How far a policy is from its reference: `kl`, `kl_p95`, `kl_max` and the share `kl_failed`.

    It starts at 0 and grows, so it has no baseline to be compared with: log it, or set it a limit.

    Args:
        kl: one value per row, or per row and step, of any estimator. Those that are not finite are left out
            of the first three and counted in the last; where nothing is left these are NaN.

    Raises:
        ValueError: no value at all.
    """
    if not kl.numel():
        raise ValueError("no KL values to summarise")
    finite = kl[kl.isfinite()].detach().double()
    failed = 1 - finite.numel() / kl.numel()
    if not finite.numel():
        return {"kl": math.nan, "kl_p95": math.nan, "kl_max": math.nan, "kl_failed": failed}
    return {
        "kl": finite.mean().item(),
        "kl_p95": torch.quantile(finite, 0.95).item(),
        "kl_max": finite.max().item(),
        "kl_failed": failed,
    }

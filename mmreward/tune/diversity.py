"""How different samples are: inside the group of a prompt, and across prompts. A collapsing policy loses it.

From embeddings (CLIP, DINO) by cosine distance; where there is none, from `thumbnails`. A row that is not
finite could not be embedded: it is left out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


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
    names, places = ids.unique(return_inverse=True)
    sums = rows.new_zeros(len(names), rows.shape[1]).index_add_(0, places, rows)
    return sums, torch.bincount(places, minlength=len(names)).double()

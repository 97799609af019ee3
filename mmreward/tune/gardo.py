"""GARDO's two guards against reward hacking, as functions on advantages and scores.

Diversity: good samples that look unlike the rest of their group count more. Uncertainty: only samples that
the trained reward likes much better than other rewards do are held to the reference.
Source: https://arxiv.org/abs/2512.24138
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from .advantages import Advantages
from .groups import Bools, Floats, members, scores


def favour_diverse(
    advantages: Advantages, embeddings: ArrayLike, groups: ArrayLike, *, clip: float = math.inf
) -> Advantages:
    """Multiplies every positive advantage by how far the sample is from its nearest neighbour in the group.

    The distance is 1 - cosine, divided by its mean over the group; rows that are not usable are no
    neighbours. Negative advantages stay: a bad sample earns nothing by being different. A group of
    identical samples stays as it is.

    Args:
        advantages: of `group_advantages` or `aggregate`.
        embeddings: (N, D) of a vision encoder that no reward is made of.
        groups: (N,) integer ids.
        clip: largest size of a result.

    Raises:
        ValueError: another number of rows, or a usable row whose embedding is zero or not finite.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(advantages.values):
        raise ValueError(f"embeddings has shape {vectors.shape}; give ({len(advantages.values)}, D)")
    values = advantages.values.copy()
    for rows in members(groups):
        rows = rows[advantages.usable[rows]]
        if len(rows) > 1:
            factors = _isolation(_unit(vectors, rows))
            values[rows] = np.where(values[rows] > 0, values[rows] * factors, values[rows])
    return replace(advantages, values=np.clip(values, -clip, clip))


def uncertain(proxy: ArrayLike, others: Sequence[ArrayLike], *, share: float = 0.1) -> Bools:
    """Rows (N,) that the trained reward overrates most: hold these to the reference, leave the others free.

    Overrating is the row's rank by `proxy` minus its mean rank by `others`, in the whole batch. Of the rows
    that are overrated at all, the given share is marked. A row with a failed score is not.

    Args:
        proxy: (N,) scores of the reward that is optimised, NaN where failed.
        others: some (N,) columns of rewards that are not.
        share: of the overrated rows, in (0, 1].

    Raises:
        ValueError: no other reward, columns of unequal length, or a share outside (0, 1].
    """
    if not others:
        raise ValueError("uncertain needs at least one other reward to compare with")
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it is above 0 and at most 1")
    columns = [scores(column, np.asarray(proxy), "a reward") for column in (proxy, *others)]
    valid = np.all(np.isfinite(columns), axis=0)
    marked = np.zeros(len(valid), dtype=bool)
    ranks = [rankdata(column[valid]) for column in columns]
    excess = ranks[0] - np.mean(ranks[1:], axis=0)
    overrated = excess[excess > 0]
    if len(overrated):
        count = math.ceil(share * len(overrated))
        marked[valid] = excess >= np.sort(overrated)[-count]
    return marked


def _unit(vectors: Floats, rows: np.ndarray) -> Floats:
    chosen = vectors[rows]
    lengths = np.linalg.norm(chosen, axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise ValueError(f"the embedding of row {rows[bad[0]]} has length {lengths[bad[0]]}")
    return np.asarray(chosen / lengths[:, None])


def _isolation(units: Floats) -> Floats:
    """Distance to the nearest other row over its mean, (n,); ones where all rows are the same."""
    distances = 1 - np.clip(units @ units.T, -1, 1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    mean = float(nearest.mean())
    return nearest / mean if mean > 1e-12 else np.ones(len(units))

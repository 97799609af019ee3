"""Ranks and totals of the page of scores; its intervals are those of `mmreward.monitor.intervals`.

Pure functions over arrays in which NaN marks a failed score; knows nothing of files or HTML.
"""

import math
from typing import Any

import numpy as np
from scipy.stats import rankdata

Array = np.ndarray[Any, np.dtype[np.float64]]


def unit_ranks(values: Array, higher_is_better: bool) -> Array:
    """Ranks within the column mapped to [0, 1], 1 the best; ties share their mean, NaN stays NaN."""
    ranks = np.full(len(values), math.nan)
    ok = np.isfinite(values)
    n = int(ok.sum())
    if n:
        signed = values[ok] if higher_is_better else -values[ok]
        ranks[ok] = (rankdata(signed) - 1) / (n - 1) if n > 1 else 0.5
    return ranks


def totals(ranks: Array) -> Array:
    """Mean rank of each row (samples x rewards); NaN for a row that fewer than half of the rewards scored."""
    ok = np.isfinite(ranks)
    counts = ok.sum(axis=1)
    sums = np.where(ok, ranks, 0.0).sum(axis=1)
    enough = (counts > 0) & (2 * counts >= ranks.shape[1])
    return np.where(enough, sums / np.maximum(counts, 1), math.nan)

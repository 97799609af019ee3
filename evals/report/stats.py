"""The figures of a report: intervals, rank correlations and totals over a run's scores.

Pure functions over arrays in which NaN marks a failed score; knows nothing of files or HTML.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

Array = np.ndarray[Any, np.dtype[np.float64]]

SEED = 0
DRAWS = 2000
CELLS = 4_000_000
"""Values drawn per interval at most: above 2,000 samples there are fewer resamples, never below 200."""


class Interval(NamedTuple):
    """The middle 95 % of a figure over resamples of the samples."""

    low: float
    high: float


class Agreement(NamedTuple):
    """Spearman's rho over the n samples where both scores are values; None where it is undefined."""

    n: int
    rho: float | None
    interval: Interval | None


def num_draws(n: int) -> int:
    """How many bootstrap resamples an interval over n samples is made of."""
    return max(200, min(DRAWS, CELLS // max(n, 1)))


def mean_interval(values: Array) -> Interval | None:
    """Bootstrap interval of the mean of finite values; None below two of them."""
    if len(values) < 2:
        return None
    means = [values[rows].mean(axis=1) for rows in _resamples(len(values))]
    return _interval(np.concatenate(means))


def agreement(values: Array, reference: Array) -> Agreement:
    """Rank correlation of two columns, over the rows where both are finite.

    Undefined (None, never 0) below three such rows and when either column is constant on them.
    """
    both = np.isfinite(values) & np.isfinite(reference)
    x, y = values[both], reference[both]
    n = len(x)
    rho = float(_rho(x[None], y[None])[0]) if n >= 3 else math.nan
    if math.isnan(rho):
        return Agreement(n, None, None)
    rhos = np.concatenate([_rho(x[rows], y[rows]) for rows in _resamples(n)])
    return Agreement(n, rho, _interval(rhos[np.isfinite(rhos)]))


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


def _resamples(n: int) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """Blocks of row indices drawn with replacement, always the same for the same n."""
    rng = np.random.default_rng(SEED)
    draws, block = num_draws(n), max(1, 1_000_000 // n)
    sizes = [min(block, draws - start) for start in range(0, draws, block)]
    return (rng.integers(n, size=(size, n)) for size in sizes)


def _rho(x: Array, y: Array) -> Array:
    """Spearman's rho of each row; NaN for a row in which either side is constant."""
    a, b = (rankdata(side, axis=1) for side in (x, y))
    a, b = (side - side.mean(axis=1, keepdims=True) for side in (a, b))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(axis=1) / np.where(scale > 0, scale, math.nan))


def _interval(draws: Array) -> Interval | None:
    return Interval(*(float(q) for q in np.quantile(draws, (0.025, 0.975)))) if len(draws) else None

"""Statistics of reports and studies: means with intervals, paired changes, shares, rank correlations, totals.

All intervals are of 95 %. One convention for each kind of figure:

- the mean or the rank correlation of a column of scores: percentile bootstrap over samples, fixed seed;
- a mean that comes with its standard error, and a paired change: 1.96 standard errors to either side;
- a share of right answers: Wilson's score interval.

Pure functions over arrays in which NaN marks a failed score; knows nothing of files or HTML.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import DegenerateDataWarning, binomtest, bootstrap, rankdata, sem

Array = np.ndarray[Any, np.dtype[np.float64]]

SEED = 0
DRAWS = 2000
CELLS = 4_000_000
"""Values drawn per interval at most: above 2,000 samples there are fewer resamples, never below 200."""
BLOCK = 1_000_000
"""Values drawn at a time."""
NORMAL_95 = 1.96


class Interval(NamedTuple):
    """The ends of a 95 % interval."""

    low: float
    high: float


class Measured(NamedTuple):
    """The mean of n scores and its standard error; NaN where there is none.

    `values` are the scores themselves, prompt by prompt, NaN where one failed.
    """

    mean: float
    sem: float
    n: int
    values: tuple[float, ...] = ()

    @property
    def interval(self) -> Interval | None:
        """1.96 standard errors to either side of the mean; None where the error is not known."""
        if not math.isfinite(self.mean + self.sem):
            return None
        return Interval(self.mean - NORMAL_95 * self.sem, self.mean + NORMAL_95 * self.sem)

    def signed(self, places: int) -> str:
        """A change with its sign and interval, such as "+14.8 (+10.5 to +19.2)"."""
        low, high = self.interval or (math.nan, math.nan)
        return f"{self.mean:+.{places}f} ({low:+.{places}f} to {high:+.{places}f})"


class Agreement(NamedTuple):
    """Spearman's rho over the n samples where both scores are values; None where it is undefined."""

    n: int
    rho: float | None
    interval: Interval | None


def paired_change(before: Iterable[float], after: Iterable[float], scale: float = 1.0) -> Measured:
    """The mean change from `before` to `after`, entry by entry, over those where both are finite.

    What is compared has the same prompts and noise, so the standard error is that of the differences.

    Args:
        before, after: as many values each, NaN where one failed.
        scale: 100 for points.

    Raises:
        ValueError: not as many values before as after.
    """
    pairs = ((float(one), float(other)) for one, other in zip(before, after, strict=True))
    moved = [scale * (other - one) for one, other in pairs if math.isfinite(one + other)]
    if not moved:
        return Measured(math.nan, math.nan, 0)
    error = float(sem(moved)) if len(moved) > 1 else math.nan
    return Measured(fmean(moved), error, len(moved), tuple(moved))


def share_interval(right: int, number: int) -> Interval:
    """Wilson's score interval of the share `right` of `number`."""
    found = binomtest(right, number).proportion_ci(method="wilson")
    return Interval(float(found.low), float(found.high))


def num_draws(n: int) -> int:
    """The number of bootstrap resamples for an interval over n samples."""
    return max(200, min(DRAWS, CELLS // max(n, 1)))


def mean_interval(values: Array) -> Interval | None:
    """Bootstrap interval of the mean of finite values; None below two of them."""
    return _percentiles(_resampled(np.mean, values)) if len(values) > 1 else None


def agreement(values: Array, reference: Array) -> Agreement:
    """Rank correlation of two columns, over the rows where both are finite.

    Undefined (None, never 0) below three such rows and when either column is constant on them.
    """
    both = np.isfinite(values) & np.isfinite(reference)
    x, y = values[both], reference[both]
    n = len(x)
    rho = float(_rho(x, y)) if n >= 3 else math.nan
    if math.isnan(rho):
        return Agreement(n, None, None)
    rhos = _resampled(_rho, x, y)
    return Agreement(n, rho, _percentiles(rhos[np.isfinite(rhos)]))


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


def _resampled(statistic: Callable[..., Any], *columns: Array) -> Array:
    """The statistic over resamples of the rows, drawn with replacement; the same for the same n."""
    n = len(columns[0])
    # scipy warns about the interval and the standard error that it computes beside the resamples.
    quiet = warnings.catch_warnings(action="ignore", category=DegenerateDataWarning)
    with quiet, np.errstate(over="ignore"):
        found = bootstrap(
            columns,
            statistic,
            n_resamples=num_draws(n),
            batch=max(1, BLOCK // n),
            paired=len(columns) > 1,
            method="percentile",
            random_state=np.random.default_rng(SEED),
        )
    return np.asarray(found.bootstrap_distribution)


def _rho(x: Array, y: Array, axis: int = -1) -> Array:
    """Spearman's rho along an axis; NaN where either side is constant, without scipy's warning."""
    a, b = (rankdata(side, axis=axis) for side in (x, y))
    a, b = (side - side.mean(axis=axis, keepdims=True) for side in (a, b))
    scale = np.sqrt((a**2).sum(axis=axis) * (b**2).sum(axis=axis))
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(axis=axis) / np.where(scale > 0, scale, math.nan))


def _percentiles(draws: Array) -> Interval | None:
    return Interval(*(float(q) for q in np.quantile(draws, (0.025, 0.975)))) if len(draws) else None

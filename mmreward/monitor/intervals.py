"""Intervals of 95 %: one convention for every figure that is printed with one.

- The mean of scores, and the mean of paired changes: Student's t over independent units.
- The share of right answers (values 0 and 1 only): Wilson's score interval.
- The rank correlation of two columns: Fisher's z with the standard error of Bonett and Wright (2000).
- Any other figure: percentiles of a bootstrap over the units (`bootstrapped`).

The units are prompts. Pictures of one prompt resemble each other: where several samples share a prompt, give
their prompts, and the error is that between prompts (cluster-robust; a jackknife over prompts for the
correlation), with as many degrees of freedom as there are prompts less one. Intervals that ignore this cover
81 to 88 % instead of 95 % at two correlated pictures per prompt; `tests/monitor/test_intervals.py` simulates
the coverage of these.

An interval is exact for normal scores, and close for others from about 30 units on. It says nothing of what
other prompts, another seed or another training would give.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

BLOCKS = 200
"""Jackknife blocks at most: above as many prompts, several leave together."""
DRAWS = 1000
"""Draws of a bootstrap."""
LARGEST_Z = 18.0
"""Fisher's z of a perfect rank correlation, whose own is infinite."""


class Interval(NamedTuple):
    """The ends of a 95 % interval."""

    low: float
    high: float


class Measured(NamedTuple):
    """Mean of n scores and its standard error; NaN where there is none.

    `values` are the scores themselves, NaN where one failed. `units` is the number of prompts they come from;
    0: as many as scores. `share` is True where every score is 0 or 1. `prompts` is the prompt of each value;
    empty: each has its own.
    """

    mean: float
    sem: float
    n: int
    values: tuple[float, ...] = ()
    units: int = 0
    share: bool = False
    prompts: tuple[Hashable, ...] = ()

    @property
    def interval(self) -> Interval | None:
        """Wilson's interval of a share, Student's of any other mean; None below two units."""
        units = self.units or self.n
        if units < 2 or not math.isfinite(self.mean + self.sem):
            return None
        if self.share:
            return _wilson(self.mean, self.n, units, self.sem)
        margin = quantile(units - 1) * self.sem
        return Interval(self.mean - margin, self.mean + margin)

    def within(self, low: float, high: float) -> Interval | None:
        """The interval, cut at the ends of what the mean can be, as 0 and 1 of a win rate."""
        found = self.interval
        return found and Interval(max(found.low, low), min(found.high, high))

    @property
    def margin(self) -> float:
        """Half the width of the interval; NaN where there is none."""
        found = self.interval
        return math.nan if found is None else (found.high - found.low) / 2

    def signed(self, places: int) -> str:
        """A change with its sign and interval, such as "+14.8 (+10.5 to +19.2)"."""
        low, high = self.interval or (math.nan, math.nan)
        mean, low, high = (round(one, places) + 0.0 for one in (self.mean, low, high))  # no minus before 0
        return f"{mean:+.{places}f} ({low:+.{places}f} to {high:+.{places}f})"


class Agreement(NamedTuple):
    """Spearman's rho over the n samples where both scores are values; None where it is undefined."""

    n: int
    rho: float | None
    interval: Interval | None


def mean_of(values: Iterable[float], prompts: Sequence[Hashable] | None = None) -> Measured:
    """Mean of scores without the failed ones (NaN), with its standard error and units.

    Args:
        values: the scores.
        prompts: the prompt of each, where several may share one; None: every score is a unit.

    Raises:
        ValueError: not as many prompts as values.
    """
    column = np.asarray(list(values), dtype=np.float64)
    fine = np.isfinite(column)
    kept = column[fine]
    if not len(kept):
        return Measured(math.nan, math.nan, 0, tuple(column.tolist()))
    groups = _groups(prompts, fine)
    sums = np.bincount(groups, weights=kept - kept.mean())
    units = len(sums)
    # CR1: residuals are summed within a prompt. Equal to stdev / sqrt(n) where each score has its own.
    with np.errstate(over="ignore"):  # an error that overflows is infinite, and gives no interval
        variance = units / (units - 1) * float((sums**2).sum()) / len(kept) ** 2 if units > 1 else math.nan
    share = bool(np.isin(kept, (0.0, 1.0)).all())
    return Measured(
        float(kept.mean()),
        math.sqrt(variance),
        len(kept),
        tuple(column.tolist()),
        units,
        share,
        tuple(prompts or ()),
    )


def paired_change(
    before: Iterable[float],
    after: Iterable[float],
    scale: float = 1.0,
    prompts: Sequence[Hashable] | None = None,
) -> Measured:
    """Mean change from `before` to `after`, entry by entry, over those where both are finite.

    What is compared has the same prompts and noise, so the standard error is that of the differences.

    Args:
        before, after: as many values each, NaN where one failed.
        scale: 100 for points.
        prompts: see `mean_of`.

    Raises:
        ValueError: not as many values before as after.
    """
    pairs = zip(before, after, strict=True)
    moved = mean_of([scale * (float(other) - float(one)) for one, other in pairs], prompts)
    kept = tuple(value for value in moved.values if math.isfinite(value))
    return moved._replace(values=kept, share=False)


def share_interval(right: int, number: int) -> Interval:
    """Wilson's score interval of the share `right` of `number` independent answers."""
    share = right / number
    return _wilson(share, number, number, math.sqrt(share * (1 - share) / number))


def agreement(
    values: Sequence[float] | Array,
    reference: Sequence[float] | Array,
    prompts: Sequence[Hashable] | None = None,
) -> Agreement:
    """Rank correlation of two columns, over the rows where both are finite.

    Undefined (None, never 0) below three such rows and when either column is constant on them; without an
    interval below four units.
    """
    x, y = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    n = len(x)
    rho = _rho(x, y) if n >= 3 else math.nan
    if math.isnan(rho):
        return Agreement(n, None, None)
    groups = _groups(prompts, both)
    units = int(groups.max()) + 1
    if units < 4:
        return Agreement(n, rho, None)
    known = NORMAL * math.sqrt((1 + rho**2 / 2) / (n - 3))
    margin = known if units == n else _jackknifed(x, y, groups)
    if not math.isfinite(margin):
        return Agreement(n, rho, None)
    z = _fisher(rho)
    return Agreement(n, rho, Interval(math.tanh(z - margin), math.tanh(z + margin)))


NORMAL = 1.959963984540054
"""The normal distribution's quantile at 97.5 %."""


def quantile(freedom: int) -> float:
    """Student's quantile at 97.5 %: 12.7 at 1 degree of freedom, 2.36 at 7, 1.96 in the limit."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def _wilson(share: float, number: int, units: int, error: float) -> Interval:
    """Wilson's interval for as many independent answers as would have this standard error.

    Answers to one prompt that agree with each other count as fewer; where all are alike, a prompt as one.
    """
    worth, z = float(number), NORMAL
    if units < number:
        z = quantile(units - 1)
        spread = share * (1 - share)
        worth = min(spread / error**2, number) if spread > 0 and error > 0 else float(units)
    middle = (share + z**2 / (2 * worth)) / (1 + z**2 / worth)
    half = z / (1 + z**2 / worth) * math.sqrt(share * (1 - share) / worth + (z / (2 * worth)) ** 2)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def _groups(prompts: Sequence[Hashable] | None, kept: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The number of each kept row's prompt, 0 on; every row its own without prompts."""
    if prompts is None:
        return np.arange(int(kept.sum()))
    if len(prompts) != len(kept):
        raise ValueError(f"{len(prompts)} prompts for {len(kept)} values: give one for each")
    numbers: dict[Hashable, int] = {}
    used = [prompt for prompt, ok in zip(prompts, kept, strict=True) if ok]
    return np.array([numbers.setdefault(prompt, len(numbers)) for prompt in used], dtype=np.int64)


def _rho(x: Array, y: Array) -> float:
    """Spearman's rho; NaN where either side is constant."""
    from scipy.stats import rankdata

    a, b = (rankdata(side) for side in (x, y))
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else math.nan


def _fisher(rho: float) -> float:
    return math.copysign(LARGEST_Z, rho) if abs(rho) >= 1 else math.atanh(rho)


def _jackknifed(x: Array, y: Array, groups: np.ndarray[Any, Any]) -> float:
    """Margin of Fisher's z: the correlation without each prompt in turn, or without each block of prompts."""
    blocks = groups % BLOCKS
    number = int(blocks.max()) + 1
    without = np.array([_fisher(_rho(x[blocks != one], y[blocks != one])) for one in range(number)])
    error = math.sqrt((number - 1) / number * float(((without - without.mean()) ** 2).sum()))
    return quantile(number - 1) * error


# --- bootstrap ----------------------------------------------------------------------------------------------


def bootstrapped(
    figure: Callable[[Sequence[int]], float], units: Sequence[Hashable], seed: int
) -> Interval | None:
    """The 2.5 and 97.5 % ends of a figure over units drawn with replacement; None below two units.

    Args:
        figure: of these rows, which may come several times.
        units: the independent unit of each row, such as its prompt.
        seed: of the draws.
    """
    if len(set(units)) < 2:
        return None
    return bootstrapped_all(lambda chosen: [figure(chosen)], units, seed)[0]


def bootstrapped_all(
    figures: Callable[[Any], Sequence[float]], units: Sequence[Hashable], seed: int, draws: int = DRAWS
) -> list[Interval | None]:
    """`bootstrapped` for several figures on the same draws.

    A figure that is undefined (NaN) in a draw leaves it out, and has no interval where half of them are.

    Args:
        figures: of the rows of one draw, an array of their numbers.
        units, seed: as there.
        draws: how many.
    """
    groups = _groups(units, np.ones(len(units), dtype=bool))
    number = int(groups.max(initial=-1)) + 1
    if number < 2:
        return [None] * len(figures(np.arange(len(units))))
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        chosen = rng.integers(number, size=number)
        taken = sizes[chosen]
        # The rows of each chosen unit: its start among the sorted rows, and a count from there.
        shift = np.repeat(starts[chosen] - (np.cumsum(taken) - taken), taken)
        drawn.append(figures(order[shift + np.arange(len(shift))]))
    return [_percentiles(column[np.isfinite(column)], draws) for column in np.array(drawn, dtype=float).T]


def _percentiles(values: Array, draws: int) -> Interval | None:
    if len(values) < draws / 2:
        return None
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(float(low), float(high))

"""Surrogate model of a mixture of data sources, fitted to pilot runs (MoDoMoDo, arXiv:2505.24871).

The outcome of a training is modelled as a + b^T w + w^T C w in the mixture's weights w, which sum to 1. There
w_i^2 = w_i - sum_{j != i} w_i w_j, so the diagonal of C says nothing that b does not: it is 0 here (Scheffe's
polynomial), and b is centred by its penalty. Verifiers must share a scale per source, or the mixture is
confounded with the scale of rewards. `next_mixture.propose` finds its maximum.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..data.records import records_of
from ..data.texts import Skipped

Array = np.ndarray[Any, np.dtype[np.float64]]

OUTCOME = "outcome"
"""Column of the outcomes in a file of pilot runs."""
RIDGES = tuple(10.0**power for power in range(-6, 3))
"""Penalties that are tried."""
LEAST_RIDGE = 1e-8
"""Below it rounding decides."""
SATURATED = 1e-7
PRINTED = 1e-3
"""By how much shares in a file may: they are printed with a few digits."""
ROUNDING = 1e-6
"""By how much a mixture's weights may miss a sum of 1."""


@dataclass(frozen=True)
class Pilot:
    """Pilot run: source -> share of its samples, and the outcome (higher is better)."""

    weights: Mapping[str, float]
    outcome: float


@dataclass(frozen=True)
class Surrogate:
    """The fitted polynomial over `sources`.

    Args:
        sources: in the order of every array here.
        a: constant.
        b: linear terms, (K,).
        c: C, (K, K), symmetric with a diagonal of 0.
        ridge: the penalty that was taken.
        error: root mean square of the leave-one-out errors.
        baseline: the same for the mean of the other pilots; a surrogate with no smaller error knows nothing.
        covariance: of (a, b, pairs of C) when the noise is as large as `error`.
    """

    sources: tuple[str, ...]
    a: float
    b: Array
    c: Array
    ridge: float
    error: float
    baseline: float
    covariance: Array

    def value(self, weights: Array) -> float:
        """The outcome that is expected of a mixture, given in the order of `sources`."""
        return float(self.a + self.b @ weights + weights @ self.c @ weights)

    def deviation(self, weights: Array) -> float:
        """The standard deviation of `value`, from too few pilots; noise of a single run is not in it."""
        row = _features(weights[None])[0]
        return math.sqrt(max(0.0, float(row @ self.covariance @ row)))

    def predict(self, weights: Mapping[str, float]) -> tuple[float, float]:
        """(expected outcome, its standard deviation).

        Raises:
            ValueError: the mixture is of other sources, or is none.
        """
        given = mixture_of(weights, self.sources)
        return self.value(given), self.deviation(given)


def fit_surrogate(pilots: Sequence[Pilot], ridges: Sequence[float] = RIDGES) -> Surrogate:
    """Least squares with a ridge on all but the constant, the one of the smallest leave-one-out error.

    With K sources the polynomial has K (K + 1) / 2 degrees of freedom; fewer pilots are allowed, and pay in
    `deviation`.

    Raises:
        ValueError: fewer than three pilots, pilots of different sources, a mixture that is none, an outcome
            or a ridge that is not finite, or ridges too small to leave a pilot out.
    """
    if len(pilots) < 3:
        raise ValueError(f"{len(pilots)} pilots: at least three are needed to leave one out")
    if not ridges or not all(LEAST_RIDGE <= ridge < math.inf for ridge in ridges):
        raise ValueError(f"ridges are finite and at least {LEAST_RIDGE:g}, not {tuple(ridges)}")
    sources = tuple(sorted(pilots[0].weights))
    weights = np.array([mixture_of(pilot.weights, sources) for pilot in pilots])
    outcomes = np.array([pilot.outcome for pilot in pilots], dtype=np.float64)
    if not np.isfinite(outcomes).all():
        raise ValueError(f"outcomes are finite numbers, not {outcomes.tolist()}")
    rows = _features(weights)
    errors = {ridge: _left_out(rows, outcomes, ridge) for ridge in ridges}
    best = min(errors, key=lambda ridge: (errors[ridge], -ridge))
    if errors[best] == math.inf:
        raise ValueError(f"with so small a ridge ({best:g}) nothing can be left out: give larger ones")
    inverse = _inverse(rows, best)
    coefficients = inverse @ rows.T @ outcomes
    n, number = len(pilots), len(sources)
    c = np.zeros((number, number))
    for (i, j), value in zip(combinations(range(number), 2), coefficients[1 + number :], strict=True):
        c[i, j] = c[j, i] = value / 2
    return Surrogate(
        sources=sources,
        a=float(coefficients[0]),
        b=coefficients[1 : 1 + number],
        c=c,
        ridge=best,
        error=errors[best],
        baseline=float(np.sqrt(np.mean(((outcomes - outcomes.mean()) * n / (n - 1)) ** 2))),
        covariance=errors[best] ** 2 * inverse,
    )


def read_pilots(path: Path) -> tuple[list[Pilot], int]:
    """Pilot runs of a table, and the number of its rows that have no outcome yet.

    Args:
        path: .csv, .tsv, .jsonl or .parquet; every column but `outcome` is a source with its share. Shares
            that sum to 1 within a thousandth, as rounded ones do, are made to.

    Raises:
        ValueError: no column `outcome`, or a share or outcome that is no number, with the row's number.
    """
    found, left_out = [], 0
    for number, record in enumerate(records_of(path, Skipped(), {}), 1):
        if not isinstance(record, Mapping):
            raise ValueError(f"{path}, row {number}: {record} has no columns")
        row = dict(record)
        outcome = row.pop(OUTCOME, None)
        if outcome is None:  # an empty cell is no cell
            left_out += 1
            continue
        try:
            shares = {name: float(share) for name, share in row.items()}
            value = float(outcome)
        except (TypeError, ValueError):
            raise ValueError(f"{path}, row {number}: every column is a number, not {record}") from None
        total = math.fsum(shares.values())
        if abs(total - 1) > PRINTED:
            raise ValueError(f"{path}, row {number}: the shares sum to {total:g}, not to 1")
        found.append(Pilot({name: share / total for name, share in shares.items()}, value))
    if not found:
        raise ValueError(f"{path}: no row has a number in a column {OUTCOME}")
    return found, left_out


def mixture_of(weights: Mapping[str, float], sources: Sequence[str]) -> Array:
    """A mixture as an array in the order of `sources`.

    Raises:
        ValueError: other sources, a negative weight, or a sum that is not 1.
    """
    if set(weights) != set(sources):
        raise ValueError(f"a mixture of {', '.join(sorted(weights))}; the sources are {', '.join(sources)}")
    given = np.array([weights[source] for source in sources], dtype=np.float64)
    if not (np.isfinite(given).all() and (given >= 0).all() and abs(given.sum() - 1) <= ROUNDING):
        raise ValueError(f"the weights of a mixture are at least 0 and sum to 1, not {dict(weights)}")
    return given


def pilots_to_run(sources: Sequence[str]) -> list[dict[str, float]]:
    """Mixtures that settle every term: each source alone, each pair in halves, and all in equal parts.

    Raises:
        ValueError: fewer than two sources, or one twice.
    """
    if len(sources) < 2 or len(set(sources)) < len(sources):
        raise ValueError(f"at least two different sources are needed, not {', '.join(sources)}")
    sizes = sorted({1, 2, len(sources)})
    chosen = [subset for size in sizes for subset in combinations(sources, size)]
    return [{source: float(source in subset) / len(subset) for source in sources} for subset in chosen]


def _features(weights: Array) -> Array:
    """(1, w, w_i w_j for i < j), per row."""
    pairs = [weights[:, i] * weights[:, j] for i, j in combinations(range(weights.shape[1]), 2)]
    columns = [np.ones(len(weights)), *weights.T, *pairs]
    return np.stack(columns, axis=1)


def _inverse(rows: Array, ridge: float) -> Array:
    penalty = np.full(rows.shape[1], ridge)
    penalty[0] = 0.0
    return np.linalg.inv(rows.T @ rows + np.diag(penalty))


def _left_out(rows: Array, outcomes: Array, ridge: float) -> float:
    """Root mean square of the errors at each pilot of a fit to the others, without fitting again.

    Of ridge regression the error is e_i / (1 - h_ii), h being the hat matrix.
    """
    hat = rows @ _inverse(rows, ridge) @ rows.T
    free = 1 - np.diag(hat)
    if free.min() < SATURATED:  # a pilot that the fit repeats, whatever it was
        return math.inf
    errors = (outcomes - hat @ outcomes) / free
    return float(np.sqrt(np.mean(errors**2)))

"""Figures that benchmarks publish, as functions of arrays: means over strata, ranks and detection.

Undefined is NaN, never 0 or 1: one class alone, a constant side, nothing to compare. Ties count a half or
have their mean rank. Entries that are NaN are left out; infinite scores are the places of invalid answers.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from scipy.stats import kendalltau, rankdata

from .benchmark import Columns

Array = np.ndarray[Any, np.dtype[np.float64]]
Codes = np.ndarray[Any, np.dtype[np.int64]]
Figure = Callable[[Columns], float]
FEW = 64
"""Values whose pairs are laid out at once."""


# --- rules of columns ---------------------------------------------------------------------------------------


def mean(column: str) -> Figure:
    """The rule of a column's mean: micro, every item alike."""
    return lambda columns: mean_of_known(columns[column])


def macro(column: str, by: str) -> Figure:
    """The rule of the mean over strata of the mean within each; a stratum without entries is left out.

    Args:
        column: of numbers.
        by: the column of the strata's numbers, see `codes`.
    """
    return lambda columns: macro_mean(columns[column], columns[by])


def detection(figure: Callable[[Array, Array], float], score: str, truth: str) -> Figure:
    """The rule of a figure of scores and of what is true of each (1 or 0; NaN where nobody knows)."""

    def of(columns: Columns) -> float:
        scores, positive = columns[score], columns[truth]
        known = ~np.isnan(scores) & ~np.isnan(positive)
        return figure(scores[known], positive[known])

    return of


def codes(values: Sequence[Hashable]) -> Codes:
    """Numbers from 0 for values, in the order in which they first come."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


# --- means --------------------------------------------------------------------------------------------------


def mean_of_known(values: Array) -> float:
    """Mean of what is not NaN."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def macro_mean(values: Array, strata: Codes) -> float:
    """Mean over strata of the mean within each."""
    known = ~np.isnan(values)
    sizes = np.bincount(strata[known])
    sums = np.bincount(strata[known], weights=values[known])
    there = sizes > 0
    return float((sums[there] / sizes[there]).mean()) if there.any() else math.nan


# --- order --------------------------------------------------------------------------------------------------


def tau_b(values: Array, reference: Array) -> float:
    """Kendall's tau-b, in which ties of either side count for neither; NaN where a side is constant."""
    if len(values) < 2:
        return math.nan
    one, other = rankdata(values), rankdata(reference)  # infinite values have ranks too
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    if len(values) <= FEW:  # many times faster, and SciPy divides by n - 2, for a p-value
        apart, wanted = (np.sign(side[:, None] - side[None, :]) for side in (one, other))
        return float((apart * wanted).sum() / math.sqrt((apart != 0).sum() * (wanted != 0).sum()))
    return float(kendalltau(one, other, variant="b", method="asymptotic").statistic)


def tau_a(values: Array, reference: Array) -> float:
    """Kendall's tau-a, over all pairs: ties count against; NaN below two values."""
    if len(values) < 2:
        return math.nan
    apart, wanted = (
        np.sign(side[:, None] - side[None, :]) for side in (rankdata(values), rankdata(reference))
    )
    return float((apart * wanted).sum() / (len(values) * (len(values) - 1)))


def within_strata(
    figure: Callable[[Array, Array], float], values: Array, reference: Array, strata: Codes
) -> float:
    """Mean over strata of a figure of two columns, over the strata where it is defined."""
    known = ~np.isnan(values) & ~np.isnan(reference)
    values, reference, strata = values[known], reference[known], strata[known]
    order = np.argsort(strata, kind="stable")
    edges = np.flatnonzero(np.diff(strata[order])) + 1
    parts = [figure(values[rows], reference[rows]) for rows in np.split(order, edges) if len(rows)]
    return mean_of_known(np.array(parts, dtype=np.float64))


def pairwise(values: Array, reference: Array) -> tuple[float, float, int]:
    """(right, tied, compared): of the pairs that the reference orders, the credit for ordering them alike,
    a half for a tie; and those that are tied."""
    above = np.sign(reference[:, None] - reference[None, :])
    with np.errstate(invalid="ignore"):  # two invalid answers tie
        said = np.nan_to_num(np.sign(values[:, None] - values[None, :]))
    pairs = np.triu(above != 0, 1)
    agree = np.where(said == 0, 0.5, said == above)
    return float(agree[pairs].sum()), float((said == 0)[pairs].sum()), int(pairs.sum())


# --- detection ----------------------------------------------------------------------------------------------


def auroc(scores: Array, positive: Array) -> float:
    """Share of the pairs of a positive and a negative that the scores order, ties a half (Mann-Whitney)."""
    wins = positive == 1
    number = int(wins.sum())
    others = len(scores) - number
    if not number or not others:
        return math.nan
    ranks = rankdata(scores)
    return float((ranks[wins].sum() - number * (number + 1) / 2) / (number * others))


def auprc(scores: Array, positive: Array) -> float:
    """Average precision, equal scores as one threshold; its chance level is the share of positives."""
    total = float(positive.sum())
    if not 0 < total < len(positive):
        return math.nan
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(positive[order])
    last = np.append(scores[order][1:] != scores[order][:-1], True)  # the end of each threshold
    taken = (np.arange(len(order)) + 1)[last]
    hits = found[last]
    return float((np.diff(hits, prepend=0.0) * hits / taken).sum() / total)


def false_positives_at(share: float) -> Callable[[Array, Array], float]:
    """The figure of how many negatives are taken for positives at the highest threshold that finds this
    share of the positives."""

    def of(scores: Array, positive: Array) -> float:
        hits, others = np.sort(scores[positive == 1])[::-1], scores[positive == 0]
        if not len(hits) or not len(others):
            return math.nan
        threshold = hits[math.ceil(share * len(hits)) - 1]
        return float((others >= threshold).mean())

    return of


def shares_at(threshold: float) -> tuple[Callable[[Array, Array], float], ...]:
    """The figures precision, recall and false-positive rate of what reaches a threshold."""

    def precision(scores: Array, positive: Array) -> float:
        taken = scores >= threshold
        return float(positive[taken].mean()) if taken.any() else math.nan

    def recall(scores: Array, positive: Array) -> float:
        return float((scores[positive == 1] >= threshold).mean()) if (positive == 1).any() else math.nan

    def false_positives(scores: Array, positive: Array) -> float:
        return float((scores[positive == 0] >= threshold).mean()) if (positive == 0).any() else math.nan

    return precision, recall, false_positives


def brier(scores: Array, positive: Array) -> float:
    """Mean squared distance of probabilities from the truth; a score outside [0, 1] is its nearer end."""
    return float(((np.clip(scores, 0, 1) - positive) ** 2).mean()) if len(scores) else math.nan


def ece(scores: Array, positive: Array, bins: int = 10) -> float:
    """Expected calibration error over bins of equal numbers, equal probabilities always in one bin."""
    if not len(scores):
        return math.nan
    shown = np.clip(scores, 0, 1)
    place = np.minimum((rankdata(shown, method="min") - 1) * bins // len(shown), bins - 1).astype(np.int64)
    sizes = np.bincount(place)
    there = sizes > 0
    apart = np.bincount(place, weights=shown - positive)[there] / sizes[there]
    return float((sizes[there] * np.abs(apart)).sum() / len(shown))


def cohen_d(scores: Array, positive: Array) -> float:
    """Distance of the two classes' means in pooled standard deviations; NaN below two of each."""
    one, other = scores[positive == 1], scores[positive == 0]
    if len(one) < 2 or len(other) < 2:
        return math.nan
    pooled = ((len(one) - 1) * one.var(ddof=1) + (len(other) - 1) * other.var(ddof=1)) / (len(scores) - 2)
    return float((one.mean() - other.mean()) / math.sqrt(pooled)) if pooled > 0 else math.nan

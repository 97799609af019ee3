"""Calibration of a judge: its verdicts and marks against labels, as figures with 95 % intervals over prompts.

A judge is any reward, of one sample or of a pair. Every two samples of a group are a comparison: which is
better by the labels, and which by the judge, in both orders. `compared` asks; the rest is arithmetic:

- accuracy, with ties of the labels and of the judge; a judgement that failed is wrong, and is counted;
- agreement of the two orders, and how often the place alone decides;
- how often it prefers the longer of two responses more than the labels do;
- Brier score and expected calibration error of its probabilities, where it compares pairs;
- EPIC distance of its values from the labels, as rewards of states;
- quadratically weighted kappa of its marks with labels of the same scale, by aspect.

Intervals of means are those of `monitor.intervals`; those of the calibration error, EPIC and kappa are
percentiles of a bootstrap over prompts.
"""

import math
from asyncio import gather
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ..data.rows import unit_of
from ..evaluation import judge_both, score_one
from ..monitor.intervals import Array, Interval, agreement, bootstrapped, mean_of
from ..registry import Reward
from ..types import Sample, Score

BINS = 10
"""Bins of confidence from 0.5 to 1 of the calibration error."""
MOST = 32
"""Samples of a group at most: above, the comparisons of a group are too many to ask for."""


class Label(NamedTuple):
    """Label of a sample: one number, larger is better, and numbers by aspect, if it has them."""

    value: float
    aspects: Mapping[str, float]


class Compared(NamedTuple):
    """One comparison by the labels and by the judge.

    `label` is 1 where the first is better by the labels, 0.5 for a tie, 0 else; `forth` and `back` are the
    judge's probability of the same in both orders, NaN where it failed. `longer` is 1 where the first
    response is the longer one, -1 where the second is, 0 where they are equal or there are none.
    """

    label: float
    forth: float
    back: float
    longer: int
    unit: Hashable

    @property
    def probability(self) -> float:
        """Mean of both orders; NaN where one failed."""
        return (self.forth + self.back) / 2

    @property
    def verdict(self) -> float:
        """1, 0.5 or 0; NaN where an order failed."""
        return rounded(self.probability)


class Figure(NamedTuple):
    """One figure: its value (NaN where there is none), interval, the number it is over, and words."""

    name: str
    value: float
    interval: Interval | None
    n: int
    words: str


@dataclass(frozen=True, kw_only=True)
class Marked:
    """Marks of one sample beside its label, for correlation and kappa."""

    score: Score
    label: Label
    unit: Hashable


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a judge was found to be: figures, bins of (confidence, share right, number), failures."""

    judge: str
    comparisons: int
    figures: tuple[Figure, ...]
    bins: tuple[tuple[float, float, int], ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)


def label_of(sample: Sample, column: str) -> Label:
    """The label of a row: a number (true is 1, false 0), or numbers by aspect, whose mean is the value.

    Raises:
        ValueError: the row has none, or something else.
    """
    found = sample.target if column == "target" else sample.meta.get(column)
    aspects = found if isinstance(found, Mapping) else {}
    numbers = list(aspects.values()) if aspects else [found]
    fine = [float(one) for one in numbers if isinstance(one, int | float)]  # true and false are 1 and 0
    if len(fine) < len(numbers) or not all(math.isfinite(one) for one in fine) or not fine:
        raise ValueError(
            f"row {sample.id!r} has {str(found)[:60]!r} in {column!r}: a label is a number, or numbers by "
            "aspect"
        )
    return Label(sum(fine) / len(fine), {str(name): float(value) for name, value in aspects.items()})


async def compared(
    reward: Reward, samples: Sequence[Sample], labels: Sequence[Label]
) -> tuple[list[Compared], list[Marked], list[Score]]:
    """Comparisons within groups, marks of each sample (of a point reward), and all that the judge said.

    Raises:
        ValueError: a reward of whole groups; a group of more than `MOST`; no two samples of one group.
    """
    if reward.info.arity == "group":
        raise ValueError(f"{reward.info.name} scores whole groups: give a reward of one sample or of two")
    groups: dict[Hashable, list[int]] = {}
    for row, sample in enumerate(samples):
        groups.setdefault(sample.group if sample.group is not None else ("", sample.prompt), []).append(row)
    if large := [name for name, rows in groups.items() if len(rows) > MOST]:
        raise ValueError(
            f"group {large[0]!r} has {len(groups[large[0]])} samples; {MOST} are compared at most"
        )
    pairs = [pair for rows in groups.values() for pair in combinations(rows, 2)]
    if not pairs and reward.info.arity == "pair":
        raise ValueError("no two rows have one group or prompt: there is nothing to compare")
    if reward.info.arity == "pair":
        found = await gather(*(judge_both(reward, samples[a], samples[b]) for a, b in pairs))
        low, high = reward.info.range
        both = [tuple(_unit(score, low, high) for score in scores) for scores in found]
        judged = [(forth, 1 - back) for forth, back in both]
        said, marked = [score for scores in found for score in scores], []
    else:
        said = await gather(*(score_one(sample, reward) for sample in samples))
        sign = 1.0 if reward.info.higher_is_better else -1.0
        values = [sign * score.value for score in said]
        judged = [(_above(values[a], values[b]),) * 2 for a, b in pairs]
        marked = [
            Marked(score=score, label=label, unit=unit_of(sample))
            for score, label, sample in zip(said, labels, samples, strict=True)
        ]
    rows = [
        Compared(
            _above(labels[a].value, labels[b].value), forth, back, _longer(samples[a], samples[b]),
            unit_of(samples[a]),
        )
        for (a, b), (forth, back) in zip(pairs, judged, strict=True)
    ]  # fmt: skip
    return rows, marked, list(said)


def _unit(score: Score, low: float, high: float) -> float:
    return (score.value - low) / (high - low)


def _above(one: float, other: float) -> float:
    if math.isnan(one) or math.isnan(other):
        return math.nan
    return 0.5 if one == other else float(one > other)


def _longer(first: Sample, second: Sample) -> int:
    one, other = len(first.response or ""), len(second.response or "")
    return (one > other) - (one < other)


def rounded(probability: float) -> float:
    """Verdict of a probability: 1 above a half, 0 below, 0.5 at it."""
    if math.isnan(probability):
        return math.nan
    return 0.5 if abs(probability - 0.5) < 1e-9 else float(probability > 0.5)


# --- figures ------------------------------------------------------------------------------------------------


def calibration(
    judge: str, rows: Sequence[Compared], marked: Sequence[Marked], said: Sequence[Score], *, seed: int = 0
) -> Calibration:
    """Figures of a judge.

    Args:
        judge: its name.
        rows, marked, said: see `compared`.
        seed: of the bootstraps.
    """
    failures: dict[str, int] = {}
    for score in said:
        if not score.ok:
            failures[score.status] = failures.get(score.status, 0) + 1
    pairwise = not marked
    figures = [*_verdicts(rows), *(_orders(rows) if pairwise else ()), _length(rows)]
    bins: tuple[tuple[float, float, int], ...] = ()
    if pairwise:
        figures += _probabilities(rows, seed)
        bins = reliability(rows)
    figures += _marks(marked, seed)
    kept = tuple(one for one in figures if one.n)
    return Calibration(judge=judge, comparisons=len(rows), figures=kept, bins=bins, failures=failures)


def _mean(name: str, values: Sequence[float], units: Sequence[Hashable], words: str) -> Figure:
    found = mean_of(values, units)
    return Figure(name, found.mean, found.interval, found.n, words)


def _verdicts(rows: Sequence[Compared]) -> list[Figure]:
    units = [row.unit for row in rows]
    right = [float(row.verdict == row.label) for row in rows]
    decided = [row for row in rows if row.label != 0.5]
    half = [_credit(row) for row in decided]
    judged = [float(not math.isnan(row.verdict)) for row in rows]
    ties = [float(row.verdict == 0.5) for row in rows if not math.isnan(row.verdict)]
    kept = [row.unit for row in rows if not math.isnan(row.verdict)]
    tied = [row for row in rows if row.label == 0.5]
    return [
        _mean("accuracy", right, units, "verdicts equal to the labels', ties included; a failure is wrong"),
        _mean("accuracy, no ties", half, [row.unit for row in decided],
              "comparisons that the labels decide; a tie of the judge is worth a half, a failure nothing"),
        _mean("judged", judged, units, "comparisons that could be read in both orders"),
        _mean("ties", ties, kept, "verdicts that neither is better"),
        _mean("ties found", [float(row.verdict == 0.5) for row in tied], [row.unit for row in tied],
              "of the labels' ties, those that the judge calls so"),
    ]  # fmt: skip


def _credit(row: Compared) -> float:
    if math.isnan(row.verdict):
        return 0.0
    return 0.5 if row.verdict == 0.5 else float(row.verdict == row.label)


def _orders(rows: Sequence[Compared]) -> list[Figure]:
    judged = [row for row in rows if not math.isnan(row.probability)]
    units = [row.unit for row in judged]
    agree = [float(rounded(row.forth) == rounded(row.back)) for row in judged]
    place = [(row.forth + 1 - row.back) / 2 - 0.5 for row in judged]
    return [
        _mean("orders agree", agree, units, "verdicts that are the same in both orders"),
        _mean("first place", place, units, "preference for what is shown first, above a half"),
    ]


def _length(rows: Sequence[Compared]) -> Figure:
    sized = [row for row in rows if row.longer and row.label != 0.5 and not math.isnan(row.verdict)]
    more = [(row.verdict - row.label) * row.longer for row in sized]
    words = "preference for the longer response, above the labels'"
    return _mean("longer", more, [row.unit for row in sized], words)


def _probabilities(rows: Sequence[Compared], seed: int) -> list[Figure]:
    judged = [row for row in rows if not math.isnan(row.probability)]
    units = [row.unit for row in judged]
    brier = [(row.probability - row.label) ** 2 for row in judged]
    error = calibration_error(judged) if judged else math.nan
    ends = bootstrapped(lambda chosen: calibration_error([judged[row] for row in chosen]), units, seed)
    return [
        _mean("Brier", brier, units, "squared error of the probability; 0.25 for one that always says half"),
        Figure("ECE", error, ends, len(judged), "mean distance of confidence from the share that is right"),
    ]


def reliability(rows: Sequence[Compared]) -> tuple[tuple[float, float, int], ...]:
    """(mean confidence, share right, number) of each bin of confidence that has any."""
    judged = [row for row in rows if not math.isnan(row.probability)]
    bins: dict[int, list[tuple[float, float]]] = {}
    for row in judged:
        sure = max(row.probability, 1 - row.probability)
        right = {1.0: row.label, 0.0: 1 - row.label}.get(row.verdict, 0.5)
        bins.setdefault(min(BINS - 1, int((sure - 0.5) * 2 * BINS)), []).append((sure, right))
    means = {place: np.mean(entries, axis=0) for place, entries in bins.items()}
    return tuple((float(means[at][0]), float(means[at][1]), len(bins[at])) for at in sorted(bins))


def calibration_error(rows: Sequence[Compared]) -> float:
    """Expected calibration error: distance of confidence from the share right, over the bins, by number."""
    bins = reliability(rows)
    total = sum(number for _, _, number in bins)
    return sum(number * abs(sure - right) for sure, right, number in bins) / total if total else math.nan


# --- marks --------------------------------------------------------------------------------------------------


def _marks(marked: Sequence[Marked], seed: int) -> list[Figure]:
    units = [one.unit for one in marked]
    values = [one.score.value for one in marked]
    wanted = [one.label.value for one in marked]
    found = agreement(values, wanted, units)
    rho = math.nan if found.rho is None else found.rho
    figures = [Figure("rank correlation", rho, found.interval, found.n if found.rho is not None else 0,
                      "Spearman's rho of value and label, over all prompts")]  # fmt: skip
    known = [one for one in marked if one.score.ok]
    if known:
        pairs = np.array([(one.score.value, one.label.value) for one in known], dtype=np.float64)
        ends = bootstrapped(
            lambda rows: epic_distance(*pairs[list(rows)].T), [one.unit for one in known], seed
        )
        distance = epic_distance(*pairs.T)
        words = (
            "EPIC of value and label as rewards of states: 0 where one is the other scaled, 1 its opposite"
        )
        n = 0 if math.isnan(distance) else len(known)
        figures.append(Figure("EPIC", distance, ends, n, words))
    names = dict.fromkeys(name for one in marked for name in one.label.aspects)
    for name in names:
        both = [
            (one.score.parts[name], one.label.aspects[name], one.unit)
            for one in marked
            if name in one.label.aspects and name in one.score.parts
        ]
        if not both:
            continue
        marks, labels = np.array([row[:2] for row in both], dtype=np.float64).T
        ends = bootstrapped(_kappa_of(marks, labels), [row[2] for row in both], seed)
        words = f"quadratically weighted kappa of {name}"
        figures.append(Figure(f"kappa {name}", weighted_kappa(marks, labels), ends, len(both), words))
    return figures


def _kappa_of(marks: Array, labels: Array) -> Callable[[Sequence[int]], float]:
    return lambda chosen: weighted_kappa(marks[list(chosen)], labels[list(chosen)])


def epic_distance(first: Array, second: Array) -> float:
    """EPIC distance (arXiv:2006.13900) of two rewards of the state alone, 0 to 1, over states that both
    scored: sqrt((1 - rho) / 2) with Pearson's rho. NaN where one is constant.

    EPIC compares rewards after taking out what potential-based shaping can add. Of a reward of the state a
    transition reaches, r(s'), what is left is r(s') less a constant, and of one of the state it leaves
    gamma * r(s') less a constant, so Pearson's distance over states is EPIC's, whatever gamma is. It is how
    VLM-RM chooses its alpha. Rewards of whole transitions are not compared by it.

    >>> import numpy as np
    >>> states = np.array([0.0, 1.0, 2.0])
    >>> epic_distance(states, 3 * states - 7), epic_distance(states, -states)
    (0.0, 1.0)
    """
    one, other = first - first.mean(), second - second.mean()
    spread = math.sqrt(float(one @ one) * float(other @ other))
    if not spread > 0:
        return math.nan
    rho = max(-1.0, min(1.0, float(one @ other) / spread))
    return math.sqrt((1 - rho) / 2)


def weighted_kappa(marks: Array, labels: Array) -> float:
    """Cohen's kappa with quadratic weights, of marks on one scale; NaN where both are constant and equal.

    The expected disagreement of quadratic weights is the two variances and the squared difference of the
    means, so that no table of levels is needed, and marks with decimals count as they are.

    >>> import numpy as np
    >>> round(weighted_kappa(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 3])), 4)
    0.875
    """
    expected = float(marks.var() + labels.var() + (marks.mean() - labels.mean()) ** 2)
    return 1 - float(((marks - labels) ** 2).mean()) / expected if expected > 0 else math.nan

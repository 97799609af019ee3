"""Several rewards into one: weights, gates and group z-scores, as pure functions over scores.

A failed score is never filled in. What it does to the total is a named policy: "propagate" makes the total
fail the same way, "drop" gives its weight to the others.
"""

# FOLDED mmreward/shaping/grouping.py: Which samples belong to one prompt. Pure functions over the group names of samples, see `types.Sample`.

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal, get_args

from .registry import Reward
from .types import Score

Policy = Literal["propagate", "drop"]


def weights_of(rewards: Mapping[str, Reward], given: Mapping[str, float]) -> dict[str, float]:
    """The weights of a sum that is to rise: those given; 1 for the others, or -1 where lower is better.

    Raises:
        ValueError: a weight for a reward that is not there.
    """
    unknown = [name for name in given if name not in rewards]
    if unknown:
        raise ValueError(f"weights of {', '.join(unknown)}: the rewards are {', '.join(rewards)}")
    return {
        name: given.get(name, 1.0 if reward.info.higher_is_better else -1.0)
        for name, reward in rewards.items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a total is made of the scores of one run.

    Args:
        weights: reward -> weight; a reward that is not named does not enter the sum.
        gates: reward -> smallest value that lets the total through; below it the total is 0.
        normalise: "group" replaces every value by its z-score within the sample's group before it is
            weighted.
        failed: what a failed score does, see `weighted`.
    """

    weights: Mapping[str, float]
    gates: Mapping[str, float] = field(default_factory=dict)
    normalise: Literal["none", "group"] = "none"
    failed: Policy = "propagate"


def combine(
    scores: Mapping[str, Sequence[Score]], recipe: Recipe, groups: Sequence[str | None] = ()
) -> list[Score]:
    """The total of every sample; gates look at raw values, whatever the sum is made of.

    Raises:
        ValueError: a weight or gate for a reward that was not scored, or as `weighted` and `group_zscore`.
    """
    unknown = [name for name in (*recipe.weights, *recipe.gates) if name not in scores]
    if unknown:
        raise ValueError(f"no scores of {', '.join(unknown)}: there are {', '.join(scores)}")
    summands = {name: scores[name] for name in recipe.weights}
    if recipe.normalise == "group":
        summands = {name: group_zscore(column, groups) for name, column in summands.items()}
    total = weighted(summands, recipe.weights, failed=recipe.failed)
    return gated(total, {name: (scores[name], least) for name, least in recipe.gates.items()})


def weighted(
    scores: Mapping[str, Sequence[Score]], weights: Mapping[str, float], *, failed: Policy = "propagate"
) -> list[Score]:
    """sum_i w_i * value_i, per sample. `parts` holds the summands; weights may be negative and are not
    normalised.

    With failed="drop" the sum over the rewards that worked is scaled by (sum of |w|) / (sum of their |w|).

    Raises:
        ValueError: a weight for a reward that was not scored or the other way round, a weight that is not
            finite, or columns of unequal length.
    """
    if failed not in get_args(Policy):
        raise ValueError(f"failed is one of {', '.join(get_args(Policy))}, not {failed!r}")
    _matched(scores, weights, "weight")
    for name, weight in weights.items():
        if not math.isfinite(weight):
            raise ValueError(f"the weight of {name} is {weight}")
    whole = sum(abs(weight) for weight in weights.values())
    totals = []
    for row in _rows(scores):
        bad = {name: score for name, score in row.items() if not score.ok and weights[name] != 0}
        parts = {name: weights[name] * score.value for name, score in row.items() if score.ok}
        kept = sum(abs(weights[name]) for name in parts)
        if bad and (failed == "propagate" or kept == 0):
            totals.append(_inherited(bad, parts))
        else:
            scale = whole / kept if bad else 1.0
            totals.append(Score(scale * sum(parts.values()), parts))
    return totals


def gated(total: Sequence[Score], gates: Mapping[str, tuple[Sequence[Score], float]]) -> list[Score]:
    """The total where every gate's score reaches its threshold, else 0; a gate that failed fails the total.

    Args:
        total: what is let through.
        gates: name -> (scores, smallest value that opens the gate).
    """
    results = []
    for index, score in enumerate(total):
        levels = {name: column[index] for name, (column, _) in gates.items()}
        bad = {name: level for name, level in levels.items() if not level.ok}
        if bad:
            results.append(_inherited(bad, score.parts))
            continue
        shut = [name for name, level in levels.items() if level.value < gates[name][1]]
        if shut and score.ok:
            results.append(Score(0.0, score.parts, note=f"gate shut: {', '.join(shut)}"))
        else:
            results.append(score)
    return results


def group_zscore(
    scores: Sequence[Score], groups: Sequence[str | None], *, ddof: int = 0, eps: float = 1e-6
) -> list[Score]:
    """(value - group mean) / group std over the scores that worked; the failed ones stay failed and count
    nowhere.

    A group whose values differ by less than `eps` (or with fewer than two) gives 0: it says nothing about
    which sample is better. No epsilon is added to the denominator.

    Raises:
        ValueError: as many groups as scores are needed, and every score must have one.
    """
    if len(groups) != len(scores):
        raise ValueError(f"{len(scores)} scores and {len(groups)} groups")
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        if group is None:
            raise ValueError(f"score {index} has no group")
        members.setdefault(group, []).append(index)
    results = list(scores)
    for indices in members.values():
        valid = [index for index in indices if scores[index].ok]
        mean = fmean(scores[index].value for index in valid) if valid else math.nan
        spread = sum((scores[index].value - mean) ** 2 for index in valid)
        std = math.sqrt(spread / (len(valid) - ddof)) if len(valid) > ddof else 0.0
        for index in valid:
            z = (scores[index].value - mean) / std if std > eps else 0.0
            results[index] = Score(z, {**scores[index].parts, "raw": scores[index].value})
    return results


def _rows(scores: Mapping[str, Sequence[Score]]) -> list[dict[str, Score]]:
    lengths = {name: len(column) for name, column in scores.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of unequal length: {lengths}")
    return [dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True)]


def _matched(scores: Mapping[str, object], given: Mapping[str, object], what: str) -> None:
    if set(scores) != set(given):
        raise ValueError(f"scores of {', '.join(scores)} but a {what} for {', '.join(given)}")


def _inherited(bad: Mapping[str, Score], parts: Mapping[str, float]) -> Score:
    name, first = next(iter(bad.items()))
    others = f" (and {', '.join(list(bad)[1:])})" if len(bad) > 1 else ""
    return Score.failed(first.status, f"{name}{others}: {first.note}", parts)


def by_group(groups: Sequence[str | None], number: int) -> dict[str, list[int]]:
    """The row numbers of each group, in the order in which the groups appear.

    Raises:
        ValueError: other than `number` groups, or a row without one.
    """
    if len(groups) != number:
        raise ValueError(f"{number} rows and {len(groups)} groups")
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if group is None:
            raise ValueError(f"row {row} has no group")
        members.setdefault(group, []).append(row)
    return members


def group_means(scores: Sequence[Score], groups: Sequence[str | None]) -> dict[str, float]:
    """Mean of the scores that worked by group; NaN where none did.

    Raises:
        ValueError: as `by_group`.
    """
    means = {}
    for group, rows in by_group(groups, len(scores)).items():
        values = [scores[row].value for row in rows if scores[row].ok]
        means[group] = fmean(values) if values else math.nan
    return means

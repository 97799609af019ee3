"""Trust-GRPO (SophiaVL-R1, arXiv:2505.17018): a thinking reward that counts less where it misleads, and less
and less. Pure functions over scores.

A judge that likes the reasoning of wrong answers better than that of right ones is not to be trusted on that
prompt. To see that, it must have judged both, so no response is spared the judge here.
"""

import math
from collections.abc import Sequence
from statistics import fmean

from ..types import Score
from .grouping import by_group

ALPHA = 0.3
"""The paper's weight of the thinking reward at the first step."""


def trust_weight(right: Sequence[float], wrong: Sequence[float]) -> float:
    """exp(min(0, mean thinking of right answers - mean thinking of wrong ones)): (0, 1] for grades of 0 to 1.

    1 where one side is empty: then there is nothing to compare.
    """
    if not right or not wrong:
        return 1.0
    return math.exp(min(0.0, fmean(right) - fmean(wrong)))


def annealed(step: int, total_steps: int, alpha: float = ALPHA) -> float:
    """alpha * exp(-step / total_steps): from alpha down to alpha / e.

    Raises:
        ValueError: total_steps below 1, or a negative step.
    """
    if total_steps < 1 or step < 0:
        raise ValueError(f"step {step} of {total_steps}: steps count from 0, and there is at least 1")
    return alpha * math.exp(-step / total_steps)


def trusted(
    outcome: Sequence[Score],
    thinking: Sequence[Score],
    groups: Sequence[str | None],
    *,
    step: int,
    total_steps: int,
    alpha: float = ALPHA,
    right: float = 0.5,
) -> list[Score]:
    """outcome + trust * alpha * exp(-step / total_steps) * thinking, with one trust per group.

    Range: 0 to 1 + alpha for both rewards in [0, 1]. `parts` holds the outcome, the summand and the trust.
    Where one of the two failed the sum fails the same way, and neither enters the trust.

    Args:
        outcome: of every sample, such as an accuracy.
        thinking: scores of the reward `thinking`, of right and wrong responses alike.
        groups: the GRPO group of each.
        step, total_steps: of training.
        alpha: 0.3 in the paper.
        right: outcomes from here up count as right; 0.5 in the paper.

    Raises:
        ValueError: columns of unequal length, or as `annealed` and `grouping.by_group`.
    """
    scale = annealed(step, total_steps, alpha)
    members = _members(outcome, thinking, groups)
    weights = {}
    for group, rows in members.items():
        judged = [row for row in rows if outcome[row].ok and thinking[row].ok]
        good = [thinking[row].value for row in judged if outcome[row].value >= right]
        bad = [thinking[row].value for row in judged if outcome[row].value < right]
        weights[group] = trust_weight(good, bad)
    return [
        _sum(given, thought, weights[str(group)], scale)
        for given, thought, group in zip(outcome, thinking, groups, strict=True)
    ]


def sophia_vl_trusted(
    outcome: Sequence[Score],
    thinking: Sequence[Score],
    groups: Sequence[str | None],
    *,
    step: int,
    total_steps: int = 500,
) -> list[Score]:
    """What SophiaVL-R1's code computes, for comparison; its trust is inert for answers that are right or
    wrong.

    A response with an outcome below 0.2 is not judged and counts as a thinking reward of 0. So wrong answers
    have a mean of 0, below that of right ones, and the trust is 1 whatever the judge thinks of wrong ones.
    Groups whose outcomes are all from 0.9 up, or all up to 0.1, get no thinking reward at all. A failed
    judge counts as 0, as there.
    """
    scale = annealed(step, total_steps)
    results: list[Score] = list(outcome)
    for rows in _members(outcome, thinking, groups).values():
        seen = {row: _unjudged_is_zero(outcome[row], thinking[row]) for row in rows if outcome[row].ok}
        values = [outcome[row].value for row in seen]
        flat = bool(values) and (min(values) >= 0.9 or max(values) <= 0.1)
        good = [grade for row, grade in seen.items() if outcome[row].value >= 0.5]
        bad = [grade for row, grade in seen.items() if outcome[row].value < 0.5]
        trust = 0.0 if flat else trust_weight(good, bad)
        for row, grade in seen.items():
            results[row] = _sum(outcome[row], Score(grade), trust, scale)
    return results


def _unjudged_is_zero(outcome: Score, thinking: Score) -> float:
    return thinking.value if outcome.value >= 0.2 and thinking.ok else 0.0


def _sum(outcome: Score, thinking: Score, trust: float, scale: float) -> Score:
    for name, score in (("outcome", outcome), ("thinking", thinking)):
        if not score.ok:
            return Score.failed(score.status, f"{name}: {score.note}", score.parts)
    extra = trust * scale * thinking.value
    return Score(outcome.value + extra, {"outcome": outcome.value, "thinking": extra, "trust": trust})


def _members(
    outcome: Sequence[Score], thinking: Sequence[Score], groups: Sequence[str | None]
) -> dict[str, list[int]]:
    if len(outcome) != len(thinking):
        raise ValueError(f"{len(outcome)} outcomes and {len(thinking)} thinking rewards")
    return by_group(groups, len(outcome))

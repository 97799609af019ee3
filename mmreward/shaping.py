"""Trust-GRPO (SophiaVL-R1, arXiv:2505.17018): a thinking reward that counts less where it misleads, and less
and less. Pure functions over scores.

A judge that likes the reasoning of wrong answers better than that of right ones is not to be trusted on that
prompt. To see that, it must have judged both, so no response is spared the judge here.
"""

# FOLDED mmreward/shaping/bonuses.py: What a right answer earns on top for how it was reached: grounded in evidence, consistent with its
# reasoning. Pure functions over scores; a wrong answer never earns any of it.
#
# An accuracy that failed fails the outcome. A judge that failed does what `failed` says, as in `compose`:
# "propagate" fails the outcome, "drop" leaves the bonus out.
#
# FOLDED mmreward/shaping/brevity.py: Short right answers above long ones, as a pure function over scores of accuracy.
#
# Knows nothing of how accuracy is scored. What is wrong stays wrong: no length makes it worth more than
# nothing.
#
# FOLDED mmreward/shaping/hybrid.py: A rule where it can decide, a model where it cannot, and a price on length within a group.
#
# After HARMO ("Beyond Monolithic Rewards", arXiv:2510.05283), whose own formulas are not published in code.
# Whether a rule can decide is a property of the question. Were it one of the response, a policy could pick the
# softer judge by writing what the rule cannot read.
#

import math
from collections.abc import Sequence
from statistics import fmean
from typing import get_args

from .compose import Policy, by_group
from .rewards.rules.form import falling
from .types import Score

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


def evidence_bonus(
    accuracy: Sequence[Score],
    evidence: Sequence[Score],
    *,
    bonus: float = 0.3,
    right: float = 0.5,
    grounded: float = 0.5,
    failed: Policy = "propagate",
) -> list[Score]:
    """accuracy + bonus where the answer is right and grounded, else accuracy (Video-VER, arXiv:2510.06077).

    Missing evidence is not punished. Range: that of the accuracy, with the bonus on top.

    Args:
        accuracy: of every sample; from `right` up it counts as right.
        evidence: scores of the reward `evidence`; from `grounded` up the reasoning is grounded.
        bonus: 0.3 in the paper.
        right, grounded: the thresholds.
        failed: what a failed evidence score does to a right answer; to a wrong one it makes no difference.

    Raises:
        ValueError: columns of unequal length, or an unknown policy.
    """
    _check(failed)
    results = []
    for given, shown in zip(accuracy, evidence, strict=True):
        matters = given.ok and given.value >= right
        if not given.ok:
            results.append(_failed("accuracy", given))
        elif matters and not shown.ok and failed == "propagate":
            results.append(_failed("evidence", shown))
        else:
            extra = bonus if matters and shown.ok and shown.value >= grounded else 0.0
            results.append(Score(given.value + extra, {"accuracy": given.value, "evidence": extra}))
    return results


def consistent(
    accuracy: Sequence[Score],
    consistency: Sequence[Score],
    *,
    weight: float = 0.5,
    failed: Policy = "drop",
) -> list[Score]:
    """accuracy * (1 + weight * c), where c is 1 for consistent, -1 for not, 0 for a judge that failed.

    R1-Reward's form (arXiv:2505.02835): the range is 0 to 1 + weight for an accuracy of 0 to 1.

    Args:
        accuracy: of every sample.
        consistency: scores of the reward `consistency`; above 0.5 is consistent.
        weight: 0.5 in the paper; in [0, 1], so that being right never costs.
        failed: "drop" is c = 0.

    Raises:
        ValueError: columns of unequal length, an unknown policy, or a weight outside [0, 1].
    """
    _check(failed)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is {weight}; it lies in [0, 1]")
    results = []
    for given, judged in zip(accuracy, consistency, strict=True):
        if not given.ok:
            results.append(_failed("accuracy", given))
        elif not judged.ok and failed == "propagate":
            results.append(_failed("consistency", judged))
        else:
            sign = 0.0 if not judged.ok else 1.0 if judged.value > 0.5 else -1.0
            factor = 1 + weight * sign
            results.append(Score(given.value * factor, {"accuracy": given.value, "consistency": sign}))
    return results


def _check(failed: str) -> None:
    if failed not in get_args(Policy):
        raise ValueError(f"failed is one of {', '.join(get_args(Policy))}, not {failed!r}")


def _failed(name: str, score: Score) -> Score:
    return Score.failed(score.status, f"{name}: {score.note}", score.parts)


def length_scaled(
    accuracy: Sequence[Score],
    lengths: Sequence[float],
    *,
    limit: float,
    right: tuple[float, float] = (1.0, 0.5),
    wrong: tuple[float, float] = (-0.5, 0.0),
    threshold: float = 0.5,
) -> list[Score]:
    """The cosine length reward (arXiv:2502.03373), by which wrong answers should rather be long than short.

    A right answer goes from right[0] at length 0 to right[1] at the limit and beyond, a wrong one from
    wrong[0] to wrong[1]. A failed score stays failed. `parts` are the accuracy, the length and the cosine
    from 1 to 0.

    Args:
        accuracy: one score per response; from `threshold` on it is right.
        lengths: of the responses, in the unit of `limit`.
        limit: the length from which nothing changes any more.
        right: worth of an empty right answer, and of one at the limit.
        wrong: the same of a wrong answer; neither above 0, nor above what a right one is worth.
        threshold: the accuracy of a right answer.

    Raises:
        ValueError: columns of unequal length, a limit that is not positive, or a wrong answer that would be
            worth more than 0 or than a right one.
    """
    if len(accuracy) != len(lengths):
        raise ValueError(f"{len(accuracy)} scores and {len(lengths)} lengths")
    if limit <= 0:
        raise ValueError(f"limit is {limit}, and a length is positive")
    if max(wrong) > min(0.0, *right):
        raise ValueError(f"wrong answers, worth {wrong}, may not exceed 0 nor right ones, worth {right}")
    return [
        _scaled(score, length, falling(length, limit, limit), right if score.value >= threshold else wrong)
        for score, length in zip(accuracy, lengths, strict=True)
    ]


def _scaled(score: Score, length: float, kept: float, worth: tuple[float, float]) -> Score:
    if not score.ok:
        return score
    short, long = worth
    parts = {"accuracy": score.value, "length": float(length), "cosine": kept}
    return Score(long + (short - long) * kept, parts, note=score.note)


def hybrid(rule: Sequence[Score], model: Sequence[Score], confidence: Sequence[float]) -> list[Score]:
    """confidence * rule + (1 - confidence) * model, per sample; both in the same range, which it keeps.

    A score of weight 0 is not looked at, so its failure makes no difference; any other failure fails the
    outcome. `parts` holds both summands and the confidence.

    Args:
        rule: of a verifier.
        model: of a reward model or judge.
        confidence: how far the rule can decide this question, from 0 (open-ended) to 1 (verifiable).

    Raises:
        ValueError: columns of unequal length, or a confidence outside [0, 1].
    """
    results = []
    for row, (ruled, judged, share) in enumerate(zip(rule, model, confidence, strict=True)):
        if not 0 <= share <= 1:
            raise ValueError(f"the confidence of sample {row} is {share}; it lies in [0, 1]")
        needed = {"rule": (ruled, share), "model": (judged, 1 - share)}
        broken = {name: score for name, (score, weight) in needed.items() if weight and not score.ok}
        if broken:
            name, score = next(iter(broken.items()))
            results.append(Score.failed(score.status, f"{name}: {score.note}", score.parts))
            continue
        parts = {name: weight * score.value if weight else 0.0 for name, (score, weight) in needed.items()}
        results.append(Score(sum(parts.values()), {**parts, "confidence": share}))
    return results


def length_shares(
    lengths: Sequence[float], accuracy: Sequence[Score], groups: Sequence[str | None], *, right: float = 0.5
) -> list[float]:
    """How each response's length compares in its group: from 0.5 for the shortest to -0.5 for the longest.

    0.5 - (length - shortest) / (longest - shortest), and at most 0 for a wrong answer, so that short and
    wrong earns nothing (Kimi k1.5, arXiv:2501.12599). 0 where all lengths are equal, and for a failed
    accuracy. Add it with a weight below the worth of being right.

    Args:
        lengths: in tokens or characters.
        accuracy: of every response.
        groups: the GRPO group of each.
        right: accuracies from here up count as right.

    Raises:
        ValueError: columns of unequal length, a sample without a group, or a length that is negative or no
            number.
    """
    for row, length in enumerate(lengths):
        if not (math.isfinite(length) and length >= 0):
            raise ValueError(f"the length of sample {row} is {length}")
    members = by_group(groups, len(lengths))
    ends = {
        group: (min(lengths[row] for row in rows), max(lengths[row] for row in rows))
        for group, rows in members.items()
    }
    shares = []
    for length, given, group in zip(lengths, accuracy, groups, strict=True):
        low, high = ends[str(group)]
        share = 0.5 - (length - low) / (high - low) if high > low and given.ok else 0.0
        shares.append(share if given.ok and given.value >= right else min(0.0, share))
    return shares

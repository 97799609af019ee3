"""A rule where it can decide, a model where it cannot, and a price on length within a group.

After HARMO ("Beyond Monolithic Rewards", arXiv:2510.05283), whose own formulas are not published in code.
Whether a rule can decide is a property of the question. Were it one of the response, a policy could pick the
softer judge by writing what the rule cannot read.
"""

import math
from collections.abc import Sequence

from ..types import Score
from .grouping import by_group


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

"""What a right answer earns on top for how it was reached: grounded in evidence, consistent with its
reasoning. Pure functions over scores; a wrong answer never earns any of it.

An accuracy that failed fails the outcome. A judge that failed does what `failed` says, as in `compose`:
"propagate" fails the outcome, "drop" leaves the bonus out.
"""

from collections.abc import Sequence
from typing import get_args

from ..compose import Policy
from ..types import Score


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

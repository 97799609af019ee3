"""Short right answers above long ones, as a pure function over scores of accuracy.

Knows nothing of how accuracy is scored. What is wrong stays wrong: no length makes it worth more than
nothing.
"""

from collections.abc import Sequence

from ..types import Score
from ..verifiers.length import falling


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

"""Shortness: what a response keeps of its worth as it grows."""

from typing import Any

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.length import PARTS, Curve, Unit, judge, length_of
from ..verifiers.verdict import verified


@reward(
    "length",
    needs=("response",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2502.03373",
    example={
        "response": "<think>It has stripes.</think><answer>tiger</answer>",
        "meta": {"tokens": 320},
    },
)
def length(limit: int = 1024, span: int | None = None, curve: Curve = "cosine", unit: Unit = "tokens") -> Any:
    """1 for a response short enough, falling to 0 at the limit, whether it is right or not.

    A short wrong answer must not be paid: combine it with a gate on the accuracy (`compose.Recipe`), or use
    `shaping.brevity`, where shortness helps only what is right. A response that is empty, is cut off,
    or has two answers is worth 0, however short. `parts["over"]` is 1 beyond the limit.

    Args:
        limit: length from which the value is 0.
        span: the lengths below the limit over which it falls; all of them where not given.
        curve: "cosine", or "linear" (with it, the value minus 1 is DAPO's soft overlong punishment).
        unit: what is counted; "tokens" are taken from `sample.meta["tokens"]`, "words" are parted by spaces,
            or "characters".
    """
    fall = limit if span is None else span
    if not 0 < fall <= limit:
        raise ValueError(f"limit {limit} is positive, and span {span} between 1 and it")

    async def score(sample: Sample) -> Score:
        response = sample.response or ""
        size = length_of(response, sample.meta, unit)
        return verified(lambda: judge(response, size, limit=limit, span=fall, curve=curve), PARTS)

    return score

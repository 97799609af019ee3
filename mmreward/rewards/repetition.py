"""Repetition: the share of a response's n-grams that are not said twice."""

from typing import Any

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.answer import segment
from ..verifiers.repetition import PARTS, Unit, judge
from ..verifiers.verdict import Verdict, verified

MAX_SIZE = 64


@reward(
    "repetition",
    needs=("response",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2502.03373",
    example={"response": "<think>A cat sits on a mat, a cat sits on a mat.</think><answer>cat</answer>"},
)
def repetition(size: int = 6, unit: Unit = "words", allowed: float = 0.0) -> Any:
    """Different n-grams over all n-grams of the response, 0 to 1; the value minus 1 is the usual penalty.

    It says nothing of whether the response is right, and short ones repeat little: give it a small weight
    beside the accuracy. A response that is empty, is cut off, or has two
    answers is worth 0.

    Args:
        size: of an n-gram; 6 words in VLM-R1.
        unit: "words" are parted by spaces; "characters", spaces left out, for scripts that have none.
        allowed: the share of repeated n-grams that costs nothing, from 0 to below 1.
    """
    if not 1 <= size <= MAX_SIZE or not 0 <= allowed < 1:
        raise ValueError(f"size {size} lies in 1 to {MAX_SIZE}, and allowed {allowed} in [0, 1)")

    async def score(sample: Sample) -> Score:
        response = sample.response or ""

        def check() -> Verdict:
            segment(response, bare=True)
            return judge(response, size=size, unit=unit, allowed=allowed)

        return verified(check, PARTS)

    return score

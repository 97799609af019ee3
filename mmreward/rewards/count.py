"""Counting: 1 for the true number, and nothing for stating two."""

from typing import Any

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.count import PARTS, count_of, judge
from ..verifiers.short import short_answer
from ..verifiers.verdict import Verdict, verified


@reward(
    "count",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    example={"response": "<think>One, two, three.</think><answer>three</answer>", "target": 3},
)
def count(graded: bool = False, bare: bool = False, boxed: bool = False) -> Any:
    """The number of things, right or wrong: 0 or 1.

    `sample.target` is a whole number, or a text that states one. The answer states one number, in digits or
    in English words up to one hundred; two different ones, a range or a hedge ("about 3") are worth 0.
    `parts["off"]` is how far off it is.

    Args:
        graded: a wrong count n earns half of max(0, 1 - |n - truth| / max(1, truth)), for an early signal.
        bare: accept an answer without `<answer>` tags.
        boxed: the answer is inside a single `\\boxed{...}`.
    """

    async def score(sample: Sample) -> Score:
        truth = count_of(sample.target)
        response = sample.response or ""

        def check() -> Verdict:
            return judge(short_answer(response, bare=bare, boxed=boxed), truth, graded=graded)

        return verified(check, PARTS)

    return score

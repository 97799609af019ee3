"""Yes-or-no questions: 1 for the right one, and nothing for saying both."""

from typing import Any

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.short import short_answer
from ..verifiers.verdict import verified
from ..verifiers.yes_no import PARTS, judge, truth_of


@reward(
    "yes_no",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2504.07615",
    example={"response": "<think>I see it.</think><answer>Yes, on the left.</answer>", "target": "yes"},
)
def yes_no(bare: bool = False, boxed: bool = False) -> Any:
    """The right answer to a yes-or-no question, 0 or 1.

    `sample.target` is "yes" or "no", or true or false. The first word of the answer decides; the other word
    after it makes the answer worth 0. `parts["said_yes"]` shows a policy that always says the same. A blind
    guess earns 0.5.

    Args:
        bare: accept an answer without `<answer>` tags.
        boxed: the answer is inside a single `\\boxed{...}`.
    """

    async def score(sample: Sample) -> Score:
        truth = truth_of(sample.target)
        response = sample.response or ""
        return verified(lambda: judge(short_answer(response, bare=bare, boxed=boxed), truth), PARTS)

    return score

"""Verdict: did a judge name the better of two pictures?"""

from typing import Any

from ..failures import Unscorable
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.short import short_answer
from ..verifiers.verdict import Verdict, verified
from ..verifiers.which import TIE, preferred

PARTS = ("tie",)


@reward(
    "verdict",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.03318",
    example={
        "response": "<think>The first is missing the red circle.</think><answer>Image 2 is better</answer>",
        "target": "2",
    },
)
def verdict(bare: bool = False) -> Any:
    """1 where the answer names the better of two, else 0; for the training of judges.

    `sample.target` is "1" or "2", or "tie". The answer may be "2", "B", "the second image", "Image 2 is
    better" or "Both images are equally good", and nothing else. `parts["tie"]` is whether it is a tie.

    Args:
        bare: accept an answer without `<answer>` tags.
    """

    async def score(sample: Sample) -> Score:
        try:
            right = preferred(str(sample.target))
        except Unscorable:
            raise Unscorable(f"the target {str(sample.target)[:40]!r} is not 1, 2 or tie") from None

        def judge() -> Verdict:
            said = preferred(short_answer(sample.response or "", bare=bare))
            return Verdict(float(said == right), {"tie": float(said == TIE)})

        return verified(judge, PARTS)

    return score

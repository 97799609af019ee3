"""Whether a mathematical answer is the true one. Nothing hangs: algebra runs in processes that are killed."""

from typing import Any, Literal

from ..algebra import Effort, Exceeded, decide, use_math_verify
from ..failures import Unscorable
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.math import PARTS, answer_of, settle, truth_of
from ..verifiers.numbers import Likeness
from ..verifiers.verdict import Verdict, verified


@reward(
    "math",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    example={
        "response": "<think>Half of them.</think><answer>\\boxed{\\frac{2}{4}}</answer>",
        "target": "\\frac{1}{2}",
    },
)
def math(
    deadline: float = 3.0,
    exceeded: Exceeded = "failed",
    tolerance: float = 1e-6,
    percent: Literal["value", "either"] = "value",
    units: Literal["optional", "required"] = "optional",
    boxes: Literal["last", "agree"] = "last",
    only_boxed: bool = False,
    bare: bool = False,
    workers: int = 0,
) -> Any:
    """1 when the answer equals the target as text, as a number or by algebra (math-verify), else 0.

    The target is a number or text in plain notation or LaTeX; the answer is what the last \\boxed{} inside
    `<answer>` holds, or all that is there. Case counts, words are compared as text, sets have no order, and
    an interval's ends must be right. Prose, several numbers, an equation between numbers and what is too
    large to be computed (a tower of powers, 100!) are worth 0 with `parts["parsed"]` 0; a target like that is
    an error of the data, with status "error". Needs mmreward[math].

    Args:
        deadline: seconds that the algebra of one answer may take.
        exceeded: what becomes of an answer whose algebra runs out of time or memory. "failed" gives the
            status "timeout" or "error" and no value; "wrong" gives 0, for policies that learn to write such.
        tolerance: relative to the target, for targets that are numbers but not integers.
        percent: "value" reads 50% as 0.5 alone, "either" also as 50.
        units: "optional" lets the answer leave out the target's unit, "required" does not. Another unit is
            converted, or wrong.
        boxes: with several boxes, "last" counts the last, "agree" gives 0 unless all hold the same.
        only_boxed: an answer without \\boxed{} is none.
        bare: accept the last box after the thinking when there are no answer tags.
        workers: processes for algebra at most; 0 for one per core, up to 8. They are shared by all rewards
            that ask for the same number.

    Raises:
        ValueError: math-verify is not installed, or an argument is out of range.
    """
    likeness = Likeness(tolerance=tolerance, percent=percent, units=units)
    use_math_verify()
    effort = Effort(deadline, exceeded, workers)

    async def judge(sample: Sample) -> Verdict | Unscorable:
        truth = truth_of(sample.target)
        try:
            answer = answer_of(sample.response or "", bare=bare, boxes=boxes, only_boxed=only_boxed)
            judged = settle(truth, answer, likeness)
        except Unscorable as failure:
            return failure
        if isinstance(judged, Verdict):
            return judged
        return await decide(judged, effort)

    async def score(sample: Sample) -> Score:
        judged = await judge(sample)

        def check() -> Verdict:
            if isinstance(judged, Unscorable):
                raise judged
            return judged

        return verified(check, PARTS)

    return score

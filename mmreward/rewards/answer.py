"""Whether a short answer is the true one: text, number, sequence or mathematics, as the target is."""

from collections.abc import Mapping
from typing import Any, Literal

from ..algebra import Effort, Exceeded, decide, use_math_verify
from ..failures import Unscorable
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.answer import boxed, segment
from ..verifiers.match import PARTS, Kind, Wanted, judged, match, wanted
from ..verifiers.math import answer_of, settle, truth_of
from ..verifiers.numbers import Likeness, Relax
from ..verifiers.verdict import Verdict, verified

KEYS = ("answer", "kind", "aliases")
"""Of a target that is a mapping."""


@reward(
    "answer",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    example={
        "response": "<think>The bar ends at 54.</think><answer>54 cm</answer>",
        "target": {"answer": "0.54 m", "kind": "number"},
    },
)
def answer(
    kind: Kind = "auto",
    tolerance: float = 1e-6,
    relax: Relax = "decimals",
    percent: Literal["value", "either"] = "value",
    units: Literal["optional", "required"] = "optional",
    deadline: float = 3.0,
    exceeded: Exceeded = "failed",
    workers: int = 0,
    bare: bool = False,
) -> Any:
    """1 when the answer is the target, compared as its kind asks, else 0: charts, puzzles, science.

    The target is text, a number, a list (a sequence, in order), or {"answer": ..., "kind": ..., "aliases":
    [...]}, whose kind is that row's own. The answer is what `<answer>` holds, or the last \\boxed{} in it.
    Text is compared without case and spacing, never by what it contains. `parts["items"]` is the share of a
    sequence that is right. ChartQA's relaxed accuracy is tolerance 0.05 with relax "integers"; relax "all" is
    as lenient as the original, for which 1950 is 2010.

    Args:
        kind: "text", "number", "sequence" or "math"; "auto" decides by each target. "math" needs
            mmreward[math], and so does a target in LaTeX.
        tolerance: relative to the target, for numbers.
        relax: which targets the tolerance is for. "decimals" leaves out those written as integers, "integers"
            leaves out years, "all" leaves out none.
        percent, units: as in the reward `math`.
        deadline, exceeded, workers: of the algebra, as in the reward `math`.
        bare: accept a response without answer tags whole.

    Raises:
        ValueError: an argument is out of range, or kind is "math" without math-verify.
    """
    likeness = Likeness(tolerance=tolerance, relax=relax, percent=percent, units=units)
    effort = Effort(deadline, exceeded, workers)
    if kind == "math":
        use_math_verify()

    async def judge(sample: Sample) -> Verdict | Unscorable:
        truth = _wanted(sample.target, kind)
        response = sample.response or ""
        try:
            if truth.kind != "math":
                text = segment(response, bare=bare).answer
                held = boxed(text)
                return match(truth, text if held is None else held, likeness)
            known = truth_of(truth.given)
            settled = settle(known, answer_of(response, bare=bare), likeness)
        except Unscorable as failure:
            if failure.status != "unparsable":
                raise
            return failure
        if not isinstance(settled, Verdict):
            use_math_verify()
            result = await decide(settled, effort)
            if isinstance(result, Unscorable):
                return result
            settled = result
        return judged(settled.value, math=settled.value)._replace(note=settled.note)

    async def score(sample: Sample) -> Score:
        result = await judge(sample)

        def check() -> Verdict:
            if isinstance(result, Unscorable):
                raise result
            return result

        return verified(check, PARTS)

    return score


def _wanted(target: Any, kind: Kind) -> Wanted:
    if not isinstance(target, Mapping):
        return wanted(target, kind)
    # A table's missing cells come as None.
    given = {name: value for name, value in target.items() if value is not None}
    if unknown := sorted(set(given) - set(KEYS)):
        raise Unscorable(f"the target has {', '.join(unknown)}; it may have {', '.join(KEYS)}")
    if "answer" not in given:
        raise Unscorable("the target has no answer")
    return wanted(given["answer"], given.get("kind", kind), given.get("aliases", ()))

"""Whether a mathematical answer is the true one. Nothing hangs: algebra runs in processes that are killed."""

import asyncio
from concurrent.futures import Future
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from ..failures import Unscorable
from ..killable import Killed
from ..registry import reward, uses
from ..types import Sample, Score
from ..verifiers.algebra import Algebra, readable, require_math_verify
from ..verifiers.math import PARTS, Open, answer_of, settle, truth_of, verdict
from ..verifiers.numbers import Likeness
from ..verifiers.verdict import Verdict, verified

Exceeded = Literal["failed", "wrong"]


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
    if not 0 < deadline <= 600:
        raise ValueError(f"deadline {deadline} is in seconds, above 0 and up to 600")
    if workers < 0:
        raise ValueError(f"workers {workers}: give a number of processes, or 0")
    likeness = Likeness(tolerance=tolerance, percent=percent, units=units)
    uses(_Library("math-verify", require_math_verify()))

    async def judge(sample: Sample) -> Verdict | Unscorable:
        truth = truth_of(sample.target)
        try:
            answer = answer_of(sample.response or "", bare=bare, boxes=boxes, only_boxed=only_boxed)
            judged = settle(truth, answer, likeness)
        except Unscorable as failure:
            return failure
        if isinstance(judged, Verdict):
            return judged
        return await decide(algebra(workers), judged, deadline, exceeded)

    async def score(sample: Sample) -> Score:
        judged = await judge(sample)

        def check() -> Verdict:
            if isinstance(judged, Unscorable):
                raise judged
            return judged

        return verified(check, PARTS)

    return score


async def decide(algebra: Algebra, pair: Open, deadline: float, exceeded: Exceeded) -> Verdict | Unscorable:
    """Have two expressions compared, the truth being read first, once for all its answers.

    Returns:
        The verdict, or why the answer could not be read.

    Raises:
        Unscorable: the truth cannot be read, or ("failed") the comparison did not end: "timeout" or "error".
    """
    try:
        readable(await _wait(algebra.read(pair.gold, deadline)), pair.gold)
    except (TimeoutError, Killed) as error:
        raise Unscorable(f"the target {pair.gold[:80]!r} could not be read: {error}") from None
    try:
        reply = await _wait(algebra.compare(pair, deadline))
    except TimeoutError as error:
        return _exceeded(pair, f"{error}", "timeout", exceeded)
    except Killed as error:
        return _exceeded(pair, f"{error}", "error", exceeded)
    match reply:
        case "equal" | "different":
            return verdict("symbolic" if reply == "equal" else "")
        case "unread":
            return Unscorable(f"{pair.answer[:80]!r} cannot be read as mathematics", "unparsable")
        case _:
            return _exceeded(pair, f"it ended with {reply}", "error", exceeded)


def _exceeded(pair: Open, why: str, status: Literal["timeout", "error"], policy: Exceeded) -> Verdict:
    reason = f"comparing {pair.answer[:80]!r} with {pair.gold[:80]!r}: {why}"
    if policy == "failed":
        raise Unscorable(reason, status)
    return verdict("")._replace(note=reason)


async def _wait(asked: "Future[Any]") -> Any:
    """The answer; who gives up waiting for the truth to be read does not stop the others' wait."""
    return await asyncio.shield(asyncio.wrap_future(asked))


@lru_cache(None)
def algebra(workers: int) -> Algebra:
    """The workers of this process, which start with the first answer that needs them."""
    return Algebra(workers)


class _Library(NamedTuple):
    name: str
    release: str

    @property
    def fingerprint(self) -> str:
        return f"{self.name} {self.release}"

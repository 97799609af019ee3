"""For rewards that ask a judge about a response: a response that cannot be read is wrong before anyone is
asked."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from ..failures import Unscorable
from ..types import Score
from .answer import segment
from .verdict import Verdict, verified

T = TypeVar("T")


class Reasoned(NamedTuple):
    """A response that has both: reasoning, and an answer after it."""

    thought: str
    answer: str


def read_or_wrong(read: Callable[[], T], parts: Sequence[str]) -> T | Score:
    """What `read` finds in a response; where it raises Unscorable("...", "unparsable"), the score of 0.

    The judge is asked outside of this: what a judge fails to say must stay a failure, where what a policy
    fails to say is its mistake (see `verdict.verified`).
    """
    found: list[T] = []

    def check() -> Verdict:
        found.append(read())
        return Verdict(0.0, dict.fromkeys(parts, 0.0))

    score = verified(check, parts)
    return found[0] if found else score


def reasoned(response: str) -> Reasoned:
    """The reasoning and the answer.

    Raises:
        Unscorable: "unparsable" when one of them is missing or empty; see also `answer.segment`.
    """
    thought, answer = segment(response)
    if not thought:
        raise Unscorable("there is no reasoning before the answer", "unparsable")
    if not answer:
        raise Unscorable("the answer is empty", "unparsable")
    return Reasoned(thought, answer)


def replied(response: str) -> str:
    """What the one who asked gets to read: the answer in its tags, or all that follows the thinking.

    Raises:
        Unscorable: "unparsable" when that is empty; see also `answer.segment`.
    """
    reply = segment(response, bare=True).answer
    if not reply:
        raise Unscorable("the reply is empty", "unparsable")
    return reply

"""The final answer of a response that is to be short: one place, one answer, a bounded number of
characters."""

from ..failures import Unscorable
from .answer import boxed as inside_box
from .answer import segment
from .plain import compatible

MAX_ANSWER = 2000
"""Characters; whoever writes more than this was asked for a letter, a number or a name."""


def short_answer(response: str, *, bare: bool = False, boxed: bool = False) -> str:
    """What the response answers, in Unicode's NFKC form; it may be empty.

    Args:
        response: the whole text.
        bare: take what follows the reasoning where there are no answer tags.
        boxed: the answer is what the only `\\boxed{...}` of it holds.

    Raises:
        Unscorable: "unparsable" as `segment`, when the answer is longer than `MAX_ANSWER`, and when a box is
            asked for and there is none or more than one.
    """
    answer = segment(response, bare=bare).answer
    if boxed:
        count = answer.count("\\boxed") + answer.count("\\fbox")
        content = inside_box(answer) if count == 1 else None
        if content is None:
            raise Unscorable(f"one \\boxed{{...}} is expected, and there are {count}", "unparsable")
        answer = content
    return bounded(answer)


def bounded(answer: str) -> str:
    """An answer in NFKC form.

    Raises:
        Unscorable: "unparsable" when it is longer than `MAX_ANSWER`.
    """
    if len(answer) > MAX_ANSWER:
        raise Unscorable(f"the answer has {len(answer)} characters, more than {MAX_ANSWER}", "unparsable")
    return compatible(answer).strip()

"""What a verifier found, and what a response without an answer earns."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..failures import Unscorable
from ..types import Score


class Verdict(NamedTuple):
    """A response that could be read, judged.

    Args:
        value: 0 for wrong to 1 for right.
        parts: what it is made of; a verifier gives every response the same names.
        note: what there is to say in words.
    """

    value: float
    parts: Mapping[str, float]
    note: str = ""


def verified(check: Callable[[], Verdict], parts: Sequence[str]) -> Score:
    """The score of a response: the check's verdict, or 0 where it raises Unscorable("...", "unparsable").

    A response that holds no readable answer is wrong. Were it NaN, a policy would escape a bad mark by
    writing nonsense. Whatever is not the response's fault (a target that makes no sense, a deadline) is
    raised on, and stays a failure. `parsed` is 1 or 0, and every score has the same parts, as trainers that
    take their columns from the first sample need.

    Args:
        check: reads and judges the response.
        parts: the names of all parts of a verdict.
    """
    try:
        verdict = check()
    except Unscorable as failure:
        if failure.status != "unparsable":
            raise
        return Score(0.0, {"parsed": 0.0, **dict.fromkeys(parts, 0.0)}, note=str(failure))
    return Score(verdict.value, {"parsed": 1.0, **verdict.parts}, note=verdict.note)

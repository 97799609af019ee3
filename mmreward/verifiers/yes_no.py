"""Yes or no: the first word decides, and an answer that says both says neither."""

import re
from typing import Any

from ..failures import Unscorable
from .plain import EDGES
from .verdict import Verdict

PARTS = ("correct", "said_yes")

LEAD = re.compile(
    r"(?:(?:so|thus|hence|therefore)\b,? ?)?(?:(?:the|my) )?(?:(?:final|correct) )?(?:answer ?(?:is|:) ?)?"
)
VERDICTS = re.compile(r"\b(?:yes|no(?! [^\W\d_]))\b|\bno (?=yes\b)")
"""Every `yes`, and every `no` that is not the determiner of a noun, as in "no cat"."""


def said(answer: str) -> bool:
    """Whether a short answer says yes. "Yes, there is no cat" does; "yes and no" says nothing.

    The answer's first word, or the first after "the answer is", must be one of the two: words like "know" or
    "yesterday" are neither, and "not yes" is not read.

    Raises:
        Unscorable: "unparsable" when the first word is neither, or when the other one follows.
    """
    text = " ".join(answer.casefold().split()).strip(EDGES)
    rest = text[LEAD.match(text).end() :].lstrip(EDGES)  # type: ignore[union-attr]  # it may match nothing
    word = re.match(r"(?:yes|no)\b", rest)
    if word is None:
        raise Unscorable(f"neither yes nor no in {answer[:80]!r}", "unparsable")
    later = {found.strip() for found in VERDICTS.findall(rest, word.end())}
    if later - {word[0]}:
        raise Unscorable(f"both yes and no in {answer[:80]!r}", "unparsable")
    return word[0] == "yes"


def truth_of(target: Any) -> bool:
    """A target: true or false, 1 or 0, or a text that says yes or no.

    Raises:
        Unscorable: it is none of these.
    """
    if isinstance(target, bool) or (isinstance(target, int | float) and target in (0, 1)):
        return bool(target)
    try:
        return said(target if isinstance(target, str) else "")
    except Unscorable as failure:
        raise Unscorable(f"the target {target!r} is neither yes nor no") from failure


def judge(answer: str, truth: bool) -> Verdict:
    """1 when the answer says what is true."""
    yes = said(answer)
    return Verdict(float(yes == truth), {"correct": float(yes == truth), "said_yes": float(yes)})

"""Where the reasoning ends and the answer begins, and how to hide a verdict from a listener.

Only string searches, so a megabyte of adversarial text costs a linear scan.
"""

# FOLDED mmreward/verifiers/expected.py: What to do with a response that says several things where one was asked for.
# FOLDED mmreward/verifiers/fence.py: What a policy wrote, quoted for a judge so that it stays a quotation.
#
# A response may try to end the quotation, to close the judge's turn with a chat template's own token and answer
# in its place, or to name a picture's placeholder so that the prompt is refused and no bad mark is given.
#
# FOLDED mmreward/verifiers/short.py: The final answer of a response that is to be short: one place, one answer, a bounded number of
# characters.
# FOLDED mmreward/verifiers/verdict.py: What a verifier found, and what a response without an answer earns.
# FOLDED mmreward/verifiers/readable.py: For rewards that ask a judge about a response: a response that cannot be read is wrong before anyone is
# asked.

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from ..errors import Unscorable
from ..types import Score
from .text import compatible

CUES = re.compile(
    r"\b(answer|verdict|conclusion|conclude|judge?ment|choose|choice|pick|prefer|select|winner|wins|better|best|final"
    r"|go with|superior|stronger|strongest|beats?|outperforms?|favou?r|vote|worse|worst|loses|closer"
    r"|more (?:closely|accurate|accurately|faithful|faithfully))\b",
    re.IGNORECASE,
)
LED = re.compile(r"^\W*(?:so|therefore|thus|hence|overall|finally)\b", re.IGNORECASE)
YES_NO = re.compile(
    r"^\W*(?:yes|no)\s*(?:[,.:;!*\u2013\u2014]|-+\s|$)|\b(?:yes|no)\W*$|\ba\s+(?:yes|no)\b", re.IGNORECASE
)
MAX_BOXED = 4096
ORDINALS = {"1": "first", "2": "second", "3": "third", "4": "fourth"}
MATCHES = re.compile(
    r"\b(?:it|picture|image|this|does|do|so|request|prompt|description)\b[^.]{0,40}"
    r"\b(?:match|fit|satisf(?:y|ies|ied)|fulfil)",
    re.IGNORECASE,
)


class Segments(NamedTuple):
    """A response taken apart: what was thought, and the final answer."""

    thought: str
    answer: str


def segment(text: str, *, bare: bool = False, prefilled: bool = False) -> Segments:
    """Split a response at its last `</think>` and take the answer from the `<answer>` tags after it.

    Args:
        text: the whole response. A template that opens `<think>` in the prompt leaves only the closing tag
            here.
        bare: take everything after the thinking when there are no answer tags.
        prefilled: the template opens `<think>` in the prompt, so a response that never closes it is cut off.

    Raises:
        Unscorable: "unparsable" when the thinking was never closed (cut off), when there are no answer tags
            and `bare` is off, or when there are several answers.
    """
    before, closed, body = text.rpartition("</think>")
    if not closed and (prefilled or "<think>" in text):
        raise Unscorable("the reasoning was never closed: the response is cut off", "unparsable")
    thought = before.strip().removeprefix("<think>").strip()
    count = body.count("<answer>")
    if count > 1:
        raise Unscorable(f"{count} answers where one is expected", "unparsable")
    if count == 1:
        answer = body.partition("<answer>")[2].partition("</answer>")[0]
        return Segments(thought, answer.strip())
    if not bare:
        raise Unscorable("there is no <answer> after the reasoning", "unparsable")
    return Segments(thought, body.strip())


def inside_box(text: str) -> str | None:
    """What the last `\\boxed{...}` (or `\\fbox`) holds, braces balanced; None where there is none.

    A backslash takes the next character out of the count. An expression of more than `MAX_BOXED` characters,
    or without its closing brace, is none.
    """
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    opening = text.find("{", start) if start >= 0 else -1
    if opening < 0 or text[start:opening].strip() not in ("\\boxed", "\\fbox"):
        return None
    depth, at, end = 0, opening, min(len(text), opening + MAX_BOXED)
    while at < end:
        if text[at] == "\\":
            at += 1
        elif text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if not depth:
                return text[opening + 1 : at].strip()
        at += 1
    return None


def mask_verdict(thought: str, labels: Sequence[str]) -> str:
    """Drop the sentences that announce the verdict.

    A sentence goes when it names a label (or "first" for "1") together with a word such as "answer" or
    "better", when it starts with "so" or "therefore" and ends with a label, and when it is nothing but one.
    For yes-or-no verdicts it also goes when it opens with "yes," or ends with "yes", and when it says that
    the picture does or does not match.
    """
    words = "|".join(map(re.escape, [*labels, *(ORDINALS[label] for label in labels if label in ORDINALS)]))
    named = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
    ended = re.compile(rf"(?<!\w)(?:{words})\W*$", re.IGNORECASE)
    alone = {label.lower() for label in labels}
    binary = alone == {"yes", "no"}
    kept = []
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", thought):
        bare = sentence.strip(" .!?*:\"'").lower()
        tells = (
            (CUES.search(sentence) and named.search(sentence))
            or (LED.search(sentence) and ended.search(sentence))
            or (binary and (YES_NO.search(sentence) or MATCHES.search(sentence)))
        )
        if bare and bare not in alone and not tells:
            kept.append(sentence.strip())
    return " ".join(kept)


Several = Literal["refuse", "first", "last"]
Thing = TypeVar("Thing")


def expect_one(things: Sequence[Thing], several: Several, what: str) -> Thing:
    """The one thing, or the declared one of several; never the best of them, which would pay for guessing.

    Raises:
        Unscorable: "unparsable" for none, and for several unless one is declared.
    """
    if not things:
        raise Unscorable(f"no {what} where one is expected", "unparsable")
    if len(things) > 1 and several == "refuse":
        raise Unscorable(f"{len(things)} answers where one {what} is expected", "unparsable")
    return things[-1] if several == "last" else things[0]


OPENED, CLOSED = "<<<", ">>>"


def defused(text: str) -> str:
    """The text with every `<|` of a special token broken up, so that a tokenizer reads plain characters."""
    return text.replace("<|", "< |")


def fenced(text: str) -> str:
    """The text between lines of marks that it cannot contain itself; special tokens are broken up."""
    inner = defused(text).replace("<<", "< <").replace(">>", "> >")  # leaves no three in a row
    return f"{OPENED}\n{inner.strip()}\n{CLOSED}"


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

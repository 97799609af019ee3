"""Where the reasoning ends and the answer begins, and how to hide a verdict from a listener.

Only string searches, so a megabyte of adversarial text costs a linear scan.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..failures import Unscorable

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


def boxed(text: str) -> str | None:
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

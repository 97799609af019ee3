"""Marks by aspect in the text of a judge, in the layouts judges really write.

Headings with #, *, numbers or a colon; "Score: 3", "**Score:** 3.5", "Score" with the number on the next
line, "3/4" when 4 is the best score, N/A. Scores that are missing, out of range or contradict each other are
typed failures; no value is guessed or filled in for them. Pure string work.
"""

import re
from collections.abc import Sequence

from ...errors import Unscorable
from ...verifiers.text import nfkc
from ...verifiers.thoughts import after_thinking
from ..published.votes import Marks

VALUE = re.compile(r"([+-]?\d{1,6}(?:\.\d{1,6})?)(?:\s*(?:/|out of)\s*(\d{1,6}(?:\.\d{1,6})?))?\.?")
NOT_APPLICABLE = ("n/a", "na", "not applicable", "none")
ORNAMENT = "#*_`>- \t"


def read_aspects(text: str, names: Sequence[str], low: float, high: float) -> Marks:
    """Read scores by aspect, on the judge's scale, and where each stands; None for those marked N/A.

    Raises:
        Unscorable: "missing" when an aspect has no score, "unparsable" when one has two different ones or one
            that is no number, or for thinking without an end (see `verifiers.thoughts`), "out_of_range" when
            one lies outside [low, high].
    """
    found: dict[str, float | None] = {}
    spans: dict[str, tuple[int, int]] = {}
    known = {plain_line(name): name for name in names}
    current, awaiting = "", False
    body = after_thinking(text)
    end = len(text) - len(body)
    for raw in body.splitlines(keepends=True):
        begin, end = end, end + len(raw)
        # A heading selects the aspect; its score stands beside it, after "Score", or on the next line that
        # says anything. Every other line is justification, whose numbers mean nothing.
        words = re.sub(r"^\d+[.)]\s*", "", plain_line(raw))
        head, colon, rest = (_bare(part) for part in words.partition(":"))
        if head in known:
            current, awaiting = known[head], False
            words = rest
            if not rest or not VALUE.fullmatch(rest):
                continue
        elif head == "score" or head.startswith("score ("):
            awaiting = True
            words = rest if colon else ""
        elif not awaiting:
            continue
        if not words or not current:
            continue
        awaiting = False
        score = _value(words, low, high, current)
        if current in found and found[current] != score:
            raise Unscorable(f"{current} has two scores, {found[current]} and {score}", "unparsable")
        found[current] = score
        if (written := VALUE.fullmatch(words)) is not None:
            at = raw.find(written[1], raw.find(":") + 1)
            if at >= 0:  # digits of another alphabet are no tokens that a mark can be tried in the place of
                spans[current] = (begin + at, begin + at + len(written[1]))
    absent = [name for name in names if name not in found]
    if absent:
        raise Unscorable(f"no score for {', '.join(absent)} in: {text[:200]}", "missing")
    return Marks({name: found[name] for name in names}, spans=spans)


def plain_line(text: str) -> str:
    """A line without its dress, in lower case."""
    normal = nfkc(text).replace("**", "")
    return " ".join(_bare(normal.casefold()).split())


def _bare(text: str) -> str:
    """Text without ornament around it; a minus right before a digit is no ornament."""
    bare = text.strip(ORNAMENT)
    negative = bare[:1].isdigit() and text[: len(text.rstrip(ORNAMENT)) - len(bare)].endswith("-")
    return f"-{bare}" if negative else bare


def _value(words: str, low: float, high: float, name: str) -> float | None:
    if words.rstrip(".") in NOT_APPLICABLE:
        return None
    match = VALUE.fullmatch(words)
    if match is None or (match[2] and float(match[2]) != high):
        raise Unscorable(
            f"{name} has the score {words[:40]!r}, which is no number up to {high:g}", "unparsable"
        )
    score = float(match[1])
    if not low <= score <= high:
        raise Unscorable(f"{name} has the score {score:g}, outside {low:g} to {high:g}", "out_of_range")
    return score

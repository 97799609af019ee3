"""Reads a critique's scores, one per aspect, out of the layouts judges really write.

Accepted: headings with #, *, numbers or a colon; "Score: 3", "**Score:** 3.5", "Score" with the number on the
next line, "3/4" when 4 is the best score, N/A. Not accepted: guessing.
"""

import re
from collections.abc import Sequence

from ..failures import Unscorable
from .plain import compatible

VALUE = re.compile(r"([+-]?\d{1,6}(?:\.\d{1,6})?)(?:\s*(?:/|out of)\s*(\d{1,6}(?:\.\d{1,6})?))?\.?")
NOT_APPLICABLE = ("n/a", "na", "not applicable", "none")
ORNAMENT = "#*_`>- \t"


def parse_aspects(text: str, names: Sequence[str], low: float, high: float) -> dict[str, float]:
    """Scores by aspect, on the judge's scale; aspects marked N/A are left out.

    Raises:
        Unscorable: "missing" when an aspect has no score, "unparsable" when one has two different ones or one
            that is no number, "out_of_range" when one lies outside [low, high].
    """
    found: dict[str, float | None] = {}
    known = {_plain(name): name for name in names}
    current, awaiting = "", False
    for line in text.rpartition("</think>")[2].splitlines():
        words = re.sub(r"^\d+[.)]\s*", "", _plain(line))
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
    absent = [name for name in names if name not in found]
    if absent:
        raise Unscorable(f"no score for {', '.join(absent)} in: {text[:200]}", "missing")
    return {name: score for name in names if (score := found[name]) is not None}


def _plain(text: str) -> str:
    normal = compatible(text).replace("**", "")
    return " ".join(_bare(normal.casefold()).split())


def _bare(text: str) -> str:
    """Without the ornament around it; a minus right before a digit is none."""
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

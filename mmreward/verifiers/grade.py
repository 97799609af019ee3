"""Reads the one grade a judge wrote: a decimal, a percentage or a fraction, and never a guess.

SophiaVL-R1's own parser allows one decimal digit, so that 0.85 becomes 0, and takes "1 wrong step" for a
grade of 1. Here a text that does not plainly give one grade is a failure of the judge.
"""

import re
import unicodedata

from ..failures import Unscorable
from ..types import MAX_TEXT
from .answer import boxed, segment

PLAIN = r"[+-]?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})"
GRADE = re.compile(rf"({PLAIN})(?:/({PLAIN})|(%))?")
LABELLED = re.compile(
    r"\b(?:score|grade|rating)\b(?: ?\([^()\n]{0,40}\))?[\s*_`:=]{0,8}(?:\bis\b[\s*_`:=]{0,8})?"
    r"([\d.+/%-]{1,32})(?![\w.+/%-]|,\d)",
    re.IGNORECASE,
)
SLASH = re.compile(r" {0,2}(?:/|\bout of\b) {0,2}", re.IGNORECASE)
PERCENT = re.compile(r" {0,2}(?:%|\bpercent\b)", re.IGNORECASE)
ORNAMENT = " \t\r\n*_`#>\"'"


def parse_grade(text: str, low: float = 0.0, high: float = 1.0) -> float:
    """The grade as a share of the way from `low` to `high`, 0 to 1.

    It stands in `<answer>` tags or the last `\\boxed{}` after the thinking, or is all that was written there;
    "Score: 0.85" within other words counts when no second score disagrees. "85%", "7/10" and "7 out of 10"
    are shares of the scale whatever its ends are.

    Raises:
        Unscorable: "unparsable" when there is no plain grade or more than one, "out_of_range" when it lies
            outside the scale.
        ValueError: low is not below high.
    """
    if not low < high:
        raise ValueError(f"low {low} must be below high {high}")
    if len(text) > MAX_TEXT:
        raise Unscorable(f"the judge wrote {len(text)} characters; {MAX_TEXT} are read", "unparsable")
    answer = segment(text, bare=True).answer
    inside = boxed(answer)
    words = _shortened(answer if inside is None else inside)
    alone = words.lstrip(ORNAMENT).rstrip(ORNAMENT + ".")
    found = [alone] if GRADE.fullmatch(alone) else [match[1] for match in LABELLED.finditer(words)]
    grades = {_share(one.rstrip("."), low, high) for one in found}
    if len(grades) != 1:
        what = f"{len(grades)} different grades" if grades else "no plain grade"
        raise Unscorable(f"{what} in: {answer[:200]}", "unparsable")
    return grades.pop()


def _shortened(words: str) -> str:
    """One sign for each way to write a minus, a fraction or a percentage."""
    plain = unicodedata.normalize("NFKC", words).replace("\u2212", "-").replace("\u2044", "/")
    return PERCENT.sub("%", SLASH.sub("/", plain))


def _share(written: str, low: float, high: float) -> float:
    match = GRADE.fullmatch(written)
    if match is None or (match[2] is not None and float(match[2]) <= 0):
        raise Unscorable(f"the grade {written!r} is no decimal, percentage or fraction", "unparsable")
    number = float(match[1])
    if match[3] is not None:
        share = number / 100
    elif match[2] is not None:
        share = number / float(match[2])
    else:
        share = (number - low) / (high - low)
    if not 0 <= share <= 1:
        raise Unscorable(f"the grade {written!r} is outside {low:g} to {high:g}", "out_of_range")
    return share

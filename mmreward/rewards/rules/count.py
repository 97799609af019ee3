"""Counts: the one number that an answer states, in digits or in English words, and its distance from the
truth.

An answer that states two different numbers, a range or a hedge states none, so no wording covers two guesses.
"""

import re
from typing import Any, NamedTuple

from ...errors import Unscorable
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.response import Verdict, short_answer, verified
from ...verifiers.text import nfkc

PARTS = ("exact", "off")
MAX_DIGITS = 32
MAX_OFF = 1e9
"""Upper limit of `parts["off"]`: farther off is as bad, and a mean over samples stays legible."""

FIRST = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = (
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
UNITS = (*FIRST, "ten", *TEENS)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
WORDS = {
    **{word: n for n, word in enumerate(UNITS)},
    **{word: 10 * n for n, word in enumerate(TENS, 2)},
    "hundred": 100,
}
TOKEN = re.compile(
    r"(?<![\w.,])(?P<sign>[-+](?=[\d.]))?(?P<digits>\d[\d.,]*)(?P<tail>[^\W\d_]*)"
    r"|(?<![^\W_])(?:(?P<tens>"
    + "|".join(TENS)
    + r")(?:[ -](?P<unit>"
    + "|".join(FIRST[1:])
    + r"))?|(?:(?:a|one) )?(?P<hundred>hundred)|(?P<word>"
    + "|".join(sorted(UNITS, key=len, reverse=True))
    + r"))(?![^\W_])",
    re.IGNORECASE,
)
THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.0+)?|\d+(?:\.0+)?")
HEDGES = re.compile(
    r"\b(?:not|or|about|around|approximately|approx|roughly|nearly|almost|at least|at most|more than"
    r"|less than|fewer than|over|under|up to|between|maybe|perhaps|possibly|several|many)\b"
    r"|[~<>\u2248\u2264\u2265]|\d\+",
    re.IGNORECASE,
)


class Reading(NamedTuple):
    """Distinct counts that a text states, and True where it states a number that is no count."""

    counts: frozenset[int]
    other: bool


def read_numbers(text: str) -> Reading:
    """Read all numbers of a text: digits ("1,204", "3.0", "-2") and the English words from zero to one
    hundred."""
    counts, other = set(), False
    for match in TOKEN.finditer(text):
        if match["digits"]:
            digits = match["digits"].rstrip(".,")
            if match["tail"] or len(digits) > MAX_DIGITS or not THOUSANDS.fullmatch(digits):
                other = True
                continue
            value = int(digits.partition(".")[0].replace(",", ""))
            counts.add(-value if match["sign"] == "-" else value)
        else:
            named = match["tens"] or match["hundred"] or match["word"]
            unit = WORDS[match["unit"].lower()] if match["unit"] else 0
            counts.add(WORDS[named.lower()] + unit)
    return Reading(frozenset(counts), other)


def single_count(answer: str) -> int:
    """Read the only number of a short answer.

    Raises:
        Unscorable: "unparsable" when there is none, when there are two different ones ("3 or 4", a range, a
            date), when one is no whole number, or when the wording hedges ("about 3", "at least 3", "not 3").
    """
    counts, other = read_numbers(answer)
    if len(counts) != 1 or other:
        what = "no number" if not counts and not other else "more than one number, or a strange one,"
        raise Unscorable(f"{what} in {answer[:80]!r}", "unparsable")
    if HEDGES.search(answer):
        raise Unscorable(f"a number that is hedged in {answer[:80]!r}", "unparsable")
    return next(iter(counts))


def count_of(target: Any) -> int:
    """Read a target: a whole number of at least 0, or a text that states one.

    Raises:
        Unscorable: it is none.
    """
    if isinstance(target, float) and target.is_integer():
        target = int(target)
    if isinstance(target, str):
        try:
            target = single_count(nfkc(target))
        except Unscorable as failure:
            raise Unscorable(f"the target {target!r} states no count") from failure
    if isinstance(target, bool) or not isinstance(target, int) or target < 0:
        raise Unscorable(f"the target {target!r} is no count: give a whole number of at least 0")
    return target


def grade_count(answer: str, truth: int, *, graded: bool = False) -> Verdict:
    """Grade an answer: 1 for the true count. With `graded`, a wrong one earns half of max(0, 1 - |n - truth|
    / max(1, truth)).

    Half, so that being right is always worth more than being near. `parts["off"]` is |n - truth|, up to
    `MAX_OFF`.

    Raises:
        Unscorable: "unparsable", as `single_count`.
    """
    off = abs(single_count(answer) - truth)
    parts = {"exact": float(off == 0), "off": float(min(off, MAX_OFF))}
    near = max(0.0, 1 - off / max(1, truth)) / 2 if graded and off <= max(1, truth) else 0.0
    return Verdict(1.0 if off == 0 else near, parts)


@reward(
    "count",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    example={"response": "<think>One, two, three.</think><answer>three</answer>", "target": 3},
)
def count(graded: bool = False, bare: bool = False, boxed: bool = False) -> Any:
    """The number of things, right or wrong: 0 or 1.

    `sample.target` is a whole number, or a text that states one. The answer states one number, in digits or
    in English words up to one hundred; two different ones, a range or a hedge ("about 3") are worth 0.
    `parts["off"]` is the distance from the truth.

    Args:
        graded: a wrong count n earns half of max(0, 1 - |n - truth| / max(1, truth)), for an early signal.
        bare: accept an answer without `<answer>` tags.
        boxed: the answer is inside a single `\\boxed{...}`.
    """

    async def score(sample: Sample) -> Score:
        truth = count_of(sample.target)
        response = sample.response or ""

        def check() -> Verdict:
            return grade_count(short_answer(response, bare=bare, boxed=boxed), truth, graded=graded)

        return verified(check, PARTS)

    return score

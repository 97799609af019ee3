"""Counts: the one number that an answer states, in digits or in words, and its distance from the truth.

An answer that states two different numbers, a range or a hedge states none, so no wording covers two guesses.
A hedge is a word that bears on the number: "over 3" is one, "3 birds over the lake" is none.
"""

import re
from typing import Any, NamedTuple

from ...errors import Unscorable
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.numerals import chinese, english
from ...verifiers.reading import agreed, plain, read_answer, without_lead
from ...verifiers.response import Reading, Verdict, verified
from ...verifiers.text import nfkc

PARTS = ("exact", "off")
MAX_DIGITS = 32
MAX_OFF = 1e9
"""Upper limit of `parts["off"]`: farther off is as bad, and a mean over samples stays legible."""

DIGITS = re.compile(
    r"(?<![\w.,])(?P<sign>[-+](?=[\d.]))?(?P<digits>\d[\d.,]*)(?P<tail>[^\W\d_]*)", re.IGNORECASE
)
BESIDE_HAN = re.compile(r"(?<=[\u3400-\u9fff])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=[\u3400-\u9fff])")
"""Where Chinese and Latin writing touch, which is written without a space."""
THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.0+)?|\d+(?:\.0+)?")
ORDINAL = re.compile(r"\u7b2c\s?$")
NOTHING = re.compile(
    r"(?:there (?:are|is|were|was) )?(?:none(?: of (?:them|these|those|the [^\W\d_]+))?|nobody|no one|nothing"
    r"|no [^\W\d_]+(?<!no doubt)(?<!no idea)(?<!no way)(?<!no answer)(?<!no clue)(?<!no number)(?<!no yes))"
    r"(?: (?:is|are|can be|was|were|in|on|at|visible|present|shown|here|there|seen)\b[^\d]{0,80})?[.!]?"
    r"|(?:\u56fe\u4e2d|\u56fe\u7247\u4e2d|\u753b\u9762\u4e2d|\u4e00\u4e2a\u90fd|\u4e00\u53ea\u90fd)?\u6ca1\u6709[\u3400-\u9fff]{0,8}\u3002?|\u65e0",
    re.IGNORECASE,
)
"""Answers that count nothing: "none", "there are no dogs", meiyou."""
LOOSE = re.compile(
    r"\b(?:approximately|approx|roughly|at least|at most|more than|less than|fewer than|up to|maybe|perhaps"
    r"|possibly|probably|might|could|unsure|uncertain|not (?:sure|certain|clear)|unclear|give or take)\b"
    r"|[~<>\u2248\u2264\u2265]|\d\+|\d\s?\?"
    r"|\u5927\u7ea6|\u5927\u6982|\u7ea6\s?\d|\u5de6\u53f3|\u81f3\u5c11|\u81f3\u591a|\u6700\u591a|\u6700\u5c11|\u8d85\u8fc7|\u4e0d\u5230|\u591a\u4e8e|\u5c11\u4e8e|\u63a5\u8fd1"
    r"|\u4ee5\u4e0a|\u4ee5\u4e0b|\u4e0d\u662f|\u4e0d\u6b62|\u53ef\u80fd|\u4e5f\u8bb8|\u6216|\u51e0|\u82e5\u5e72",
    re.IGNORECASE,
)
"""Words and signs that make any number beside them a guess or a bound."""
BEFORE = re.compile(
    r"(?:\b(?:about|around|nearly|almost|over|under|above|below|between|from|or|many|several|some|few|circa)"
    r"(?: (?:just|the|a|an|only|well))?|\b(?:not|never|cannot|neither|nor)\b[^.,;:!?\n]*"
    r"|n['\u2019]t\b[^.,;:!?\n]*|[\u7ea6\u8fd1\u5230\u81f3]"
    r"|[\u6ca1\u4e0d\u672a]\u6709?[^.,;:!?\s\u3002]{0,4})[\s(*]*$",
    re.IGNORECASE,
)
HOW_MANY = re.compile(r"\bhow many\b", re.IGNORECASE)
BEHIND = re.compile(
    r"[\s)*]*(?:or\b|-?ish\b|plus\b|and a half\b|to \d|(?:[^\W\d_]+ ){1,3}or (?:so|more|less|fewer|maybe)\b"
    r"|\u591a|\u4f59|\u5230)",
    re.IGNORECASE,
)
MARGIN = 160
STRICT_HEDGES = re.compile(
    r"\b(?:not|or|about|around|approximately|approx|roughly|nearly|almost|at least|at most|more than"
    r"|less than|fewer than|over|under|up to|between|maybe|perhaps|possibly|several|many)\b"
    r"|[~<>\u2248\u2264\u2265]|\d\+",
    re.IGNORECASE,
)


class Stated(NamedTuple):
    """A number of a text and its place; the value is None for what is no count (a fraction, an ordinal)."""

    start: int
    end: int
    value: int | None


def read_numbers(text: str) -> list[Stated]:
    """Read all numbers of a text: digits ("1,204", "3.0", "-2"), English words and Chinese numerals."""
    found = [Stated(*numeral) for numeral in (*english(text), *chinese(text))]
    for match in DIGITS.finditer(text):
        digits = match["digits"].rstrip(".,")
        strange = match["tail"] or len(digits) > MAX_DIGITS or not THOUSANDS.fullmatch(digits)
        value = None if strange else int(digits.partition(".")[0].replace(",", ""))
        if value is not None and (
            match["sign"] == "-" or ORDINAL.search(text[max(0, match.start() - 2) : match.start()])
        ):
            value = -value if match["sign"] == "-" else None
        found.append(Stated(match.start(), match.end(), value))
    return found


def single_count(answer: str, reading: Reading = "clear") -> int:
    """Read the only number of a short answer.

    Args:
        answer: its text, in NFKC.
        reading: "strict" takes the text as it stands, reads no "none", and takes a word that may hedge for a
            hedge wherever it stands.

    Raises:
        Unscorable: "unparsable" when there is none, when there are two different ones ("3 or 4", a range, a
            date), when one is no whole number, or when the wording hedges ("about 3", "at least 3", "not 3").
    """
    text = answer if reading == "strict" else BESIDE_HAN.sub(" ", plain(answer))
    stated = read_numbers(text)
    noted("numbers", "{} in {}", [text[number.start : number.end] for number in stated], text)
    if (
        reading == "clear"
        and (not stated or "no one" in text.casefold())
        and NOTHING.fullmatch(without_lead(text))
    ):
        return 0
    counts = {number.value for number in stated}
    if len(counts) != 1 or None in counts:
        what = "more than one number, or a strange one," if counts else "no number"
        raise Unscorable(f"{what} in {answer[:80]!r}", "unparsable")
    value = counts.pop()
    assert value is not None
    if _hedged(text, stated) if reading == "clear" else STRICT_HEDGES.search(text):
        raise Unscorable(f"a number that is hedged in {answer[:80]!r}", "unparsable")
    return value


def _hedged(text: str, stated: list[Stated]) -> bool:
    """True where words make the number a guess or a bound: any such word, or one of place right beside it."""
    if LOOSE.search(text):
        return True
    return any(
        BEFORE.search(HOW_MANY.sub("", text[max(0, number.start - MARGIN) : number.start]))
        or BEHIND.match(text[number.end : number.end + MARGIN])
        for number in stated
    )


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


def graded_count(found: int, truth: int, *, graded: bool = False) -> Verdict:
    """Grade a count: 1 for the true one. With `graded`, a wrong one earns half of
    max(0, 1 - |found - truth| / max(1, truth)): half, so that being right is always worth more than being
    near.

    `parts["off"]` is the distance, up to `MAX_OFF`.
    """
    off = abs(found - truth)
    noted("compared", "{} with the true {}: off by {}", found, truth, off)
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
def count(graded: bool = False, bare: bool = False, boxed: bool = False, reading: Reading = "clear") -> Any:
    """The number of things, right or wrong: 0 or 1.

    `sample.target` is a whole number, or a text that states one. The answer states one number, in digits, in
    English words ("one hundred and five", "a dozen", "none") or Chinese numerals; two different ones, a range
    or a hedge ("about 3", "3 or so") are worth 0. `parts["off"]` is the distance from the truth.

    Args:
        graded: a wrong count n earns half of max(0, 1 - |n - truth| / max(1, truth)), for an early signal.
        bare: accept an answer without `<answer>` tags.
        boxed: the answer is inside `\\boxed{...}`.
        reading: "clear" reads an unambiguous answer in whatever dress (LaTeX, bold, "The answer is"), and
            takes "over" or "about" for a hedge only beside the number; "strict" takes it as it stands.
    """

    async def score(sample: Sample) -> Score:
        truth = count_of(sample.target)
        noted("target", "{} is the count {}", sample.target, truth)
        response = sample.response or ""

        def check() -> Verdict:
            answers = read_answer(response, bare=bare, boxed=boxed, reading=reading)
            found = agreed(answers, lambda text: single_count(text, reading), single_count)
            return graded_count(found, truth, graded=graded)

        return verified(check, PARTS)

    return score

"""Whole numbers as words: English ("one hundred and five", "a dozen", "none") and Chinese numerals.

A text's words are read from the left, each number as long as it goes; words that make no number together
("one two") are several numbers, which no reader takes for one answer.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

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
SMALL = {word: n for n, word in enumerate(UNITS)} | {word: 10 * n for n, word in enumerate(TENS, 2)}
MULTIPLES = {"hundred": 100, "thousand": 1000, "million": 10**6}
DOZEN = 12


class Numeral(NamedTuple):
    """A number that words state, and their place in the text; None for words that may be several ("san si",
    which is three or four)."""

    start: int
    end: int
    value: int | None


_WORDS = "|".join(sorted((*SMALL, *MULTIPLES, "dozen"), key=len, reverse=True))
RUN = re.compile(
    rf"(?<![^\W_])(?:half a |an? )?(?:{_WORDS})(?:(?:[ -]|,? and )(?:{_WORDS}))*(?![^\W_])", re.IGNORECASE
)
WORD = re.compile(r"[a-z]+", re.IGNORECASE)


def english(text: str) -> Iterator[Numeral]:
    """Numbers in English words."""
    for run in RUN.finditer(text):
        words = [
            (word[0].lower(), run.start() + word.start(), run.start() + word.end())
            for word in WORD.finditer(run[0])
        ]
        texts = [word for word, _, _ in words]
        at = 0
        while at < len(words):
            value, following = _number(texts, at)
            if value is not None:
                yield Numeral(words[at][1], words[following - 1][2], value)
            at = following


def _number(words: list[str], at: int) -> tuple[int | None, int]:
    """The number that begins at a word, and the place of the next word; None for a word that begins none."""
    if words[at : at + 3] == ["half", "a", "dozen"]:
        return DOZEN // 2, at + 3
    if words[at] in ("a", "an", "half", "and"):
        if at + 1 < len(words) and (words[at + 1] in MULTIPLES or words[at + 1] == "dozen"):
            words = [*words[:at], "one", *words[at + 1 :]]
        else:
            return None, at + 1
    total, limit = 0, 10**9
    began = at
    while at < len(words):
        start = at + 1 if words[at] == "and" and at > began else at
        value, following = _below_hundred(words, start)
        if following < len(words) and words[following] == "dozen":
            return (total + max(value or 0, 1) * DOZEN, following + 1) if not total else (total, at)
        if following < len(words) and words[following] in MULTIPLES and (value is not None or at == began):
            scale = MULTIPLES[words[following]]
            value = (1 if value is None else value) * scale
            following += 1
            if scale == 100 and following < len(words) and words[following] == "thousand":
                value, scale, following = value * 1000, 1000, following + 1
        elif value is None:
            break
        else:
            scale = 1
        if scale >= limit or (total and value >= limit):
            break
        total, limit, at = total + value, scale, following
        if scale == 1:
            break
    return (total, at) if at > began else (None, began + 1)


def _below_hundred(words: list[str], at: int) -> tuple[int | None, int]:
    if at >= len(words) or words[at] not in SMALL:
        return None, at
    value = SMALL[words[at]]
    if words[at] in TENS and at + 1 < len(words) and words[at + 1] in FIRST[1:]:
        return value + SMALL[words[at + 1]], at + 2
    return value, at + 1


# --- Chinese --------------------------------------------------------------------------------------

DIGITS = {char: n for n, char in enumerate("\u96f6\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d")}
DIGITS |= {"\u3007": 0, "\u4e24": 2}
PLACES = {"\u5341": 10, "\u767e": 100, "\u5343": 1000}
MYRIAD = "\u4e07"
CLASSIFIERS = (
    "\u4e2a\u53ea\u6761\u5934\u5339\u540d\u4f4d\u8f86\u67b6\u8258\u68f5\u6735\u672c\u4ef6\u5757\u9897\u5ea7\u680b"
    "\u5c42\u53f0\u79cd\u7c7b\u6b21\u5c81\u7c73\u5f20\u628a\u652f\u676f\u74f6\u76c6\u9762\u7247\u6839\u682a\u7c92"
    "\u9053\u8f6e\u5bb6\u95f4\u6247\u76cf\u5e45\u4eba\u679d\u7bc7\u7ec4\u4e32\u9876\u8258\u53f6\u5e27\u5757\u5929"
)
"""Words of measure, before which a numeral counts: ge, zhi, tiao, ..."""
HAN = "\u4e00-\u9fff\u3007"
HAN_RUN = re.compile(
    rf"(?<!\u7b2c)([{''.join((*DIGITS, *PLACES, MYRIAD))}]{{1,16}})(?=[{CLASSIFIERS}]|[^{HAN}]|$)"
)
"""A run of numerals that counts: before a word of measure or no Chinese at all, and not after "di", the mark
of ordinals."""


def chinese(text: str) -> Iterator[Numeral]:
    """Numbers in Chinese numerals that count something or stand alone; not those inside other words."""
    if text.isascii():
        return
    for run in HAN_RUN.finditer(text):
        yield Numeral(run.start(1), run.end(1), han_value(run[1]))


def han_value(numeral: str) -> int | None:
    """Value of Chinese numerals, by places (er shi yi) or, with a zero, digit by digit (er ling er si); None
    where they make no single number."""
    if not any(char in PLACES or char == MYRIAD for char in numeral):
        if len(numeral) > 1 and not any(zero in numeral[1:] for zero in "\u96f6\u3007"):
            return None
        return int("".join(str(DIGITS[char]) for char in numeral))
    high, myriad, low = numeral.rpartition(MYRIAD)
    if MYRIAD in high or (myriad and not high):
        return None
    parts = [_places(part) for part in (high, low)]
    if None in parts or (myriad and low in DIGITS):  # yi wan er may be 10,002 or 12,000
        return None
    return (parts[0] or 0) * 10**4 + (parts[1] or 0)


def _places(numeral: str) -> int | None:
    total, digit, limit, spaced = 0, None, 10**4, True
    for char in numeral:
        if char in "\u96f6\u3007":
            spaced = True
            continue
        if char in DIGITS:
            if digit is not None:
                return None
            digit = DIGITS[char]
        else:
            place = PLACES[char]
            if place >= limit:
                return None
            total, digit, limit = total + (1 if digit is None else digit) * place, None, place
            spaced = place == 10
    if digit is not None and not spaced:  # yi bai er may be 102 or 120
        return None
    return total + (digit or 0)

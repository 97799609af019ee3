"""Numbers read exactly, and when two are the same.

`read_number` reads one number however it is written, as an exact fraction: nothing is rounded before the
declared tolerance is applied (`Likeness`), and nothing is evaluated. A text that holds a number among other
things is no number; `read_quantity` also takes number words and things that are counted. All is linear in the
text, and only short text gets here. Spelling is in `latex`, units in `units`, expressions in `math`.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from .latex import TEXTS
from .latex import WHOLE_TEXT as WHOLE_TEXT
from .latex import tidy as tidy
from .units import CURRENCY, GENERIC, Unit, counted, unit_of
from .units import UNITS as UNITS

# --- numbers --------------------------------------------------------------------------------------

MAX_CHARS = 128
MAX_DIGITS = 32
MAX_EXPONENT = 64
YEARS = range(1000, 2101)
"""Whole numbers that no relative tolerance is applied to, unless it is for all."""
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_SPACED = r"\d{1,3}(?: \d{3})+(?![\d,])"
_DECIMAL = rf"(?:{_WHOLE}(?:\.\d*)?|\.\d+)"
_POWER = r"(?:[eE]([+-]?\d+)|\s?(?:x|X|\*|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?\s?([+-]?\d+)\s?\}?)"
DECIMAL = re.compile(rf"({_SPACED}(?:\.\d*)?|{_DECIMAL}){_POWER}?", re.ASCII)
FRACTION = re.compile(rf"(?:(\d+)\s)?({_WHOLE})\s?/\s?({_WHOLE})", re.ASCII)
LATEX_FRACTION = re.compile(
    rf"(\d+)?\s?\\frac\s?\{{\s?(-?{_DECIMAL})\s?\}}\s?\{{\s?(-?{_DECIMAL})\s?\}}", re.ASCII
)
REPEATING = re.compile(
    r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s?\{?\s?(\d+)\s?\}?|\((\d+)\)|(?:\.\.\.|\s?\\ldots))", re.ASCII
)
TAIL = re.compile(r"(\d{1,8}?)\1+\Z")
"""Digits that repeat at the end, the shortest period that does."""
_UNITS_OF_TEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen"
)
SMALL = {word: value for value, word in enumerate(_UNITS_OF_TEN.split())}
_TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety"
TENS = {word: 10 * at for at, word in enumerate(_TENS.split()) if word != "-"}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
PARTS = {
    "half": 2,
    "halve": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
}
SCALED = re.compile(rf"(.+?)\s?({'|'.join(SCALES)})", re.IGNORECASE | re.DOTALL)
CHINESE_SCALES = {"\u4e07": 10**4, "\u4ebf": 10**8}
MAX_WORDS = 12
CACHED = 8192
"""Texts whose quantities are kept: an answer is read at several places, and a truth by every answer."""
LETTER = re.compile(r"[A-Za-z\u4e00-\u9fff]")

Relax = Literal["decimals", "integers", "all"]


class Number(NamedTuple):
    """A number and the way it was written.

    Args:
        value: exact; a percentage is a hundredth.
        whole: written as an integer.
        unit: its unit; None without one.
        percent: written with a percent sign.
        rounded: written with a decimal point, so that digits may have been cut off.
    """

    value: Fraction
    whole: bool
    unit: Unit | None = None
    percent: bool = False
    rounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Tolerance and conventions under which two numbers are the same.

    Args:
        tolerance: how far the answer may be from the truth, relative to the truth; 0.05 is ChartQA's.
        relax: which truths it applies to. "decimals": those not written as integers, and of fractions only
            where the answer is a decimal, as 1 is not 1048575/1048576. "integers": those too, except years.
            "all": everything, as in ChartQA's own metric, where 1950 is 2010.
        percent: "value": 50% is 0.5. "either": 50% is also 50, for truths that leave out the sign.
        units: "optional": a unit that one side leaves out is taken to be the other's. "required": the answer
            has a unit if the truth has one. A unit of another kind is always wrong, and units of one kind are
            converted.
    """

    tolerance: float = 1e-6
    relax: Relax = "decimals"
    percent: Literal["value", "either"] = "value"
    units: Literal["optional", "required"] = "optional"

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance {self.tolerance} is a fraction of the truth: give one in [0, 1)")

    def same(self, truth: Number, answer: Number) -> bool:
        """True for a right answer. Not symmetric: the tolerance is relative to the truth."""
        if answer.unit is None and truth.unit is not None and self.units == "required":
            return False
        if truth.unit is not None and answer.unit is not None:
            if truth.unit.kind != answer.unit.kind:
                return False
            scale = answer.unit.size / truth.unit.size
            rounded = answer.rounded or truth.unit.size.denominator != 1 or answer.unit.size.denominator != 1
            answer = answer._replace(
                value=answer.value * scale,
                whole=answer.whole and scale == 1,
                rounded=answer.rounded or (scale != 1 and rounded),
            )
        if self._near(truth, answer):
            return True
        if self.percent == "either" and truth.percent != answer.percent:
            factor = 100 if answer.percent else Fraction(1, 100)
            return self._near(truth, answer._replace(value=answer.value * factor))
        return False

    def _near(self, truth: Number, answer: Number) -> bool:
        off = abs(answer.value - truth.value)
        if not off or not self._relaxed(truth):
            return not off
        cut = answer.rounded and answer.value.denominator != 1
        if self.relax == "decimals" and not (truth.rounded or cut):
            return False  # two exact values
        return off <= abs(truth.value) * Fraction(str(self.tolerance)) * (1 + Fraction(1, 10**5))

    def _relaxed(self, truth: Number) -> bool:
        if self.relax == "all" or not truth.whole:
            return True
        year = truth.unit is None and truth.value.denominator == 1 and int(truth.value) in YEARS
        return self.relax == "integers" and not year


def read_number(text: Any, *, letters: bool = False) -> Number | None:
    """Read a text that is one number; None for anything else, and for a number beyond the limits.

    Read are 7, -7, +7, 1,234.5, .5, 3/4, 1 3/4, \\frac{3}{4}, 1\\frac34, 2e-3, 2 \\times 10^{-3}, with a
    percent sign, a currency or a unit (see `UNITS`). A comma separates thousands; 1,5 is no number. int,
    float, Decimal and Fraction are taken as they are.

    Args:
        text: one number, as text or as a Python number.
        letters: 3m is three metres. Otherwise it is no number, as m may be a variable.
    """
    if isinstance(text, bool):
        return None
    if isinstance(text, int | float | Decimal | Fraction):
        return _given(text)
    if not isinstance(text, str) or len(text) > MAX_CHARS:
        return None
    return _read_tidy(tidy(text), letters)


def read_quantity(text: Any, *, letters: bool = False) -> Number | None:
    """Read a number as `read_number` does, or one in words ("twelve", "one half", "negative 3", "1.5
    million") or of things that are counted ("12 apples", "12 square units"); None for anything else.

    Args:
        text, letters: as in `read_number`.
    """
    if not isinstance(text, str) or len(text) > MAX_CHARS:
        return read_number(text, letters=letters)
    return _quantity(text, letters)


@lru_cache(CACHED)
def _quantity(text: str, letters: bool) -> Number | None:
    given = tidy(text)
    if number := _read_tidy(given, letters):
        return number
    if not LETTER.search(given):
        return None
    text = re.sub(TEXTS, r" \1 ", given).strip()
    text = " ".join(text.split())
    if number := _read_tidy(text, letters) or _in_words(text):
        return number
    sign, rest = _sign(text)
    end, number = _magnitude(rest)
    words = rest[end:].strip()
    if number is None:
        return _words_and_things(text)
    if sign == "-":
        number = number._replace(value=-number.value)
    if GENERIC.fullmatch(words):
        return number
    scale = next((scale for scale in (*SCALES, *CHINESE_SCALES) if words.lower().startswith(scale)), None)
    if scale:
        number = _times(number, {**SCALES, **CHINESE_SCALES}[scale])
        words = words[len(scale) :].removeprefix("s ").strip()
        if not words:
            return number
    spaced = rest[end : end + 1] == " " or not words.isascii()
    if len(words) == 1 and words.isascii() and not (letters or "\\" in given):
        return None  # 3m may be three times m
    unit = unit_of(words) or (counted(words) if spaced else None)
    return number._replace(unit=unit) if unit else None


def _read_tidy(text: str, letters: bool) -> Number | None:
    sign, text = _sign(text)
    found = CURRENCY.match(text)
    currency = unit_of(found[0]) if found else None
    if found and currency:
        inner, text = _sign(text[found.end() :].strip())
        if sign and inner:
            return None
        sign = sign or inner
    end, number = _magnitude(text)
    if number is None:
        return None
    value = -number.value if sign == "-" else number.value
    return _suffixed(number._replace(value=value, unit=currency), text[end:], letters)


def _in_words(text: str) -> Number | None:
    """Read "twelve", "minus three", "one half", "two thirds", "twenty-one", "two million", "3 million"."""
    words = text.lower().replace("-", " ").split()
    if not words or len(words) > MAX_WORDS:
        return None
    if words[0] in ("negative", "minus"):
        rest = text[len(words[0]) :].strip()
        number = _read_tidy(rest, False) or _in_words(rest)
        return number._replace(value=-number.value) if number and number.value > 0 else None
    part = PARTS.get(words[-1]) or PARTS.get(words[-1].removesuffix("s"))
    if part:
        above = Fraction(1) if words[:-1] in ([], ["a"]) else _cardinal(words[:-1])
        return Number(above / part, False) if above is not None else None
    value = _cardinal(words)
    return Number(value, True) if value is not None else None


def _cardinal(words: list[str]) -> Fraction | None:
    """Value of a whole number in words; None for other words, and for words in an order that is none."""
    if len(words) > 1 and words[0] == "a" and (words[1] == "hundred" or words[1] in SCALES):
        words = ["one", *words[1:]]
    total, group, below, scale = 0, 0, 1000, 10**15
    for at, word in enumerate(words):
        if word in SMALL and SMALL[word] < below and not (SMALL[word] == 0 and len(words) > 1):
            group, below = group + SMALL[word], 0
        elif word in TENS and below > 99:
            group, below = group + TENS[word], 10
        elif word == "hundred" and 0 < group < 10:
            group, below = group * 100, 100
        elif word in SCALES and group and SCALES[word] < scale:
            total, group, below, scale = total + group * SCALES[word], 0, 1000, SCALES[word]
        elif not (word == "and" and below == 100 and at < len(words) - 1):
            return None
    return Fraction(total + group) if words else None


def _words_and_things(text: str) -> Number | None:
    """Read "twelve apples"."""
    words = text.split()
    for end in range(min(len(words) - 1, MAX_WORDS), 0, -1):
        number = _in_words(" ".join(words[:end]))
        rest = " ".join(words[end:])
        if number and (GENERIC.fullmatch(rest) or (unit := unit_of(rest) or counted(rest))):
            return number if GENERIC.fullmatch(rest) else number._replace(unit=unit)
    return None


def _times(number: Number, scale: int) -> Number:
    value = number.value * scale
    return number._replace(value=value, whole=value.denominator == 1)


def _given(value: int | float | Decimal | Fraction) -> Number | None:
    try:
        fraction = Fraction(str(value)) if isinstance(value, float) else Fraction(value)
    except (ValueError, OverflowError):  # nan, inf
        return None
    if abs(fraction) > 10**MAX_EXPONENT:
        return None
    whole = isinstance(value, int) or fraction.denominator == 1
    return Number(fraction, whole, rounded=isinstance(value, float | Decimal) and not whole)


def _sign(text: str) -> tuple[str, str]:
    return (text[0], text[1:].lstrip()) if text[:1] in ("+", "-") else ("", text)


def _magnitude(text: str) -> tuple[int, Number | None]:
    """Position after the number that the text begins with, and the number."""
    none = (0, None)
    if found := REPEATING.match(text):
        return found.end(), _repeating(found)
    if found := LATEX_FRACTION.match(text) or FRACTION.match(text):
        mixed, top, bottom = (_decimal(part) if part else Fraction(0) for part in found.groups())
        if mixed is None or top is None or not bottom:
            return none
        return found.end(), Number(mixed + top / bottom, False, rounded="." in found[0])
    found = DECIMAL.match(text)
    if found is None:
        return none
    value = _decimal(found[1])
    power = found[2] or found[3]
    if value is None or (power and (len(power) > 4 or abs(int(power)) > MAX_EXPONENT)):
        return none
    whole = not power and "." not in found[1]
    value *= Fraction(10) ** int(power or 0)
    return found.end(), Number(value, whole, rounded="." in found[1])


def _repeating(found: re.Match[str]) -> Number | None:
    """Value of a repeating decimal: 0.1\\overline{6}, 0.1(6), or 0.1666..., whose period is shown twice."""
    start, digits, period = found[1] or "0", found[2], found[3] or found[4]
    if period is None:
        shown = TAIL.search(digits)
        if shown is None:
            return None
        period, digits = shown[1], digits[: shown.start()]
    if len(start) + len(digits) + len(period) > MAX_DIGITS:
        return None
    value = Fraction(int(start + digits), 10 ** len(digits))
    value += Fraction(int(period), 10 ** len(digits) * (10 ** len(period) - 1))
    return Number(value, False)


def _decimal(digits: str) -> Fraction | None:
    digits = digits.replace(",", "").replace(" ", "").rstrip(".")
    return Fraction(digits) if len(digits) <= MAX_DIGITS else None


def _suffixed(number: Number, rest: str, letters: bool) -> Number | None:
    """Number with its suffix applied: nothing, a percent sign or a unit; None for any other suffix."""
    if not rest.strip():
        return number
    if rest.strip().lower() in ("%", "percent"):
        return number._replace(value=number.value / 100, percent=True, whole=False)
    unit = unit_of(rest)
    bare_letter = len(rest) == 1 and rest.isascii() and rest.isalpha()
    if unit is None or number.unit is not None or (bare_letter and not letters):
        return None
    return number._replace(unit=unit)

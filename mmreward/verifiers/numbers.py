"""Reads one number, whatever it is written as, and says whether two numbers are the same.

Values are exact fractions: nothing is rounded before the declared tolerance is applied, and nothing is
evaluated. A text that holds a number among other things is no number.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from .latex import tidy
from .units import CURRENCIES, Unit, unit_of

MAX_CHARS = 128
MAX_DIGITS = 32
MAX_EXPONENT = 64
YEARS = range(1000, 2101)
"""Whole numbers that no relative tolerance is applied to, unless it is for all."""
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.\d*)?|\.\d+)"
_POWER = r"(?:[eE]([+-]?\d+)|\s?(?:x|\*|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?\s?([+-]?\d+)\s?\}?)"
DECIMAL = re.compile(rf"({_DECIMAL}){_POWER}?", re.ASCII)
FRACTION = re.compile(rf"(?:(\d+)\s)?({_WHOLE})\s?/\s?({_WHOLE})", re.ASCII)
LATEX_FRACTION = re.compile(
    rf"(\d+)?\s?\\frac\s?\{{\s?(-?{_DECIMAL})\s?\}}\s?\{{\s?(-?{_DECIMAL})\s?\}}", re.ASCII
)

Relax = Literal["decimals", "integers", "all"]


class Number(NamedTuple):
    """A number as written.

    Args:
        value: exact; a percentage is a hundredth.
        whole: written as an integer.
        unit: what it counts; None without one.
        percent: whether it carries a percent sign.
    """

    value: Fraction
    whole: bool
    unit: Unit | None = None
    percent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """When two numbers are the same.

    Args:
        tolerance: how far the answer may be from the truth, relative to the truth; 0.05 is ChartQA's.
        relax: which truths it applies to. "decimals": those not written as integers. "integers": those too,
            except years. "all": everything, as in ChartQA's own metric, where 1950 is 2010.
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
        """Whether the answer is right. Not symmetric: the tolerance is the truth's."""
        if answer.unit is None and truth.unit is not None and self.units == "required":
            return False
        if truth.unit is not None and answer.unit is not None:
            if truth.unit.kind != answer.unit.kind:
                return False
            scale = answer.unit.size / truth.unit.size
            answer = answer._replace(value=answer.value * scale, whole=answer.whole and scale == 1)
        if self._near(truth, answer.value):
            return True
        if self.percent == "either" and truth.percent != answer.percent:
            return self._near(truth, answer.value * (100 if answer.percent else Fraction(1, 100)))
        return False

    def _near(self, truth: Number, value: Fraction) -> bool:
        off = abs(value - truth.value)
        if not off or not self._relaxed(truth):
            return not off
        return off <= abs(truth.value) * Fraction(str(self.tolerance)) * (1 + Fraction(1, 10**5))

    def _relaxed(self, truth: Number) -> bool:
        if self.relax == "all" or not truth.whole:
            return True
        year = truth.unit is None and truth.value in YEARS
        return self.relax == "integers" and not year


def read_number(text: Any, *, letters: bool = False) -> Number | None:
    """The one number that this is; None for anything else, and for a number beyond the limits.

    Read are 7, -7, +7, 1,234.5, .5, 3/4, 1 3/4, \\frac{3}{4}, 1\\frac34, 2e-3, 2 \\times 10^{-3}, with a
    percent sign, a currency or a unit (see `units`). A comma separates thousands; 1,5 is no number. int,
    float, Decimal and Fraction are taken as they are.

    Args:
        text: what to read.
        letters: 3m is three metres. Otherwise it is no number, as m may be a variable.
    """
    if isinstance(text, bool):
        return None
    if isinstance(text, int | float | Decimal | Fraction):
        return _given(text)
    if not isinstance(text, str) or len(text) > MAX_CHARS:
        return None
    text = tidy(text)
    sign, text = _sign(text)
    currency = unit_of(text[0]) if text[:1] and text[0] in CURRENCIES else None
    if currency:
        inner, text = _sign(text[1:].strip())
        if sign and inner:
            return None
        sign = sign or inner
    end, number = _magnitude(text)
    if number is None:
        return None
    value = -number.value if sign == "-" else number.value
    return _suffixed(number._replace(value=value, unit=currency), text[end:], letters)


def _given(value: int | float | Decimal | Fraction) -> Number | None:
    try:
        fraction = Fraction(str(value)) if isinstance(value, float) else Fraction(value)
    except (ValueError, OverflowError):  # nan, inf
        return None
    if abs(fraction) > 10**MAX_EXPONENT:
        return None
    return Number(fraction, isinstance(value, int) or fraction.denominator == 1)


def _sign(text: str) -> tuple[str, str]:
    return (text[0], text[1:].lstrip()) if text[:1] in ("+", "-") else ("", text)


def _magnitude(text: str) -> tuple[int, Number | None]:
    """The number that the text begins with, and where it ends."""
    none = (0, None)
    if found := LATEX_FRACTION.match(text) or FRACTION.match(text):
        mixed, top, bottom = (_decimal(part) if part else Fraction(0) for part in found.groups())
        if mixed is None or top is None or not bottom:
            return none
        return found.end(), Number(mixed + top / bottom, False)
    found = DECIMAL.match(text)
    if found is None:
        return none
    value = _decimal(found[1])
    power = found[2] or found[3]
    if value is None or (power and (len(power) > 4 or abs(int(power)) > MAX_EXPONENT)):
        return none
    whole = not power and "." not in found[1]
    return found.end(), Number(value * Fraction(10) ** int(power or 0), whole)


def _decimal(digits: str) -> Fraction | None:
    digits = digits.replace(",", "").rstrip(".")
    return Fraction(digits) if len(digits) <= MAX_DIGITS else None


def _suffixed(number: Number, rest: str, letters: bool) -> Number | None:
    """The number with what follows it: nothing, a percent sign or a unit."""
    if not rest.strip():
        return number
    if rest.strip().lower() in ("%", "percent"):
        return number._replace(value=number.value / 100, percent=True, whole=False)
    unit = unit_of(rest)
    bare_letter = len(rest) == 1 and rest.isalpha()
    if unit is None or number.unit is not None or (bare_letter and not letters):
        return None
    return number._replace(unit=unit)


def chartqa_relaxed(target: str, prediction: str) -> float:
    """ChartQA's relaxed accuracy (arXiv:2203.10244), for comparison: 0 or 1.

    Keeps its faults: 5 % is allowed on years and counts too, so 1950 is as good as 2010, and the truth 0 is
    compared as text.
    """
    numbers = [_chartqa_float(text) for text in (target, prediction)]
    if numbers[0] and numbers[1] is not None:
        return float(abs(numbers[1] - numbers[0]) / abs(numbers[0]) <= 0.05)
    return float(prediction.lower() == target.lower())


def _chartqa_float(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None

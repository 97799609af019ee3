"""Numbers, their units, and one spelling for what LaTeX and plain text write differently.

`read_number` reads one number however it is written, as an exact fraction: nothing is rounded before the
declared tolerance is applied (`Likeness`), and nothing is evaluated. A text that holds a number among other
things is no number. The units are a short list on purpose: what is not in it is no unit, and a letter next to
a number may be a variable. Names that are symbols keep their case (mW is not MW), words do not. `tidy` and
`comparison_key` bring two spellings together without a parser, keeping case where it means something: \\Delta
is not \\delta. All is linear in the text, and only short text gets here. Comparison of expressions is in
`math`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple

# --- one spelling for LaTeX and plain text --------------------------------------------------------

PLAIN = str.maketrans(
    {
        "\u2212": "-",
        "\u2013": "-",
        "\u00d7": "\\times ",
        "\u00b7": "\\cdot ",
        "\u00f7": "/",
        "\u2044": "/",
        "\u00b2": "^2",
        "\u00b3": "^3",
        "\u03c0": "\\pi ",
        "\u221e": "\\infty ",
        "\u2264": "\\le ",
        "\u2265": "\\ge ",
        "\u2260": "\\ne ",
        "\u00b0": "^\\circ ",
        "\u222a": "\\cup ",
        "\u2208": "\\in ",
        "\u00a0": " ",
        "\u202f": " ",
    }
) | {0xFF01 + at: chr(0x21 + at) for at in range(94)}  # full-width forms
DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))
TEXTS = r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}"
WHOLE_TEXT = re.compile(TEXTS)
SPACES = re.compile(r"\\[,;:! ]|~|\\q?quad(?![A-Za-z])")
SIZES = re.compile(r"\\(?:left|right|big|Big|displaystyle)(?![A-Za-z])")
FRACTIONS = re.compile(r"\\[dtc]frac(?![A-Za-z])")
SHORT_FRACTION = re.compile(r"\\frac ?(\d) ?(\d)")
ALIASES = re.compile(r"\\(leq|geq|neq)(?![A-Za-z])")
CONNECTIVES = re.compile(r"(?:\\text\{\s?|\\mathrm\{\s?|\b)(?:or|and)(?:\s?\}|\b)")
LEAD = re.compile(r"\A(?:the )?(?:final )?answer(?: is)? ?:? ", re.IGNORECASE)
AROUND = re.compile(r" ?([^\w\s]) ?")
ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:[a-zA-Z]?matrix|array|cases)\}")
AFTER_COMMAND = re.compile(r"(\\[A-Za-z]+) (?![A-Za-z])")
WORD = re.compile(r"[A-Za-z]{3,}")
COMMAND = re.compile(r"\\[A-Za-z]+")
FUNCTIONS = re.compile(
    r"(?:a?sin|a?cos|a?tan|arc(?:sin|cos|tan)|cot|sec|csc|sinh|cosh|tanh|log|ln|exp|sqrt|max|min|gcd|lcm|mod)"
)


def tidy(text: str) -> str:
    """Text without delimiters, sizes, spacing commands, a lead-in ("the answer is") and the full stop."""
    text = LEAD.sub("", " ".join(text.translate(PLAIN).split()))
    for opening, closing in DELIMITERS:
        inner = text.rstrip(".")
        if inner.startswith(opening) and inner.endswith(closing) and len(inner) >= 2 * len(opening) + 1:
            inside = inner[len(opening) : -len(closing)]
            if opening not in inside:
                text = inside
                break
    text = SIZES.sub("", SPACES.sub(" ", text))
    text = ALIASES.sub(lambda found: f"\\{found[1][:2]}", FRACTIONS.sub(r"\\frac", text))
    text = SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text.replace("\\%", "%").replace("\\$", "$"))
    text = " ".join(text.split())
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text


def comparison_key(text: str) -> str:
    """Key under which two tidied answers are equal when they are written alike.

    Spaces around signs do not count, nor does an outer \\text{}, bold type, or, for text of words, case. A
    single letter keeps its case, and may stand in brackets.
    """
    text = text.strip("*` ")
    if whole := WHOLE_TEXT.fullmatch(text):
        text = whole[1].strip()
    if len(text) == 3 and text[0] == "(" and text[2] == ")" and text[1].isalpha():
        text = text[1]
    text = AFTER_COMMAND.sub(r"\1", AROUND.sub(r"\1", " ".join(text.split())))
    return text.casefold() if len(text) > 1 and has_words(text) else text


def has_words(text: str) -> bool:
    """True for a text with words in it, beyond the names of functions, units' \\text{} and commands."""
    bare = WHOLE_TEXT.sub(lambda found: f" {found[1]} ", ENVIRONMENT.sub(" ", text))
    return any(not FUNCTIONS.fullmatch(word) for word in WORD.findall(COMMAND.sub(" ", bare)))


def alternatives_as_list(text: str) -> str:
    """Text with "or" and "and" between alternatives turned into commas."""
    return " ".join(CONNECTIVES.sub(" , ", text).split())


def braces_match(text: str) -> bool:
    """True where braces close what they open. Brackets need not: [0, 1) is an interval."""
    depth = at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if depth < 0:
                return False
        at += 1
    return depth == 0


# --- units ----------------------------------------------------------------------------------------


class Unit(NamedTuple):
    """A unit: the kind of quantity it measures, and its size in the first unit of that kind."""

    kind: str
    size: Fraction


def _kind(kind: str, sizes: Mapping[str, str]) -> dict[str, Unit]:
    return {name: Unit(kind, Fraction(size)) for names, size in sizes.items() for name in names.split()}


LENGTHS = {"mm": "1/1000", "cm": "1/100", "dm": "1/10", "m": "1", "km": "1000"}
UNITS: dict[str, Unit] = {
    **_kind(
        "length",
        {
            "m meter meters metre metres": "1",
            "nm nanometers": "1e-9",
            "um \\mum micrometers": "1e-6",
            "mm millimeter millimeters millimetres": "1/1000",
            "cm centimeter centimeters centimetres": "1/100",
            "dm decimeters": "1/10",
            "km kilometer kilometers kilometres": "1000",
            "inch inches": "0.0254",
            "ft foot feet": "0.3048",
            "yd yard yards": "0.9144",
            "mile miles mi": "1609.344",
        },
    ),
    **{f"{name}^2": Unit("area", Fraction(size) ** 2) for name, size in LENGTHS.items()},
    **{f"{name}^3": Unit("volume", Fraction(size) ** 3) for name, size in LENGTHS.items()},
    **_kind("volume", {"L l liter liters litre litres": "1/1000", "mL ml milliliters": "1e-6"}),
    **_kind(
        "mass",
        {
            "kg kilogram kilograms": "1",
            "g gram grams": "1/1000",
            "mg milligrams": "1e-6",
            "t ton tons tonne tonnes": "1000",
            "lb lbs pound pounds": "0.45359237",
            "oz ounce ounces": "0.028349523125",
        },
    ),
    **_kind(
        "time",
        {
            "s sec second seconds": "1",
            "ms millisecond milliseconds": "1/1000",
            "min minute minutes": "60",
            "h hr hour hours": "3600",
            "day days": "86400",
            "week weeks": "604800",
            "year years": "31557600",
        },
    ),
    **_kind("speed", {"m/s": "1", "km/h": "5/18", "km/s": "1000", "cm/s": "1/100", "mph": "0.44704"}),
    **_kind("acceleration", {"m/s^2": "1", "cm/s^2": "1/100"}),
    **_kind("density", {"kg/m^3": "1", "g/cm^3": "1000", "g/mL": "1000", "kg/L": "1000"}),
    **_kind("force", {"N newton newtons": "1", "kN": "1000", "mN": "1/1000"}),
    **_kind("energy", {"J joule joules": "1", "kJ": "1000", "MJ": "1e6", "eV": "1.602176634e-19"}),
    **_kind("power", {"W watt watts": "1", "mW": "1/1000", "kW": "1000", "MW": "1e6"}),
    **_kind("pressure", {"Pa pascal pascals": "1", "kPa": "1000", "MPa": "1e6", "atm": "101325"}),
    **_kind("current", {"A ampere amperes amps": "1", "mA": "1/1000"}),
    **_kind("voltage", {"V volt volts": "1", "mV": "1/1000", "kV": "1000"}),
    **_kind("resistance", {"ohm ohms \\Omega": "1", "k\\Omega": "1000"}),
    **_kind("frequency", {"Hz hertz": "1", "kHz": "1000", "MHz": "1e6", "GHz": "1e9"}),
    **_kind("amount", {"mol mole moles": "1", "mmol": "1/1000"}),
    **_kind("concentration", {"mol/L M": "1", "mmol/L": "1/1000"}),
    **_kind("angle", {"^\\circ degree degrees deg": "1"}),
    **_kind("kelvin", {"K kelvin": "1"}),
    **_kind("celsius", {"^\\circC celsius": "1"}),
    **_kind("fahrenheit", {"^\\circF fahrenheit": "1"}),
    **_kind("dollar", {"$ dollar dollars USD": "1", "cent cents": "1/100"}),
    **_kind("euro", {"\u20ac euro euros EUR": "1"}),
    **_kind("pound sterling", {"\u00a3 GBP": "1"}),
    **_kind("yen", {"\u00a5 yen JPY": "1"}),
}
CURRENCIES = "$\u20ac\u00a3\u00a5"
MAX_UNIT = 24
TYPE = re.compile(r"\\(?:text|mathrm|rm|operatorname)(?![A-Za-z])|[{} ]")


def unit_of(text: str) -> Unit | None:
    """Unit that this text names: "cm", "\\text{ cm}^2", "^{\\circ}", "m/s"; None for any other text."""
    if len(text) > 4 * MAX_UNIT:
        return None
    name = TYPE.sub("", text)
    return UNITS.get(name) or (UNITS.get(name.lower()) if len(name) > 3 else None)


def typeset_unit(text: str) -> tuple[str, Unit | None]:
    """Split a unit set as text, "\\text{cm}" or "\\mathrm{cm}^2", off the end of an expression.

    A bare letter stays: 3m may be three times m.
    """
    start = max(text.rfind("\\text"), text.rfind("\\mathrm"))
    unit = unit_of(text[start:]) if start > 0 else None
    return (text[:start].rstrip(), unit) if unit else (text, None)


# --- numbers --------------------------------------------------------------------------------------

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
    """A number and the way it was written.

    Args:
        value: exact; a percentage is a hundredth.
        whole: written as an integer.
        unit: its unit; None without one.
        percent: written with a percent sign.
    """

    value: Fraction
    whole: bool
    unit: Unit | None = None
    percent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Tolerance and conventions under which two numbers are the same.

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
        """True for a right answer. Not symmetric: the tolerance is relative to the truth."""
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
    """Position after the number that the text begins with, and the number."""
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
    """Number with its suffix applied: nothing, a percent sign or a unit; None for any other suffix."""
    if not rest.strip():
        return number
    if rest.strip().lower() in ("%", "percent"):
        return number._replace(value=number.value / 100, percent=True, whole=False)
    unit = unit_of(rest)
    bare_letter = len(rest) == 1 and rest.isalpha()
    if unit is None or number.unit is not None or (bare_letter and not letters):
        return None
    return number._replace(unit=unit)

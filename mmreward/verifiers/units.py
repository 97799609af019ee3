"""Units of measure, currencies and counted things, and the unit at the end of an expression.

The units are a list on purpose: what is not in it is no unit, and a letter beside a number may be a variable.
Names that are symbols keep their case (mW is not MW), words do not. Squares and cubes of lengths are read
however they are written (cm^2, square centimetres, sq cm), and so are Chinese units. Anything else that is
counted in words ("12 apples") is a unit of its own kind, which `counted` reads where a caller asks for it.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from .latex import FUNCTIONS, TEXTS


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
            "m meter meters metre metres \u7c73": "1",
            "nm nanometers": "1e-9",
            "um \\mum micrometers": "1e-6",
            "mm millimeter millimeters millimetre millimetres \u6beb\u7c73": "1/1000",
            "cm centimeter centimeters centimetre centimetres \u5398\u7c73": "1/100",
            "dm decimeter decimeters \u5206\u7c73": "1/10",
            "km kilometer kilometers kilometre kilometres \u5343\u7c73 \u516c\u91cc": "1000",
            "in inch inches": "0.0254",
            "ft foot feet": "0.3048",
            "yd yard yards": "0.9144",
            "mile miles mi": "1609.344",
            "\u6d77\u91cc": "1852",
            "\u91cc": "500",
        },
    ),
    **{f"{name}^2": Unit("area", Fraction(size) ** 2) for name, size in LENGTHS.items()},
    **{f"{name}^3": Unit("volume", Fraction(size) ** 3) for name, size in LENGTHS.items()},
    **_kind(
        "volume",
        {
            "L l liter liters litre litres \u5347": "1/1000",
            "mL ml milliliter milliliters \u6beb\u5347": "1e-6",
        },
    ),
    **_kind(
        "mass",
        {
            "kg kilogram kilograms \u5343\u514b \u516c\u65a4": "1",
            "g gram grams \u514b": "1/1000",
            "mg milligrams": "1e-6",
            "t ton tons tonne tonnes \u5428": "1000",
            "\u65a4": "1/2",
            "lb lbs pound pounds": "0.45359237",
            "oz ounce ounces": "0.028349523125",
        },
    ),
    **_kind(
        "time",
        {
            "s sec secs second seconds \u79d2": "1",
            "ms millisecond milliseconds": "1/1000",
            "min mins minute minutes \u5206\u949f": "60",
            "h hr hrs hour hours \u5c0f\u65f6 \u65f6": "3600",
            "day days \u5929": "86400",
            "week weeks \u5468 \u661f\u671f": "604800",
            "year years \u5e74": "31557600",
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
    **_kind("angle", {"^\\circ degree degrees deg \u5ea6": "1"}),
    **_kind("kelvin", {"K kelvin": "1"}),
    **_kind("celsius", {"^\\circC celsius": "1"}),
    **_kind("fahrenheit", {"^\\circF fahrenheit": "1"}),
    **_kind("dollar", {"$ US$ dollar dollars USD \u7f8e\u5143": "1", "cent cents": "1/100"}),
    **_kind("euro", {"\u20ac euro euros EUR": "1"}),
    **_kind("pound sterling", {"\u00a3 GBP": "1"}),
    **_kind("yen", {"\u00a5 yen JPY \u65e5\u5143": "1"}),
    **_kind("yuan", {"yuan RMB CNY \u5143": "1", "\u89d2": "1/10"}),
    **_kind("rupee", {"\u20b9 Rs Rs. rupee rupees INR": "1"}),
}
CURRENCY = re.compile(
    r"(?:US)?\$|[\u20ac\u00a3\u00a5\u20b9]|Rs\.?(?![A-Za-z])|(?:USD|EUR|GBP|JPY|RMB|CNY|INR)(?![A-Za-z])"
)
"""Currencies that stand before an amount."""
MAX_UNIT = 24
TYPE = re.compile(r"\\(?:text|textrm|textnormal|textbf|mathrm|mathbf|mbox|rm|operatorname)(?![A-Za-z])|[{} ]")
POWERS = (
    (re.compile(r"(?:square|sq\.?|\u5e73\u65b9)(.+)", re.IGNORECASE), 2),
    (re.compile(r"(?:cubic|cu\.?|\u7acb\u65b9)(.+)", re.IGNORECASE), 3),
    (re.compile(r"(.+?)(?:\^2|squared)"), 2),
    (re.compile(r"(.+?)(?:\^3|cubed)"), 3),
)
NAMED_RATIOS = {"length/time": "speed", "mass/volume": "density", "amount/volume": "concentration"}
GENERIC = re.compile(
    r"(?:(?:sq(?:uare|\.)?|cubic|cu\.?) )?units?(?: ?\^ ?\{?[23]\}?)?(?: (?:squared|cubed))?"
    r"|(?:\u5e73\u65b9|\u7acb\u65b9)?\u5355\u4f4d",
    re.IGNORECASE,
)
"""Units that name none: "12 square units" is 12."""
NOUNS = re.compile(r"[A-Za-z]{3,16}(?:[ -][A-Za-z]{2,16}){0,2}|[\u4e00-\u9fff]{1,4}")
_DOUBTS = (
    "or and not no nor but maybe perhaps wait than more less most least minus plus times over half dozen to"
    " if hundred thousand million billion trillion percent is are equals answer wrong correct pi infinity"
)
NO_NOUNS = frozenset(_DOUBTS.split()) | set(
    "\u6216\u548c\u4e0d\u975e\u767e\u5343\u4e07\u4ebf\u534a\u81f3\u5230"
)
TRAILING = re.compile(
    r"(?<![A-Za-z\\_^])((?:(?:square|sq\.?|cubic|cu\.?) )?[A-Za-z]{2,}(?:/[A-Za-z]+)?"
    r"(?: ?\^ ?\{? ?[23] ?\}?)?(?: (?:squared|cubed))?)\Z"
)
WORDS_AT_END = re.compile(r" ([A-Za-z]{3,16}(?:[ -][A-Za-z]{2,16}){0,2}(?: ?\^ ?\{?[23]\}?)?)\Z")
CHINESE_AT_END = re.compile(r"([\u4e00-\u9fff]{1,6}(?:/[\u4e00-\u9fff]{1,4})?)\Z")
DEGREES_AT_END = re.compile(r"\^ ?\\circ ?[CF]?\Z")


def unit_of(text: str) -> Unit | None:
    """Unit that this text names: "cm", "\\text{ cm}^2", "square feet", "^{\\circ}", "m/s", "km per hour";
    None for any other text."""
    if len(text) > 4 * MAX_UNIT:
        return None
    name = TYPE.sub("", text.replace(" per ", "/"))
    return _named(name) or (_named(name.lower()) if len(name) > 3 else None)


def _named(name: str) -> Unit | None:
    if unit := UNITS.get(name):
        return unit
    for pattern, power in POWERS:
        if (found := pattern.fullmatch(name)) and (side := UNITS.get(found[1])) and side.kind == "length":
            return Unit("area" if power == 2 else "volume", side.size**power)
    above, slash, below = name.partition("/")
    if slash and (over := _named(above)) and (under := UNITS.get(below)):
        kind = f"{over.kind}/{under.kind}"
        return Unit(NAMED_RATIOS.get(kind, kind), over.size / under.size)
    return None


def counted(text: str) -> Unit | None:
    """Things that are counted, as a unit of their own kind: "apples", "\\text{ years old}"; None for what may
    be variables, and for words that change a number or doubt it."""
    typeset = "\\" in text
    name = " ".join(re.sub(TEXTS, r"\1", text).split())
    if not NOUNS.fullmatch(name):
        return None
    words = name.lower().replace("-", " ").split()
    if any(word in NO_NOUNS or FUNCTIONS.fullmatch(word) for word in words) or NO_NOUNS & set(name):
        return None
    # Three letters beside each other are a product (abc) unless they sound: "men", "cats".
    if not typeset and name.isascii() and len(words[0]) == 3 and words[0][1] not in "aeiouy":
        return None
    return Unit(f"counted {' '.join(word.rstrip('s') for word in words)}", Fraction(1))


def split_unit(text: str) -> tuple[str, Unit | None]:
    """Split the unit, or the counted things, off the end of an expression; a unit that names none goes too.

    A bare letter stays: 3m may be three times m.
    """
    start = max(text.rfind(font) for font in ("\\text", "\\mathrm", "\\operatorname", "\\mbox", "\\rm"))
    patterns = (DEGREES_AT_END, TRAILING, WORDS_AT_END, CHINESE_AT_END)
    ends = [found.start() for pattern in patterns if (found := pattern.search(text))]
    ends += [start] if start > 0 else []
    for end in sorted(ends):
        suffix = text[end:].strip()
        rest = text[:end].rstrip(" \\")
        if not rest or (end != start and rest[-1] in "+-=*/^_({,"):
            continue
        if GENERIC.fullmatch(" ".join(re.sub(TEXTS, r"\1", suffix).split())):
            return rest, None
        if unit := unit_of(suffix):
            return rest, unit
        spaced = end == start or not suffix.isascii() or text[end : end + 1] == " "
        if spaced and (things := counted(suffix)):
            return rest, things
    return text, None

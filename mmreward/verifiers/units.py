"""Units that a number may carry, and how many of the base unit each is.

A short list, on purpose: what is not in it is no unit, and a letter next to a number may be a variable.
Names are case-sensitive where they are symbols (mW is not MW), and not where they are words.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """What it measures, and its size in the first unit of that kind."""

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
    """The unit that this text is: "cm", "\\text{ cm}^2", "^{\\circ}", "m/s"; None for any other text."""
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

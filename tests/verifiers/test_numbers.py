"""One number out of one text, exactly; and when two are the same."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward.verifiers.numbers import UNITS, Likeness, read_number, unit_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", "7"),
        ("-7", "-7"),
        ("+7", "7"),
        ("\u22127", "-7"),
        ("\uff17", "7"),
        ("1,234.5", "1234.5"),
        ("1,234,567", "1234567"),
        (".5", "1/2"),
        ("5.", "5"),
        ("007", "7"),
        ("3/4", "3/4"),
        ("1 3/4", "7/4"),
        ("-1 3/4", "-7/4"),
        (r"\frac{3}{4}", "3/4"),
        (r"-\dfrac{3}{4}", "-3/4"),
        (r"1\frac34", "7/4"),
        ("2e-3", "1/500"),
        (r"2 \times 10^{-3}", "1/500"),
        ("2x10^3", "2000"),
        ("50%", "1/2"),
        (r"50\%", "1/2"),
        ("50 percent", "1/2"),
        ("$1,000$", "1000"),
        ("-$5", "-5"),
        (r"\$5", "5"),
        ("5 cm", "5"),
        (r"5\text{ cm}^2", "5"),
        (r"90^{\circ}", "90"),
        ("The answer is 5.", "5"),
        (3, "3"),
        (0.1, "1/10"),
    ],
)
def test_a_number_is_read_exactly(text, value):
    assert read_number(text).value == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "3 or 4",
        "3, 4",
        "1,5",
        "12,34",
        "5 6",
        "1/0",
        "1/2/3",
        "12:30",
        "5m",
        "5 apples",
        "--5",
        "- -5",
        "1e999",
        "9" * 33,
        "0x10",
        "1_000",
        "nan",
        "inf",
        "$-$5",
        "-$-5",
        "5%%",
        "$5 cm",
        "5!",
        "٣",
        "1" * 200,
        True,
        None,
        [5],
        float("nan"),
        float("inf"),
        10**80,
    ],
)
def test_anything_else_is_none(text):
    assert read_number(text) is None


@given(st.fractions(-(10**9), 10**9, max_denominator=10**6))
def test_every_fraction_is_read_back(value):
    assert read_number(f"{value.numerator}/{value.denominator}").value == value


@given(st.integers(-(10**29), 10**29))
def test_every_integer_is_read_back_with_and_without_separators(value):
    for text in (str(value), f"{value:,}", f"${value}$", f"{value}.0"):
        assert read_number(text).value == value


@given(st.text(max_size=60))
def test_no_text_raises(text):
    read_number(text)


@pytest.mark.parametrize(("unit", "end"), [("9", ""), ("1,", ""), ("\\frac{", ""), (" ", "5")])
def test_a_megabyte_costs_nothing(unit, end):
    assert read_number((unit * 1_000_000)[:1_000_000] + end) is None
    assert_linear(lambda size: read_number((unit * size)[:size] + end), 1_000_000)


def same(truth, answer, **options):
    return Likeness(**options).same(read_number(truth), read_number(answer))


@pytest.mark.parametrize(
    ("truth", "answer", "right"),
    [
        ("1/3", "0.333333", True),
        ("1/3", "0.3333", False),
        ("0.5", "1/2", True),
        ("5", "5.0", True),
        ("5", "5.0000001", False),
        ("10000000", "10000001", False),
        ("0", "0.0000001", False),
        ("0.0", "0.0000001", False),
        ("50%", "0.5", True),
        ("50%", "50", False),
        ("50", "50%", False),
        ("5 km", "5000 m", True),
        ("5 km", "5 m", False),
        ("5 km", "5 kg", False),
        ("5 km", "5", True),
        ("5", "5 km", True),
        ("18 km/h", r"5\text{ m/s}", True),
        (r"90^\circ", "90 degrees", True),
        ("20 kelvin", r"20^\circ C", False),
        ("$5", "500 cents", True),
        ("$5", "\u20ac5", False),
        (r"1\text{ mW}", r"1\text{ MW}", False),
    ],
)
def test_what_is_the_same_by_default(truth, answer, right):
    assert same(truth, answer) is right


@pytest.mark.parametrize(
    ("truth", "answer", "options", "right"),
    [
        ("54.0", "52", {"tolerance": 0.05}, True),
        ("54.0", "51", {"tolerance": 0.05}, False),
        ("54", "52", {"tolerance": 0.05}, False),
        ("54", "52", {"tolerance": 0.05, "relax": "integers"}, True),
        ("1950", "2010", {"tolerance": 0.05, "relax": "integers"}, False),
        ("1950", "2010", {"tolerance": 0.05, "relax": "all"}, True),
        ("50", "50%", {"percent": "either"}, True),
        ("50%", "50", {"percent": "either"}, True),
        ("0.5", "50%", {"percent": "either"}, True),
        ("50%", "5000%", {"percent": "either"}, False),
        ("5 km", "5", {"units": "required"}, False),
        ("5", "5", {"units": "required"}, True),
    ],
)
def test_what_else_can_be_declared(truth, answer, options, right):
    assert same(truth, answer, **options) is right


def test_a_tolerance_of_everything_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        Likeness(tolerance=1.0)


def test_symbols_of_units_keep_their_case_and_words_do_not():
    assert unit_of("mW") != unit_of("MW")
    assert unit_of("Meters") == unit_of("m") == unit_of(r"\text{ m}")
    assert unit_of("apples") is None and unit_of("x" * 1000) is None
    assert all(unit.size > 0 for unit in UNITS.values())

"""Spellings of one answer, lists in the wordings of prose, and numbers with a scale or a noun."""

from fractions import Fraction

import pytest

from mmreward.verifiers.numbers import read_number
from mmreward.verifiers.spelling import items_of, quantity, scaled, spellings


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the Eiffel Tower", "eiffel tower."),
        ("**Paris**", "The answer is Paris."),
        ("Japan and China", "Japan, China"),
        ("18\u201329", "18 - 29"),
        ("18 to 29", "18-29"),
        ("3 to 1", "3 : 1"),
        ("H_2O", "H2O"),
        (r"\text{A dog}", "dog"),
    ],
)
def test_two_spellings_of_one_answer_share_a_key(one, other):
    assert spellings(one) & spellings(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3:1", "3-1"),
        ("red", "red or blue"),
        ("blue", "the blue bar"),
        ("John Smith", "Smith, John"),
        ("", "a"),
    ],
)
def test_two_answers_share_none(one, other):
    assert not spellings(one) & spellings(other)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1, 2 and 3", ["1", "2", "3"]),
        ("a, b, and c", ["a", "b", "c"]),
        ("- A\n- B\n- C", ["A", "B", "C"]),
        ("1. New York\n2. Los Angeles\n3. Rome", ["New York", "Los Angeles", "Rome"]),
        ("a \u2192 b \u2192 c", ["a", "b", "c"]),
        ("ABC", ["A", "B", "C"]),
        ("ABCD", None),
        ("abc", None),
    ],
)
def test_lists_of_three(text, items):
    assert items_of(text, 3) == items


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3.2 million", 3_200_000),
        ("$2.5M", 2_500_000),
        ("5k", 5000),
        ("5 thousand people", 5000),
        ("3.5\u4ebf", 350_000_000),
        ("10 people", 10),
        ("- 3", -3),
        ("10\u4eba", 10),
        ("The answer is **7**.", 7),
        ("5 or 6", None),
        ("5 to 6 people", None),
        ("about 5", None),
        ("5 m", 5),
        ("5 q", None),
        ("5 of the 7 people", None),
        ("12 Angry Men and a Baby", None),
    ],
)
def test_quantities(text, value):
    number = quantity(text)
    assert (number and number.value) == (None if value is None else Fraction(value))


def test_a_noun_is_no_unit_and_a_bare_c_only_beside_celsius():
    metres, celsius = read_number("5 km"), read_number(r"25^\circC")
    assert quantity("5 people", metres) is None
    assert quantity("25 C", celsius) == quantity("25 degrees Celsius", celsius) == celsius
    assert quantity("25 C") is None
    assert scaled("2.5M") and scaled("10 people") is None

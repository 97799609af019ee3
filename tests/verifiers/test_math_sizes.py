"""Expressions that never reach computer algebra: bounds of their size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward.verifiers.sizes import too_large


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (r"9^{9^{9^9}}", "nest"),
        ("9^9^9^9", "nest"),
        ("10^10^10", "exponent"),
        ("10**10**10", "exponent"),
        (r"10^{10^{10}}", "exponent"),
        ("2^{99*99*99*99}", "exponent"),
        ("(2+3)^{99999}", "exponent"),
        ("x^{65}", "above 64"),
        ("(x+1)^{100}", "above 64"),
        ("((2^{64})^{64})^{64}", "digits"),
        ("100!", "factorial"),
        ("3!!", "factorial"),
        ("((3)!)!", "factorial"),
        ("(5!)!", "factorial"),
        ("(9*9)!", "factorial"),
        ("{3!}!", "factorial"),
        (r"\binom{50000}{25000}", "binomial"),
        (r"\prod_{n=1}^{100000} n", "limit"),
        ("9" * 33, "digits"),
        ("(" * 17 + ")" * 17, "nest"),
        ("{" * 200_000, "characters"),
        ("x" * 513, "characters"),
    ],
)
def test_what_could_fill_the_memory_is_refused(text, reason):
    assert reason in too_large(text)


@pytest.mark.parametrize(
    "text",
    [
        "2^{2023}+1",
        "x^{64}",
        "e^{x^{2}}",
        "e^{-x^2/2}",
        "50!",
        "(n+1)!",
        r"\binom{10}{3}",
        r"\sum_{k=1}^{100} k^2",
        "10^{-64}",
        "1 != 2",
        r"\sqrt[3]{2}",
        r"\frac{x^2}{y^3}",
        "a_1^2",
        "(" * 16 + ")" * 16,
        "x^",
        "^",
        "",
        "]x^2",
    ],
)
def test_ordinary_mathematics_is_not(text):
    assert too_large(text) == ""


@given(st.text("0123456789^{}()_!+-x\\ ", max_size=600))
def test_it_answers_for_any_text(text):
    assert isinstance(too_large(text), str)


@pytest.mark.parametrize("unit", ["9^", "9^{", "(", "{}", "!", "_", "\\x ", "1+x"])
def test_the_time_it_takes_is_in_proportion(unit):
    assert_linear(lambda size: too_large((unit * size)[:size]), 64_000)

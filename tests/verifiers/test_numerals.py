"""Numbers in words: English and Chinese, one number or several."""

import pytest
from support.growth import assert_linear

from mmreward.verifiers.numerals import chinese, english, han_value


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("one hundred and five", [105]),
        ("a hundred", [100]),
        ("twenty-one", [21]),
        ("two thousand three hundred and four", [2304]),
        ("one hundred thousand", [100_000]),
        ("a dozen", [12]),
        ("half a dozen", [6]),
        ("two dozen", [24]),
        ("one two", [1, 2]),
        ("twenty, one", [20, 1]),
        ("three and two", [3, 2]),
        ("two hundred three hundred", [200, 300]),
        ("someone often", []),
    ],
)
def test_english(text, values):
    assert [numeral.value for numeral in english(text)] == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("\u4e09\u53ea\u732b", [3]),
        ("\u4e8c\u5341\u4e00", [21]),
        ("\u4e00\u767e\u96f6\u4e94", [105]),
        ("\u4e00\u4e07\u4e8c\u5343", [12_000]),
        ("\u4e8c\u3007\u4e8c\u56db", [2024]),
        ("\u4e00\u5171\u6709\u4e09\u53ea", [3]),
        ("\u4e09\u89d2\u5f62\u6709\u4e24\u4e2a", [2]),
        ("\u7b2c\u4e00\u4e2a", []),
        ("\u4e09\u56db\u4e2a", [None]),  # three or four
        ("\u4e00\u767e\u4e8c", [None]),  # 102, or 120
    ],
)
def test_chinese(text, values):
    assert [numeral.value for numeral in chinese(text)] == values


def test_places_are_in_order():
    assert han_value("\u5341") == 10 and han_value("\u5341\u767e") is None


@pytest.mark.parametrize(
    "unit", ["one hundred and ", "half a ", "dozen ", "\u4e00\u767e", "\u4e09\u53ea", "twenty-"]
)
def test_long_texts_take_no_time(unit):
    assert_linear(lambda times: [*english(unit * times), *chinese(unit * times)], 8000)

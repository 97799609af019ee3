"""A judge's grade: every way to write one is read, and no text is turned into one that is not there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward import Unscorable
from mmreward.rewards.judged.thinking import parse_grade


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("0.85", 0.85),
        ("<answer>0.95</answer>", 0.95),
        (".7", 0.7),
        ("1", 1.0),
        ("1.", 1.0),
        ("0", 0.0),
        ("85%", 0.85),
        ("62.5 percent", 0.625),
        ("7/10", 0.7),
        ("7 out of 10", 0.7),
        ("3.5 / 5", 0.7),
        ("**0.85**", 0.85),
        ('"0.4".', 0.4),
        (r"so \boxed{0.25}", 0.25),
        (r"<think>0.1 or 0.2?</think><answer>\boxed{0.3}</answer>", 0.3),
        ("Step 2 is wrong. Score: 0.6, for three reasons.", 0.6),
        ("Step 2 is wrong. Score: 0.6", 0.6),
        ("**Score (0 to 1):** 0.45\nIt is short.", 0.45),
        ("The rating is 4/5.", 0.8),
        ("Score: 0.5\nFinal score: 50%", 0.5),
        ("\uff10.\uff15", 0.5),
        ("\u00bd", 0.5),
    ],
)
def test_every_plain_grade_is_read(text, grade):
    assert parse_grade(text) == pytest.approx(grade, abs=1e-12)


def test_a_scale_of_its_own_is_mapped_and_a_percentage_is_a_share_of_it():
    assert parse_grade("4", 1, 5) == 0.75
    assert parse_grade("80%", 1, 5) == 0.8
    assert parse_grade("-1", -1, 1) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "good",
        "There is 1 wrong step.",  # the peer pays this with 1
        "1 wrong step",
        "<answer></answer>",
        "<answer>0.2</answer><answer>0.9</answer>",
        "Score: 0.2. Score: 0.9",
        "0.2 or 0.9",
        "0.2-0.9",
        "0,85",
        "Score: 0,85",
        "Score: 0.85x",
        "1e-1",
        "1/2/3",
        "1/0",
        "NaN",
        "<think>0.9",
        "0.9 " + "x" * 70_000,
    ],
)
def test_what_is_no_plain_grade_is_unparsable_and_never_zero(text):
    with pytest.raises(Unscorable) as refusal:
        parse_grade(text)
    assert refusal.value.status == "unparsable"


@pytest.mark.parametrize("text", ["2", "-0.5", "120%", "11/10", "Score: 7"])
def test_a_grade_beyond_the_scale_says_so(text):
    with pytest.raises(Unscorable) as refusal:
        parse_grade(text)
    assert refusal.value.status == "out_of_range"


def test_a_scale_upside_down_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="below high"):
        parse_grade("1", 1, 1)


@given(st.integers(0, 1000))
def test_three_ways_to_write_a_number_agree(thousandths):
    want = thousandths / 1000
    texts = (f"{want:.3f}", f"{thousandths / 10:.1f}%", f"{thousandths}/1000")
    assert [parse_grade(text) for text in texts] == pytest.approx([want] * 3, abs=1e-12)


@given(st.text(alphabet="0123456789./%- scoreis:\n<>ad", max_size=60))
def test_any_text_gives_a_share_or_a_typed_failure(text):
    try:
        assert 0 <= parse_grade(text) <= 1
    except Unscorable as failure:
        assert failure.status in ("unparsable", "out_of_range")


@pytest.mark.parametrize("piece", ["score ", "1", "score (", " /", "out of ", "score:****", "<answer>"])
def test_adversarial_text_costs_little(piece):
    def refused(size):
        with pytest.raises(Unscorable):
            parse_grade((piece * size)[:size])

    assert_linear(refused, 65_536)

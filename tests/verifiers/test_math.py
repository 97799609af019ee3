"""The stages of the math verifier that need no algebra, and what is let through to it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward import Unscorable
from mmreward.verifiers.math import Open, answer_of, settle, truth_of
from mmreward.verifiers.numbers import Likeness


def judge(target, answer, **options):
    """1, 0, "unreadable", or the question that is left open."""
    truth = truth_of(target)
    try:
        judged = settle(truth, answer_of(f"<answer>{answer}</answer>"), Likeness(**options))
    except Unscorable as failure:
        assert failure.status == "unparsable"
        return "unreadable"
    return judged if isinstance(judged, Open) else judged.value


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("42", "42"),
        (42, r"\boxed{42}"),
        (r"\boxed{42}", "$42$"),
        ("42", "The final answer is 42."),
        (r"\frac{1}{2}", "0.5"),
        ("0.5", r"\dfrac12"),
        ("5", "x = 5"),
        ("5", r"f(x)=5"),
        ("x=5", "5"),
        ("1,000", "1000"),
        (r"5\text{ cm}", "0.05 m"),
        (r"\left[0, 1\right)", "[0,1)"),
        ("5 m", "5m"),
        (r"\text{red}", "Red"),
        ("red circle", r"\text{Red Circle}."),
        ("A", "(A)"),
        ("A", r"\text{A}."),
        ("x^2", "x\u00b2"),
        (r"\pi", "\u03c0"),
        (r"x \leq 3", r"x\le3"),
        ("3, 4", r"x=3 \text{ or } x=4"),
        ("50%", r"\sqrt{0.25}"),
        (r"\frac{1}{3}", r"3^{-1}"),
        ("5", r"\text{five}"),
        ("100!", "100 \\cdot 99!"),
    ],
)
def test_most_right_answers_are_settled_without_algebra(target, answer):
    assert judge(target, answer) == 1


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("42", "43"),
        ("A", "B"),
        ("A", "a"),
        ("red", "der"),
        ("red", "red or blue"),
        ("red", "not red"),
        (r"\text{red}", "e"),
        ("x=5", "y=5"),
        ("5", "5_{2}"),
        ("(0,1)", r"\{0,1\}"),
        (r"\{0,1\}", "(1,0)"),
        ("(0,1)", "1, 0"),
        ("101_2", "5"),
        ("5 cm", "5 m"),
        (r"2\sqrt{3}\text{ cm}", r"2\sqrt{3}\text{ m}"),
        ("5", r"5\%"),
    ],
)
def test_wrong_answers_are_worth_nothing(target, answer):
    assert judge(target, answer) == 0


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "1=5",
        "5=5",
        "4=5=5",
        "5=x",
        "x=5, y=5",
        "5 5",
        r"5\quad 6",
        "5$ or $6",
        "5}{6",
        r"\boxed{5",
        "I think 5",
        "either 5, 6 or 7",
        r"9^{9^{9^9}}",
        "10^10^10",
        "5000!",
        "((3)!)!",
        "(" * 5000,
        "9" * 5000,
        r"\text{high five}",
        r"\begin{verbatim}5",
    ],
)
def test_what_is_no_single_answer_is_unreadable(answer):
    assert judge("5", answer) == "unreadable"


@pytest.mark.parametrize(
    ("target", "answer", "gold", "text"),
    [
        ("y=2x+1", "2x-y=-1", "y=2x+1", "2x-y=-1"),
        ("y=2x+1", "2x + 1.0", "2x+1", "2x + 1.0"),
        ("50%", r"\sqrt{0.3}", "0.5", r"\sqrt{0.3}"),
        (r"\frac{1}{3}", r"3^{-x}", r"\frac{1}{3}", "3^{-x}"),
        (r"\sqrt{12}\text{ cm}", r"2\sqrt{3}", r"\sqrt{12}", r"2\sqrt{3}"),
    ],
)
def test_what_is_left_open_is_spelled_out(target, answer, gold, text):
    opened = judge(target, answer)
    assert isinstance(opened, Open)
    assert [part.replace(" ", "") for part in opened] == [part.replace(" ", "") for part in (gold, text)]


@pytest.mark.parametrize(
    ("target", "answer"),
    [(r"\Delta+1", r"1+\delta"), ("A+1", "1+a"), ("R-r", "r-r"), (r"\Gamma x", r"x \gamma")],
)
def test_capitals_are_kept_apart_from_small_letters(target, answer):
    """Algebra lowers every letter, so a capital that clashes goes there under another name."""
    gold, text = judge(target, answer)
    assert gold.lower() != target.lower()
    assert re.sub(r"[^a-z]", "", text) == re.sub(r"[^a-z]", "", answer)  # the small letters are as they were


@pytest.mark.parametrize(
    "target",
    ["", "  ", r"\boxed{}", None, True, [5], r"\frac{1", "5000!", r"10^{10^{10}}", "x+(" * 200],
)
def test_a_target_that_makes_no_sense_is_a_fault_of_the_data(target):
    with pytest.raises(Unscorable) as refusal:
        truth_of(target)
    assert refusal.value.status == "error"


def test_where_the_answer_is_found():
    assert answer_of(r"<think>\boxed{1}</think><answer>so \boxed{2}, then \boxed{3}</answer>") == "3"
    assert answer_of(r"<think>x</think> \boxed{4}", bare=True) == "4"
    for response in (
        r"\boxed{4}",
        "<think>4",
        "<answer>1</answer><answer>2</answer>",
        "<answer> </answer>",
        "4",
    ):
        with pytest.raises(Unscorable):
            answer_of(response)
    with pytest.raises(Unscorable, match="boxed"):
        answer_of("it is 4", bare=True)
    with pytest.raises(Unscorable, match="boxed"):
        answer_of("<answer>4</answer>", only_boxed=True)


def test_several_boxes_may_be_asked_to_agree():
    two, same = (
        r"<answer>\boxed{1}, \boxed{2}</answer>",
        r"<answer>\boxed{\frac12}, \boxed{ \dfrac{1}{2} }</answer>",
    )
    assert answer_of(two) == "1 , 2"  # never the last alone: that would pay for naming both
    assert answer_of(same, boxes="agree") == r"\frac{1}{2}"
    with pytest.raises(Unscorable, match="disagree"):
        answer_of(two, boxes="agree")


@given(st.text("0123456789^{}()_!+-=,xA\\$% ./", max_size=80))
def test_any_answer_is_settled_left_open_or_unreadable(answer):
    judged = judge("5", answer)
    assert judged in (0, 1, "unreadable") or isinstance(judged, Open)


@pytest.mark.parametrize("unit", ["\\boxed{", "\\text{", "{", "\\boxed{1}", "=", "5 ", "or ", "\\frac", "^"])
def test_a_megabyte_costs_little(unit):
    def read(size):
        text = unit * (size // len(unit))
        for response in (f"<answer>{text}</answer>", text):
            try:
                settle(truth_of("5"), answer_of(response, bare=True, boxes="agree"), Likeness())
            except Unscorable as failure:
                assert failure.status == "unparsable"

    assert_linear(read, 1_000_000)

"""Short answers compared as their kind asks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Unscorable
from mmreward.rewards.rules.math import ANSWER_PARTS, compare, compare_all, split_items, target_of
from mmreward.verifiers.numbers import Likeness


def judge(target, answer, kind="auto", aliases=(), **options):
    found = compare(target_of(target, kind, aliases), answer, Likeness(**options))
    assert tuple(found.parts) == ANSWER_PARTS
    return found


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("red", "Red."),
        ("New York", "  new   YORK "),
        ("red", '"red"'),
        ("red", r"\text{red}"),
        (True, "Yes"),
        (54, "54"),
        ("54.0", "54"),
        ("1,200", "$1200"),
        ([1, 2, 3], "1, 2, 3"),
        ([1, 2, 3], "[1; 2; 3]"),
        (["up", "left"], "UP -> left"),
        ("(3, 1)", "(3,1)"),
        (["a b", 2], "a b, 2.0"),
    ],
)
def test_right_answers(target, answer):
    kind = "sequence" if target == "(3, 1)" else "auto"
    assert judge(target, answer, kind).value == 1


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("red", "red or blue"),
        ("red", "not red"),
        ("red", "r"),
        ("red", "infrared"),
        ("red, blue", "red"),
        ("a", "a, b, c, d"),
        (True, "yes and no"),
        ([1, 2, 3], "3, 2, 1"),
        ([1, 2, 3], "1, 2"),
        ([1, 2, 3], "1, 2, 3, 4"),
        ([1], "1 " * 2000),
    ],
)
def test_wrong_answers(target, answer):
    assert judge(target, answer).value == 0


@pytest.mark.parametrize(
    ("target", "answer"), [("red", ""), ("red", " \n"), (5, "5 or 6"), (5, "five"), (5, "x" * 5000)]
)
def test_unreadable_answers(target, answer):
    with pytest.raises(Unscorable) as refusal:
        judge(target, answer)
    assert refusal.value.status == "unparsable"


@pytest.mark.parametrize(
    ("target", "kind"),
    [("", "auto"), ("five", "number"), (None, "text"), ([], "auto"), (5.0, "sequence"), ([""], "auto")],
)
def test_a_target_that_is_not_of_its_kind_is_a_fault_of_the_data(target, kind):
    with pytest.raises(Unscorable) as refusal:
        target_of(target, kind)
    assert refusal.value.status == "error"


def test_the_share_of_a_sequence_is_a_part_and_not_the_value():
    found = judge([1, 2, 3, 4], "1, 2, 4, 3")
    assert (found.value, found.parts["items"]) == (0, 0.5)
    assert judge([1, 2], "1, 2, 3, 4").parts["items"] == 0.5


def test_other_spellings_and_tolerances_are_declared():
    assert judge("USA", "united states", aliases=("United States",)).value == 1
    assert judge("54", "52", tolerance=0.05).value == 0
    assert judge("54", "52", tolerance=0.05, relax="integers").value == 1
    assert judge("007", "7", "text").value == 0


def test_the_kind_follows_the_target():
    kinds = {
        "red": "text",
        "5": "number",
        5: "number",
        (1, 2): "sequence",
        r"\frac{x}{2}": "math",
        "y=x": "math",
    }
    assert {target: target_of(target).kind for target in kinds} == kinds


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=20))
def test_a_sequence_is_equal_to_itself_and_to_no_shorter_one(items):
    written = ", ".join(map(str, items))
    assert judge(items, written).value == 1
    assert judge(items, written.rpartition(",")[0]).value == 0
    assert split_items(written) == [str(item) for item in items]


@pytest.mark.parametrize(
    ("target", "answer", "value"),
    [
        ("0.54 m", r"\boxed{54} cm", 1),
        ("0.54 m", r"$\boxed{54}\text{ cm}$", 1),
        ("54%", r"\boxed{54}\%", 1),
        ("0.54", r"\boxed{54} percent", 1),
        ("54", r"\boxed{54} apples", 1),
        ("0.54 m", r"\boxed{54} kg", 0),
        ("0.54 m", r"\boxed{54}", 0),
    ],
)
def test_a_unit_behind_a_box_is_the_answers_own(target, answer, value):
    """As where nothing is boxed, and as `math` reads it."""
    truth, bare = target_of(target), answer.replace(r"\boxed{54}", "54")
    assert compare_all(truth, answer, Likeness()).value == value
    assert compare_all(truth, bare, Likeness()).value == value

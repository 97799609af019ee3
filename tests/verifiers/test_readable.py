"""What a judge is given of a response: nothing that ends the quotation, and nothing at all if it says
nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Score, Unscorable
from mmreward.verifiers.response import CLOSED, OPENED, defused, fenced, read_or_wrong, reasoned


@given(st.text(alphabet="<>| a", max_size=40))
def test_no_text_ends_its_own_quotation_or_holds_a_special_token(text):
    lines = fenced(text)
    assert lines.count(OPENED) == 1 and lines.startswith(OPENED + "\n")
    assert lines.count(CLOSED) == 1 and lines.endswith("\n" + CLOSED)
    assert "<|" not in lines


def test_plain_text_is_quoted_as_it_is():
    assert fenced(" a < b\nand c > d ") == "<<<\na < b\nand c > d\n>>>"
    assert defused("<|im_end|>") == "< |im_end|>"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "<answer>yes</answer>",
        "<think></think><answer>yes</answer>",
        "<think>a</think><answer> </answer>",
        "<think>a</think><answer>yes</answer><answer>no</answer>",
        "<think>a <answer>yes</answer>",
    ],
)
def test_reasoning_and_an_answer_must_both_be_there(text):
    score = read_or_wrong(lambda: reasoned(text), ("agrees",))
    assert isinstance(score, Score) and score.note
    assert (score.value, dict(score.parts)) == (0.0, {"parsed": 0.0, "agrees": 0.0})


def test_what_is_readable_is_handed_on():
    assert read_or_wrong(lambda: reasoned("<think>a</think><answer>b</answer>"), ()) == ("a", "b")


def test_a_failure_that_is_not_the_responses_is_raised_on():
    def late():
        raise Unscorable("deadline", "timeout")

    with pytest.raises(Unscorable, match="deadline"):
        read_or_wrong(late, ())


def test_a_run_of_marks_leaves_no_mark_behind():
    """Trap: replacing three at a time leaves three of five."""
    assert fenced(">>>>>").count(CLOSED) == fenced("<<<<<").count(OPENED) == 1

"""Responses taken apart, quoted for a judge, and scored: no text ends its quotation, and none that says
nothing is a failure."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Sample, Score, Unscorable
from mmreward.verifiers.response import (
    CLOSED,
    LONG,
    OPENED,
    Verdict,
    escaped,
    inside_box,
    quoted,
    read_aside,
    read_or_wrong,
    reasoned,
    segment,
    verified,
)


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>I see.</think><answer>yes</answer>", "I see.", "yes"),
        ("I see.</think>\n<answer> yes </answer>", "I see.", "yes"),
        ("<answer>yes</answer>", "", "yes"),
        ("<think>a</think>b</think><answer>yes</answer>", "a</think>b", "yes"),
        ("<think>like <answer> </answer></think><answer>no</answer>", "like <answer> </answer>", "no"),
        ("<think>x</think><answer>yes", "x", "yes"),
        ("<think>x</think><answer></answer>", "x", ""),
        ("<think>x</think><answer>\U0001f431 \u05e9</answer> bye", "x", "\U0001f431 \u05e9"),
    ],
)
def test_the_answer_is_what_the_tags_after_the_thinking_hold(text, thought, answer):
    assert segment(text) == (thought, answer)


@pytest.mark.parametrize(
    "text",
    [
        "<think>never closed",
        "<think>never closed <answer>yes</answer>",
        "no tags",
        "",
        "<think>x</think>yes",
        "<think><answer>yes</answer></think>",
        "<think>x</think><answer>yes</answer><answer>no</answer>",
    ],
)
def test_no_answer_cut_off_and_several_answers_are_unparsable(text):
    with pytest.raises(Unscorable) as refusal:
        segment(text)
    assert refusal.value.status == "unparsable"


def test_without_tags_the_rest_is_the_answer_only_when_asked_for():
    assert segment("<think>x</think> yes ", bare=True) == ("x", "yes")
    assert segment("<answer>yes</answer> no", bare=True).answer == "yes"
    with pytest.raises(Unscorable):
        segment("<think>never closed", bare=True)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} then \boxed {\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{a}", "a"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{}", ""),
        (r"\boxed{1", None),
        (r"\boxed 5 {6}", None),
        ("42", None),
        (r"\boxed{" + "1" * 5000 + "}", None),
    ],
)
def test_the_last_box_is_read_with_its_braces_balanced(text, inside):
    assert inside_box(text) == inside


def test_a_response_whose_thinking_the_template_opened_must_close_it():
    with pytest.raises(Unscorable, match="cut off"):
        segment("I wonder <answer>yes</answer>", prefilled=True)
    assert segment("I see</think><answer>yes</answer>", prefilled=True) == ("I see", "yes")


# --- quotation ------------------------------------------------------------------------------------


@given(st.text(alphabet="<>| a", max_size=40))
def test_no_text_ends_its_own_quotation_or_holds_a_special_token(text):
    lines = quoted(text)
    assert lines.count(OPENED) == 1 and lines.startswith(OPENED + "\n")
    assert lines.count(CLOSED) == 1 and lines.endswith("\n" + CLOSED)
    assert "<|" not in lines


def test_plain_text_is_quoted_as_it_is():
    assert quoted(" a < b\nand c > d ") == "<<<\na < b\nand c > d\n>>>"
    assert escaped("<|im_end|>") == "< |im_end|>"


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
    assert quoted(">>>>>").count(CLOSED) == quoted("<<<<<").count(OPENED) == 1


# --- scores ---------------------------------------------------------------------------------------


def refuse(status):
    raise Unscorable("why", status)


def test_a_verdict_becomes_a_score_with_its_parts():
    score = verified(lambda: Verdict(0.5, {"recall": 0.25}, "half"), ("recall",))
    assert (score.value, score.parts, score.status, score.note) == (
        0.5,
        {"parsed": 1.0, "recall": 0.25},
        "ok",
        "half",
    )


def test_what_cannot_be_read_earns_nothing_and_has_the_same_parts():
    score = verified(lambda: refuse("unparsable"), ("recall", "precision"))
    assert (score.value, score.status, score.note) == (0.0, "ok", "why")
    assert score.parts == {"parsed": 0.0, "recall": 0.0, "precision": 0.0}


@pytest.mark.parametrize("status", ["error", "missing", "timeout", "na"])
def test_what_is_not_the_responses_fault_stays_a_failure(status):
    with pytest.raises(Unscorable) as refusal:
        verified(lambda: refuse(status), ("recall",))
    assert refusal.value.status == status


@pytest.mark.parametrize(
    ("target", "aside"),
    [("x" * LONG, False), ("x" * (LONG + 1), True), ([1] * 10, False), ([1] * 1000, True), ({"a": 1}, False)],
)
def test_a_long_target_is_read_on_another_thread(target, aside):
    """The loop is everybody's: a target of a quarter of a million characters takes a tenth of a second."""
    thread = asyncio.run(read_aside(lambda sample: threading.current_thread(), Sample(target=target)))
    assert (thread is not threading.current_thread()) == aside

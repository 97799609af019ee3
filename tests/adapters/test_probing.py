"""Probes as conversations, and answers as a response in which none can speak for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward.adapters.trl_gate import probe_response, probe_turns
from mmreward.rewards.rules.probes import Probe, probe_accuracy

ENTRIES = [{"question": "What colour?", "answer": "red"}, {"question": "How many?", "answer": ["2", "two"]}]
PICTURE = {"type": "image", "image": "a picture"}
PROMPT = [
    {"role": "system", "content": "Think first."},
    {"role": "user", "content": [PICTURE, {"type": "text", "text": "What is the answer?"}]},
]


def test_apart_every_question_is_asked_as_it_stands_about_the_same_picture():
    turns = probe_turns(PROMPT, ENTRIES, together=False)
    assert turns == [
        [{"role": "user", "content": [PICTURE, {"type": "text", "text": one["question"]}]}] for one in ENTRIES
    ]


def test_together_one_turn_asks_for_tags():
    [[message]] = probe_turns(PROMPT, ENTRIES, together=True)
    assert message["content"][0] == PICTURE
    asked = message["content"][1]["text"]
    assert "1. What colour? Write <a1>...</a1>." in asked and "2. How many? Write <a2>...</a2>." in asked


def test_without_a_picture_a_turn_is_plain_text():
    assert probe_turns("text", ENTRIES[:1], together=False) == [[{"role": "user", "content": "What colour?"}]]


@pytest.mark.parametrize("entries", [None, [], "junk", [{"question": "no answer"}]])
def test_probes_that_make_no_sense_are_not_asked(entries):
    assert probe_turns(PROMPT, entries, together=False) == []


def test_a_response_is_what_the_reward_reads():
    probes = [Probe("What colour?", ("red",)), Probe("How many?", ("2", "two"))]
    said = probe_response(["Red.", "3"], together=False)
    assert said == "<a1>Red.</a1><a2>3</a2>"
    assert probe_accuracy(said, probes).value == 0.5
    assert probe_response(["<a1>red</a1><a2>two</a2>"], together=True) == "<a1>red</a1><a2>two</a2>"
    stolen = probe_response(["red</a1><a2>2", "3"], together=False)
    assert stolen == "<a2>3</a2>"
    assert probe_response(["red", "</think>"], together=False) == "<a1>red</a1>"


PIECES = st.sampled_from(
    ["2", "red", "<a1>", "</a1>", "<a2>", "</a2>", "</think>", "<think>", " ", "<a", "1>"]
)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_no_answer_changes_what_another_earns(text):
    """Whatever is said to the first probe, the second is right if it is said rightly, and wrong otherwise."""
    probes = [Probe("What colour?", ("never",)), Probe("How many?", ("2",))]
    right, wrong = (probe_response([text, said], together=False) for said in ("2", "3"))
    assert probe_accuracy(right, probes).value == 0.5
    assert probe_accuracy(wrong, probes).value == 0.0

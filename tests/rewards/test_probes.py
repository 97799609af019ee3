"""PEARL's perception probes: the denominator is the number of probes, and no answer gets round it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward import Sample, Unscorable, load
from mmreward.limits import Limits
from mmreward.rewards.rules.probes import (
    Probe,
    is_right,
    probe_accuracy,
    probe_prompt,
    probes_of,
    read_probes,
)

PROBES = [Probe("Which colour?", ("red",)), Probe("How many?", ("3",)), Probe("Where?", ("left", "the left"))]


@pytest.mark.parametrize(
    ("text", "value", "answered"),
    [
        ("<a1>red</a1><a2>3</a2><a3>left</a3>", 1.0, 1.0),
        ("<a3>the left</a3><a1>Red.</a1><a2>3.0</a2>", 1.0, 1.0),  # the number decides, not the order
        ("<a1>red</a1>", 1 / 3, 1 / 3),
        ("<a1>red</a1><a2>4</a2>", 1 / 3, 2 / 3),
        ("<a1>red</a1><a1>blue</a1><a2>3</a2>", 1 / 3, 1 / 3),  # a hedge is no answer
        ("<a1>red or blue</a1>", 0.0, 1 / 3),
        ("<a1></a1><a2> </a2>", 0.0, 0.0),
        ("<a7>red</a7>", 0.0, 0.0),
        ("<think><a1>red</a1></think><a2>3</a2>", 1 / 3, 1 / 3),
        ("<a1>red<a2>3</a2>", 1 / 3, 1 / 3),  # a tag left open swallows nothing
    ],
)
def test_the_share_of_all_probes_that_are_right(text, value, answered):
    verdict = probe_accuracy(text, PROBES)
    assert verdict.value == pytest.approx(value)
    assert verdict.parts == {"answered": pytest.approx(answered), "all_right": float(value == 1)}


@pytest.mark.parametrize("text", ["", "red, 3, left", "<think><a1>red</a1>", "<a1>red", "<a1>" * 5000])
def test_a_response_without_a_readable_answer_is_unparsable(text):
    with pytest.raises(Unscorable) as refusal:
        read_probes(text)
    assert refusal.value.status == "unparsable"


@given(st.lists(st.sampled_from(["red", "3", "left", "wrong", ""]), max_size=6), st.integers(1, 5))
def test_one_more_answer_never_pays_unless_it_is_right(said, number):
    text = "".join(f"<a{k}>{word}</a{k}>" for k, word in enumerate(said, start=1)) or "<a9>x</a9>"
    before = probe_accuracy(text, PROBES).value
    assert probe_accuracy(text + f"<a{number}>nonsense</a{number}>", PROBES).value <= before


@pytest.mark.parametrize(
    ("said", "answer", "right"),
    [
        ("3.0", "3", True),
        ("3", "three", False),
        ("\u22122", "-2", True),
        ("RED", "red", True),
        ("red circle", "red", False),
        ("", "red", False),
        ("1" * 16, "1" * 16, True),
        ("\uff13", "3", True),
    ],
)
def test_what_counts_as_equal(said, answer, right):
    assert is_right(said, Probe("?", (answer,))) is right


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (None, "no probes"),
        ([], "no probes"),
        ("red", "no probes"),
        ([{"question": "?"}], "probe 1 needs"),
        ([{"question": "?", "answer": []}], "without a word"),
        ([{"question": "?", "answer": " . "}], "without a word"),
        ([{"question": "?", "answer": "a"}] * (Limits().questions + 1), "at most"),
    ],
)
def test_bad_probes_are_the_datas_fault(entries, message):
    sample = Sample(response="<a1>red</a1>", meta={"probes": entries})
    with pytest.raises(Unscorable, match=message) as refusal:
        asyncio.run(load("probes")(sample))
    assert refusal.value.status in ("missing", "error")


def test_the_prompt_numbers_the_tags_that_are_read():
    prompt = probe_prompt(PROBES)
    assert "2. How many? Write <a2>...</a2>." in prompt
    assert probes_of([{"question": "How many?", "answer": 3}]) == [Probe("How many?", ("3",))]


def test_the_rollout_may_stand_in_another_column_and_every_score_has_the_same_parts():
    reward = load("probes")
    entries = [{"question": "?", "answer": "red"}]
    scores = [
        asyncio.run(reward(Sample(response=text, meta={"probes": entries})))
        for text in ("<a1>red</a1>", "nothing")
    ]
    assert [score.value for score in scores] == [1.0, 0.0]
    assert [score.parts["parsed"] for score in scores] == [1.0, 0.0]
    assert len({tuple(sorted(score.parts)) for score in scores}) == 1


@pytest.mark.parametrize("piece", ["<a1>", "<a", "<a1>x</a1>", "</a1>", "\u00bd", "<a1>1</a2>"])
def test_a_megabyte_costs_little(piece):
    def read(size):
        try:
            probe_accuracy((piece * size)[:size], PROBES)
        except Unscorable as refusal:
            assert refusal.status == "unparsable"

    assert_linear(read, 1_000_000)

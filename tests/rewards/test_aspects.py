"""Scores by aspect out of a critique, in the layouts judges really write; no guessing."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward import Unscorable
from mmreward.rewards.judged.aspects import read_aspects
from mmreward.rewards.judged.critique import ASPECTS

NAMES = ["Text faithfulness", "Visual quality"]


def parse(text, low=1.0, high=4.0):
    return read_aspects(text, NAMES, low, high).parts


def critique(first="3", second="2"):
    return (
        f"## Text faithfulness\nJustification: all there.\nScore: {first}\n"
        f"## Visual quality\nJustification: soft.\nScore: {second}\n"
    )


def refused(text, **scale):
    with pytest.raises(Unscorable) as refusal:
        parse(text, **scale)
    return refusal.value.status


@pytest.mark.parametrize(
    "text",
    [
        critique(),
        critique().replace("\n", "\r\n"),
        critique().upper(),
        critique().replace("## ", "### "),
        critique().replace("## Text", "**Text").replace("faithfulness", "faithfulness**"),
        critique().replace("## Text faithfulness", "1. Text faithfulness:").replace("## Visual", "2) Visual"),
        critique().replace("Score:", "**Score:**"),
        critique().replace("Score:", "**Score**:"),
        critique().replace("Score: ", "Score:\n"),
        critique().replace("Score: ", "- Score: "),
        critique("3/4", "2 / 4"),
        critique("3 out of 4", "2.0"),
        critique("**3**", "`2`"),
        critique("\uff13", "2."),
        critique("3.", "+2"),
        "Text faithfulness: 3\nVisual quality: 2",
        "| noise |\n" + critique() + "\nOverall I liked it: 9 of 10.",
        "<think>## Text faithfulness\nScore: 1</think>" + critique(),
        critique().replace("all there.", "2 of the 3 shapes: a circle, score so so"),
    ],
)
def test_the_layouts_judges_write(text):
    assert parse(text) == {"Text faithfulness": 3.0, "Visual quality": 2.0}


@pytest.mark.parametrize("name", list(ASPECTS))
def test_every_heading_that_the_prompt_asks_for_is_found(name):
    text = "\n".join(
        f"## {one}\nJustification: {ASPECTS[one]}.\nScore: {2 if one == name else 3}" for one in ASPECTS
    )
    assert read_aspects(text, list(ASPECTS), 1, 4).parts[name] == 2.0


@pytest.mark.parametrize("word", ["N/A", "n/a", "NA", "Not applicable", "**N/A**", "none", "N/A."])
def test_an_aspect_that_does_not_apply_is_left_out(word):
    assert parse(critique(second=word)) == {"Text faithfulness": 3.0}
    assert parse(critique(word, word)) == {}


@pytest.mark.parametrize(
    ("score", "status"),
    [
        ("5", "out_of_range"),
        ("0", "out_of_range"),
        ("\u22121", "out_of_range"),
        ("-3", "out_of_range"),
        ("four", "unparsable"),
        ("3/10", "unparsable"),
        ("3 or 4", "unparsable"),
        ("3-4", "unparsable"),
        ("75%", "unparsable"),
        ("nan", "unparsable"),
        ("inf", "unparsable"),
        ("1e3", "unparsable"),
        ("9" * 400, "unparsable"),
        ("", "missing"),
    ],
)
def test_a_score_that_is_none_is_refused_by_kind(score, status):
    assert refused(critique(second=score)) == status


def test_a_negative_scale_takes_a_negative_score():
    for minus in "-\u2212":
        assert parse(critique(second=f"{minus}2"), low=-5, high=5)["Visual quality"] == -2.0


def test_two_different_scores_conflict_and_two_equal_ones_do_not():
    assert refused(critique() + "Score: 4") == "unparsable"
    assert parse(critique() + "Score: 2") == parse(critique())
    assert refused(critique() + critique("4", "2")) == "unparsable"
    assert refused(critique() + critique("N/A", "2")) == "unparsable"


@pytest.mark.parametrize(
    "text", ["", "Score: 3", "A fine picture, 4 of 4.", "## Text faithfulness\nScore: 3"]
)
def test_an_aspect_without_a_score_is_missing(text):
    assert refused(text) == "missing"


def test_a_heading_with_a_number_gives_no_score():
    assert refused("## Text faithfulness 3\n## Visual quality\nScore: 2") == "missing"
    assert parse("## 1. Text faithfulness\nScore: 3\n## 2. Visual quality\nScore: 2") == parse(critique())


@given(st.floats(1, 4).map(lambda x: round(x, 2)), st.floats(1, 4).map(lambda x: round(x, 2)))
def test_what_is_written_is_what_is_read(first, second):
    assert parse(critique(str(first), f"{second:.2f}")) == dict(zip(NAMES, (first, second), strict=True))


@given(st.text(max_size=200), st.integers(0, 200))
def test_any_text_is_read_or_refused(noise, at):
    text = critique()
    try:
        parse(text[:at] + noise + text[at:])
    except Unscorable as refusal:
        assert refusal.status in ("missing", "unparsable", "out_of_range")


def test_a_megabyte_is_read_in_little_time():
    for filler in ("Score: ", "#", "Justification: x\n", "Score:\n"):

        def read(size, filler=filler):
            with contextlib.suppress(Unscorable):
                parse(critique() + (filler * size)[:size])

        assert_linear(read, 1_000_000)

"""Readers of a judge's turns: the preferred one of two, and the first of two turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward import Unscorable
from mmreward.rewards.judged.asking import CRITERIA, read_branch
from mmreward.rewards.published.grammar import TIE, preferred

SAID = {
    "1": "1",
    "**2**": "2",
    "A": "1",
    "the first": "1",
    "Picture 2.": "2",
    "Image 1 is better": "1",
    "Answer 2 is better.": "2",
    "Overall Judgment: Answer 1 is better": "1",
    "the second image fits better": "2",
    "Both images are equally good": TIE,
    "tie": TIE,
    "A=B": TIE,
}
UNSAID = (
    "",
    "12",
    "1 or 2",
    "not 1",
    "1, not 2",
    "Image 1 is not better",
    "Image 1 is worse",
    "1 2",
    "both",
    "3",
    "1" * 201,
    "Image 1 is better. Image 2 is better",
)


@pytest.mark.parametrize(("answer", "place"), SAID.items())
def test_a_preference_is_read(answer, place):
    assert preferred(answer) == place


@pytest.mark.parametrize("answer", UNSAID)
def test_what_names_not_exactly_one_is_no_preference(answer):
    with pytest.raises(Unscorable, match="does not name one") as caught:
        preferred(answer)
    assert caught.value.status == "unparsable"


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text):
    try:
        assert preferred(text) in ("1", "2", TIE)
    except Unscorable as error:
        assert error.status == "unparsable"


FIRST = "Look at: number, colour\nPicture 1: one circle too many\nPicture 2: nothing"


def test_a_first_turn_is_read():
    branch = read_branch(FIRST)
    assert branch.criteria == ("number", "colour")
    assert branch.issues == ("one circle too many", "nothing")
    bold = (
        "\n**Look at:** Number and Colour.\n\n**Picture 1:**\none circle\ntoo many\n**Picture 2:** nothing\n"
    )
    assert read_branch(bold) == (("number", "colour"), ("one circle too many", "nothing"))
    assert read_branch(FIRST.replace("number, colour", "fit"), ["Fit"]).criteria == ("Fit",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Picture 1: a\nPicture 2: b",
        "Look at: number\nPicture 2: b\nPicture 1: a",
        "Look at: number\nPicture 1: a",
        "Look at: number\nPicture 1:\nPicture 2: b",
        "Look at: number\nLook at: colour\nPicture 1: a\nPicture 2: b",
        "Well.\nLook at: number\nPicture 1: a\nPicture 2: b",
        FIRST.replace("number, colour", "beauty"),
        FIRST.replace("number, colour", "number, number"),
        FIRST.replace("number, colour", "number, colour, shape, place"),
        FIRST.replace("number, colour", ", ".join(CRITERIA)),
        FIRST.replace("number, colour", "."),
    ],
)
def test_a_first_turn_without_its_form_is_refused(text):
    with pytest.raises(Unscorable) as caught:
        read_branch(text)
    assert caught.value.status == "unparsable"


@pytest.mark.parametrize(("start", "unit"), [("Look at: ", "a,"), ("", "Look at:"), ("", "\n"), ("", ":")])
def test_reading_a_megabyte_is_linear(start, unit):
    def refused(size):
        for read in (read_branch, preferred):
            with pytest.raises(Unscorable):
                read(start + (unit * size)[:size])

    assert_linear(refused, 1_000_000)

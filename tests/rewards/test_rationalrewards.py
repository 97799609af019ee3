"""RationalRewards: golden judgements, the heading traps, dress, hedges, and mutations."""

import pytest
from support.judgements import rational, rational_pair
from support.mutations import never_raise_nor_pay

from mmreward import Unscorable
from mmreward.rewards.published.declaring import by_sum, mean_between
from mmreward.rewards.published.rationalrewards import (
    ASPECTS,
    HEADINGS,
    OWN,
    PAIR,
    POINT,
    heading_of,
    read_pair,
    read_point,
)

T2I, EDIT = ASPECTS["t2i"], ASPECTS["edit"]
value = mean_between(1, 4)


def status_of(read, *args):
    with pytest.raises(Unscorable) as raised:
        read(*args)
    return raised.value.status


@pytest.mark.parametrize(
    ("marks", "want"),
    [((1, 1, "N/A"), 0), ((2.5, 2.5, 2.5), 0.5), ((3, 3, "N/A"), 2 / 3), ((4, 4, 4.0), 1),
     ((3.5, 2.0, "N/A"), 7 / 12)],
)  # fmt: skip
def test_the_mean_of_the_marks_that_apply(marks, want):
    assert value(read_point(rational(*marks), T2I)) == pytest.approx(want)


def test_each_aspect_gets_its_own_mark():
    """Upstream's modular reader gives text faithfulness the mark of text rendering, and quality 2.5."""
    assert read_point(rational(1.5, 3.25, 4), T2I).parts == {
        "text_faithfulness": 1.5, "physical_quality": 3.25, "text_rendering": 4.0,
    }  # fmt: skip
    assert read_point(rational(1, 2, 3, 4, task="edit"), EDIT).parts == dict(
        zip(EDIT, (1, 2, 3, 4), strict=True)
    )


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_every_heading_of_a_prompt_is_found(task):
    for prompt in (POINT[task], PAIR[task]):
        found = {heading_of(line.casefold()) for line in prompt.own.splitlines()}
        assert all(found & set(HEADINGS[aspect]) for aspect in ASPECTS[task])
        assert "{prompt}" in prompt.own and prompt.own.count("<image>") == OWN[task].count("<image>") + (
            prompt is PAIR[task]
        )


DRESSED = {
    "bold number": lambda text: text.replace("## Score: 3.5", "## Score: **3.5**"),
    "bold heading": lambda text: text.replace("1. Text Faithfulness:", "**1. Text Faithfulness**"),
    "bold label": lambda text: text.replace("## Score: 3.5", "**Score:** 3.5"),
    "list": lambda text: text.replace("## Score: 3.5", "- Score: 3.5"),
    "next line": lambda text: text.replace("## Score: 3.5", "## Score:\n3.5"),
    "of four": lambda text: text.replace("## Score: 3.5", "## Score: 3.5/4"),
    "brackets": lambda text: text.replace("## Score: 3.5", "## Score: [ 3.5 ]"),
    "remark": lambda text: text.replace("## Score: 3.5", "## Score: 3.5 (minor mismatch)"),
    "full width": lambda text: text.replace("## Score: 3.5", "## Score: \uff13.\uff15"),
    "windows": lambda text: text.replace("\n", "\r\n"),
    "ampersand": lambda text: text.replace("Physical and Visual", "Physical & Visual"),
    "older heading": lambda text: text.replace("Physical and Visual Quality", "Physical Quality"),
    "thinking": lambda text: f"<think># Detailed Judgement\n1. Text Faithfulness:\n## Score: 1</think>{text}",
    "same twice": lambda text: text.replace("## Score: 3.5", "## Score: 3.5\n## Score: 3.5"),
}


@pytest.mark.parametrize("dress", DRESSED)
def test_dress_makes_no_difference(dress):
    text = DRESSED[dress](rational(3.5, 2, "n/a"))
    assert text != rational(3.5, 2, "n/a")
    assert read_point(text, T2I).parts == {"text_faithfulness": 3.5, "physical_quality": 2.0}


@pytest.mark.parametrize(
    ("mark", "status"),
    [("", "missing"), ("good", "unparsable"), ("3 or 4", "unparsable"), ("3-4", "unparsable"),
     ("3, 4", "unparsable"), ("3/5", "unparsable"), ("4 (or 3)", "unparsable"), ("nan", "unparsable"),
     ("1e0", "unparsable"),
     ("4.5", "out_of_range"), ("0", "out_of_range"), ("\u22123", "out_of_range"), ("N/A", "unparsable")],
)  # fmt: skip
def test_what_is_no_mark_is_a_failure(mark, status):
    assert status_of(read_point, rational(mark, 2, 3), T2I) == status


@pytest.mark.parametrize("change", [
    lambda text: text.replace("3. Text Rendering:", "3. Lettering:"),
    lambda text: text.replace("## Score: 2\n", ""),
    lambda text: "I cannot help with that.",
    lambda text: "<think>hm</think>",
])  # fmt: skip
def test_what_is_not_there_is_missing(change):
    assert status_of(read_point, change(rational(3, 2, 4)), T2I) == "missing"


def test_two_marks_of_one_aspect_are_none():
    text = rational(3, 2, 4).replace("## Score: 2\n", "## Score: 2\n## Score: 4\n")
    assert status_of(read_point, text, T2I) == "unparsable"
    again = rational(3, 2, 4).replace("# Summary", "1. Text Faithfulness:\n## Score: 4\n# Summary")
    assert status_of(read_point, again, T2I) == "unparsable"
    assert status_of(read_point, "<think>" + rational(3, 2, 4), T2I) == "unparsable"


# --- two pictures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "want"),
    [(((4, 1), (3, 2), ("N/A", "N/A")), 1.0), (((1, 4), (2, 2), ("N/A", "N/A")), 0.0),
     (((3, 3), (2.5, 2.5), ("N/A", "N/A")), 0.5), (((3, 2), (2, 3), (1, 1)), 0.5),
     (((3.1, 3), (3, 3), (4, 4)), 1.0)],
)  # fmt: skip
def test_the_larger_sum_wins(marks, want):
    read = read_pair(rational_pair(*marks), T2I)
    assert by_sum(read) == want and not read.contradiction


def test_winners_against_the_marks_are_a_contradiction():
    marks = ((4, 1), (3, 2), ("N/A", "N/A"))
    told = read_pair(rational_pair(*marks, winners=("Image B", "Image B", "N/A")), T2I)
    assert told.contradiction == "the winners are mostly image B, the marks say the other"
    even = read_pair(rational_pair(*marks, winners=("Image A", "Image B", "N/A")), T2I)
    assert not even.contradiction and even.parts == {"text_faithfulness": 3.0, "physical_quality": 1.0}
    assert (
        status_of(read_pair, rational_pair(*marks, winners=("Image A", "both", "N/A")), T2I) == "unparsable"
    )
    half = rational_pair((4, 1), (3, 2), ("N/A", "3"), winners=("Image A", "Image A", "N/A"))
    assert status_of(read_pair, half, T2I) == "unparsable"


def test_mutated_judgements_never_raise_and_never_pay_a_hedge():
    hedges = ["3 or 4", "3-4", "between 2 and 4", "4?!", "3/4/4", "~4", "4 4"]
    texts = [rational(3.5, 2, "N/A"), rational(4, 4, 4), *(rational(hedge, 4, 4) for hedge in hedges)]
    never_raise_nor_pay(lambda text: read_point(text, T2I), texts, hedges, seed=1, count=1000)
    pairs = [
        rational_pair((4, 1), (3, 2), ("N/A", "N/A")),
        *(rational_pair((h, h), (4, 1), (4, 4)) for h in hedges),
    ]
    never_raise_nor_pay(lambda text: read_pair(text, T2I), pairs, hedges, seed=2, count=1000)

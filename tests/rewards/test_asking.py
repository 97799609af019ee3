"""Asking a judge in one turn or in two, and learning from what it wrote."""

import asyncio
import math

import numpy as np
import pytest
from PIL import Image
from support.toys import toy

from mmreward import Engine, Media, Score, Unscorable
from mmreward.data.pair_folder import PreferencePair
from mmreward.judges.comparison import Comparison, both_orders, comparisons
from mmreward.judges.rationales import (
    HINT,
    OUTCOMES,
    Rationale,
    RationaleSampling,
    balanced,
    best,
    count_outcomes,
    grpo_rows,
    sample_rationales,
    sft_rows,
    unsolved,
)
from mmreward.models.vlms.answers import Written
from mmreward.rewards.judged.asking import QUESTION, Asking, Sampling

NOTED = "Look at: number\nPicture 1: two circles\nPicture 2: nothing"
SECOND = "<think>One is missing.</think><answer>2</answer>"


def picture(shade):
    return Media(Image.new("RGB", (8, 8), (shade, 0, 0)))


def comparison(name="a", better="2"):
    return Comparison(name, "one circle", (picture(1), picture(2)), better)


class Judge:
    """Writes what `say` gives for (pictures, question, seed), and keeps what it was asked."""

    def __init__(self, say):
        self.say, self.asked = say, []

    async def write(self, pictures, question, *, max_tokens, temperature, seed, system, history):
        self.asked.append((question, system, tuple(history), temperature, seed))
        said = self.say(pictures, question, seed)
        if isinstance(said, Exception):
            raise said
        return Written(said, not said.endswith("..."), 3)


def ask(judge, asking, **more):
    one = comparison()
    return asyncio.run(asking.ask(judge, one.request, one.pictures, Sampling(9, 0.5, 4), **more))


# --- asking ---------------------------------------------------------------------------------------


def test_one_turn():
    judge = Judge(lambda *_: SECOND)
    judged = ask(judge, Asking(system="Be brief."), hint=" Psst.")
    assert judged == ((SECOND,), "One is missing.", "2")
    assert judge.asked == [(QUESTION.format(prompt="one circle") + " Psst.", "Be brief.", (), 0.5, 4)]


def test_two_turns_and_what_is_asked_second_depends_on_the_first():
    judge = Judge(lambda _, question, __: SECOND if "again" in question else NOTED)
    judged = ask(judge, Asking(turns=2, criteria=("number", "place")), hint=" Psst.")
    assert judged.turns == (NOTED, SECOND) and judged.verdict == "2"
    (first, _, nothing, *_), (second, _, history, *_) = judge.asked
    assert "number, place" in first and "one circle" in first and first.endswith("Psst.") and not nothing
    assert "again at number" in second and "place" not in second and "Psst" not in second
    assert [turn[:2] for turn in history] == [(first, NOTED)]


@pytest.mark.parametrize(
    "said", ["2", "<think>a</think>", "<think>a</think><answer>?</answer>", "<think>a..."]
)
def test_a_judgement_that_cannot_be_read_is_unparsable(said):
    with pytest.raises(Unscorable) as caught:
        ask(Judge(lambda *_: said), Asking())
    assert caught.value.status == "unparsable"


def test_a_first_turn_without_its_form_ends_it():
    judge = Judge(lambda *_: SECOND)
    with pytest.raises(Unscorable, match="first turn"):
        ask(judge, Asking(turns=2))
    assert len(judge.asked) == 1


@pytest.mark.parametrize(
    "wrong", [{"turns": 3}, {"question": "Which?"}, {"branch": "{prompt}"}, {"rethink": "Again."}]
)
def test_a_text_without_its_field_is_refused(wrong):
    with pytest.raises(ValueError, match=r"turns is 3|has no \{"):
        Asking(**wrong)


# --- comparisons ----------------------------------------------------------------------------------


def pairs(number):
    return [
        PreferencePair(prompt=f"p{row}", chosen=picture(2 * row), rejected=picture(2 * row + 1))
        for row in range(number)
    ]


def test_neither_place_is_right_more_often():
    found = comparisons(pairs(100))
    assert 30 < sum(one.better == "1" for one in found) < 70
    assert [one.better for one in comparisons(pairs(100))] == [one.better for one in found]
    for one, pair in zip(found, pairs(100), strict=True):
        better = one.pictures[int(one.better) - 1]
        assert better.key == pair.chosen.key and one.request == pair.prompt
        assert {media.key for media in one.pictures} == {pair.chosen.key, pair.rejected.key}


def test_the_order_does_not_tell_which_was_chosen():
    """Chosen and rejected exchanged: the pictures stand as before, and the other one is better."""
    for pair in pairs(20):
        turned = PreferencePair(prompt=pair.prompt, chosen=pair.rejected, rejected=pair.chosen)
        (one,), (other,) = comparisons([pair]), comparisons([turned])
        assert [media.key for media in one.pictures] == [media.key for media in other.pictures]
        assert one.better != other.better


def test_swapping_twice_changes_nothing():
    one = comparison()
    assert one.swapped != one and one.swapped.swapped == one
    assert one.pictures[int(one.better) - 1] == one.swapped.pictures[int(one.swapped.better) - 1]


def test_a_comparison_as_samples():
    one = comparison()
    sample = one.sample("Which?", SECOND)
    assert (sample.inputs, sample.target, sample.prompt) == (one.pictures, "2", "Which?")


def test_clips_are_refused():
    clip = Media(np.zeros((2, 8, 8, 3), np.uint8), "video", fps=1)
    with pytest.raises(ValueError, match="pair 0 is of clips"):
        comparisons([PreferencePair(prompt="p", chosen=clip, rejected=clip)])


# --- rationales -----------------------------------------------------------------------------------


async def believes(sample):
    """The listener: convinced by reasoning that names a number, and broken by the word "boom"."""
    if "boom" in sample.response:
        raise Unscorable("broken", "error")
    assert "Psst" not in sample.prompt + sample.response
    return Score(0.9 if "two" in sample.response else 0.2)


ANSWERS = {
    1: "<think>two circles.</think><answer>2</answer>",
    2: "<think>circles.</think><answer>2</answer>",
    3: "<think>two circles.</think><answer>1</answer>",
    4: "no tags",
    5: "<think>boom</think><answer>2</answer>",
    6: Unscorable("the server is gone", "timeout"),
}
WANTED = ["kept", "unconvincing", "wrong", "unreadable", "failed", "failed"]


def drawn(asking=None, **more):
    judge = Judge(lambda _, __, seed: ANSWERS[seed])
    options = RationaleSampling(asking=asking or Asking(system=""), draws=6, seed=1, hint=HINT)
    with Engine("cpu") as engine:
        return judge, engine.run(
            sample_rationales(judge, [comparison("a"), comparison("b")], options, **more)
        )


def test_what_becomes_of_every_draw():
    judge, found = drawn(listener=toy(believes, "listener_toy"))
    assert [one.outcome for one in found] == WANTED * 2
    assert [one.comparison.id for one in found] == ["a"] * 6 + ["b"] * 6
    assert all("Picture 2 is better." in asked[0] for asked in judge.asked)
    assert [one.p_listener for one in found[:2]] == [0.9, 0.2] and math.isnan(found[2].p_listener)
    assert "gone" in found[5].note and "broken" in found[4].note
    assert count_outcomes(found) == dict(zip(OUTCOMES, (2, 2, 2, 2, 4), strict=True))
    assert [one.id for one in unsolved(found)] == ["a", "b"]


def test_a_higher_bar_keeps_less():
    _, found = drawn(listener=toy(believes, "listener_toy"), least=0.95)
    assert count_outcomes(found)["kept"] == 0 and count_outcomes(found)["unconvincing"] == 4


def test_without_a_listener_the_verdict_decides():
    _, found = drawn()
    assert [one.outcome for one in found[:6]] == ["kept", "kept", "wrong", "unreadable", "kept", "failed"]


def rationale(name, said, p_listener=math.nan, outcome="kept"):
    return Rationale(comparison(name), (said,), "2", outcome, p_listener)


def test_the_most_convincing_are_learned_once_each():
    written = [
        rationale("b", "dull"),
        rationale("a", "good", 0.7),
        rationale("a", "best", 0.9),
        rationale("a", "best", 0.8),
        rationale("a", "wrong", 0.99, "unconvincing"),
    ]
    assert [one.turns[0] for one in best(written)] == ["best", "dull"]


def test_what_is_learned_favours_no_place():
    written = [
        Rationale(comparison(name, better), (name,), better, "kept", heard)
        for name, better, heard in (
            ("a", "1", 0.6),
            ("b", "1", 0.9),
            ("c", "2", 0.7),
            ("d", "1", math.nan),
            ("e", "1", 0.8),
            ("f", "2", math.nan),
        )
    ]
    assert [one.comparison.id for one in balanced(written)] == ["b", "c", "e", "f"]
    assert balanced(written[:2]) == []


def test_in_both_orders_each_place_is_right_once():
    asked = both_orders([comparison("a", "1"), comparison("b", "1")])
    assert [(one.id, one.better) for one in asked] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]


@pytest.mark.parametrize("wrong", [{"hint": "It is one."}, {"draws": 0}])
def test_a_drawing_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"hint|draws"):
        RationaleSampling(asking=Asking(), **wrong)


# --- rows -----------------------------------------------------------------------------------------


def test_lessons_are_asked_as_the_student_will_be():
    asking = Asking(system="Be brief.")
    (row,) = sft_rows([rationale("a", SECOND)], asking)
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert row["prompt"][1]["content"] == QUESTION.format(prompt="one circle")
    assert row["completion"] == [{"role": "assistant", "content": SECOND}]
    assert [shown.getpixel((0, 0))[0] for shown in row["images"]] == [1, 2]


def test_two_turns_make_two_lessons():
    asking = Asking(turns=2, system="")
    written = Rationale(comparison(), (NOTED, SECOND), "2", "kept")
    first, second = sft_rows([written], asking)
    assert first["completion"][0]["content"] == NOTED and len(first["prompt"]) == 1
    assert [message["role"] for message in second["prompt"]] == ["user", "assistant", "user"]
    assert second["prompt"][:2] == [*first["prompt"], *first["completion"]]
    assert "number" in second["prompt"][2]["content"] and second["completion"][0]["content"] == SECOND


def test_exercises_bring_the_right_verdict_and_no_answer():
    (row,) = grpo_rows([comparison()], Asking(system=""))
    assert (
        row["target"] == "2"
        and row["source"] == "comparison"
        and set(row)
        == {
            "prompt",
            "images",
            "source",
            "target",
        }
    )

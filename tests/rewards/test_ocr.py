"""Edit distances against an oracle, and what a transcription is worth."""

import math
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import assert_linear, seconds

from mmreward import Engine, Sample, Unscorable, load
from mmreward.rewards.rules.ocr import grade_transcription, references_of
from mmreward.verifiers.text import edit_distance


def by_definition(a, b):
    @cache
    def distance(i, j):
        if not i or not j:
            return i + j
        kept = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(kept, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(a), len(b))


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_the_distance_is_the_one_of_the_definition(a, b):
    assert edit_distance(a, b) == by_definition(a, b) == edit_distance(b, a)


def by_table(a, b):
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            corner, row[j] = row[j], min(corner + (one != other), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def test_the_distance_of_words_and_of_long_texts():
    assert edit_distance(["the", "cat", "sat"], ["a", "cat", "sat", "down"]) == 2
    assert edit_distance("ab" * 10_000, "ba" * 10_000) == 2
    whole = seconds(lambda size: edit_distance("ab" * size, "ba" * size), 10_000, 3)
    part = seconds(lambda size: by_table("ab" * size, "ba" * size), 500, 3)
    assert whole < 40 * part  # a table of the whole has 400 times the cells


@pytest.mark.parametrize(
    ("answer", "reference", "mode", "value"),
    [
        ("EXIT 24", "EXIT 24A", "cer", 7 / 8),
        ("exit 24a", "EXIT 24A", "cer", 3 / 8),
        ("one two four", "one two three", "wer", 2 / 3),
        ("hello wor", "hello world", "anls", 9 / 11),
        ("hello", "help", "anls", 1 - 2 / 5),
        ("abcd", "abxy", "anls", 0),  # a distance of exactly one half
        ("abcdefgh", "zbcd", "cer", 0),
        ("EXIT", "EXIT", "exact", 1),
        ("EXIT", "Exit", "exact", 0),
        ("", "EXIT", "cer", 0),
        ("", "", "cer", 1),
        ("x", "", "wer", 0),
        (" EXIT\n 24 ", "EXIT 24", "exact", 1),
        ("\uff25XIT", "EXIT", "exact", 1),
    ],
)
def test_agreement_by_hand(answer, reference, mode, value):
    verdict = grade_transcription(answer, [reference], mode=mode)
    assert verdict.value == pytest.approx(value)
    assert verdict.parts["exact"] == (verdict.value == 1)


def test_the_best_of_several_references_counts():
    assert grade_transcription("Exit", ["EXIT", "Exit", ""]).value == 1
    assert grade_transcription("", ["EXIT", ""]).value == 1
    verdict = grade_transcription("abcd", ["zzzzzzzz", "abxy"], mode="anls")
    assert verdict.value == 0 and verdict.parts["similarity"] == 0.5


def test_case_and_punctuation_by_choice():
    assert (
        grade_transcription("exit, now!", ["EXIT NOW"], mode="exact", casefold=True, punctuation=False).value
        == 1
    )
    assert grade_transcription("exit, now!", ["EXIT NOW"], mode="exact", casefold=True).value == 0
    with pytest.raises(Unscorable, match="nothing is left"):
        grade_transcription("x", ["..."], punctuation=False)


@given(
    st.text("ab .", max_size=8), st.text("ab .", max_size=8), st.sampled_from(["cer", "wer", "anls", "exact"])
)
def test_agreement_is_bounded_and_full_only_for_equal_texts(answer, reference, mode):
    verdict = grade_transcription(answer, [reference], mode=mode)
    assert 0 <= verdict.value <= 1 and verdict.value <= verdict.parts["similarity"] + 1e-12
    assert (verdict.value == 1) == (answer.split() == reference.split()) == (verdict.parts["exact"] == 1)


@given(st.text("abc ", min_size=1, max_size=12), st.text("xyz", min_size=1, max_size=30))
def test_adding_what_is_not_there_never_pays(text, junk):
    whole = grade_transcription(text, [text]).value
    assert grade_transcription(text + junk, [text]).value < whole


def test_a_text_that_is_much_too_long_is_not_compared():
    near = grade_transcription("x" * 84, ["xxxxx"])
    far = grade_transcription("x" * 85, ["xxxxx"])
    assert near.value == far.value == 0 and not near.note and "too long" in far.note
    assert_linear(lambda size: grade_transcription("\u0301\u0316" * size, ["EXIT"]), 500_000)


@pytest.mark.parametrize("target", [3, [], ["a", 3], {"text": "a"}])
def test_targets_are_texts(target):
    with pytest.raises(Unscorable) as refusal:
        references_of(target)
    assert refusal.value.status == "error"


def test_the_reward():
    def scored(response, target, **args):
        with Engine("cpu") as engine:
            return engine.score([Sample(response=response, target=target)], load("ocr", **args))["ocr"][0]

    score = scored("<think>EXIT</think><answer>EXIT 24</answer>", ["EXIT 24A", "Exit"])
    assert score.value == pytest.approx(7 / 8) and list(score.parts) == ["parsed", "exact", "similarity"]
    empty = scored("<think>x</think><answer></answer>", "EXIT")
    assert empty.value == 0 < math.exp(-1) and empty.parts["parsed"] == 1
    assert scored("EXIT", "EXIT").value == 0 and scored("EXIT", "EXIT", bare=True).value == 1
    assert scored("<answer>EXIT</answer>", 24).status == "error"

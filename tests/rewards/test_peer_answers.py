"""Formulas of other projects for short answers, beyond the attacks on them: what they get right, and how."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Unscorable
from mmreward.rewards.peers.answers import (
    sophia_choice,
    sophia_grade,
    sophia_ocr,
    visual_rft_label,
    vlm_r1_choice,
    vlm_r1_default,
    vlm_r1_repetition,
    vlm_r1_yes_no,
)


def tagged(answer):
    return f"<think>x</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("formula", "answer", "gold", "paid"),
    [
        (vlm_r1_choice, "A", "A", 1),
        (vlm_r1_choice, "A", "<answer> A </answer>", 1),
        (vlm_r1_choice, "B", "A", 0),
        (vlm_r1_yes_no, "Yes", "yes", 1),
        (vlm_r1_yes_no, "yes", "no", 0),
        (vlm_r1_yes_no, "maybe", "unclear", 1),
        (visual_rft_label, "Tiger_cat", "tiger cat", 1),
        (visual_rft_label, "lynx", "<answer>tiger cat</answer>", 0),
        (sophia_choice, "A,B", "AB", 1),
        (sophia_choice, "C", "C", 1),
        (sophia_choice, "A", "AB", 0),
        (sophia_ocr, "EXIT", "EXIT 24", math.exp(-0.5)),
        (sophia_ocr, "$EXIT 24$", "EXIT 24", 1),
        (vlm_r1_default, "5.0", "5", 1),
        (vlm_r1_default, "6", "5", 0),
        (vlm_r1_default, "B.", "<answer>B</answer>", 1),
        (vlm_r1_default, "b", "<answer>B</answer>", 1),
        (vlm_r1_default, "none", "B.", 0),
        (vlm_r1_default, "Two\ncats.", "two cats", 1),
        (vlm_r1_default, "two dogs", "two cats", 2 * 5 / 16),
        (vlm_r1_default, "5 cm", "5 m", 2 * 3 / 7),
    ],
)
def test_what_a_formula_pays(formula, answer, gold, paid):
    assert formula(tagged(answer), gold) == pytest.approx(paid)


def test_which_of_several_answers_counts():
    twice = "<answer>yes</answer> or <answer>no</answer>"
    assert vlm_r1_yes_no(twice, "yes") == 1  # the first
    assert vlm_r1_default(twice, "no") == 1  # the last
    assert vlm_r1_default("no", "no") == 1 and vlm_r1_default("<answer>no", "no") < 1


def test_texts_out_of_form_earn_nothing_from_sophia():
    assert sophia_ocr("EXIT 24", "EXIT 24") == 0
    with pytest.raises(Unscorable, match="empty"):
        sophia_ocr(tagged("x"), " ")


@given(st.text("abc ", max_size=9), st.text("abc ", max_size=9))
def test_likeness_is_that_of_the_longest_common_subsequence(a, b):
    a, b = f"{a.strip()}xx", f"{b.strip()}xx"  # no letter stands alone, as an option would
    longest = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            diagonal = longest[i][j] + 1 if x == y else 0
            longest[i + 1][j + 1] = max(diagonal, longest[i][j + 1], longest[i + 1][j])
    assert vlm_r1_default(tagged(a), b) == pytest.approx(2 * longest[-1][-1] / (len(a) + len(b)))


BOX = '{"bbox_2d": [1, 2, 3, 4], "label": "cat"}'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0),
        ("one two three four five", 0),
        ("no " * 10, 1 / 5 - 1),
        (f"[{BOX}, {BOX}]", -0.5),
        (f"{'no ' * 50}[{BOX}]", 0),
        (f"```json\n[{BOX}, {BOX}, {BOX}]\n```", 1 / 3 - 1),
    ],
)
def test_repetition_of_vlm_r1(text, value):
    assert vlm_r1_repetition(text) == pytest.approx(value)


@pytest.mark.parametrize("unit", ["</think>", "</think> ", "**", "<answer>0.", "Wrong Steps**: ", "1234 "])
def test_a_megabyte_takes_little_time(unit):
    text = (unit * 1_000_000)[:1_000_000]
    begun = time.process_time()
    sophia_grade(text)
    vlm_r1_default(text, "a word")
    assert time.process_time() - begun < 0.5

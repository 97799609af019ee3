"""What other projects pay, with their defects, beside what is paid here."""

import math
import time

import pytest

from mmreward import Unscorable
from mmreward.verifiers import choice, label, ocr, yes_no
from mmreward.verifiers.peers.answers import (
    sophia_choice,
    sophia_ocr,
    visual_rft_label,
    vlm_r1_choice,
    vlm_r1_yes_no,
)
from mmreward.verifiers.peers.shaping import vlm_r1_cosine, vlm_r1_repetition


def ours(judge, *args):
    """0 where the answer cannot be read, as `verified` has it."""
    try:
        return judge(*args).value
    except Unscorable:
        return 0.0


def tagged(answer):
    return f"<think>x</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("answer", "gold", "peer", "here"),
    [
        ("A", "A", 1, 1),
        ("(A)", "A", 0, 1),  # vector 16
        ("A)", "A", 0, 1),
        ("Option D is right", "D", 0, 1),
        ("I think it is B, not C.", "B", 0, 0),  # vector 17
        ("I think it is B, not C.", "C", 1, 0),
        ("A, B, C, D", "D", 1, 0),
        ("the cat is a", "A", 1, 0),
        ("B. B. B. B. or A", "B", 1, 0),
    ],
)
def test_multiple_choice_of_vlm_r1(answer, gold, peer, here):
    assert vlm_r1_choice(tagged(answer), f"<answer> {gold} </answer>") == peer
    assert ours(choice.judge, answer, {gold}, None) == here


@pytest.mark.parametrize(
    ("answer", "gold", "peer", "here"),
    [
        ("Yes", "yes", 1, 1),
        ("I do not know", "no", 1, 0),
        ("nothing", "no", 1, 0),
        ("yesterday", "yes", 1, 0),
        ("no, yes", "no", 1, 0),
        ("maybe", "unclear", 1, None),
    ],
)
def test_yes_or_no_of_vlm_r1(answer, gold, peer, here):
    assert vlm_r1_yes_no(tagged(answer), gold) == peer
    if here is None:
        with pytest.raises(Unscorable):
            yes_no.truth_of(gold)
    else:
        assert ours(yes_no.judge, answer, yes_no.truth_of(gold)) == here


@pytest.mark.parametrize(
    ("answer", "peer", "here"),
    [
        ("Tiger_cat", 1, 1),
        ("", 1, 0),  # vector 13, issue 176
        ("tiger cat, dog, lynx", 1, 0),  # issue 79
        ("t", 1, 0),  # issue 70
        ("a tiger cat", 1, 0),
        ("lynx", 0, 0),
    ],
)
def test_labels_of_visual_rft(answer, peer, here):
    assert visual_rft_label(tagged(answer), "<answer>tiger cat</answer>") == peer
    assert ours(label.judge, answer, {"tiger cat"}) == here


def test_labels_of_visual_rft_without_tags():
    assert visual_rft_label("No tiger cat is here, only a lynx", "tiger cat") == 1


def test_ocr_of_sophia():
    """Vector 20."""
    assert sophia_ocr(tagged(""), "EXIT 24") == pytest.approx(math.exp(-1), abs=1e-12)
    assert sophia_ocr(tagged("EXIT"), "EXIT 24") == pytest.approx(math.exp(-0.5))
    assert sophia_ocr(tagged("$EXIT 24$"), "EXIT 24") == 1
    assert sophia_ocr("EXIT 24", "EXIT 24") == 0
    assert ocr.judge("", ["EXIT 24"]).value == 0
    with pytest.raises(Unscorable, match="empty"):
        sophia_ocr(tagged("x"), " ")


@pytest.mark.parametrize(
    ("answer", "gold", "peer", "here"),
    [("A,B", "A,B", 0, 1), ("A,A", "AB", 1, 0), ("A,B", "AB", 1, 1), ("C", "C", 1, 1), ("A", "AB", 0, 0)],
)
def test_multiple_choice_of_sophia(answer, gold, peer, here):
    """Vector 21."""
    assert sophia_choice(tagged(answer), gold) == peer
    right = choice.right_letters(gold, None, "all")
    assert choice.judge(answer, right, None, "all").value == here


def test_length_of_vlm_r1():
    """Vector 27."""
    assert vlm_r1_cosine(0.0, 100) == vlm_r1_cosine(1.0, 100) == pytest.approx(0.988, abs=5e-4)
    assert [vlm_r1_cosine(0.0, n) for n in (0, 1024, 2048)] == pytest.approx([1.0, 0.5, 1.0])


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


def test_repetition_of_vlm_r1_takes_no_108_seconds():
    """Vector 28: 7.2 KB of what its expression chokes on."""
    begun = time.process_time()
    vlm_r1_repetition('[{"bbox_2d""label"' * 400)
    assert time.process_time() - begun < 0.05

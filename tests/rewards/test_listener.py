"""Masking of the verdict: what a listener may read of the reasoning."""

import pytest
from support.growth import assert_linear

from mmreward.rewards.judged.listener import mask_verdict
from mmreward.verifiers.response import segment

EVIDENCE = [
    "There is a red circle in the top left.",
    "There is no blue square anywhere.",
    "No text is visible.",
    "I see two triangles, both green.",
    "The circle is left of the square, so the order is kept.",
    "The shape at the bottom has three corners.",
]


@pytest.mark.parametrize(
    "verdict",
    [
        "The answer is yes.",
        "Therefore, yes.",
        "So no.",
        "Hence no.",
        "Yes, it shows a red circle.",
        "Yes.",
        "**Yes**",
        "No!",
        "Final answer: no",
        "I would say no.",
        "I'd say yes.",
        "It does not satisfy the request.",
        "Thus the picture matches the prompt.",
        "My verdict is: NO.",
        'So the answer must be "yes".',
        "The correct response is yes.",
        "It is a yes from me.",
        "Everything requested is present, so it's a yes.",
        "The request is fulfilled.",
    ],
)
def test_a_yes_or_no_verdict_is_hidden_and_the_evidence_kept(verdict):
    thought = " ".join(EVIDENCE[:3]) + f"\n{verdict}\n" + " ".join(EVIDENCE[3:])
    assert mask_verdict(thought, ("yes", "no")) == " ".join(EVIDENCE)


COMPARED = [
    "Image 1 shows a red circle and a green square.",
    "In image 2 the circle is missing.",
    "There are 2 circles in image 1.",
    "The second image is blurry at the edge.",
]


@pytest.mark.parametrize(
    "verdict",
    [
        "Image 2 is better.",
        "Picture 1 wins.",
        "The answer is 2.",
        "I choose 1.",
        "I prefer image 2.",
        "2",
        "**1**",
        "Therefore, 2.",
        "So it is 2.",
        "I'd go with image 1.",
        "The first picture is better.",
        "I prefer the second image.",
        "Overall image 1 is the stronger one.",
        "Option 1 is superior.",
        "Verdict: 2",
        "My pick: 1.",
        "Image 1 beats image 2.",
        "Image 2 follows the prompt more closely.",
    ],
)
def test_a_choice_between_two_is_hidden_and_the_evidence_kept(verdict):
    thought = "\n".join([*COMPARED[:2], verdict, *COMPARED[2:]])
    assert mask_verdict(thought, ("1", "2")) == " ".join(COMPARED)


def test_nothing_but_a_verdict_leaves_nothing():
    assert mask_verdict("Yes. The answer is yes.", ("yes", "no")) == ""
    assert mask_verdict("", ("yes", "no")) == ""


def test_labels_are_words_and_not_patterns():
    assert mask_verdict("The answer is a+b. It costs 5.", ("a+b", "c(d")) == "It costs 5."


@pytest.mark.parametrize("unit", ["this match ", "a", "\n", "the answer "])
def test_masking_a_megabyte_is_linear(unit):
    def masked(size):
        text = (unit * size)[:size]
        mask_verdict(text, ("yes", "no"))
        segment(text, bare=True)

    assert_linear(masked, 1_000_000)

"""Where the answer is, and what a listener may hear of the reasoning."""

import time

import pytest

from mmreward import Unscorable
from mmreward.verifiers.response import inside_box, mask_verdict, segment


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>I see.</think><answer>yes</answer>", "I see.", "yes"),
        ("I see.</think>\n<answer> yes </answer>", "I see.", "yes"),
        ("<answer>yes</answer>", "", "yes"),
        ("<think>a</think>b</think><answer>yes</answer>", "a</think>b", "yes"),
        ("<think>like <answer> </answer></think><answer>no</answer>", "like <answer> </answer>", "no"),
        ("<think>x</think><answer>yes", "x", "yes"),
        ("<think>x</think><answer></answer>", "x", ""),
        ("<think>x</think><answer>\U0001f431 \u05e9</answer> bye", "x", "\U0001f431 \u05e9"),
    ],
)
def test_the_answer_is_what_the_tags_after_the_thinking_hold(text, thought, answer):
    assert segment(text) == (thought, answer)


@pytest.mark.parametrize(
    "text",
    [
        "<think>never closed",
        "<think>never closed <answer>yes</answer>",
        "no tags",
        "",
        "<think>x</think>yes",
        "<think><answer>yes</answer></think>",
        "<think>x</think><answer>yes</answer><answer>no</answer>",
    ],
)
def test_no_answer_cut_off_and_several_answers_are_unparsable(text):
    with pytest.raises(Unscorable) as refusal:
        segment(text)
    assert refusal.value.status == "unparsable"


def test_without_tags_the_rest_is_the_answer_only_when_asked_for():
    assert segment("<think>x</think> yes ", bare=True) == ("x", "yes")
    assert segment("<answer>yes</answer> no", bare=True).answer == "yes"
    with pytest.raises(Unscorable):
        segment("<think>never closed", bare=True)


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


@pytest.mark.parametrize(
    "text", ["this match " * 90_000, "a" * 1_000_000, "\n" * 1_000_000, "the answer " * 90_000]
)
def test_a_megabyte_is_masked_in_little_time(text):
    begun = time.process_time()
    mask_verdict(text, ("yes", "no"))
    segment(text, bare=True)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} then \boxed {\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{a}", "a"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{}", ""),
        (r"\boxed{1", None),
        (r"\boxed 5 {6}", None),
        ("42", None),
        (r"\boxed{" + "1" * 5000 + "}", None),
    ],
)
def test_the_last_box_is_read_with_its_braces_balanced(text, inside):
    assert inside_box(text) == inside


def test_a_response_whose_thinking_the_template_opened_must_close_it():
    with pytest.raises(Unscorable, match="cut off"):
        segment("I wonder <answer>yes</answer>", prefilled=True)
    assert segment("I see</think><answer>yes</answer>", prefilled=True) == ("I see", "yes")

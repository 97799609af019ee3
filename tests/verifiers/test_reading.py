"""The reader of answers: dress comes off, announced and boxed answers must agree, hedges stay unread."""

import contextlib

import pytest
from support.growth import assert_linear

from mmreward import Unscorable
from mmreward.verifiers.reading import (
    Answers,
    agreed,
    boxes_of,
    plain,
    read_answer,
    stated_in,
    undressed,
    without_lead,
)
from mmreward.verifiers.response import segment


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("**B**", "B"),
        ("$$B$$", "B"),
        (r"\(B\)", "B"),
        (r"\boxed{\textbf{B}}", "B"),
        ("```json\n3\n```", "3"),
        ('"a" or "b"', '"a" or "b"'),
        ("**a** or **b**", "**a** or **b**"),
        (r"\text{a} or \text{b}", r"\text{a} or \text{b}"),
        ("## \u2705 **yes**", "yes"),
        ("\u3010A\u3011", "A"),
        ("<|begin_of_box|>B<|end_of_box|>", "B"),
        ("", ""),
    ],
)
def test_layers_that_wrap_all_of_an_answer_come_off(text, bare):
    assert undressed(text) == bare


def test_type_is_taken_out_of_a_text():
    assert plain(r"\textbf{(B)}\ 12\,\mathrm{cm}") == "(B) 12 cm"
    assert plain(r"\text{a \textbf{b}}") == "a b" and plain(r"45^{\circ}") == "45\u00b0"
    assert plain("$5") == "$5" and plain("$x$ and $y$") == "x and y", "one dollar sign is a currency"
    assert plain("~3") == "~3"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("The correct answer is (B).", "(B)."),
        ("**Answer: B**", "B"),
        ("### Final Answer\n\nB", "B"),
        ("So, the answer is: $\\text{B}$", "B"),
        ("\u6545\u7b54\u6848\u4e3a:B", "B"),
        ("\u6545\u9009B", "B"),
        ("It is Paris", "Paris"),
        ("the best of both", "the best of both"),
        ("answer", "answer"),
    ],
)
def test_what_introduces_an_answer_comes_off(text, rest):
    assert without_lead(text) == rest


@pytest.mark.parametrize(
    ("text", "stated", "beside"),
    [
        ("B", ("B",), ""),
        ("It has whiskers.\nAnswer: B", ("B",), "It has whiskers."),
        ("Answer: A\nAnswer: B", ("A", "B"), ""),
        (r"so \boxed{B}, yes \boxed{B}", ("B",), "so  , yes"),
        (r"\boxed B", ("B",), ""),
        ("The answer is not B", ("not B",), ""),
        ("If the answer is B, stop", ("If the answer is B, stop",), ""),
        ("\u4e0d\u9009B", ("\u4e0d\u9009B",), ""),
    ],
)
def test_announced_and_boxed_answers_are_told_from_reasoning(text, stated, beside):
    assert stated_in(text) == (stated, beside)


@pytest.mark.parametrize("text", [r"A or \boxed{B}", r"\boxed{B} or A", r"not \boxed{B}", r"isn't \boxed{B}"])
def test_a_box_that_is_left_open_or_taken_back_is_none(text):
    with pytest.raises(Unscorable) as refusal:
        stated_in(text)
    assert refusal.value.status == "unparsable"
    assert stated_in(text, boxed=True).stated == ("B",), "a declared box is the answer"


def test_all_statements_and_what_is_beside_them_must_agree():
    assert agreed(Answers(("3", " 3")), int) == 3
    assert agreed(Answers(("3",), "no number"), int, lambda text: unreadable()) == 3
    for answers in (Answers(("3", "4")), Answers(("3",), "4")):
        with pytest.raises(Unscorable, match="disagree"):
            agreed(answers, int, int)


def unreadable():
    raise Unscorable("none", "unparsable")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("< think > x < /think > < answer > B < /answer >", "B"),
        ("<THINK>x</THINK><Answer>B</Answer>", "B"),
        ("<thinking>A? <answer>A</answer></thinking><answer>B</answer>", "B"),
        ("<think>x</think><answer>B</answer></answer>", "B"),
        ("<think>x</think><answer><answer>B</answer></answer>", "B"),
        ("<think>x</think><answer>B<answer>", "B"),
        ("<think>x</think><answer>B<answer/>", "B"),
        ("<think>x</think><answer>B<|im_end|></s>", "B"),
        ("\u25c1think\u25b7x\u25c1/think\u25b7<answer>B</answer>", "B"),
    ],
)
def test_tags_are_read_in_any_dress(text, answer):
    assert segment(text).answer == answer


def test_the_strict_reading_takes_tags_in_their_plain_form_alone():
    with pytest.raises(Unscorable, match="no <answer>"):
        segment("<think>x</think><Answer>B</Answer>", reading="strict")
    assert segment("<think>x</think><answer>B</s>", reading="strict").answer == "B</s>"


def test_two_answers_stay_two():
    for text in ("<answer>A</answer><answer>B</answer>", "<answer>A<answer>B", "<answer>B</answer><answer>"):
        with pytest.raises(Unscorable, match="2 answers"):
            segment(text)


def test_the_strict_reading_takes_an_answer_as_it_stands():
    assert read_answer("<answer>**B**</answer>", reading="strict") == (("**B**",), "")
    with pytest.raises(Unscorable):
        read_answer(r"<answer>\boxed{B} \boxed{B}</answer>", boxed=True, reading="strict")
    assert read_answer(r"<answer>\boxed{B} \boxed{B}</answer>", boxed=True).stated == ("B",)


def test_boxes_are_counted_and_take_no_time():
    with pytest.raises(Unscorable, match="boxes"):
        boxes_of(r"\boxed{1}" * 100)
    for unit in (r"\boxed{", "<|begin_of_box|>", "{", "Answer: ", "the final "):

        def read(size, unit=unit):
            with contextlib.suppress(Unscorable):
                stated_in((unit * size)[:size])

        assert_linear(read, 64_000)
        assert_linear(read, 1_000_000)

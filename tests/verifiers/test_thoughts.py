"""The end of a judge's thinking: whole tags in every form, and tags that are broken."""

import pytest

from mmreward import Unscorable
from mmreward.rewards.judged.aspects import read_aspects
from mmreward.rewards.judged.thinking import parse_grade
from mmreward.rewards.published.grammar import answered_of, body_of, verdict_in
from mmreward.search.writers import answer_of
from mmreward.verifiers.thoughts import after_thinking

CLOSED = [
    "2",
    "<think>1</think>2",
    "1</think>2",  # the template opened it
    "< THINK >1</ think >2",
    "<thinking>1</thinking>2",
    "<think>1<think/>2",
    "\u25c1think\u25b71\u25c1/think\u25b72",
    "<think>a</think>1</think>2",
    "<thnk>1</think>2",  # where it ends is plain
    "<think>1</thimk>1</think>2",
]
OPEN = [
    "<think>1",
    "<think>1</think>1<think>2",
    "<think>1</think",
    "1</think",
    "1/think>2",
    "<thnk>1</thnk>2",
    "think>1</thin>2",
    "<think>1</think>2 </thinkk>",
    "< thiink >1",
]
PLAIN = ["2 < 3 and thinking > guessing", "<link>this</link>", "I think 2", "a <b>thing</b>", "2 -> think"]


@pytest.mark.parametrize("text", CLOSED)
def test_what_follows_closed_thinking_counts(text):
    assert after_thinking(text) == "2"


@pytest.mark.parametrize("text", OPEN)
def test_thinking_without_an_end_is_no_judgement(text):
    for read in (after_thinking, body_of, answered_of, parse_grade, answer_of):
        with pytest.raises(Unscorable) as raised:
            read(text)
        assert raised.value.status == "unparsable"


@pytest.mark.parametrize("text", PLAIN)
def test_other_words_and_tags_are_none_of_thinking(text):
    assert after_thinking(text) == text


def test_marks_of_unclosed_thinking_are_not_read():
    marks = "## Quality\nScore: 4"
    assert read_aspects(f"<think>hm</think>{marks}", ["Quality"], 1, 4).parts == {"Quality": 4}
    for text in (f"<think>{marks}", f"<think>hm</think><think>{marks}", f"<thnk>{marks}</thnk>"):
        with pytest.raises(Unscorable, match="reasoning"):
            read_aspects(text, ["Quality"], 1, 4)


def test_an_answer_that_is_closed_twice_is_none():
    assert answered_of("<think>it may be <answer>2</answer></think><answer>1</answer>").answer == "1"
    with pytest.raises(Unscorable, match="closed 2 times"):
        answered_of("it may be <answer>2</answer> so </thwer>1 or 2</answer>")


def test_a_verdict_on_either_leaves_a_choice():
    hedges = ("Image 1 or Image 2 is better.", "So, Image 1/2 is better.", "Either image 2 or 1 is better")
    for said in hedges:
        with pytest.raises(Unscorable, match="leaves a choice"):
            verdict_in(f"Image 1 is better.\n{said}", "image")
    assert verdict_in("Whether Image 1 or Image 2 is better is asked.\nImage 2 is better.", "image") == "2"

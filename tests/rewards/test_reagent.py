"""ReAgent-V: the mark, its critique and three stances, merged by the rule that its prompt states."""

import json

import pytest
from support.robot_judges import Judge, episode, use

from mmreward import load
from mmreward.errors import Unscorable
from mmreward.models.vlms.answers import Written
from mmreward.rewards.robot.reagent import CRITIC, QUESTION, STANCES, Mark, merged, read_mark, read_stance


def marked(overall, success=1):
    return json.dumps({"success_or_failure": {"score": success}, "overall_assessment": {"score": overall}})


def revised(overall, confidence, success=1, text=False):
    answer = marked(overall, success)
    return json.dumps({"final_answer": answer if text else json.loads(answer), "confidence": confidence})


WORDS = {"conservative": "plainly contradict", "neutral": "seen wrongly", "aggressive": "Doubt the answer"}


def judge_of(first, **stances):
    def said(seen, prompt):
        for name, words in WORDS.items():
            if words in prompt:
                return stances[name]
        return "It left the cup out." if prompt.startswith("Asked") else first

    return Judge(said)


def scored(engine, monkeypatch, judge, kind="good", **given):
    use(monkeypatch, judge)
    (score,) = engine.score([episode(kind)], load("reagent", words="own", **given))["reagent"]
    return score


def test_three_sure_stances_are_averaged(engine, monkeypatch):
    stances = {"conservative": revised(8, 0.6), "neutral": revised(9, 0.7, text=True)}
    judge = judge_of(marked(8), **stances, aggressive=f"```json\n{revised(4, 0.8, 0)}\n```")
    score = scored(engine, monkeypatch, judge, frames="all")
    assert score.value == pytest.approx(7) and score.parts["fused"] == 1
    assert score.parts["success"] == pytest.approx(2 / 3) and score.parts["first"] == 8
    assert score.parts["neutral"] == 9 and score.parts["aggressive_confidence"] == 0.8
    assert [len(seen) for seen, *_ in judge.calls] == [6] * 5, "all five look at the same frames"
    assert all("It left the cup out." in prompt for _, prompt, _ in judge.calls[2:])
    assert "push the block" in judge.calls[0][1] and marked(8) in judge.calls[1][1]


@pytest.mark.parametrize(
    ("stances", "value", "known"),
    [
        ({"conservative": revised(8, 0.6), "neutral": revised(9, 0.69), "aggressive": revised(3, 0.9)}, 3, 3),
        ({"conservative": revised(8, 0.7), "neutral": revised(9, 0.7), "aggressive": revised(3, 0.7)}, 8, 3),
        ({"conservative": "I agree.", "neutral": revised(9, 0.2), "aggressive": revised(3, 0.1)}, 9, 2),
        ({"conservative": revised(11, 1), "neutral": "", "aggressive": revised(3, 0.01)}, 3, 1),
    ],
)
def test_else_the_surest_counts_and_what_cannot_be_read_has_no_confidence(
    engine, monkeypatch, stances, value, known
):
    score = scored(engine, monkeypatch, judge_of(marked(5), **stances))
    assert score.value == value and score.parts["fused"] == 0 and score.parts["stances"] == known


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("It went well.", "no JSON"),
        ("{}", "no score of success_or_failure"),
        (marked(11), "outside 0 to 10"),
        (marked("high"), "no number"),
        (marked(True), "no number"),
        ('{"success_or_failure": {"score": 1}}', "no score of overall_assessment"),
        (Written(marked(5), False, 9), "cut off after 9"),
    ],
)
def test_a_mark_that_cannot_be_read_is_a_failure_and_never_0(engine, monkeypatch, first, words):
    """The publisher's script takes 0 for a score that is not there, and skips the others in silence."""
    score = scored(engine, monkeypatch, judge_of(first))
    assert not score.ok and words in score.note


def test_three_unreadable_stances_are_a_failure(engine, monkeypatch):
    score = scored(engine, monkeypatch, judge_of(marked(5), **dict.fromkeys(WORDS, "no")))
    assert score.status == "unparsable" and "none of the three" in score.note


def test_the_rule_by_hand():
    sure = {name: Mark(1, 6, one.threshold) for name, one in STANCES.items()}
    assert merged(sure) == (Mark(1, 6, pytest.approx(0.7)), True)
    assert merged({**sure, "aggressive": Mark(0, 1, 0.79)})[0] == Mark(0, 1, 0.79)
    assert not merged({"neutral": Mark(1, 6, 1.0)})[1]
    with pytest.raises(Unscorable):
        read_stance(json.dumps({"final_answer": marked(3)}))
    assert read_mark(marked(3.5, 0)) == Mark(0, 3.5)


def test_the_published_words_are_pinned_and_their_braces_are_read():
    pins = [pin for prompt in (CRITIC, *(one.prompt for one in STANCES.values())) for pin in prompt.pins]
    assert len({pin.sha256 for pin in pins}) == 4 and all(pin.path.endswith("prompt.py") for pin in pins)
    assert CRITIC.make(['{question} {{"total": float}}']) == '{question} {"total": float}'
    assert "{prompt}" in QUESTION

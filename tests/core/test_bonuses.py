"""Video-VER's and R1-Reward's bonuses: paid for right answers only, and never for a judge's failure."""

import itertools

import pytest

from mmreward import Score
from mmreward.shaping import consistent, evidence_bonus

RIGHT, WRONG, FAILED = Score(1.0), Score(0.0), Score.failed("timeout", "late")


def values(scores):
    return [score.value if score.ok else score.status for score in scores]


def test_the_evidence_bonus_is_paid_when_right_and_grounded():
    pairs = list(itertools.product((RIGHT, WRONG), (RIGHT, WRONG)))
    accuracy, evidence = zip(*pairs, strict=True)
    assert values(evidence_bonus(accuracy, evidence)) == [1.3, 1.0, 0.0, 0.0]


def test_half_of_the_evidence_is_grounded_unless_more_is_asked_for():
    half = [Score(0.5)]
    assert values(evidence_bonus([RIGHT], half)) == [1.3]
    assert values(evidence_bonus([RIGHT], half, grounded=0.6, bonus=1.0)) == [1.0]


def test_a_failed_judge_fails_a_right_answer_or_leaves_the_bonus_out():
    assert values(evidence_bonus([RIGHT, WRONG], [FAILED, FAILED])) == ["timeout", 0.0]
    assert values(evidence_bonus([RIGHT], [FAILED], failed="drop")) == [1.0]
    assert values(evidence_bonus([FAILED], [RIGHT], failed="drop")) == ["timeout"]


def test_consistency_multiplies_what_is_right():
    judged = [RIGHT, Score(0.2), FAILED, RIGHT]
    assert values(consistent([RIGHT, RIGHT, RIGHT, WRONG], judged)) == [1.5, 0.5, 1.0, 0.0]
    assert values(consistent([RIGHT], [FAILED], failed="propagate")) == ["timeout"]
    assert values(consistent([FAILED], [RIGHT])) == ["timeout"]
    assert values(consistent([RIGHT], [Score(0.5)], weight=1.0)) == [0.0]


@pytest.mark.parametrize("combine", [evidence_bonus, consistent])
def test_parts_have_the_same_names_everywhere(combine):
    results = combine([RIGHT, WRONG, RIGHT], [RIGHT, RIGHT, WRONG])
    assert len({tuple(score.parts) for score in results}) == 1


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="failed is one of"):
        evidence_bonus([], [], failed="zero")
    with pytest.raises(ValueError, match="weight"):
        consistent([], [], weight=2)
    with pytest.raises(ValueError, match="zip"):
        consistent([RIGHT], [])

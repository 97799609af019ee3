"""Trust-GRPO by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Score
from mmreward.shaping import annealed, trust_weight, trusted

FAILED = Score.failed("unparsable", "no grade")


def scores(*values):
    return [FAILED if value is None else Score(value) for value in values]


def test_trust_falls_with_the_lead_of_wrong_answers():
    assert trust_weight([0.9], [0.4]) == 1.0
    assert trust_weight([0.3, 0.5], [0.8, 1.0]) == pytest.approx(math.exp(-0.5))
    assert trust_weight([], [0.9]) == trust_weight([0.1], []) == 1.0


def test_the_weight_decays_by_e_over_training():
    assert annealed(0.0) == 0.3
    assert annealed(1.0) == pytest.approx(0.3 / math.e)
    for progress in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="lies in"):
            annealed(progress)


def test_a_group_by_hand():
    outcome, thinking = scores(1, 1, 0, 0), scores(0.2, 0.4, 0.9, 0.7)
    got = trusted(outcome, thinking, ["a"] * 4, [0.5] * 4)
    trust, scale = math.exp(0.3 - 0.8), 0.3 * math.exp(-0.5)
    want = [r + trust * scale * t for r, t in zip((1, 1, 0, 0), (0.2, 0.4, 0.9, 0.7), strict=True)]
    assert [score.value for score in got] == pytest.approx(want)
    assert [score.parts["trust"] for score in got] == pytest.approx([trust] * 4)


def test_groups_do_not_touch_each_other_and_failures_enter_nothing():
    outcome, thinking = scores(1, 0, 1, 0, None), scores(0.1, 0.9, 0.9, None, 0.5)
    got = trusted(outcome, thinking, ["a", "a", "b", "b", "b"], [0.0] * 5)
    assert got[0].parts["trust"] == pytest.approx(math.exp(-0.8))
    assert got[2].parts["trust"] == 1.0 and got[2].value == pytest.approx(1.27)
    assert [score.status for score in got[3:]] == ["unparsable", "unparsable"]


def test_trust_moves_because_wrong_answers_are_judged_too():
    """SophiaVL-R1's own code leaves them out, and pays 1.03 here."""
    got = trusted(scores(1, 0), scores(0.1, 0.9), ["a", "a"], [0.0, 0.0])
    assert got[0].value == pytest.approx(1 + 0.03 * math.exp(-0.8))


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.floats(0, 1)), min_size=1, max_size=8))
def test_a_wrong_answer_never_overtakes_a_right_one(rows):
    outcome, thinking = scores(*(r for r, _ in rows)), scores(*(t for _, t in rows))
    got = trusted(outcome, thinking, ["a"] * len(rows), [0.0] * len(rows))
    for (right, _), score in zip(rows, got, strict=True):
        assert right <= score.value <= right + 0.3


def test_columns_must_match():
    with pytest.raises(ValueError, match="1 accuracies, 0 thinking"):
        trusted(scores(1), scores(), ["a"], [0.0])

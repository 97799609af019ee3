"""A rule where it can decide and a model elsewhere; lengths compared within a group."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Score
from mmreward.shaping import hybrid, length_shares

FAILED = Score.failed("timeout", "late")


def scores(*values):
    return [FAILED if value is None else Score(value) for value in values]


def test_confidence_divides_the_score():
    got = hybrid(scores(1, 1, 0), scores(0.2, 0.2, 0.8), [1.0, 0.0, 0.75])
    assert [score.value for score in got] == pytest.approx([1.0, 0.2, 0.2])
    assert {tuple(score.parts) for score in got} == {("rule", "model", "confidence")}


def test_a_failure_counts_only_where_the_score_was_needed():
    got = hybrid(scores(1, None, None, 1), scores(None, 0.5, 0.5, None), [1.0, 0.0, 0.5, 0.5])
    assert [score.value for score in got[:2]] == [1.0, 0.5]
    assert [score.note for score in got[2:]] == ["rule: late", "model: late"]


def test_a_confidence_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match="confidence of sample 0"):
        hybrid(scores(1), scores(1), [1.5])


def test_short_and_right_gains_short_and_wrong_does_not():
    lengths, accuracy = [100, 200, 300, 100, 300], scores(1, 1, 1, 0, 0)
    assert length_shares(lengths, accuracy, ["a"] * 5) == [0.5, 0.0, -0.5, 0.0, -0.5]


def test_equal_lengths_failures_and_other_groups_change_nothing():
    assert length_shares([5, 5], scores(1, 0), ["a", "a"]) == [0.0, 0.0]
    assert length_shares([5, 9], scores(1, None), ["a", "a"]) == [0.5, 0.0]
    assert length_shares([5, 9], scores(1, 1), ["a", "b"]) == [0.0, 0.0]


@given(st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=2, max_size=9))
def test_a_longer_response_never_gains(rows):
    lengths = [length for length, _ in rows]
    shares = length_shares(lengths, scores(*(float(good) for _, good in rows)), ["a"] * len(rows))
    for right in (True, False):
        ordered = sorted(
            (length, -share) for (length, good), share in zip(rows, shares, strict=True) if good is right
        )
        assert [share for _, share in ordered] == sorted(share for _, share in ordered)


@pytest.mark.parametrize("length", [-1, float("nan")])
def test_a_length_is_a_number_from_zero_up(length):
    with pytest.raises(ValueError, match="length of sample 0"):
        length_shares([length], scores(1), ["a"])


def sure(value, certainty):
    return Score(value, {"confidence": certainty})


def test_a_model_counts_as_far_as_it_is_sure():
    model = [sure(0.0, 1.0), sure(0.0, 0.5), sure(0.2, 0.25), sure(0.0, 0.0)]
    got = hybrid(scores(1, 1, None, 1), model, [0.5, 0.5, 0.0, 0.5], sure="confidence")
    assert [score.value for score in got] == pytest.approx([0.5, 2 / 3, 0.2, 1.0])
    (neither,) = hybrid(scores(1), [sure(0.5, 0.0)], [0.0], sure="confidence")
    assert neither.status == "na"


def test_a_model_that_does_not_say_how_sure_it_is_fails_where_it_is_needed():
    got = hybrid(scores(1, 1, 1), [Score(0.0), Score(0.0), FAILED], [1.0, 0.5, 0.5], sure="confidence")
    assert [score.status for score in got] == ["ok", "missing", "timeout"]
    assert "the part 'confidence' is None" in got[1].note

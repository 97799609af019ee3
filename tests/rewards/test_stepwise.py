"""Marks of steps into one, by hand, and PURE's credit with its golden number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward.rewards.judged.steps import aggregate
from mmreward.step_credit import soft_min_credit

MARKS = (0.9, 0.2, 0.5)


@pytest.mark.parametrize(
    ("how", "want"),
    [("min", 0.2), ("product", 0.09), ("mean", 1.6 / 3), ("last", 0.5), ("soft_min", 0.2148229)],
)
def test_aggregations_by_hand(how, want):
    assert aggregate(MARKS, how) == pytest.approx(want)


def test_the_golden_credit_of_pure():
    """reward_models.md 9.12."""
    credit = soft_min_credit([0.9, 0.2, -0.6, 0.4])
    assert credit.weights == pytest.approx([0, 0.000335, 0.999619, 0.000045], abs=1e-6)
    assert credit.rewards.sum() == pytest.approx(-0.5996858908, abs=1e-10)


def test_tokens_that_end_no_step_get_nothing_whatever_they_hold():
    """Trap: a mask of zeros would make them the likeliest minimum."""
    tokens = soft_min_credit([7.0, 0.9, np.nan, 0.2, -9.0], is_step=[False, True, False, True, False])
    alone = soft_min_credit([0.9, 0.2])
    assert tokens.rewards[[1, 3]] == pytest.approx(alone.rewards)
    assert tokens.rewards[[0, 2, 4]].tolist() == tokens.weights[[0, 2, 4]].tolist() == [0, 0, 0]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), st.floats(-1, 1))
def test_the_soft_minimum_lies_between_minimum_and_mean_and_steps_cannot_be_padded(marks, more):
    total = soft_min_credit(marks).rewards.sum()
    assert min(marks) - 1e-9 <= total <= np.mean(marks) + 1e-9
    assert aggregate([*marks, more], "min") <= aggregate(marks, "min")
    assert soft_min_credit(marks, temperature=1e-3).weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: aggregate([]), "at least one"),
        (lambda: aggregate([0.1, float("nan")]), "step 1"),
        (lambda: aggregate([0.1], "max"), "how is one of"),
        (lambda: aggregate([-0.1, 0.5], "product"), "probabilities"),
        (lambda: soft_min_credit([0.1], temperature=0), "temperature"),
        (lambda: soft_min_credit([0.1], is_step=[True, False]), "is_step"),
        (lambda: soft_min_credit([0.1], is_step=[False]), "at least one"),
    ],
)
def test_bad_marks_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

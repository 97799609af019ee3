"""Weights, gates and z-scores, with numbers worked out by hand."""

import copy
import math

import pytest

from mmreward import Score
from mmreward.compose import Recipe, combine, gated, group_zscore, weighted

A = [Score(0.5), Score(1.0), Score.failed("timeout", "slow")]
B = [Score(2.0), Score.failed("unparsable", "mumble"), Score.failed("error", "boom")]


def values(scores):
    return [score.value for score in scores]


def test_a_weighted_sum_by_hand():
    (total,) = weighted({"a": A[:1], "b": B[:1]}, {"a": 2.0, "b": -0.25})
    assert total.value == pytest.approx(2 * 0.5 - 0.25 * 2) and total.parts == {"a": 1.0, "b": -0.5}


def test_a_failed_summand_fails_the_total_with_its_own_status():
    totals = weighted({"a": A, "b": B}, {"a": 1.0, "b": 1.0})
    assert [t.status for t in totals] == ["ok", "unparsable", "timeout"]
    assert "b: mumble" in totals[1].note and "and b" in totals[2].note


def test_dropping_gives_the_weight_to_the_others():
    totals = weighted({"a": A, "b": B}, {"a": 1.0, "b": 3.0}, failed="drop")
    assert values(totals)[:2] == [pytest.approx(6.5), pytest.approx(4.0)]
    assert totals[2].status == "timeout", "nothing is left to give the weight to"


def test_a_failed_reward_without_weight_costs_nothing():
    totals = weighted({"a": A[1:2], "b": B[1:2]}, {"a": 1.0, "b": 0.0})
    assert values(totals) == [1.0]


@pytest.mark.parametrize(
    ("weights", "match"),
    [({"a": 1.0}, "b"), ({"a": 1.0, "b": math.nan}, "b"), ({"a": 1, "b": 1, "c": 1}, "c")],
)
def test_weights_that_do_not_match_are_refused(weights, match):
    with pytest.raises(ValueError, match=match):
        weighted({"a": A, "b": B}, weights)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="unequal"):
        weighted({"a": A, "b": B[:1]}, {"a": 1.0, "b": 1.0})


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="zero"):
        weighted({"a": A}, {"a": 1.0}, failed="zero")  # type: ignore[arg-type]


def test_a_gate_lets_through_at_its_threshold_and_zeroes_below():
    total = [Score(3.0, {"a": 3.0})] * 3
    gate = [Score(0.5), Score(0.49), Score.failed("timeout", "slow")]
    opened, shut, failed = gated(total, {"safe": (gate, 0.5)})
    assert opened.value == 3.0
    assert shut.value == 0.0 and "safe" in shut.note and shut.parts == {"a": 3.0}
    assert failed.status == "timeout" and "safe: slow" in failed.note


def test_a_shut_gate_does_not_turn_a_failed_total_into_zero():
    (result,) = gated([Score.failed("error", "boom")], {"safe": ([Score(0.0)], 0.5)})
    assert result.status == "error"


@pytest.mark.parametrize(("ddof", "expected"), [(0, 1.224744871391589), (1, 1.0)])
def test_z_scores_by_hand(ddof, expected):
    scores = group_zscore([Score(1.0), Score(2.0), Score(3.0)], ["g"] * 3, ddof=ddof)
    assert values(scores) == [pytest.approx(-expected), 0.0, pytest.approx(expected)]
    assert [score.parts["raw"] for score in scores] == [1.0, 2.0, 3.0]


def test_failed_scores_count_neither_in_the_mean_nor_in_the_spread():
    scores = group_zscore([Score(1.0), Score.failed("error", "x"), Score(3.0)], ["g"] * 3)
    assert [scores[0].value, scores[2].value] == [-1.0, 1.0] and scores[1].status == "error"


def test_groups_are_kept_apart_wherever_their_members_stand():
    scores = group_zscore([Score(1.0), Score(10.0), Score(3.0), Score(30.0)], ["a", "b", "a", "b"])
    assert values(scores) == [-1.0, -1.0, 1.0, 1.0]


@pytest.mark.parametrize("column", [[0.3, 0.3, 0.3], [0.7], [1.0, 1.0 + 1e-9]])
@pytest.mark.parametrize("ddof", [0, 1])
def test_a_group_without_spread_says_nothing(column, ddof):
    scores = group_zscore([Score(value) for value in column], ["g"] * len(column), ddof=ddof)
    assert values(scores) == [0.0] * len(column)


def test_a_group_of_failures_stays_a_group_of_failures():
    scores = group_zscore([Score.failed("error", "x")] * 2, ["g", "g"])
    assert [score.status for score in scores] == ["error", "error"]


def test_every_score_needs_a_group():
    with pytest.raises(ValueError, match="score 1 has no group"):
        group_zscore([Score(1.0), Score(2.0)], ["g", None])
    with pytest.raises(ValueError, match="2 scores and 1 groups"):
        group_zscore([Score(1.0), Score(2.0)], ["g"])


def test_a_recipe_gates_on_raw_values_and_sums_normalised_ones():
    scores = {"a": [Score(1.0), Score(3.0)], "safe": [Score(0.9), Score(0.1)]}
    recipe = Recipe(weights={"a": 2.0}, gates={"safe": 0.5}, normalise="group")
    assert values(combine(scores, recipe, ["g", "g"])) == [-2.0, 0.0]
    with pytest.raises(ValueError, match="no scores of b"):
        combine(scores, Recipe(weights={"b": 1.0}))


def test_nothing_changes_its_input():
    scores = {"a": A[:2], "b": B[:2]}
    before = copy.deepcopy(scores)
    weighted(scores, {"a": 1.0, "b": 1.0}, failed="drop")
    gated(scores["a"], {"b": (scores["b"], 0.5)})
    group_zscore(scores["a"], ["g", "g"])
    assert repr(scores) == repr(before)


def test_no_samples_give_no_totals():
    assert weighted({}, {}) == [] and group_zscore([], []) == []

"""PEARL's gates as functions of group means, and a failed probe that decides nothing."""

import math

import pytest

from mmreward import Score
from mmreward.adapters.trl_gate import mix_filter, perception_rates, probe_weights, trim
from mmreward.compose import by_group, group_means

FAILED = Score.failed("timeout", "late")


def scores(*values):
    return [FAILED if value is None else Score(value) for value in values]


def test_means_leave_failures_out():
    means = group_means(scores(1.0, None, 0.5, None), ["a", "a", "a", "b"])
    assert means["a"] == 0.75 and math.isnan(means["b"])


@pytest.mark.parametrize(("groups", "message"), [(["a"], "2 rows"), (["a", None], "row 1 has no group")])
def test_every_row_has_a_group(groups, message):
    with pytest.raises(ValueError, match=message):
        by_group(groups, 2)


def test_trim_drops_prompts_the_policy_sees_nothing_of():
    means = {"blind": 0.01, "dim": 0.02, "clear": 1.0, "unknown": math.nan}
    assert trim(means, skip=0.0) == ["dim", "clear", "unknown"]
    assert trim(means, skip=1.0) == list(means)


def test_trim_is_skipped_in_three_rounds_of_ten():
    skipped = sum(trim({"blind": 0.0}, seed=round) == ["blind"] for round in range(2000))
    assert 0.27 < skipped / 2000 < 0.33


def test_weights_are_the_groups_mean_with_a_floor():
    probes = scores(1.0, 0.5, 0.0, 0.2, None)
    assert probe_weights(probes, ["a", "a", "b", "b", "c"]) == [0.75, 0.75, 0.5, 0.5, 1.0]
    assert probe_weights(probes[2:4], ["b", "b"], floor=0.0) == [0.1, 0.1]


def test_mix_filter_keeps_what_either_can_teach():
    answers = {"both": 0.5, "answer": 0.5, "probe": 1.0, "neither": 1.0, "edge": 0.99, "lost": 0.0}
    probes = {"both": 0.5, "answer": 1.0, "probe": 0.5, "neither": 0.0, "edge": 0.01, "lost": math.nan}
    assert mix_filter(answers, probes) == ["both", "answer", "probe"]
    with pytest.raises(ValueError, match="only one has"):
        mix_filter(answers, {})


def test_rates_count_luck():
    rates = perception_rates(scores(1, 1, 1, 0, None, 1), scores(1, 0, 0.5, 1, 1, None))
    assert (rates.consistent, rates.lucky, rates.all_right) == (0.25, 0.25, 0.5)
    assert math.isnan(perception_rates([], []).lucky)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trim({}, skip=2), "skip 2"),
        (lambda: probe_weights([], [], floor=2), "floor is 2"),
        (lambda: mix_filter({}, {}, low=1, high=0), "below high"),
    ],
)
def test_bad_options_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

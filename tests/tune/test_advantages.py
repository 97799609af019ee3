import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward.tune.advantages import group_advantages

NAN = math.nan


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ddof": 0, "eps": 1e-4}, [-1.341521, -0.447174, 0.447174, 1.341521]),
        ({"ddof": 1, "eps": 1e-8}, [-1.161895, -0.387298, 0.387298, 1.161895]),
    ],
)
def test_golden_numbers_for_both_divisors(options, expected):
    np.testing.assert_allclose(group_advantages([1, 2, 3, 4], [7] * 4, **options).values, expected, atol=1e-6)


def test_std_scopes():
    values, groups = np.array([0.0, 2.0, 10.0, 30.0]), [1, 1, 2, 2]
    centred = np.array([-1.0, 1.0, -10.0, 10.0])
    free = {"eps": 0.0, "clip": math.inf}
    by_group = group_advantages(values, groups, **free)
    by_all = group_advantages(values, groups, std_scope="global", **free)
    unbiased = group_advantages(values, groups, std_scope="global", ddof=1, **free)
    np.testing.assert_allclose(unbiased.values, centred / np.std(values, ddof=1))
    by_none = group_advantages(values, groups, std_scope="none", **free)
    np.testing.assert_allclose(by_group.values, [-1, 1, -1, 1])
    np.testing.assert_allclose(by_all.values, centred / np.std(values))
    np.testing.assert_allclose(by_none.values, centred)


def test_failed_scores_are_left_out_of_all_statistics():
    values, groups = np.array([1, NAN, 2, 3, 4, 50, NAN]), np.array([7, 7, 7, 7, 7, 8, 8])
    result = group_advantages(values, groups)
    np.testing.assert_allclose(result.values[[0, 2, 3, 4]], group_advantages([1, 2, 3, 4], [7] * 4).values)
    assert result.usable.tolist() == [True, False, True, True, True, False, False]
    assert not result.values[~result.usable].any()
    assert result.stats["missing"] == 2
    assert result.stats["groups"] == 2
    assert result.stats["dropped_groups"] == 1


def test_all_scores_failed():
    result = group_advantages([NAN, NAN], [0, 0])
    assert not result.usable.any()
    assert not result.values.any()


def test_no_rows():
    assert len(group_advantages([], []).values) == 0


@pytest.mark.parametrize(("policy", "usable"), [("drop", False), ("keep", True)])
def test_group_without_spread(policy, usable):
    values = [0.1, 0.1 + 1e-9, 0.1, 1.0, 2.0, 3.0]
    result = group_advantages(values, [0, 0, 0, 1, 1, 1], zero_variance=policy, eps=0.0)
    assert result.usable.tolist() == [usable] * 3 + [True] * 3
    assert not result.values[:3].any()
    assert result.stats["zero_std_share"] == 0.5
    assert result.stats["mean_group_std"] == pytest.approx(np.std([1, 2, 3]) / 2)


def test_ids_beyond_two_to_the_53_stay_apart():
    big = 2**53
    result = group_advantages([0, 1, 100, 102], [big, big, big + 1, big + 1], eps=0.0)
    np.testing.assert_allclose(result.values, [-1, 1, -1, 1])


def test_rows_of_a_group_need_not_be_neighbours():
    mixed = group_advantages([1, 10, 2, 20, 3, 60], [5, -3, 5, -3, 5, -3])
    np.testing.assert_allclose(mixed.values[::2], group_advantages([1, 2, 3], [0] * 3).values)
    np.testing.assert_allclose(mixed.values[1::2], group_advantages([10, 20, 60], [0] * 3).values)


def test_clip():
    values = [0.0] * 99 + [1.0]
    assert group_advantages(values, [0] * 100, clip=math.inf).values.max() > 9
    assert group_advantages(values, [0] * 100).values.max() == 5


def test_leave_one_out_is_the_mean_of_the_others():
    values = np.array([1.0, 5.0, 6.0])
    result = group_advantages(values, [0] * 3, baseline="leave_one_out", std_scope="none")
    np.testing.assert_allclose(result.values, [1 - 5.5, 5 - 3.5, 6 - 3])
    plain = group_advantages(values, [0] * 3, std_scope="none")
    np.testing.assert_allclose(result.values, 1.5 * plain.values)


def test_trim_leaves_out_both_ends_of_the_statistics_only():
    values = np.array([-100.0, 1, 2, 3, 4, 900.0])
    result = group_advantages(values, [0] * 6, trim=0.2, clip=math.inf)
    np.testing.assert_allclose(result.values, (values - 2.5) / (np.std([1, 2, 3, 4]) + 1e-4))


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-100, 100) | st.just(NAN)), max_size=30))
def test_usable_rows_of_a_group_are_centred_and_the_rest_is_zero(rows):
    groups, values = np.array([g for g, _ in rows], dtype=int), np.array([v for _, v in rows], dtype=float)
    result = group_advantages(values, groups, clip=math.inf)
    assert np.isfinite(result.values).all()
    assert not result.values[~result.usable].any()
    assert not result.usable[np.isnan(values)].any()
    for group in np.unique(groups):
        assert result.values[groups == group].sum() == pytest.approx(0, abs=1e-6)


@given(st.permutations(range(8)))
def test_order_of_rows_does_not_matter(order):
    values, groups = np.array([3, 1, 4, 1, 5, 9, 2, NAN]), np.array([0, 1, 0, 1, 0, 1, 0, 1])
    straight = group_advantages(values, groups)
    shuffled = group_advantages(values[list(order)], groups[list(order)])
    np.testing.assert_allclose(shuffled.values, straight.values[list(order)])


@pytest.mark.parametrize(
    ("values", "groups", "options", "message"),
    [
        ([1, 2], [0.0, 0.0], {}, "groups are float64; give integers"),
        ([1, 2], [0], {}, r"values has shape \(2,\) and groups \(1,\)"),
        ([1, math.inf], [0, 0], {}, r"values\[1\] is inf; a failed score is NaN"),
        ([1, 2], [0, 0], {"std_scope": "batch"}, "std_scope is one of group, global, none, not 'batch'"),
        ([1, 2], [0, 0], {"zero_variance": "x"}, "zero_variance is one of drop, keep"),
        ([1, 2], [0, 0], {"baseline": "x"}, "baseline is one of"),
        ([1, 2], [0, 0], {"ddof": 2}, "ddof is 0 or 1, not 2"),
        ([1, 2], [0, 0], {"eps": -1.0}, "eps is -1.0"),
        ([1, 2], [0, 0], {"clip": 0.0}, "clip is 0.0"),
        ([1, 2], [0, 0], {"trim": 0.5}, "trim is 0.5"),
        ([1, 2], [0, 0], {"min_valid": 1, "ddof": 1}, "min_valid is 1"),
        ([1, 2], [0, 0], {"min_valid": 1, "baseline": "leave_one_out"}, "min_valid is 1"),
        ([1, 2], [0, 0], {"trim": 0.1, "baseline": "leave_one_out"}, "set trim to 0"),
    ],
)
def test_bad_input_is_named(values, groups, options, message):
    with pytest.raises(ValueError, match=message):
        group_advantages(values, groups, **options)

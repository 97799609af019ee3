"""StableReinforce's guards by hand, and what the published filter does instead."""

import math

import numpy as np
import pytest

from mmreward.tune.stable import pre_clipped_ratio, r1_reward_filtered, sigma_filtered


def test_a_ratio_is_clipped_before_it_can_overflow():
    got = pre_clipped_ratio([0.0, 0.5, 1000.0, -1000.0, -np.inf], [0.0, 0.0, 0.0, 0.0, 0.0])
    assert got == pytest.approx([1.0, math.exp(0.5), 1e3, 1e-3, 1e-3])
    assert pre_clipped_ratio([2.0], [0.0], high=2.0) == pytest.approx([2.0])


def test_an_outlier_is_left_out_and_not_called_average():
    values = [1.0, -1.0] * 10 + [50.0, math.nan]
    got = sigma_filtered(values)
    assert got.stats["outliers"] == 1 and got.stats["missing"] == 1
    assert not got.usable[20] and not got.usable[21] and got.usable[:20].all()
    mean, std = np.mean(values[:21]), np.std(values[:21])
    assert got.values[0] == pytest.approx((1.0 - mean) / std)
    assert got.values[20:].tolist() == [0.0, 0.0]


def test_the_filter_does_not_depend_on_where_the_scale_begins():
    values = np.array([0.0, 1.0] * 10 + [30.0])
    for moved in (values + 100, values * 7 - 3):
        assert sigma_filtered(moved).usable.tolist() == sigma_filtered(values).usable.tolist()
        assert sigma_filtered(moved).values == pytest.approx(sigma_filtered(values).values)


def test_the_published_filter_compares_z_scores_with_raw_bounds():
    """Around 0 it works; around 100 every ordinary z-score is "outside" and all is lost."""
    values = np.array([1.0, -1.0] * 10)
    assert r1_reward_filtered(values) == pytest.approx(values)
    assert not r1_reward_filtered(values + 100).any()
    assert sigma_filtered(values + 100).values == pytest.approx(values)
    assert r1_reward_filtered([1.0, -1.0, math.nan]).tolist() == [1.0, -1.0, 0.0]


def test_equal_values_and_no_values_have_no_scale():
    assert sigma_filtered([2.0, 2.0]).values.tolist() == [0.0, 0.0]
    assert sigma_filtered([]).values.tolist() == [] == r1_reward_filtered([]).tolist()
    assert r1_reward_filtered([2.0, 2.0]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pre_clipped_ratio([0.0], [0.0, 1.0]), "shape"),
        (lambda: pre_clipped_ratio([0.0], [0.0], low=2.0), "bounds"),
        (lambda: sigma_filtered([math.inf]), r"values\[0\]"),
        (lambda: sigma_filtered([[1.0]]), "shape"),
        (lambda: sigma_filtered([1.0], sigmas=0), "sigmas"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

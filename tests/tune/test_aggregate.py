import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Score
from mmreward.compose import Recipe, combine
from mmreward.tune.advantages import group_advantages
from mmreward.tune.aggregate import aggregate

NAN = math.nan
A, B = [1.0, 0.0, 0.0, 1.0], [0.2, 0.8, 0.4, 0.6]
GOLDEN = np.array([0.32918, -0.32918, -1.22360, 1.22360])


def two_groups(seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    draw = np.random.default_rng(seed)
    return {"ocr": draw.random(12), "look": 20 + draw.normal(size=12)}, np.repeat([4, 9], 6)


def test_gdpo_golden_before_and_after_the_batch():
    weights, groups = {"a": 1.0, "b": 0.5}, [3] * 4
    before = aggregate({"a": A, "b": B}, weights, groups, eps=1e-6)
    np.testing.assert_allclose(before.values, GOLDEN, atol=1e-5)
    after = aggregate({"a": A, "b": B}, weights, groups, eps=1e-6, restandardise=True)
    np.testing.assert_allclose(after.values, GOLDEN / GOLDEN.std(), atol=1e-5)


def test_the_sums_are_standardised_with_the_ddof_of_the_rewards():
    """As torch's std, which GDPO's code takes."""
    options = {"ddof": 1, "eps": 0.0}
    after = aggregate({"a": A, "b": B}, {"a": 1.0, "b": 0.5}, [3] * 4, restandardise=True, **options)
    assert after.values.std(ddof=1) == pytest.approx(1)


@given(st.floats(1e-3, 1e3), st.floats(-10, 10), st.sampled_from(["zscore_sum", "rank_sum"]))
def test_scale_and_offset_of_a_reward_do_not_matter(scale, offset, mode):
    columns, groups = two_groups()
    weights = {"ocr": 1.0, "look": 0.3}
    moved = {**columns, "ocr": scale * (columns["ocr"] + offset)}
    np.testing.assert_allclose(
        aggregate(moved, weights, groups, mode=mode).values,
        aggregate(columns, weights, groups, mode=mode).values,
        atol=1e-6,
    )


def test_raw_sum_lets_the_widest_reward_decide_and_zscores_do_not():
    columns = {"small": [0.0, 1.0, 0.0, 1.0], "wide": [26.0, 22.0, 24.0, 20.0]}
    weights, groups = {"small": 1.0, "wide": 1.0}, [0] * 4
    assert np.argmax(aggregate(columns, weights, groups, mode="raw_sum").values) == 0
    fair = aggregate(columns, {"small": 2.0, "wide": 1.0}, groups).values
    assert fair[1] > fair[0]


@pytest.mark.parametrize(
    ("mode", "total"),
    [
        ("raw_sum", [0.8, -0.8, -0.4, 0.4]),
        ("weighted_mean", [0.8 / 2, -0.8 / 2, -0.4 / 2, 0.4 / 2]),
        ("min", [-0.2, -0.8, -0.4, -0.6]),
        ("max", [1.0, 0.0, 0.0, 1.0]),
    ],
)
def test_modes_on_weighted_values(mode, total):
    result = aggregate({"a": A, "b": B}, {"a": 1.0, "b": -1.0}, [1] * 4, mode=mode)
    np.testing.assert_allclose(result.values, group_advantages(total, [1] * 4).values, atol=1e-12)


def test_rank_sum_ignores_any_monotone_change():
    columns, groups = two_groups()
    bent = {**columns, "look": np.exp(columns["look"])}
    weights = {"ocr": 1.0, "look": 1.0}
    one, other = (aggregate(each, weights, groups, mode="rank_sum").values for each in (columns, bent))
    np.testing.assert_allclose(one, other, atol=1e-12)
    alone = aggregate({"x": [5.0, 1.0, 1.0, 9.0]}, {"x": 1.0}, [0] * 4, mode="rank_sum").values
    np.testing.assert_allclose(alone, group_advantages([3, 1.5, 1.5, 4], [0] * 4, eps=0.0).values)


def test_a_row_that_lacks_one_reward_is_left_out_of_all():
    columns, groups = two_groups()
    holed = {**columns, "look": np.where(np.arange(12) == 2, NAN, columns["look"])}
    weights = {"ocr": 1.0, "look": 1.0}
    result = aggregate(holed, weights, groups)
    rest = np.arange(12) != 2
    expected = aggregate({k: v[rest] for k, v in columns.items()}, weights, groups[rest])
    np.testing.assert_allclose(result.values[rest], expected.values)
    assert not result.usable[2]
    assert result.stats["missing"] == 1


def test_a_reward_without_weight_may_fail():
    columns = {"a": A, "held_out": [NAN] * 4, "b": [NAN] * 4}
    assert aggregate(columns, {"a": 1.0, "b": 0.0}, [0] * 4).usable.all()


def test_rewards_that_cancel_leave_no_noise():
    columns, groups = two_groups()
    result = aggregate({"x": columns["ocr"], "y": -3 * columns["ocr"]}, {"x": 1.0, "y": 1.0}, groups)
    assert not result.usable.any()
    assert not result.values.any()


def test_a_reward_without_spread_in_a_group_leaves_the_decision_to_the_others():
    result = aggregate({"a": A, "flat": [0.5] * 4}, {"a": 1.0, "flat": 5.0}, [0] * 4)
    np.testing.assert_allclose(result.values, [1, -1, -1, 1])
    assert result.stats["zero_std_share/flat"] == 1
    assert result.stats["zero_std_share/a"] == 0


def test_total_is_clipped_after_the_sum():
    """z-scores of 7 and -3.5 make 3.5; had each been clipped to 5, the sum would be 1.5."""
    columns = {"x": [0.0] * 49 + [1.0], "y": [0.0] * 49 + [1.0]}
    found = {clip: aggregate(columns, {"x": 1.0, "y": -0.5}, [0] * 50, clip=clip) for clip in (5.0, 3.0)}
    assert found[5.0].values.max() == pytest.approx(3.5)
    assert found[3.0].values.max() == 3


def test_gated_rows_never_beat_open_ones():
    columns = {"look": [9.0, -5.0, -4.0, -3.0], "safe": [0.0, 1.0, 1.0, 1.0]}
    result = aggregate(columns, {"look": 1.0}, [0] * 4, mode="gated", gates={"safe": 0.5})
    assert result.values[0] == result.values.min()
    assert result.values[1] == result.values[0]
    assert np.argmax(result.values) == 3


def test_gated_agrees_with_compose_where_totals_are_positive():
    look, safe = [4.0, 1.0, 2.0, 3.0], [0.0, 1.0, 1.0, 1.0]
    scores = {"look": [Score(v) for v in look], "safe": [Score(v) for v in safe]}
    composed = [total.value for total in combine(scores, Recipe(weights={"look": 1.0}, gates={"safe": 0.5}))]
    ours = aggregate({"look": look, "safe": safe}, {"look": 1.0}, [0] * 4, mode="gated", gates={"safe": 0.5})
    assert np.argsort(composed)[1:].tolist() == np.argsort(ours.values, kind="stable")[1:].tolist()


def test_a_gate_that_failed_makes_its_row_missing():
    columns = {"look": [9.0, 1.0, 2.0, 3.0], "safe": [NAN, 1.0, 1.0, 1.0]}
    result = aggregate(columns, {"look": 1.0}, [0] * 4, mode="gated", gates={"safe": 0.5})
    assert result.usable.tolist() == [False, True, True, True]


def test_separate_loss_keeps_rewards_apart():
    each = aggregate({"a": A, "b": B}, {"a": 1.0, "b": 0.5}, [0] * 4, mode="separate_loss")
    assert set(each) == {"a", "b"}
    np.testing.assert_allclose(each["b"].values, 0.5 * group_advantages(B, [0] * 4, eps=0.0).values)
    np.testing.assert_allclose(each["a"].values + each["b"].values, GOLDEN, atol=1e-5)


def test_separate_loss_loses_only_the_rows_of_the_reward_that_failed():
    columns = {"a": [*A[:3], NAN], "b": B}
    each = aggregate(columns, {"a": 1.0, "b": 1.0}, [0] * 4, mode="separate_loss")
    assert each["a"].usable.sum() == 3
    assert each["b"].usable.all()


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ({"c": 1.0}, {}, "no scores of c: there are a, b"),
        ({"a": NAN}, {}, "the weight of a is nan"),
        ({"a": 0.0}, {}, "no reward has a weight other than 0"),
        ({"a": 1.0}, {"mode": "sum"}, "mode is one of zscore_sum"),
        ({"a": 1.0}, {"mode": "gated"}, "gates and mode 'gated' go together"),
        ({"a": 1.0}, {"gates": {"b": 1.0}}, "gates and mode 'gated' go together"),
        ({"a": 1.0}, {"mode": "gated", "gates": {"c": 1.0}}, "no scores of c"),
        ({"a": 1.0}, {"mode": "min", "restandardise": True}, "restandardise is for zscore_sum"),
        ({"a": 1.0}, {"ddof": 3}, "ddof is 0 or 1"),
    ],
)
def test_bad_input_is_named(weights, options, message):
    with pytest.raises(ValueError, match=message):
        aggregate({"a": A, "b": B}, weights, [0] * 4, **options)


def test_short_column_is_named():
    with pytest.raises(ValueError, match=r"b has shape \(3,\)"):
        aggregate({"a": A, "b": B[:3]}, {"a": 1.0, "b": 1.0}, [0] * 4)

"""Coverage of the printed intervals, by simulation, and their values beside scipy's."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr, t

from mmreward.monitor.intervals import agreement, mean_of, paired_change, share_interval

DRAWS = 2000


def covered(make, truth, draws=DRAWS):
    """Share of draws whose interval holds the truth."""
    rng = np.random.default_rng(0)
    found = [make(rng) for _ in range(draws)]
    return np.mean([one is not None and one.low <= truth <= one.high for one in found])


def clustered(rng, prompts, each):
    """Scores that correlate by 0.6 within a prompt, and their prompts."""
    names = np.repeat(np.arange(prompts), each)
    own = rng.normal(size=prompts)[names]
    return math.sqrt(0.6) * own + math.sqrt(0.4) * rng.normal(size=len(names)), names.tolist()


@pytest.mark.parametrize("n", [2, 8, 32, 128])
def test_means_cover(n):
    assert 0.93 <= covered(lambda rng: mean_of(rng.normal(size=n)).interval, 0) <= 0.97


@pytest.mark.parametrize("n", [8, 32, 128])
def test_paired_changes_cover_also_of_scores_that_are_not_normal(n):
    def one(rng):
        before = rng.beta(2, 5, size=n)
        return paired_change(before, before + rng.uniform(-0.1, 0.3, size=n), scale=100).interval

    assert 0.93 <= covered(one, 10) <= 0.97


@pytest.mark.parametrize(("prompts", "each"), [(8, 2), (8, 4), (32, 2), (32, 4), (128, 2)])
def test_means_and_changes_cover_where_pictures_share_a_prompt(prompts, each):
    def mean(rng):
        values, names = clustered(rng, prompts, each)
        return mean_of(values, names).interval

    def change(rng):
        values, names = clustered(rng, prompts, each)
        return paired_change(np.zeros(len(values)), values, prompts=names).interval

    assert 0.93 <= covered(mean, 0) <= 0.97 and 0.93 <= covered(change, 0) <= 0.97
    naive = covered(lambda rng: mean_of(clustered(rng, prompts, each)[0]).interval, 0)
    assert naive < 0.93


def test_means_cover_where_prompts_have_different_numbers_of_pictures():
    sizes = np.resize([1, 2, 3, 6], 32)

    def one(rng):
        names = np.repeat(np.arange(32), sizes)
        values = rng.normal(size=32)[names] + rng.normal(size=len(names))
        return mean_of(values, names.tolist()).interval

    assert 0.92 <= covered(one, 0) <= 0.97


@pytest.mark.parametrize("n", [8, 32, 128])
def test_shares_cover_on_average_over_the_truth(n):
    """The coverage of a share jumps with the truth; over truths from 0.1 to 0.9 it is the nominal one."""
    truths = np.linspace(0.1, 0.9, 17)
    found = [covered(lambda rng, p=p: mean_of(rng.random(n) < p).interval, p, 400) for p in truths]
    assert 0.93 <= np.mean(found) <= 0.97


@pytest.mark.parametrize(("prompts", "each"), [(8, 4), (32, 2), (128, 4)])
def test_shares_cover_where_answers_share_a_prompt(prompts, each):
    def one(rng, p):
        names = np.repeat(np.arange(prompts), each)
        right = rng.random(prompts) < p  # half of the answers follow their prompt, half are their own
        values = np.where(rng.random(len(names)) < 0.5, right[names], rng.random(len(names)) < p)
        return mean_of(values, names.tolist()).interval

    truths = np.linspace(0.2, 0.8, 7)
    found = [covered(lambda rng, p=p: one(rng, p), p, 400) for p in truths]
    assert 0.93 <= np.mean(found) <= 0.98


@pytest.mark.parametrize(("n", "each", "draws"), [(8, 1, 1000), (32, 1, 1000), (128, 1, 1000), (32, 4, 250)])
def test_rank_correlations_cover(n, each, draws):
    r = 0.6
    truth = spearmanr(*pairs(np.random.default_rng(1), 40_000, each, r)[:2]).statistic

    def one(rng):
        x, y, names = pairs(rng, n, each, r)
        return agreement(x, y, names if each > 1 else None).interval

    assert 0.92 <= covered(one, truth, draws) <= 0.98


def pairs(rng, n, each, r):
    own = rng.normal(size=n)
    other = r * own + math.sqrt(1 - r**2) * rng.normal(size=n)
    names = np.repeat(np.arange(n), each)
    noise = 0.5 if each > 1 else 0
    x, y = (side[names] + noise * rng.normal(size=len(names)) for side in (own, other))
    return x, y, names.tolist()


# --- values -------------------------------------------------------------------------------------------------


def test_a_mean_has_students_interval_and_a_share_wilsons():
    values = [0.2, 0.5, 0.9, math.nan, 0.4]
    fine = np.array([0.2, 0.5, 0.9, 0.4])
    want = t.interval(0.95, 3, fine.mean(), fine.std(ddof=1) / 2)
    assert mean_of(values).interval == pytest.approx(want)
    for right, number in ((0, 8), (5, 8), (200, 200)):
        wilson = binomtest(right, number).proportion_ci(method="wilson")
        assert share_interval(right, number) == pytest.approx((wilson.low, wilson.high))
        shares = mean_of([1.0] * right + [0.0] * (number - right))
        assert shares.share and shares.interval == pytest.approx((wilson.low, wilson.high))


def test_a_prompt_counts_once_however_often_its_score_is_repeated():
    once = mean_of([0.1, 0.4, 0.7])
    thrice = mean_of([0.1, 0.4, 0.7] * 3, ["a", "b", "c"] * 3)
    assert thrice.interval == pytest.approx(once.interval)
    assert (thrice.n, thrice.units) == (9, 3)
    right = mean_of([1.0, 0.0, 1.0, 1.0] * 25, list("abcd") * 25)
    assert right.interval.high - right.interval.low > 0.6
    assert mean_of([1.0] * 100, list("abcd") * 25).interval.low < 0.5


def test_one_unit_has_no_interval():
    for found in (mean_of([]), mean_of([math.nan]), mean_of([0.5]), mean_of([0.5, 0.7], ["a", "a"])):
        assert found.interval is None and math.isnan(found.margin)
    assert agreement([1, 2, 3], [1, 2, 3]).interval is None
    with pytest.raises(ValueError, match="1 prompts for 2 values"):
        mean_of([0.5, 0.7], ["a"])


def test_an_interval_can_end_where_its_mean_must():
    wins = mean_of([1.0, 1.0, 1.0, 0.5])
    assert wins.interval.high > 1 and wins.within(0, 1) == (wins.interval.low, 1.0)
    assert mean_of([0.5]).within(0, 1) is None


def test_a_change_that_never_fell_is_no_share():
    moved = paired_change([0, 0, 0, 0], [1, 0, 1, 0])
    assert not moved.share and moved.interval.low < 0 < moved.interval.high


def test_a_perfect_rank_correlation_has_its_end_at_one():
    found = agreement(range(20), range(20))
    assert found.rho == pytest.approx(1) and found.interval.high == pytest.approx(1)

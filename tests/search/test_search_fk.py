import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.search_toys import Walk, rewarding

from mmreward.search.fk import Affordable, Lineages, fk_steering
from mmreward.search.job import Spent
from mmreward.search.particles import effective_size, normalised, systematic

itself = rewarding(float)
POTENTIALS = ("diff", "max", "add", "rt")


# --- weights -----------------------------------------------------------------------------------------------


def test_effective_size_golden():
    assert effective_size(np.log([0.5, 0.25, 0.25])) == pytest.approx(1 / 0.375)
    assert effective_size(np.full(7, -4000.0)) == pytest.approx(7)
    assert effective_size(np.array([0.0, -800.0, -np.inf])) == pytest.approx(1)


def test_log_weights_equal_linear_ones_where_those_exist():
    weights = np.array([0.3, 2.0, 1.1])
    np.testing.assert_allclose(np.exp(normalised(np.log(weights))), weights / weights.sum())
    assert np.isneginf(normalised(np.full(3, -np.inf))).all()


@given(
    st.lists(st.floats(-30, 30), min_size=1, max_size=12),
    st.floats(0, 1, exclude_max=True),
)
def test_systematic_takes_the_floor_or_the_ceiling(log_weights, offset):
    expected = len(log_weights) * np.exp(normalised(np.array(log_weights)))
    counts = np.bincount(systematic(np.array(log_weights), offset), minlength=len(log_weights))
    assert (np.abs(counts - expected) < 1 + 1e-9).all()


def test_systematic_is_unbiased_and_skips_the_impossible():
    log_weights = np.log([0.55, 0.15, 0.3])
    counts = sum(np.bincount(systematic(log_weights, u / 1000), minlength=3) for u in range(1000))
    np.testing.assert_allclose(counts / 3000, [0.55, 0.15, 0.3], atol=1e-3)
    assert set(systematic(np.array([-np.inf, 0.0, -np.inf]), 0.999)) == {1}


# --- potentials --------------------------------------------------------------------------------------------

ONE = np.zeros(3, dtype=np.int64)


def product(potential, rewards, floor=0.0, strength=2.0):
    """Sum of the logarithms of all potentials, for three particles of one prompt that are never resampled."""
    lineages, total = Lineages(3, potential, strength, floor), np.zeros(3)
    for row in rewards[:-1]:
        total = total + lineages.extend(np.array(row), total, ONE)
    return total + lineages.finish(np.array(rewards[-1]), ONE), lineages


@pytest.mark.parametrize("potential", POTENTIALS)
def test_potentials_telescope_to_the_final_reward(potential):
    rewards = np.random.default_rng(1).normal(size=(5, 3))
    total, _ = product(potential, rewards, floor=-1.5)
    np.testing.assert_allclose(total, 2.0 * (rewards[-1] + (1.5 if potential == "diff" else 0.0)))


def test_potentials_golden():
    rewards = np.array([[0.4, 0.1, 0.0], [0.2, 0.3, 0.0]])
    expected = {
        "diff": [[0.8, 0.2, 0], [-0.4, 0.4, 0]],
        "max": [[0.8, 0.2, 0], [0.8, 0.6, 0]],
        "add": [[0.8, 0.2, 0], [1.2, 0.8, 0]],
        "rt": [[0.8, 0.2, 0], [0.4, 0.6, 0]],
    }
    for potential, gains in expected.items():
        lineages = Lineages(3, potential, 2.0, 0.0)
        for row, gain in zip(rewards, gains, strict=True):
            np.testing.assert_allclose(lineages.extend(row, np.zeros(3), ONE), gain, atol=1e-12)


def test_a_failed_score_falls_back_to_the_parent():
    total, lineages = product("diff", [[0.4, 0.1, 0.0], [np.nan, 0.3, 0.2], [0.9, 0.5, np.nan]])
    np.testing.assert_allclose(total, [1.8, 1.0, 0.4])
    assert lineages.fallbacks.tolist() == [1, 0, 1]


@pytest.mark.parametrize("potential", POTENTIALS)
def test_a_lineage_without_a_score_has_an_average_weight_until_the_end(potential):
    lineages = Lineages(3, potential, 2.0, -9.0)
    gains = lineages.extend(np.array([0.4, np.nan, 0.0]), np.zeros(3), ONE)
    assert np.exp(gains[1]) == pytest.approx(np.exp(gains[[0, 2]]).mean())
    late = gains + lineages.finish(np.array([0.1, 0.6, np.nan]), ONE)
    np.testing.assert_allclose(late - late[0], [0, 1.0, -0.2], atol=1e-12)


def test_a_lineage_that_never_had_a_score_is_not_drawn_unless_none_had():
    total, _ = product("diff", [[np.nan, 0.3, 0.2]] * 2)
    assert np.isneginf(total[0])
    total, _ = product("max", [[np.nan] * 3] * 3)
    np.testing.assert_array_equal(total, 0)


# --- steering ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("potential", POTENTIALS)
@pytest.mark.parametrize("resample_below", [0.0, 0.5, 1.0])
def test_mean_and_evidence_of_a_tilted_normal(potential, resample_below):
    """r = x on N(0, s^2) tilts the mean to l s^2, and ln E[exp(l x)] is l^2 s^2 / 2."""
    (found,) = fk_steering(
        Walk(steps=6, std=0.8),
        itself,
        particles=20_000,
        strength=1.2,
        potential=potential,
        checks=3,
        resample_below=resample_below,
        batch=20_000,
    )
    assert np.exp(found.log_weights) @ np.array(found.media) == pytest.approx(1.2 * 0.64, abs=0.03)
    assert found.details["log_evidence"] == pytest.approx(1.2**2 * 0.64 / 2, abs=0.03)
    assert resample_below == 0.5 or (found.details["resampled"] > 0) == (resample_below == 1.0)


def test_weights_are_carried_when_nothing_is_resampled():
    (found,) = fk_steering(Walk(), itself, particles=6, strength=3.0, resample_below=0.0, checks=4)
    np.testing.assert_allclose(found.log_weights, normalised(3.0 * np.array(found.media)))
    assert found.details["resampled"] == 0


def test_steering_beats_as_many_independent_samples():
    steered, plain = (
        fk_steering(Walk(prompts=200), itself, particles=4, strength=10.0, resample_below=share)
        for share in (0.5, 0.0)
    )
    gain = np.mean([max(a.media) - max(b.media) for a, b in zip(steered, plain, strict=True)])
    assert gain > 0.3
    assert all(one.details["resampled"] >= 1 for one in steered)


@pytest.mark.parametrize("potential", POTENTIALS)
def test_enormous_rewards_do_not_overflow(potential):
    (found,) = fk_steering(
        Walk(), rewarding(lambda x: 500 + x), particles=8, strength=100.0, potential=potential
    )
    assert np.exp(found.log_weights).sum() == pytest.approx(1)
    assert found.media[found.best] == max(found.media)


def test_failures_cost_only_their_particles():
    failing = rewarding(float, lambda x: x > 0.6)
    (found,) = fk_steering(Walk(), failing, particles=16, strength=2.0)
    assert found.details["fallbacks"] > 0
    assert found.media[found.best] <= 0.6
    (nothing,) = fk_steering(Walk(), rewarding(float, lambda x: True), particles=4, checks=4)
    assert nothing.best is None
    np.testing.assert_allclose(np.exp(nothing.log_weights), 0.25)
    assert nothing.details["fallbacks"] == 16


def test_prompts_do_not_change_each_other_and_costs_are_counted():
    walk = Walk(steps=8, prompts=3, forwards=2)
    together, alone = fk_steering(walk, itself, checks=4), fk_steering(Walk(steps=8, forwards=2), itself)
    assert together[0].media == alone[0].media
    assert together[1].spent == Spent(forwards=4 * 8 * 2, decodes=4 * 4, calls=4 * 4)


def test_affordable_checks():
    assert Affordable(forwards=100, price=1).checks(4, 10, 2) == 5
    assert Affordable(forwards=10_000, price=1).checks(4, 10, 2) == 10
    with pytest.raises(ValueError, match="do not pay for one"):
        Affordable(forwards=80, price=1).checks(4, 10, 2)
    (found,) = fk_steering(Walk(steps=10, forwards=2), itself, checks=Affordable(100, 1))
    assert found.spent == Spent(forwards=80, decodes=20, calls=20)


class Ode(Walk):
    def branches(self, i):
        return False


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="no step of this sampler is random"):
        fk_steering(Ode(), itself)
    with pytest.raises(ValueError, match="no state 9"):
        fk_steering(Walk(steps=8), itself, checks=[4, 9])
    with pytest.raises(ValueError, match="9 checks do not fit into 8 steps"):
        fk_steering(Walk(steps=8), itself, checks=9)
    with pytest.raises(ValueError, match="potential is one of"):
        fk_steering(Walk(), itself, potential="sum")
    with pytest.raises(ValueError, match="0 to 1"):
        fk_steering(Walk(), itself, resample_below=2)
    with pytest.raises(ValueError, match="particles must be at least 1"):
        fk_steering(Walk(), itself, particles=0)

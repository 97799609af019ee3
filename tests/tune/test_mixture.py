"""The surrogate against fits done the slow way, and the proposed mixture against a grid over the simplex."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreward.tune.mixture import Pilot, Surrogate, fit_surrogate, mixture_of, pilots_to_run
from mmreward.tune.next_mixture import propose

NAMES = ("a", "b", "c")


def named(weights):
    return dict(zip(NAMES, map(float, weights), strict=False))


def surrogate(b, c):
    number = len(b)
    covariance = np.zeros((1 + number + number * (number - 1) // 2,) * 2)
    return Surrogate(NAMES[:number], 0.0, np.array(b, float), np.array(c, float), 1.0, 0.1, 0.1, covariance)


def grid(number, steps):
    """Every mixture in steps of 1 / steps."""
    for shares in product(range(steps + 1), repeat=number - 1):
        if sum(shares) <= steps:
            yield np.array([*shares, steps - sum(shares)]) / steps


GRID = np.array(list(grid(3, 25)))


def outcome(w):
    """0.5 + 0.2 a - 0.1 b + 0.8 a c."""
    return 0.5 + 0.2 * w["a"] - 0.1 * w["b"] + 0.8 * w["a"] * w["c"]


def pilots(count=12, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    mixtures = [named(w) for w in rng.dirichlet(np.ones(3), size=count)]
    return [Pilot(w, outcome(w) + noise * rng.standard_normal()) for w in mixtures]


def test_a_quadratic_is_recovered_where_there_is_no_noise():
    fitted = fit_surrogate(pilots(), ridges=(1e-6,))
    for weights in grid(3, 5):
        value, deviation = fitted.predict(named(weights))
        assert value == pytest.approx(outcome(named(weights)), abs=1e-3) and deviation < 1e-3
    assert fitted.c[0, 2] == fitted.c[2, 0] == pytest.approx(0.4, abs=1e-3)  # w^T C w counts it twice
    assert np.diag(fitted.c) == pytest.approx(0)


def test_two_sources_by_hand():
    """With pilots at 0, 1/2 and 1 and no penalty to speak of: 1 and 2 at the ends, and 4 * 0.25 * C = 0.5."""
    runs = [Pilot({"a": w, "b": 1 - w}, y) for w, y in ((0.0, 1.0), (0.5, 2.0), (1.0, 2.0), (0.5, 2.0))]
    fitted = fit_surrogate(runs, ridges=(1e-5,))
    assert fitted.predict({"a": 0.25, "b": 0.75})[0] == pytest.approx(1.25 + 0.375, abs=1e-3)
    # 1 + w + 2 w (1 - w) has its maximum where 1 + 2 - 4 w = 0.
    best = propose(fitted)
    assert best.weights == pytest.approx({"a": 0.75, "b": 0.25}, abs=1e-3)
    assert best.expected == pytest.approx(2.125, abs=1e-3) and best.gain == pytest.approx(0.125, abs=1e-3)


@pytest.mark.parametrize("ridge", [1e-3, 1e-1, 10.0])
def test_the_error_is_that_of_leaving_each_pilot_out_and_fitting_again(ridge):
    runs = pilots(count=8, noise=0.05)
    errors = []
    for left in range(len(runs)):
        others = runs[:left] + runs[left + 1 :]
        errors.append(runs[left].outcome - fit_surrogate(others, (ridge,)).predict(runs[left].weights)[0])
    whole = fit_surrogate(runs, (ridge,))
    assert whole.error == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_the_baseline_is_the_mean_of_the_others():
    runs = pilots(count=6, noise=0.3)
    values = [run.outcome for run in runs]
    errors = [value - np.mean(values[:i] + values[i + 1 :]) for i, value in enumerate(values)]
    assert fit_surrogate(runs).baseline == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_the_ridge_with_the_smallest_error_is_taken():
    runs = pilots(count=8, noise=0.2, seed=3)
    errors = {ridge: fit_surrogate(runs, (ridge,)).error for ridge in (1e-4, 1e-2, 1.0, 100.0)}
    chosen = fit_surrogate(runs, tuple(errors))
    assert chosen.ridge == min(errors, key=errors.__getitem__) and chosen.error == min(errors.values())


def test_noise_without_a_trend_is_not_taken_for_one():
    rng = np.random.default_rng(1)
    runs = [Pilot(run.weights, float(rng.standard_normal())) for run in pilots(count=8)]
    fitted = fit_surrogate(runs)
    assert propose(fitted).gain < 0.5 and fitted.error > 0.8 * fitted.baseline


def test_deviation_grows_away_from_the_pilots():
    rng = np.random.default_rng(0)
    near_a = [named(w) for w in rng.dirichlet([20, 1, 1], size=10)]
    fitted = fit_surrogate([Pilot(w, outcome(w) + 0.01 * rng.standard_normal()) for w in near_a], (1e-3,))
    assert fitted.predict(named([0, 1, 0]))[1] > 3 * fitted.predict(named([0.9, 0.05, 0.05]))[1] > 0


matrices = st.lists(st.floats(-2, 2), min_size=3, max_size=3)


@settings(max_examples=40)
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3), matrices, st.sampled_from([0.0, 0.1, 0.3]))
def test_the_proposal_is_no_worse_than_any_mixture_of_a_grid(b, pairs, floor):
    ab, ac, bc = pairs
    model = surrogate(b, [[0, ab, ac], [ab, 0, bc], [ac, bc, 0]])
    found = propose(model, floor)
    assert sum(found.weights.values()) == pytest.approx(1) and min(found.weights.values()) >= floor - 1e-9
    assert found.expected == pytest.approx(model.value(np.array(list(found.weights.values()))))
    mixtures = floor + (1 - 3 * floor) * GRID
    values = mixtures @ model.b + np.einsum("ni,ij,nj->n", mixtures, model.c, mixtures)
    assert found.expected >= values.max() - 1e-9


def test_a_saddle_is_not_taken_for_a_maximum():
    """Equal parts is where the gradient vanishes, and the worst there is."""
    found = propose(surrogate([0, 0], [[0, -1], [-1, 0]]))
    assert sorted(found.weights.values()) == [0.0, 1.0]


def test_pilots_to_run_settle_every_term():
    runs = [Pilot(w, outcome(w)) for w in pilots_to_run(NAMES)]
    assert len(runs) == 7
    assert fit_surrogate(runs, (1e-5,)).predict(named([0.2, 0.3, 0.5]))[0] == pytest.approx(0.59, abs=1e-3)
    assert pilots_to_run(("a", "b")) == [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}, {"a": 0.5, "b": 0.5}]


def test_pilots_may_come_in_any_order():
    runs = pilots(noise=0.1)
    turned = [Pilot(dict(reversed(run.weights.items())), run.outcome) for run in reversed(runs)]
    assert propose(fit_surrogate(turned)).weights == pytest.approx(propose(fit_surrogate(runs)).weights)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (pilots()[:2], "2 pilots"),
        ([*pilots(), Pilot({"a": 0.5, "d": 0.5}, 1.0)], "a mixture of a, d"),
        ([*pilots(), Pilot(named([0.5, 0.5, 0.5]), 1.0)], "sum to 1"),
        ([*pilots(), Pilot(named([1.5, -0.5, 0.0]), 1.0)], "at least 0"),
        ([*pilots(), Pilot(named([1, 0, 0]), np.nan)], "outcomes are finite"),
    ],
)
def test_pilots_that_are_none_are_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        fit_surrogate(runs)


def test_limits_are_told():
    model = surrogate([0, 0, 0], np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"a floor of 0\.4 for 3 sources"):
        propose(model, floor=0.4)
    with pytest.raises(ValueError, match="ridges are finite"):
        fit_surrogate(pilots(), ridges=(0.0,))
    with pytest.raises(ValueError, match="nothing can be left out"):
        fit_surrogate([Pilot({"a": w, "b": 1 - w}, w) for w in (0.0, 0.5, 1.0)], ridges=(1e-8,))
    with pytest.raises(ValueError, match="two different sources"):
        pilots_to_run(("a", "a"))
    assert mixture_of({"b": 0.25, "a": 0.75}, ("a", "b")).tolist() == [0.75, 0.25]

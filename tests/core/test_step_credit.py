"""Credit of steps: golden numbers, what their sums are bounded by, and best policies that stay."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreward.step_credit import (
    blended,
    clipped,
    delta,
    implicit_rewards,
    preferred,
    soft_min_credit,
    step_advantages,
)

MARKS = st.lists(st.floats(-5, 5), min_size=1, max_size=8)


def test_golden_numbers_of_the_specification():
    marks = [0.9, 0.6, 0.7, 0.8]
    assert clipped(marks, 0.65) == pytest.approx([0, -0.05, 0, 0])
    assert delta(marks) == pytest.approx([0.3, -0.1, -0.1, 0.8])
    assert delta(clipped(marks, 0.65)) == pytest.approx([0.05, -0.05, 0, 0])
    assert soft_min_credit([0.9, 0.2, -0.6, 0.4]).rewards.sum() == pytest.approx(-0.5996858908)


@settings(max_examples=60)
@given(MARKS, st.floats(-5, 5), st.integers(0, 5))
def test_more_steps_never_pay(marks, threshold, more):
    """A plain sum of good marks grows with every step that is added; these do not."""
    longer = [*marks, *[5.0] * more]
    assert clipped(longer, threshold).sum() <= clipped(marks, threshold).sum() + 1e-12 <= 1e-12
    assert delta(longer).sum() == pytest.approx(marks[0], abs=1e-9)
    from_here = np.cumsum(delta(longer)[::-1])[::-1]
    assert from_here == pytest.approx(longer), "what is still to come is the step's own mark"
    assert soft_min_credit(longer, temperature=0.01).rewards.sum() <= min(marks) + 0.1


def test_the_answer_of_a_delta_is_paid_elsewhere():
    assert delta([0.4, 0.6, 0.9], answered=True) == pytest.approx([-0.2, 0.6, 0])
    assert delta([0.4], answered=True) == pytest.approx([0])


def test_implicit_rewards_add_up_to_the_preference():
    generator = np.random.default_rng(0)
    one, two, old_one, old_two = np.log(generator.uniform(0.1, 1, (4, 5)))
    chosen, rejected = implicit_rewards(one, old_one, beta=0.3), implicit_rewards(two, old_two, beta=0.3)
    ratio = 0.3 * ((one - old_one).sum() - (two - old_two).sum())
    assert preferred(chosen, rejected) == pytest.approx(1 / (1 + math.exp(-ratio)))
    assert preferred(chosen, rejected) + preferred(rejected, chosen) == pytest.approx(1)
    assert preferred([1e4], [-1e4]) == 1 and preferred([-1e4], [1e4]) == 0


def test_a_model_trained_on_preferences_gives_dense_rewards_that_keep_the_best_policy():
    """A chain of four states: right ends in success after three steps, left falls back to the start.

    A tabular model is trained on pairs of trajectories by the loss of `preferred`; its implicit rewards alone
    then have the policy that the sparse outcome has, at every state, though no step was ever labelled.
    """
    generator = np.random.default_rng(0)

    def walk():
        state, path = 0, []
        for _ in range(6):
            action = int(generator.random() < 0.5)
            path.append((state, action))
            state = state + 1 if action else 0
            if state == 3:
                return path, 1.0
        return path, 0.0

    walks = [walk() for _ in range(300)]
    won, lost = ([path for path, success in walks if success == wanted] for wanted in (1.0, 0.0))
    logits, beta = np.zeros((3, 2)), 1.0

    def log_policy():
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def rewards(path):
        model = log_policy()
        return implicit_rewards([model[s, a] for s, a in path], [math.log(0.5)] * len(path), beta=beta)

    for _ in range(300):
        good, bad = won[generator.integers(len(won))], lost[generator.integers(len(lost))]
        pull = beta * (1 - preferred(rewards(good), rewards(bad)))
        chance = np.exp(log_policy())
        for path, sign in ((good, 1.0), (bad, -1.0)):
            for state, action in path:
                logits[state] += 0.1 * sign * pull * ((np.arange(2) == action) - chance[state])
    dense = beta * (log_policy() - math.log(0.5))
    assert (dense[:, 1] > 0).all() and (dense[:, 0] < 0).all()
    assert np.mean([preferred(rewards(a), rewards(b)) > 0.5 for a, b in zip(won, lost, strict=False)]) > 0.95


def test_blended_advantages_are_outcomes_and_steps_that_stand_out():
    found = blended([1.0, -1.0], [[0.0, 2.0], [0.0, 2.0, 1.0]], weight=0.5)
    every = np.array([0, 2, 0, 2, 1.0])
    z = (every - every.mean()) / every.std()
    assert np.concatenate(found) == pytest.approx(np.array([1, 1, -1, -1, -1]) + 0.5 * z)
    alike = blended([1.0, -1.0], [[0.1] * 3, [0.1]])
    assert [one.tolist() for one in alike] == [[1, 1, 1], [-1]], "rounding is no difference"


def test_shared_steps_have_the_mean_and_others_their_own():
    paths = [["a", "b", "c"], ["a", "b", "d"], ["a", "x", "c"]]
    found = step_advantages([1.0, 0.0, -1.0], paths)
    assert [one.tolist() for one in found] == [[0, 0.5, 1], [0, 0.5, 0], [0, -1, -1]]
    near = step_advantages([1.0, 0.0, -1.0], paths, history=0)
    assert [one.tolist() for one in near] == [[0, 0.5, 0], [0, 0.5, 0], [0, -1, 0]]
    window = step_advantages([1.0, -1.0], [["x", "b", "c"], ["y", "b", "c"]], history=1)
    assert [one.tolist() for one in window] == [[1, 1, 0], [-1, -1, 0]]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(-2, 2), st.lists(st.integers(0, 2), min_size=1, max_size=5)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([None, 0, 1, 3]),
)
def test_sharing_moves_no_credit_in_or_out(trajectories, history):
    """What all steps of a group have together stays, and a trajectory alone keeps its own."""
    outcomes, steps = [one for one, _ in trajectories], [path for _, path in trajectories]
    found = step_advantages(outcomes, steps, history=history)
    own = sum(value * len(path) for value, path in trajectories)
    assert sum(one.sum() for one in found) == pytest.approx(own, abs=1e-9)
    apart = step_advantages(outcomes, [[(n, s) for s in one] for n, one in enumerate(steps)], history=history)
    assert np.concatenate(apart) == pytest.approx(np.repeat(outcomes, [len(one) for one in steps]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: clipped([0.1], math.nan), "threshold is nan"),
        (lambda: clipped([], 0.5), "at least one"),
        (lambda: delta([0.1, math.nan]), "step 1"),
        (lambda: implicit_rewards([0.1], [0.1, 0.2]), "1 steps under the model"),
        (lambda: implicit_rewards([0.1], [0.1], beta=0), "beta is 0"),
        (lambda: implicit_rewards([-math.inf], [0.1]), "not finite"),
        (lambda: blended([1.0], [[1.0], [2.0]]), "1 outcomes for 2"),
        (lambda: step_advantages([1.0], []), "1 outcomes for 0"),
        (lambda: step_advantages([1.0], [[]]), "no steps"),
        (lambda: step_advantages([1.0], [["a"]], history=-1), "history is -1"),
        (lambda: step_advantages([math.nan], [["a"]]), "not finite"),
    ],
)
def test_arguments_that_make_no_sense(make, said):
    with pytest.raises(ValueError, match=said):
        make()

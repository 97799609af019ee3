"""Shaped rewards against the definition, one environment at a time, and what they do to the best policy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreward.potentials import StepShaping, Success, Threshold

TRUE = np.array([True])


def episode(values, gamma=0.9, *, terminated=True, kind="potential", unknown="hold"):
    """Rewards of one episode whose states have these values (None: nobody knows), and its residual."""
    one = StepShaping(1, kind, gamma=gamma, unknown=unknown)
    known = [np.array([math.nan if value is None else value]) for value in values]
    one.begin(TRUE, known[0])
    ends = [np.array([terminated and index == len(known) - 2]) for index in range(len(known) - 1)]
    rewards = [float(one.step(value, end)[0]) for value, end in zip(known[1:], ends, strict=True)]
    return rewards, float(one.residual(ends[-1])[0])


def test_golden_numbers_of_the_specification():
    rewards, residual = episode([0, 0.2, 0.5, 0.4, 1.0])
    assert rewards == pytest.approx([0.18, 0.25, -0.14, -0.4])
    assert sum(0.9**step * reward for step, reward in enumerate(rewards)) == pytest.approx(0)
    assert residual == pytest.approx(0)
    cut, residual = episode([0, 0.2, 0.5, 0.4, 1.0], terminated=False)
    assert cut == pytest.approx([0.18, 0.25, -0.14, 0.5])
    assert sum(0.9**step * reward for step, reward in enumerate(cut)) == pytest.approx(0.9**4)
    assert residual == pytest.approx(0)


def test_between_two_looks_the_value_is_held_and_that_costs():
    rewards, residual = episode([0.5, None, None, 0.8, 0.0])
    assert rewards == pytest.approx([-0.05, -0.05, 0.9 * 0.8 - 0.5, -0.8])
    assert residual == pytest.approx(0)


def test_nothing_is_paid_before_the_first_value():
    rewards, residual = episode([None, None, 0.5, 0.6], terminated=False)
    assert rewards == pytest.approx([0, 0, 0.9 * 0.6 - 0.5]) and residual == pytest.approx(0)
    rewards, residual = episode([None, None, None])
    assert rewards == [0, 0] and math.isnan(residual)


def test_a_zero_moves_every_step_alike_and_no_residual():
    """What values have in common pays (gamma - 1) of itself; where an episode ends the potential is 0."""
    values = [0.8, 0.85, None, 0.9, 0.95]
    plain, _ = episode(values)
    one = StepShaping(1, gamma=0.9, zero=0.8)
    one.begin(TRUE, np.array([0.8]))
    moved = []
    for number, value in enumerate(values[1:]):
        seen, ends = np.array([math.nan if value is None else value]), np.array([number == 3])
        moved.append(float(one.step(seen, ends)[0]))
    assert np.array(moved) - plain == pytest.approx([0.1 * 0.8] * 3 + [0.8])
    assert float(one.residual(np.array([True]))[0]) == pytest.approx(0)
    assert best_actions("potential", np.zeros(GOAL + 1)) == best_actions("potential", np.full(GOAL + 1, 5.0))


def test_other_kinds():
    assert episode([0.1, 0.4, 0.3, 0.9], kind="progress")[0] == pytest.approx([0.3, -0.1, 0.6])
    assert episode([0.1, 0.4, None, 0.9], kind="value")[0] == pytest.approx([0.4, 0.4, 0.9])
    assert episode([0.1, 0.4, None, 0.9], kind="value", unknown="zero")[0] == pytest.approx([0.4, 0, 0.9])
    rewards, residual = episode([0.5, None, 0.8, 0.7], unknown="zero", terminated=False)
    assert rewards == pytest.approx([0, 0.9 * 0.8 - 0.5, 0.9 * 0.7 - 0.8])
    assert residual != pytest.approx(0)  # a step that pays nothing is not neutral, and says so


@settings(max_examples=100)
@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.floats(-3, 3)), min_size=2, max_size=7), min_size=1, max_size=4
    ),
    st.floats(0.5, 1.0),
    st.sampled_from(["potential", "progress", "value"]),
    st.sampled_from(["hold", "zero"]),
    st.booleans(),
)
def test_side_by_side_is_as_each_alone_and_a_potential_leaves_no_residual(
    episodes, gamma, kind, unknown, terminated
):
    alone = [episode(one, gamma, terminated=terminated, kind=kind, unknown=unknown) for one in episodes]
    many = StepShaping(len(episodes), kind, gamma=gamma, unknown=unknown)
    rewards = [[] for _ in episodes]
    residuals = [math.nan] * len(episodes)
    rows = [[math.nan if value is None else value for value in one] for one in episodes]
    # Each runs its episode twice, one after the other, while the others are somewhere in theirs.
    begun, at = [0] * len(rows), [0] * len(rows)
    many.begin(np.ones(len(rows), dtype=bool), np.array([row[0] for row in rows]))
    for _ in range(2 * max(map(len, rows)) + 2):
        live = np.array([begun[i] < 2 and at[i] + 1 < len(row) for i, row in enumerate(rows)])
        again = np.array([begun[i] == 0 and at[i] + 1 == len(row) for i, row in enumerate(rows)])
        values = np.array([row[min(at[i] + 1, len(row) - 1)] for i, row in enumerate(rows)])
        values[~live] = 99.0  # of states that nobody asked for
        ends = np.array([terminated and at[i] + 2 == len(row) for i, row in enumerate(rows)])
        paid = many.step(np.where(live, values, math.nan), ends & live, live=live)
        assert (paid[~live] == 0).all()
        for i in np.flatnonzero(live):
            rewards[i].append(paid[i])
            at[i] += 1
            if at[i] + 1 == len(rows[i]):
                residuals[i] = many.residual(ends)[i]
        for i in np.flatnonzero(again):
            begun[i], at[i] = 1, 0
        if again.any():
            many.begin(again, np.array([row[0] for row in rows]))
    for i, (wanted, residual) in enumerate(alone):
        assert rewards[i] == pytest.approx(wanted * 2)
        assert residuals[i] == pytest.approx(residual, nan_ok=True, abs=1e-9)
        if kind == "potential" and unknown == "hold" and not math.isnan(residual):
            assert residual == pytest.approx(0, abs=1e-9)


class Plain:
    """The rewards of steps in whole columns, as the docstring of `StepShaping` has them; nothing is saved."""

    def __init__(self, one):
        self.one, self.value, self.first = one, one.value.copy(), one.value.copy()
        self.paid, self.discount = np.zeros(len(self.value)), np.ones(len(self.value))

    def step(self, values, terminated, live, looked):
        kind, gamma = self.one.kind, self.one.gamma
        known, values = ~np.isnan(values), values - self.one.zero
        after = np.where(known, values, self.value)
        paid = {
            "value": np.where(looked & live & (known | (self.one.unknown == "hold")), after, 0.0),
            "progress": after - self.value,
            "potential": gamma * np.where(terminated, 0.0, after) - self.value,
        }[kind]
        failed = looked & live & ~known & ~(terminated & (kind == "potential"))
        paid = np.where(failed & (self.one.unknown == "zero"), 0.0, paid)
        paid = np.where(live & ~np.isnan(paid), paid, 0.0)
        late = live & np.isnan(self.value) & known
        self.paid += np.where(live, self.discount * paid, 0.0)
        self.discount = np.where(late, 1.0, np.where(live, gamma * self.discount, self.discount))
        self.first = np.where(late, np.where(terminated, 0.0, values), self.first)
        self.value = np.where(live, after, self.value)
        return paid


@pytest.mark.parametrize("zero", [0.0, 0.8])
@pytest.mark.parametrize("unknown", ["hold", "zero"])
@pytest.mark.parametrize("kind", ["potential", "progress", "value"])
def test_steps_are_those_of_whole_columns(kind, unknown, zero):
    rng, n = np.random.default_rng(3), 5
    one = StepShaping(n, kind, gamma=0.9, unknown=unknown, zero=zero if kind == "potential" else 0.0)
    one.begin(np.ones(n, dtype=bool), np.where(rng.random(n) < 0.5, np.nan, rng.random(n)))
    plain = Plain(one)
    for _ in range(60):
        values = np.where(rng.random(n) < 0.4, np.nan, rng.random(n))
        ended, live, looked = (rng.random(n) < share for share in (0.2, 0.8, 0.7))
        paid = one.step(values, ended, live=live, looked=looked)
        assert np.array_equal(paid, plain.step(values, ended, live, looked))
        last = np.where(ended, 0.0, plain.value)
        wanted = plain.paid - (plain.discount * last - plain.first)
        assert np.array_equal(one.residual(ended), wanted, equal_nan=True)


# --- the best policy of a small world ---------------------------------------------------------------

SIDE, GAMMA = 4, 0.9
GOAL = SIDE * SIDE - 1
MOVES = ((0, 1), (0, -1), (1, 0), (-1, 0))


def after(state, move):
    row, column = divmod(state, SIDE)
    row, column = min(max(row + move[0], 0), SIDE - 1), min(max(column + move[1], 0), SIDE - 1)
    return row * SIDE + column


def best_actions(kind, potential):
    """By value iteration, the best actions of every state of a grid whose goal pays 1, shaped as asked."""

    def pay(state, move):
        there = after(state, move)
        one = StepShaping(1, kind, gamma=GAMMA)
        one.begin(TRUE, potential[[state]])
        return float(there == GOAL) + float(one.step(potential[[there]], np.array([there == GOAL]))[0])

    paid = {(s, m): pay(s, m) for s in range(GOAL) for m in MOVES}
    value = np.zeros(GOAL + 1)
    for _ in range(400):
        value[:GOAL] = [
            max(paid[s, m] + GAMMA * value[after(s, m)] * (after(s, m) != GOAL) for m in MOVES)
            for s in range(GOAL)
        ]
    worth = [
        [paid[s, m] + GAMMA * value[after(s, m)] * (after(s, m) != GOAL) for m in MOVES] for s in range(GOAL)
    ]
    return [{i for i, w in enumerate(row) if w > max(row) - 1e-9} for row in worth]


def test_a_potential_leaves_the_best_policy_and_values_do_not():
    rng = np.random.default_rng(0)
    unshaped = best_actions("potential", np.zeros(GOAL + 1))
    for _ in range(3):
        assert best_actions("potential", rng.normal(0, 3, GOAL + 1)) == unshaped
    trap = np.zeros(GOAL + 1)
    trap[0] = 1.0  # a state that a judge likes, far from the goal
    assert best_actions("value", trap) != unshaped


# --- success ----------------------------------------------------------------------------------------


def test_a_success_needs_its_hits_holds_and_counts_once():
    rule = Threshold(enter=0.8, leave=0.5, hits=2, window=3)
    one = Success(1, rule)
    one.begin(TRUE)
    values = [0.9, 0.1, math.nan, 0.85, 0.6, 0.6, 0.4, 0.4, 0.3, 0.9, 0.9]
    seen = [one.look(np.array([value])) for value in values]
    assert [bool(each.on[0]) for each in seen] == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1]
    assert [bool(each.now[0]) for each in seen] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    one.begin(TRUE)
    assert not one.on[0] and not one.look(np.array([0.9])).now[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: StepShaping(1, "dense"), "potential, progress, value"),
        (lambda: StepShaping(1, gamma=0.0), "gamma is 0.0"),
        (lambda: StepShaping(1, unknown="skip"), "'hold'"),
        (lambda: StepShaping(1, "value", zero=0.5), "of a potential alone"),
        (lambda: StepShaping(1, zero=math.inf), "zero is inf"),
        (lambda: Threshold(0.5, hits=3, window=2), "3 hits of a window of 2"),
        (lambda: Threshold(0.5, leave=0.6), "above enter"),
    ],
)
def test_arguments_that_make_no_sense(make, said):
    with pytest.raises(ValueError, match=said):
        make()

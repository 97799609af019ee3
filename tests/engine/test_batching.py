"""Packing: nothing lost, budgets kept, families together, cancelled calls dropped."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.toys import FakeNetwork

from mmreward.engine.batching import Budget, Call, Cost, Load, _rows, plan, take


class Waiter:
    def __init__(self, done=False):
        self._done = done

    def done(self):
        return self._done


def call(tokens=1, *, op="op", share=None, size=0, shared=0, done=False, network=None):
    network = network or FakeNetwork()
    return Call(network, op, None, None, share, Cost(tokens, size, shared), [Waiter(done)])


specs = st.lists(
    st.tuples(
        st.integers(1, 50),
        st.sampled_from("ab"),
        st.none() | st.integers(0, 5),
        st.integers(0, 30),
        st.sampled_from([0, 0.5, 0.9]),
    ),
    max_size=60,
)
budgets = st.builds(
    Budget,
    tokens=st.integers(1, 200),
    items=st.integers(1, 10),
    bytes=st.integers(1, 100),
    lookahead=st.integers(1, 4),
)


def calls_of(specs, network):
    """A share is what calls have in common, so those without one share no tokens."""
    return [
        call(t, op=op, share=s, size=b, shared=0 if s is None else int(part * t), network=network)
        for t, op, s, b, part in specs
    ]


def ragged_network(ragged):
    network = FakeNetwork()
    network.ragged = ragged
    return network


@given(specs, budgets, st.booleans())
def test_plan_places_every_call_once_within_the_budget(specs, budget, ragged):
    network = ragged_network(ragged)
    calls = calls_of(specs, network)
    batches = plan(calls, budget)
    assert sorted(id(c) for batch in batches for c in batch) == sorted(map(id, calls))
    for batch in batches:
        assert len({c.op for c in batch}) == 1
        assert len(batch) == 1 or Load.all(batch).fits(budget, ragged)


@given(specs, budgets, st.booleans())
def test_a_family_that_fits_one_batch_is_in_one_batch(specs, budget, ragged):
    network = ragged_network(ragged)
    calls = calls_of(specs, network)
    batches = plan(calls, budget)
    for op, share in {(c.op, c.share) for c in calls if c.share is not None}:
        family = [c for c in calls if (c.op, c.share) == (op, share)]
        holding = [batch for batch in batches if any(c in family for c in batch)]
        if Load.all(family).fits(budget, ragged):
            assert len(holding) == 1


@given(specs, budgets)
def test_taking_until_empty_serves_every_live_call_in_order(specs, budget):
    calls = [call(t, size=b, done=s == 0) for t, _, s, b, _ in specs]
    queue = deque(calls)
    served = []
    while queue:
        window = take(queue, budget)
        assert window or not queue, "a queue with calls gave none"
        assert len(window) <= budget.lookahead * budget.items
        served += window
    assert served == [c for c in calls if c.live]


def planned_row_by_row(calls, budget):
    """Second writing of `plan`, without its short way for families of one."""
    families = {}
    for index, one in enumerate(calls):
        families.setdefault((one.op, index if one.share is None else (one.share,)), []).append(one)
    for family in families.values():
        family.sort(key=lambda one: -one.cost.tokens)
    staged = {op: max(f[0].cost.bytes for f in families.values() if f[0].op == op) for op, _ in families}
    order = sorted(families.values(), key=lambda f: (staged[f[0].op], f[0].op, -Load.all(f).longest))
    batches, load = [], Load()
    for family in order:
        ragged, whole = family[0].network.ragged, Load.all(family)
        apart = not (load + whole).fits(budget, ragged) and whole.fits(budget, ragged)
        if not batches or apart or batches[-1][0].op != family[0].op:
            batches, load = [*batches, []], Load()
        for row in _rows(family, budget):
            more = load + Load.row(row)
            if batches[-1] and not more.fits(budget, ragged):
                batches, more = [*batches, []], Load.row(row)
            batches[-1].extend(row)
            load = more
    return batches


@given(specs, budgets, st.booleans())
def test_a_family_of_one_is_packed_as_any_other(specs, budget, ragged):
    calls = calls_of(specs, ragged_network(ragged))
    assert plan(calls, budget) == planned_row_by_row(calls, budget)


def test_the_largest_batch_comes_first_and_pads_little():
    batches = plan([call(t) for t in (1, 100, 2, 90, 3, 95)], Budget(tokens=300))
    assert [[c.cost.tokens for c in batch] for batch in batches] == [[100, 95, 90], [3, 2, 1]]


def test_padding_is_what_counts_unless_the_network_is_ragged():
    load = Load.all([call(10), call(1), call(1)])
    assert load.tokens(ragged=False) == 30 and load.tokens(ragged=True) == 12
    assert load.share(Budget(tokens=60), ragged=False) == 0.5


def test_what_a_family_shares_counts_once():
    questions = [call(100, share="picture", shared=90, size=50) for _ in range(8)]
    other = call(100, share="other", shared=90, size=50)
    assert Load.all(questions) == Load(items=8, rows=1, longest=170, total=170, bytes=50)
    assert Load.all([*questions, other]).tokens(ragged=False) == 340
    assert [len(batch) for batch in plan([*questions, other], Budget(tokens=340))] == [9]


def test_a_family_too_long_for_one_row_takes_several():
    questions = [call(100, share="picture", shared=60) for _ in range(8)]
    batches = plan(questions, Budget(tokens=180))
    assert [len(batch) for batch in batches] == [3, 3, 2]


def test_the_window_counts_what_is_shared_once():
    questions = deque(call(100, share="picture", shared=90) for _ in range(50))
    assert len(take(questions, Budget(tokens=600, lookahead=1))) == 50


def test_a_call_without_waiters_left_is_dead():
    assert call().live and not call(done=True).live


@pytest.mark.parametrize("name", ["tokens", "items", "bytes", "lookahead"])
def test_an_empty_budget_is_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        Budget(**{name: 0})


def test_a_budget_never_scales_to_nothing():
    assert Budget().scaled(1e-12) == Budget(tokens=1, items=1, bytes=1)

"""Queues and the order of batches: simulated traces of calls to networks that do not fit into memory."""

from hypothesis import given
from hypothesis import strategies as st
from support.toys import FakeNetwork

from mmreward.engine.batching import Budget, Call, Cost
from mmreward.engine.queues import CLEAN, PATIENCE, SHRINK, STAGED, PlaceQueues


class Waiter:
    def done(self):
        return False


def call(network, tokens=1, share=None, shared=0):
    cost = Cost(tokens, 0, shared)
    return Call(network, "op", None, None, share, cost, [Waiter()])


class Memory:
    """Room for so many networks, the least recently used leaving first."""

    def __init__(self, room):
        self.room = room
        self.held = []
        self.loads = 0

    def run(self, network):
        if network in self.held:
            self.held.remove(network)
        else:
            self.loads += 1
        self.held = [*self.held, network][-self.room :]


def played(queues, memory):
    """Run everything; returns the networks in the order of their batches."""
    order = []
    while batch := queues.next():
        queues.returned(batch)
        memory.run(batch[0].network)
        order.append(batch[0].network.name)
    return order


def test_everything_that_waits_for_one_network_runs_before_it_leaves_for_another():
    a, b = FakeNetwork("a"), FakeNetwork("b")
    memory = Memory(1)
    queues = PlaceQueues(Budget(items=2, lookahead=1), lambda network: network in memory.held)
    for _ in range(10):  # interleaved, as the rewards of one sample are
        queues.add(call(a))
        queues.add(call(b))
    order = played(queues, memory)
    assert order == ["a"] * 5 + ["b"] * 5 and memory.loads == 2


def test_new_calls_for_what_is_resident_keep_coming_first_until_patience_ends():
    a, b = FakeNetwork("a"), FakeNetwork("b")
    memory = Memory(1)
    queues = PlaceQueues(Budget(items=1, lookahead=1), lambda network: network in memory.held)
    queues.add(call(a))
    queues.add(call(b))
    order = []
    for _ in range(2 * PATIENCE):
        batch = queues.next()
        queues.returned(batch)
        memory.run(batch[0].network)
        order.append(batch[0].network.name)
        queues.add(call(a))
    assert order.count("b") == 1 and PATIENCE - 1 <= order.index("b") <= PATIENCE + 1


@given(
    room=st.integers(1, 3),
    trace=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=60),
    lookahead=st.integers(1, 3),
)
def test_any_trace_runs_every_call_once_with_no_more_loads_than_networks(room, trace, lookahead):
    """All calls are there from the start, so no network needs to come back."""
    networks = [FakeNetwork(str(number)) for number in range(4)]
    memory = Memory(room)
    queues = PlaceQueues(
        Budget(items=3, tokens=20, lookahead=lookahead), lambda network: network in memory.held
    )
    calls = [call(networks[which], tokens) for which, tokens in trace]
    for one in calls:
        queues.add(one)
    seen = []
    while batch := queues.next():
        queues.returned(batch)
        memory.run(batch[0].network)
        seen.extend(batch)
    assert sorted(map(id, seen)) == sorted(map(id, calls))
    assert memory.loads == len({which for which, _ in trace})


def test_a_batch_that_did_not_fit_makes_the_next_ones_smaller_and_clean_ones_larger_again():
    network = FakeNetwork()
    queues = PlaceQueues(Budget(items=100), lambda network: True)

    def sizes(count):
        for _ in range(count):
            queues.add(call(network))
        batches = []
        while batch := queues.next():
            queues.returned(batch)
            batches.append(batch)
        return batches

    (whole,) = sizes(100)
    queues.ran_out(whole)
    smaller = sizes(100)
    assert len(smaller[0]) == int(100 * SHRINK)
    for _ in range(20 * CLEAN):
        queues.fitted(whole)
    assert [len(batch) for batch in sizes(100)] == [100]


def test_one_item_that_does_not_fit_says_nothing_about_batches():
    network = FakeNetwork()
    queues = PlaceQueues(Budget(items=10), lambda network: True)
    queues.ran_out([call(network)])
    for _ in range(10):
        queues.add(call(network))
    assert len(queues.next()) == 10


def test_what_comes_again_goes_first_and_in_order():
    network = FakeNetwork()
    queues = PlaceQueues(Budget(), lambda network: True)
    later, first, second = call(network), [call(network)], [call(network)]
    queues.add(later)
    queues.requeue([first, second])
    assert [queues.next(), queues.next(), queues.next()] == [first, second, [later]]


def test_draining_takes_out_planned_and_waiting_calls_alike():
    network = FakeNetwork()
    queues = PlaceQueues(Budget(items=2), lambda network: True)
    calls = [call(network) for _ in range(7)]
    for one in calls:
        queues.add(one)
    taken = queues.next()
    suspects, waiting = queues.drain()
    assert suspects == [] and set(map(id, waiting)) == set(map(id, calls)) - set(map(id, taken))
    assert queues.next() == []


def test_no_more_batches_are_handed_out_than_a_place_is_given_ahead():
    queues = PlaceQueues(Budget(items=1), lambda network: True)
    network = FakeNetwork()
    for _ in range(STAGED + 1):
        queues.add(call(network))
    out = [queues.next() for _ in range(STAGED)]
    assert all(out) and queues.next() == []
    queues.returned(out[0])
    assert len(queues.next()) == 1

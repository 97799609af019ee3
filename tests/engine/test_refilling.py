"""A network whose rows end one by one takes up the next batch of its kind while the last still runs.

The devices have names of their own here, which no other test holds.
"""

import asyncio
import threading
import time

import pytest
from support.toys import FakeNetwork, Item

from mmreward import Engine
from mmreward.engine.batching import Budget, Call
from mmreward.engine.device_thread import Device, Job
from mmreward.engine.queues import STAGED


class Refiller(FakeNetwork):
    """Runs side by side what the feed has; the first batch ends when `wanted` have been taken up, or never
    come."""

    def __init__(self, wanted=1):
        super().__init__()
        self.wanted = wanted
        self.patience = 10.0
        self.together = []

    def refills(self, op):
        return op == "write"

    def forward_on(self, op, feed):
        self.together.append(taken := [feed.take()])
        self.started.set()
        assert self.gate.wait(20)
        until = time.monotonic() + self.patience
        while len(taken) < self.wanted and time.monotonic() < until:
            if (batch := feed.take()) is not None:
                taken.append(batch)
            time.sleep(0.001)
        for item in [item for batch in taken for item in batch]:
            self._check(item, "forward")
        for number, batch in reversed(list(enumerate(taken))):
            feed.done(number, [f"{item.id} beside" for item in batch])


def ask(engine, network, items, op="write"):
    async def work():
        calls = (engine.submit(network, op, item) for item in items)
        return await asyncio.gather(*calls, return_exceptions=True)

    return engine.run(work())


def test_a_batch_that_is_taken_up_gives_its_room_to_others():
    network = Refiller(wanted=STAGED + 3)
    with Engine("cpu:8", budget=Budget(items=2)) as engine:
        found = ask(engine, network, [Item(number) for number in range(2 * STAGED + 6)])
        assert found == [f"{number} beside" for number in range(2 * STAGED + 6)]
        assert len(network.together[0]) == STAGED + 3 and not network.batches
        assert engine.stats().networks["fake"].batches == STAGED + 3
        assert ask(engine, network, [Item(1)], "read") == ["fake:read:1"]


def test_where_one_of_several_raises_each_runs_alone_and_one_call_is_to_blame():
    network = Refiller(wanted=2)
    with Engine("cpu:8", budget=Budget(items=2)) as engine:
        found = ask(engine, network, [Item(number, poison="forward" * (number == 1)) for number in range(4)])
    assert [str(one) for one in found] == ["fake:write:0", "forward 1", "fake:write:2", "fake:write:3"]


def test_an_engine_falls_asleep_when_what_it_has_taken_up_is_done():
    network = Refiller(wanted=2)
    network.gate.clear()
    with Engine("cpu:8", budget=Budget(items=1)) as engine:
        asked = threading.Thread(target=ask, args=(engine, network, [Item(1), Item(2)]))
        asked.start()
        assert network.started.wait(20)
        slept = threading.Thread(target=engine.sleep)
        slept.start()
        slept.join(0.05)
        assert slept.is_alive() and network.events == ["load"]
        network.gate.set()
        slept.join(20)
        assert network.events == ["load", "unload"]
        engine.wake()
        asked.join(20)
    assert sum(map(len, network.together)) == 2


@pytest.fixture
def device():
    """A device's thread, held by a first job until `go` is set; and what was done, in order."""
    made = Device("cpu:9")
    made.go, made.log = threading.Event(), []
    made.call(lambda: made.go.wait(20))
    yield made
    made._jobs.put(None)


def put(device, network, op, number):
    log = device.log
    call = Call(network, op, Item(number), None)
    done = threading.Event()

    def ended(what):
        log.append((number, what))
        done.set()

    device.put(
        Job([call], [call.item], lambda results, _: ended(results[0]), lambda error: ended(str(error)))
    )
    return done


def test_nothing_overtakes_what_came_before_it(device):
    """Neither another op nor another network's batch, nor a job such as `sleep`."""
    network, other = Refiller(wanted=3), Refiller()
    network.patience = 0.05
    jobs = [put(device, network, "write", 0), put(device, network, "write", 1)]
    jobs += [put(device, network, "read", 2), put(device, network, "write", 3)]
    between = device.call(lambda: device.log.append("job"))
    network_2 = put(device, other, "write", 4)
    device.go.set()
    assert between.result(20) is None
    assert all(job.wait(20) for job in [*jobs, network_2])
    first = [(1, "1 beside"), (0, "0 beside"), (2, "fake:read:2"), (3, "3 beside"), "job", (4, "4 beside")]
    assert device.log == first


def test_too_few_results_are_an_error_of_the_network(device):
    class Short(Refiller):
        def forward_on(self, op, feed):
            feed.take()
            feed.done(0, [])

    done = put(device, Short(), "write", 0)
    device.go.set()
    assert done.wait(20)
    assert device.log == [(0, "fake.write returned 0 results for 1 items")]


def test_a_batch_left_undone_is_an_error_of_the_network(device):
    class Lazy(Refiller):
        def forward_on(self, op, feed):
            feed.take()

    done = put(device, Lazy(), "write", 0)
    device.go.set()
    assert done.wait(20)
    assert device.log == [(0, "fake.write left 1 of its batches undone")]

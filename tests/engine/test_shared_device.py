"""Engines of one process that name the same device share its thread and what is loaded there.

The device has a name of its own here, which no other test holds.
"""

import asyncio
import threading

import pytest
from support.toys import FakeNetwork, Item

from mmreward import Engine


def ask(engine, network, *ids):
    async def work():
        return await asyncio.gather(*(engine.submit(network, "op", Item(number)) for number in ids))

    return engine.run(work())


def test_a_network_two_engines_use_is_loaded_once_and_leaves_with_the_last():
    network = FakeNetwork()
    with Engine("cpu:7") as first:
        ask(first, network, 1)
        with Engine("cpu:7") as second:
            ask(second, network, 2)
            names = [thread.name for thread in threading.enumerate()]
            assert network.events == ["load"] and names.count("mmreward-device cpu:7") == 1
        assert network.events == ["load"], "the first engine still has it"
        ask(first, network, 3)
    assert network.events == ["load", "unload"]


def test_the_strictest_limit_counts_while_its_engine_is_open():
    a, b = FakeNetwork("a", nbytes=60), FakeNetwork("b", nbytes=60)
    with Engine("cpu:7") as wide:
        ask(wide, a, 1)
        ask(wide, b, 1)
        assert wide.stats().resident_bytes == 120
        with Engine("cpu:7", resident_bytes=100) as narrow:
            ask(narrow, a, 2)
            assert narrow.stats().resident_bytes == 60 and b.events == ["load", "unload"]
        ask(wide, b, 2)
        ask(wide, a, 3)
        assert wide.stats().resident_bytes == 120


def test_a_device_is_taken_when_the_first_batch_runs():
    """Resolving "auto" imports torch, which an engine of verifiers need not pay for."""
    with Engine("cpu:7") as engine:
        assert "mmreward-device cpu:7" not in [thread.name for thread in threading.enumerate()]
        engine.sleep()
        engine.wake()
        assert ask(engine, FakeNetwork(), 1) == ["fake:op:1"]


def test_one_engine_asleep_does_not_stop_another():
    network = FakeNetwork()
    with Engine("cpu:7") as first, Engine("cpu:7") as second:
        ask(first, network, 1)
        ask(second, network, 1)
        first.sleep()
        assert network.events == ["load", "unload"]
        assert ask(second, network, 2) == ["fake:op:2"]
        first.wake()
        assert ask(first, network, 3) == ["fake:op:3"]


def test_engines_that_come_and_go_together_lose_nothing():
    network = FakeNetwork()

    def work(number):
        with Engine("cpu:7") as engine:
            assert ask(engine, network, *range(number, number + 20)) == [
                f"fake:op:{i}" for i in range(number, number + 20)
            ]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert network.events.count("load") == network.events.count("unload")


@pytest.mark.parametrize("limit", [0, -1])
def test_no_room_at_all_is_refused(limit):
    with pytest.raises(ValueError, match="resident_bytes"):
        Engine("cpu:7", resident_bytes=limit)

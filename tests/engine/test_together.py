"""`together` beside `asyncio.gather`: results, failures and cancellations, without a task for each."""

import asyncio
import gc
import logging
import threading

import pytest
from support.toys import FakeNetwork, Item

from mmreward.engine.together import together

WAYS = pytest.mark.parametrize("way", [asyncio.gather, together], ids=["gather", "together"])


def handle(engine, network, item, *, key=None):
    """A method of a handle."""

    async def asked():
        return await engine.submit(network, "op", item, key=key)

    return asked()


@WAYS
def test_results_come_in_order_from_one_batch(engine, way):
    network = FakeNetwork()

    async def run():
        return list(await way(*(handle(engine, network, Item(i)) for i in range(20))))

    assert engine.run(run()) == [f"fake:op:{i}" for i in range(20)]
    assert len(network.batches) == 1


@WAYS
def test_nothing_asked_is_nothing(engine, way):
    async def run():
        return list(await way())

    assert engine.run(run()) == []


@WAYS
def test_equal_calls_are_computed_once_and_cached_ones_not_again(engine, way):
    network = FakeNetwork()

    async def run():
        first = list(await way(*(handle(engine, network, Item(7), key="k") for _ in range(3))))
        return first + list(await way(handle(engine, network, Item(7), key="k")))

    assert engine.run(run()) == ["fake:op:7"] * 4
    assert [len(batch) for batch in network.batches] == [1]
    assert engine.stats().deduplicated == 2 and engine.stats().cached == 1


@WAYS
@pytest.mark.parametrize("stage", ["cost", "prepare", "forward", "result"])
def test_the_failure_of_one_is_raised_as_it_is(engine, way, stage):
    network = FakeNetwork()

    async def run():
        items = [Item(i, poison=stage if i == 2 else "") for i in range(4)]
        return await way(*(handle(engine, network, item) for item in items))

    with pytest.raises(ValueError, match=f"{stage} 2"):
        engine.run(run())
    assert engine.run(handle(engine, network, Item(9))) == "fake:op:9"


@WAYS
def test_the_first_failure_does_not_wait_for_the_slow(engine, way):
    """The one that fails stands last; the first would not end before it is told to."""
    held = threading.Event()

    class Slow(FakeNetwork):
        def forward(self, op, batch):
            assert held.wait(20)
            return super().forward(op, batch)

    slow, network = Slow(), FakeNetwork()

    class Elsewhere:
        """A service answers beside the thread of the device, which is held."""

        name = fingerprint = "elsewhere"

        async def answer(self, op, item):
            raise ValueError("refused")

        async def close(self):
            pass

    async def run():
        try:
            await way(handle(engine, slow, Item(0)), handle(engine, Elsewhere(), Item(1)))
        finally:
            assert not held.is_set()
            held.set()

    with pytest.raises(ValueError, match="refused"):
        engine.run(run())
    assert engine.run(handle(engine, network, Item(9))) == "fake:op:9"


@WAYS
def test_cancelled_it_gives_up_the_calls_that_nobody_else_waits_for(engine, way):
    held, begun = threading.Event(), threading.Event()

    class Held(FakeNetwork):
        def forward(self, op, batch):
            begun.set()
            assert held.wait(20)
            return super().forward(op, batch)

    network = Held()

    async def run():
        first = asyncio.ensure_future(handle(engine, network, Item(0)))  # holds the device
        await asyncio.to_thread(begun.wait, 20)
        shared = asyncio.ensure_future(handle(engine, network, Item(1), key="shared"))
        calls = handle(engine, network, Item(1), key="shared"), handle(engine, network, Item(2), key="own")

        async def grouped():
            return await way(*calls)

        task = asyncio.ensure_future(grouped())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.set()
        return await first, await shared

    assert engine.run(run()) == ("fake:op:0", "fake:op:1")
    assert engine.stats().cancelled == 1


@WAYS
def test_the_calls_beside_a_failure_run_on_and_their_failure_is_not_logged(engine, way, caplog):
    network = FakeNetwork()

    async def run():
        with pytest.raises(ValueError):
            await way(
                handle(engine, network, Item(0, poison="forward")),
                handle(engine, network, Item(1, poison="forward")),
                handle(engine, network, Item(2), key="kept"),
            )
        return await handle(engine, network, Item(2), key="kept")

    with caplog.at_level(logging.ERROR):
        assert engine.run(run()) == "fake:op:2"
        gc.collect()
    assert not caplog.records
    assert engine.stats().cancelled == 0


@WAYS
def test_what_waits_for_something_else_is_waited_for_too(engine, way):
    network = FakeNetwork()

    async def roundabout(item):
        await asyncio.sleep(0)
        found = await asyncio.to_thread(lambda: item)
        first = await handle(engine, network, found)
        return first, await handle(engine, network, Item(item.id + 100))

    async def twice(item):
        return [await handle(engine, network, item), await handle(engine, network, Item(item.id + 1000))]

    async def at_once():
        return "at once"

    async def run():
        return list(
            await way(roundabout(Item(1)), handle(engine, network, Item(2)), twice(Item(3)), at_once())
        )

    assert engine.run(run()) == [
        ("fake:op:1", "fake:op:101"),
        "fake:op:2",
        ["fake:op:3", "fake:op:1003"],
        "at once",
    ]


@WAYS
def test_one_that_asks_twice_asks_again_while_another_is_held(engine, way):
    """As the text of a mapped encoder does, whose second call goes into the next batch."""
    held, asked = FakeNetwork("held"), threading.Event()
    held.gate.clear()

    class Elsewhere:
        name = fingerprint = "elsewhere"

        async def answer(self, op, item):
            if item.id == 1:
                asked.set()
            return item.id

        async def close(self):
            pass

    async def twice():
        first = await handle(engine, Elsewhere(), Item(0))
        return first, await handle(engine, Elsewhere(), Item(1))

    async def run():
        task = asyncio.ensure_future(asyncio.to_thread(asked.wait, 20))
        task.add_done_callback(lambda _: held.gate.set())
        found = list(await way(handle(engine, held, Item(2)), twice()))
        return found, await task

    assert engine.run(run()) == (["held:op:2", (0, 1)], True)


@WAYS
def test_a_failure_of_what_waits_for_something_else_is_raised(engine, way):
    async def fails():
        await asyncio.sleep(0)
        raise KeyError("late")

    async def run():
        return await way(handle(engine, FakeNetwork(), Item(0)), fails())

    with pytest.raises(KeyError, match="late"):
        engine.run(run())


def test_no_task_is_made_for_a_call(engine):
    """Which is the point: what a task costs."""
    network, made = FakeNetwork(), []

    async def run():
        events = asyncio.get_running_loop()
        usual = events.get_task_factory()
        events.set_task_factory(lambda *given, **named: (made.append(given), usual(*given, **named))[1])
        try:
            return await together(*(handle(engine, network, Item(i)) for i in range(5)))
        finally:
            events.set_task_factory(usual)

    assert engine.run(run()) == [f"fake:op:{i}" for i in range(5)]
    assert not made

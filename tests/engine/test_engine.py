"""The engine's promises one by one: isolation, deduplication, cancellation, memory, threads."""

import asyncio
import gc
import threading
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress

import pytest
from support.toys import FakeNetwork, Item, Panic, network_reward, toy

from mmreward import Engine, Sample, Score, Unscorable, scoring
from mmreward.engine.batching import Budget, Call, Cost
from mmreward.engine.engine import current
from mmreward.engine.queues import STAGED


def ask(engine, network, items, *, key=None):
    """Submit all items at once; results and exceptions in the items' order."""

    async def gathered():
        calls = [engine.submit(network, "op", item, key=key and key(item)) for item in items]
        return await asyncio.gather(*calls, return_exceptions=True)

    return engine.run(gathered())


def samples(count):
    return [Sample(id=str(i), target=Item(i)) for i in range(count)]


def in_thread(work, *args):
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work, *args)
    pool.shutdown(wait=False)
    return future


# --- batching and isolation -----------------------------------------------------------------------


def test_calls_of_many_coroutines_share_one_batch(engine):
    network = FakeNetwork()
    assert ask(engine, network, [Item(i) for i in range(100)]) == [f"fake:op:{i}" for i in range(100)]
    assert len(network.batches) == 1


def test_nested_gathers_still_make_one_batch(engine):
    network = FakeNetwork()

    async def outer():
        async def one(i):
            await asyncio.sleep(0)
            return await asyncio.gather(*(engine.submit(network, "op", Item(10 * i + j)) for j in range(3)))

        await asyncio.gather(*(one(i) for i in range(5)))

    engine.run(outer())
    assert [len(batch) for batch in network.batches] == [15]


@pytest.mark.parametrize("stage", ["cost", "prepare", "forward", "result"])
def test_a_poison_item_fails_alone_with_its_own_error(engine, stage):
    network = FakeNetwork()
    items = [Item(i, poison=stage if i in (3, 11) else "") for i in range(20)]
    for item, result in zip(items, ask(engine, network, items), strict=True):
        if item.poison:
            assert isinstance(result, ValueError) and str(result) == f"{stage} {item.id}"
        else:
            assert result == f"fake:op:{item.id}"


@pytest.mark.parametrize("error", [StopIteration("no more"), Panic("native"), SystemExit(1)])
@pytest.mark.parametrize("stage", ["prepare", "forward"])
def test_an_odd_exception_fails_its_item_and_stops_nothing(engine, stage, error):
    class Odd(FakeNetwork):
        def _check(self, item, at):
            if at == stage and item.poison:
                raise error

    network = Odd()
    results = in_thread(ask, engine, network, [Item(0), Item(1, poison="yes"), Item(2)]).result(timeout=20)
    assert results[0] == "fake:op:0" and results[2] == "fake:op:2"
    assert isinstance(results[1], RuntimeError) and type(error).__name__ in str(results[1])


def test_a_network_that_returns_too_few_results_is_an_error_not_a_mixup(engine):
    class Short(FakeNetwork):
        def forward(self, op, batch):
            return super().forward(op, batch)[: max(1, len(batch) - 1)]

    assert ask(engine, Short(), [Item(i) for i in range(5)]) == [f"fake:op:{i}" for i in range(5)]


def test_weights_that_cannot_be_loaded_fail_every_call_and_are_not_tried_per_item(engine):
    class Missing(FakeNetwork):
        def load(self, device):
            self.events.append("load")
            raise FileNotFoundError("no weights")

    network = Missing()
    results = ask(engine, network, [Item(i) for i in range(100)])
    assert all(isinstance(result, FileNotFoundError) for result in results)
    assert len(network.events) == 1


def test_ops_never_share_a_batch(engine):
    network = FakeNetwork()

    async def both():
        return await asyncio.gather(*(engine.submit(network, "ab"[i % 2], Item(i)) for i in range(10)))

    assert engine.run(both()) == [f"fake:{'ab'[i % 2]}:{i}" for i in range(10)]
    assert sorted(len(batch) for batch in network.batches) == [5, 5]


def test_counters_count(engine):
    network = FakeNetwork()
    ask(engine, network, [Item(0), Item(0), Item(1, poison="result"), Item(2, poison="forward")], key=str)
    ask(engine, network, [Item(0)], key=str)
    stats = engine.stats()
    assert (stats.calls, stats.deduplicated, stats.cached, stats.failed) == (5, 1, 1, 2)
    assert stats.splits >= 1 and stats.cache_bytes > 0 and "fake" in str(stats)


# --- deduplication and cache ----------------------------------------------------------------------


def test_equal_keys_are_computed_once_in_flight_and_later(engine):
    network = FakeNetwork()
    assert ask(engine, network, [Item(7)] * 50, key=str) == ["fake:op:7"] * 50
    assert ask(engine, network, [Item(7)] * 50, key=str) == ["fake:op:7"] * 50
    assert network.computed == [7]


def test_calls_without_a_key_are_all_computed(engine):
    network = FakeNetwork()
    ask(engine, network, [Item(7)] * 5)
    assert network.computed == [7] * 5


def test_equal_keys_of_different_networks_and_ops_stay_apart(engine):
    first, second = FakeNetwork("a"), FakeNetwork("b")

    async def all_three():
        calls = [(first, "op"), (second, "op"), (first, "other")]
        return await asyncio.gather(*(engine.submit(n, op, Item(1), key="k") for n, op in calls))

    assert engine.run(all_three()) == ["a:op:1", "b:op:1", "a:other:1"]


def test_a_failure_is_not_cached(engine):
    network = FakeNetwork()
    assert isinstance(ask(engine, network, [Item(1, poison="forward")], key=lambda item: 1)[0], ValueError)
    assert ask(engine, network, [Item(1)], key=lambda item: 1) == ["fake:op:1"]


@pytest.mark.parametrize("tick", range(10))
def test_an_equal_call_right_after_a_cancelled_one_is_still_answered(engine, tick):
    network = FakeNetwork()

    async def scenario():
        first = asyncio.create_task(engine.submit(network, "op", Item(1), key="k"))
        canceller = asyncio.create_task(_after(tick, first.cancel))
        await asyncio.sleep(0)
        late = asyncio.create_task(_late(engine, network, tick))
        await canceller
        return await asyncio.wait_for(late, 5)

    async def _after(ticks, action):
        for _ in range(ticks):
            await asyncio.sleep(0)
        action()

    async def _late(engine, network, ticks):
        for _ in range(ticks - 1):
            await asyncio.sleep(0)
        return await engine.submit(network, "op", Item(1), key="k")

    assert engine.run(scenario()) == "fake:op:1"


def test_an_equal_call_revives_nothing_that_the_planner_has_dropped(engine):
    network = FakeNetwork()

    async def scenario():
        first = asyncio.create_task(engine.submit(network, "op", Item(1), key="k"))
        await asyncio.sleep(0)
        first.cancel()
        engine._loop.dispatch()  # the planner meets the cancelled call before its task has woken up
        async with asyncio.timeout(5):
            return await engine.submit(network, "op", Item(1), key="k")

    assert engine.run(scenario()) == "fake:op:1"


# --- memory ---------------------------------------------------------------------------------------


def test_out_of_memory_splits_until_the_batches_fit(engine):
    network = FakeNetwork(capacity=5)
    assert ask(engine, network, [Item(i) for i in range(64)]) == [f"fake:op:{i}" for i in range(64)]
    assert max(map(len, network.batches)) <= 5
    assert engine.stats().out_of_memory > 0


def test_the_budget_shrinks_to_what_fits_and_grows_back():
    network = FakeNetwork(capacity=16)
    with Engine("cpu", budget=Budget(items=256)) as engine:
        ask(engine, network, [Item(i) for i in range(256)])
        ask(engine, network, [Item(i) for i in range(256)])
        network.batches.clear()
        before = engine.stats().out_of_memory
        ask(engine, network, [Item(i) for i in range(200)])
        assert engine.stats().out_of_memory - before <= 2, "it learnt nothing"
        assert len(network.batches[0]) >= 6, "it shrank far below what fits"
        network.capacity = None
        for _ in range(150):
            network.batches.clear()
            ask(engine, network, [Item(i) for i in range(256)])
        network.batches.clear()
        ask(engine, network, [Item(i) for i in range(256)])
        assert len(network.batches) == 1, "the budget did not come back"


def test_one_item_that_never_fits_gets_the_error_and_slows_nobody(engine):
    network = FakeNetwork(capacity=100)
    for i in range(20):
        (result,) = ask(engine, network, [Item(i, tokens=101)])
        assert isinstance(result, MemoryError)
    ask(engine, network, [Item(i) for i in range(100)])
    assert len(network.batches) == 1


def test_one_item_that_does_not_fit_is_tried_again_without_the_other_networks(engine):
    class Crowded(FakeNetwork):
        def forward(self, op, batch):
            if "unload" not in other.events:
                raise MemoryError
            return super().forward(op, batch)

    other, crowded = FakeNetwork("other"), Crowded("crowded")
    ask(engine, other, [Item(0)])
    assert ask(engine, crowded, [Item(1)]) == ["crowded:op:1"]


class Bulk:
    """Stands for a tensor."""


def test_what_did_not_fit_is_freed_before_the_second_try(engine):
    alive = []

    class Crowded(FakeNetwork):
        def forward(self, op, batch):
            alive.append([ref() for ref in refs if ref() is not None])
            bulk = Bulk()
            refs.append(weakref.ref(bulk))
            raise MemoryError

    refs = []
    ask(engine, FakeNetwork("other"), [Item(0)])
    ask(engine, Crowded("crowded"), [Item(1)])
    assert alive == [[], []]


@pytest.mark.parametrize("stage", ["prepare", "forward"])
def test_an_out_of_memory_error_does_not_keep_its_tensors_alive(engine, stage):
    class Full(FakeNetwork):
        def _check(self, item, at):
            if at == stage:
                bulk = Bulk()
                refs.append(weakref.ref(bulk))
                raise MemoryError

    refs = []
    errors = ask(engine, Full(), [Item(i) for i in range(4)])
    gc.collect()
    assert all(isinstance(error, MemoryError) for error in errors)
    assert not any(ref() for ref in refs)


def test_100_000_calls_run_within_a_bounded_queue(engine):
    network = FakeNetwork()
    network.batches = _Forgetful()
    pending = peak = live = 0

    async def score(sample):
        nonlocal pending, peak
        pending += 1
        peak = max(peak, pending)
        await engine.submit(network, "op", sample.target)
        pending -= 1
        return Score(1.0)

    def watch(index, name, score):
        nonlocal live
        if index % 25_000 == 12_500:
            live = max(live, sum(isinstance(thing, Call) for thing in gc.get_objects()))

    item = Item(0)
    many = [Sample(target=item)] * 100_000
    scores = engine.score(many, toy(score), progress=watch)["toy"]
    assert len(scores) == 100_000 and all(score.ok for score in scores)
    assert peak <= scoring.WINDOW
    assert 0 < live <= scoring.WINDOW + (STAGED + 1) * engine.budget.items


class _Forgetful(list):
    def append(self, _):
        pass


# --- residency, sleep and wake --------------------------------------------------------------------


def test_resident_networks_stay_within_the_limit():
    networks = [FakeNetwork(f"n{i}", nbytes=size) for i, size in enumerate((40, 50, 60, 30))]
    seen = []
    with Engine("cpu", resident_bytes=100) as engine:
        for network in networks:
            network.load = lambda device, n=network: seen.append(engine._placement.nbytes + n.nbytes)

        async def traffic():
            await asyncio.gather(
                *(engine.submit(networks[i % 4], "op", Item(i), key=None) for i in range(100))
            )

        for _ in range(3):
            engine.run(traffic())
    assert max(seen) <= 100 and len(seen) > 4


def test_sleep_unloads_everything_and_holds_calls_until_wake(engine):
    network = FakeNetwork()
    ask(engine, network, [Item(0)])
    engine.sleep()
    assert network.events == ["load", "unload"] and engine.stats().resident_bytes == 0
    waiting = in_thread(ask, engine, network, [Item(1)])
    with pytest.raises(TimeoutError):
        waiting.result(timeout=0.05)
    engine.wake()
    assert waiting.result(timeout=20) == ["fake:op:1"]
    assert network.events == ["load", "unload", "load"]


def test_sleeping_twice_still_remembers_what_to_wake(engine):
    network = FakeNetwork()
    ask(engine, network, [Item(0)])
    engine.sleep()
    engine.sleep()
    engine.wake()
    assert network.events == ["load", "unload", "load"]


def test_sleep_and_wake_during_traffic_lose_nothing(engine):
    network = FakeNetwork()
    reward = network_reward(network)
    scoring_ = in_thread(lambda: [engine.score(samples(300), reward) for _ in range(10)])
    for _ in range(10):
        engine.sleep()
        engine.wake()
    for scores in scoring_.result(timeout=60):
        assert all(score.ok for score in scores["toy"])


# --- callers, threads and loops -------------------------------------------------------------------


def test_sync_score_works_inside_a_running_loop(engine):
    reward = network_reward(FakeNetwork())

    async def main():
        return engine.score(samples(3), reward)

    assert [score.value for score in asyncio.run(main())["toy"]] == [1.0] * 3


def test_ascore_from_two_loops_at_once(engine):
    reward = network_reward(FakeNetwork())
    futures = [in_thread(lambda: asyncio.run(engine.ascore(samples(200), reward))) for _ in range(2)]
    for future in futures:
        assert all(score.ok for score in future.result(timeout=60)["toy"])


def test_begin_returns_while_the_network_is_busy_and_the_future_has_every_score(engine):
    network = FakeNetwork()
    network.gate.clear()
    reward = network_reward(network)
    parts = [[Sample(target=Item(10 * part + i)) for i in range(10)] for part in range(3)]
    futures = [engine.begin(part, {"toy": reward}) for part in parts]
    assert network.started.wait(30) and not any(future.done() for future in futures)
    network.gate.set()
    scores = [future.result(30)["toy"] for future in futures]
    assert [[one.value for one in column] for column in scores] == [[1.0] * 10] * 3


def test_many_threads_score_at_once_and_each_gets_its_own(engine):
    network = FakeNetwork()
    reward = network_reward(network)
    with ThreadPoolExecutor(8) as pool:
        for scores in pool.map(lambda n: engine.score(samples(n), reward)["toy"], range(1, 40)):
            assert all(score.ok for score in scores)


def test_scoring_from_within_a_reward_raises_instead_of_hanging(engine):
    async def score(sample):
        engine.score([sample], "toy")

    (result,) = engine.score([Sample()], toy(score))["toy"]
    assert result.status == "error" and "await inside it" in result.note


def test_awaiting_the_engine_from_within_a_reward_works(engine):
    async def inner(sample):
        return Score(0.5)

    async def outer(sample):
        return (await engine.ascore([sample], "inner"))["inner"][0]

    toy(inner, "inner")
    (result,) = engine.score([Sample()], toy(outer, "outer"))["outer"]
    assert result.value == 0.5


def test_two_engines_work_side_by_side_and_nested():
    network = FakeNetwork()
    reward = network_reward(network)
    with Engine("cpu") as outer, Engine("cpu") as inner:

        async def nested(sample):
            assert current() is outer
            return (await inner.ascore([sample], reward))["toy"][0]

        both = outer.score(samples(10), [toy(nested, "nested"), reward])
        assert all(score.ok for column in both.values() for score in column)
        assert inner.stats().calls == outer.stats().calls == 10


def test_a_timeout_costs_its_own_row_only(engine):
    network = FakeNetwork()

    async def score(sample):
        if sample.id == "1":
            await asyncio.sleep(60)
        await engine.submit(network, "op", sample.target)
        return Score(1.0)

    results = engine.score(samples(3), toy(score), timeout=0.2)["toy"]
    assert [score.status for score in results] == ["ok", "timeout", "ok"]
    assert "0.2 s" in results[1].note


def test_a_timeout_while_queueing_drops_the_call(engine):
    network = FakeNetwork()
    network.gate.clear()
    results = engine.score(samples(3), network_reward(network), timeout=0.1)["toy"]
    network.gate.set()
    assert [score.status for score in results] == ["timeout"] * 3
    assert ask(engine, network, [Item(5)]) == ["fake:op:5"]


def test_cancelling_ascore_cancels_its_own_calls_and_leaves_shared_ones(engine):
    network = FakeNetwork()
    network.gate.clear()

    async def calls(*ids):
        return await asyncio.gather(*(engine.submit(network, "op", Item(i), key=i) for i in ids))

    async def main():
        blocker = asyncio.create_task(engine.arun(calls(0)))
        await asyncio.to_thread(network.started.wait, 20)
        mine = asyncio.create_task(engine.arun(calls(1, 2)))
        theirs = asyncio.create_task(engine.arun(calls(2, 3)))
        while engine.stats().calls < 5:
            await asyncio.sleep(0.001)
        mine.cancel()
        with suppress(asyncio.CancelledError):
            await mine
        while engine.stats().cancelled < 1:
            await asyncio.sleep(0.001)
        network.gate.set()
        return await asyncio.gather(blocker, theirs)

    assert asyncio.run(main()) == [["fake:op:0"], ["fake:op:2", "fake:op:3"]]
    assert engine.stats().cancelled == 1


def test_close_cancels_waiting_callers_and_leaves_no_thread():
    before = set(threading.enumerate())
    engine = Engine("cpu")
    network = FakeNetwork()
    ask(engine, network, [Item(i) for i in range(10)])
    engine.sleep()
    waiting = [in_thread(ask, engine, network, [Item(i)]) for i in range(5)]
    while engine.stats().calls < 15:
        threading.Event().wait(0.001)
    engine.close()
    engine.close()
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(timeout=20)
    left = [t for t in threading.enumerate() if t not in before and t.name.startswith("mmreward")]
    assert not left
    with pytest.raises(RuntimeError, match="closed"):
        engine.score(samples(1), network_reward(network))


@pytest.mark.filterwarnings("ignore:coroutine")
def test_closing_while_others_call_leaves_nobody_waiting():
    for _ in range(20):
        engine = Engine("cpu")
        reward = network_reward(FakeNetwork())

        def keep_calling(engine=engine, reward=reward):
            with suppress(RuntimeError, CancelledError):
                while True:
                    engine.score(samples(3), reward)

        callers = [in_thread(keep_calling) for _ in range(3)]
        engine.score(samples(3), reward)
        engine.close()
        for caller in callers:
            caller.result(timeout=20)


def test_closing_unloads_the_networks():
    network = FakeNetwork()
    with Engine("cpu:7") as engine:
        ask(engine, network, [Item(0)])
    assert network.events == ["load", "unload"]


def test_an_interrupted_caller_takes_its_work_along(engine, monkeypatch):
    gone = threading.Event()

    async def endless():
        try:
            await asyncio.sleep(60)
        finally:
            gone.set()

    def interrupted(self, timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.Future.result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.run(endless())
    assert gone.wait(20)


def test_networks_outside_an_engine_say_what_to_do():
    with pytest.raises(RuntimeError, match=r"Engine\.score"):
        current()


def test_a_refusal_in_cost_keeps_its_status(engine):
    class Picky(FakeNetwork):
        def cost(self, op, item):
            raise Unscorable("never fits", "out_of_range") if item.id == 1 else StopAsyncIteration

    (refused,) = ask(engine, Picky(), [Item(1)])
    assert refused.status == "out_of_range"


def test_a_cost_beyond_the_budget_still_runs_alone():
    network = FakeNetwork()
    with Engine("cpu", budget=Budget(tokens=10, bytes=10)) as engine:
        results = ask(engine, network, [Item(0, tokens=1000), Item(1), Item(2)])
    assert results == ["fake:op:0", "fake:op:1", "fake:op:2"]
    assert [item.id for item in network.batches[0]] == [0] and len(network.batches) == 2
    assert Cost(1).bytes == 0

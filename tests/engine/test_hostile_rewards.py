"""Rewards that interrupt, cancel, block or ignore: their own rows fail, the others and the engine do not."""

import asyncio
import gc
import itertools
import threading
import time
import weakref
from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest
from support.pace import allowed
from support.processes import eventually
from support.toys import FakeNetwork, Item, network_reward, toy

from mmreward import Engine, Sample, Score, Unscorable
from mmreward.engine import loop as loops
from mmreward.engine import watchdog

pytestmark = pytest.mark.timeout(60)


class MuteError(Exception):
    """An exception that cannot be printed."""

    def __str__(self):
        raise RuntimeError("no words")


class MuteRuntimeError(RuntimeError):
    """The same, of a type whose message the engine looks into."""

    def __str__(self):
        raise KeyboardInterrupt


def samples(count):
    return [Sample(id=str(i), target=Item(i)) for i in range(count)]


def scored(engine, fn, *, count=5, facts=None, **options):
    """Statuses of some samples by a reward that does something to sample 2."""
    reward = toy(fn, **(facts or {}))
    return engine.score(samples(count), reward, **options)["toy"]


async def nested(error):
    async def fail():
        await asyncio.sleep(0)
        raise error

    await asyncio.gather(fail(), asyncio.sleep(0.01))


async def grouped(error):
    async with asyncio.TaskGroup() as group:
        group.create_task(nested(error))


async def direct(error):
    await asyncio.sleep(0)
    raise error


ERRORS = [
    KeyboardInterrupt(),
    SystemExit(3),
    asyncio.CancelledError(),
    GeneratorExit(),
    MuteError(),
    MuteRuntimeError(),
]


@pytest.mark.parametrize("raising", [direct, nested, grouped])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("timeout", [None, 20])
def test_whatever_a_reward_raises_costs_its_own_row(engine, raising, error, timeout):
    async def score(sample):
        if sample.id == "2":
            await raising(error)
        await asyncio.sleep(0.02)
        return Score(1.0)

    first = scored(engine, score, timeout=timeout)
    assert [one.status for one in first] == ["ok", "ok", first[2].status, "ok", "ok"]
    if raising is not grouped or not isinstance(error, asyncio.CancelledError):  # a group ignores that one
        assert first[2].status == "error" and type(error).__name__ in first[2].note
    assert all(one.ok for one in engine.score(samples(3), network_reward(FakeNetwork(), "next"))["next"])


@pytest.mark.parametrize("arity", ["pair", "group"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_comparison_raises_costs_its_own_group(engine, arity, error):
    async def pair(first, second):
        if first.group == "b":
            raise error
        return Score(0.5)

    async def group(members):
        if members[0].group == "b":
            raise error
        return [Score(0.5)] * len(members)

    reward = toy(pair if arity == "pair" else group, arity=arity)
    rows = [Sample(id=f"{name}{i}", group=name) for name in "abc" for i in range(2)]
    statuses = [one.status for one in engine.score(rows, reward)["toy"]]
    assert statuses == ["ok", "ok", "error", "error", "ok", "ok"]


def test_a_reward_that_cancels_its_own_task_costs_its_own_row(engine):
    async def score(sample):
        if sample.id == "2":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        return Score(1.0)

    assert [one.status for one in scored(engine, score)] == ["ok", "ok", "error", "ok", "ok"]


@pytest.mark.parametrize("stage", ["cost", "prepare", "forward", "result", "load"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_network_raises_costs_its_own_rows(engine, stage, error):
    class Odd(FakeNetwork):
        def _check(self, item, at):
            if at == stage and item.id == 2:
                raise error

        def forward(self, op, batch):
            results = super().forward(op, batch)
            return [
                error if stage == "result" and item.id == 2 else r
                for item, r in zip(batch, results, strict=True)
            ]

        def load(self, device):
            if stage == "load" and not self.events:
                super().load(device)
                raise error

    statuses = [one.status for one in engine.score(samples(5), network_reward(Odd()), check=False)["toy"]]
    assert statuses == (["error"] * 5 if stage == "load" else ["ok", "ok", "error", "ok", "ok"])
    assert all(one.ok for one in engine.score(samples(3), network_reward(FakeNetwork(), "next"))["next"])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_service_raises_costs_its_own_row(engine, error):
    class Odd:
        name = fingerprint = "odd"

        async def answer(self, op, item):
            if item.id == 2:
                raise error
            return f"odd:op:{item.id}"

        async def close(self):
            raise error

    statuses = [one.status for one in engine.score(samples(5), network_reward(Odd()))["toy"]]
    assert statuses == ["ok", "ok", "error", "ok", "ok"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_the_progress_callback_raises_reaches_the_caller_and_the_engine_goes_on(engine, error):
    def progress(*_):
        raise error

    async def score(sample):
        return Score(1.0)

    with pytest.raises((type(error), CancelledError)):
        scored(engine, score, progress=progress)
    assert all(one.ok for one in engine.score(samples(3), network_reward(FakeNetwork(), "next"))["next"])


# --- deadlines ------------------------------------------------------------------------------------


@pytest.fixture
def free():
    """An event that lets go of every thread that a test has blocked."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("deep", [False, True])
def test_a_reward_that_blocks_times_out_alone_and_is_named_once(engine, free, caplog, deep):
    network = FakeNetwork()
    progress = []

    async def block():
        free.wait(240)

    async def blocking(sample):
        await engine.submit(network, "op", sample.target)
        if sample.id in "24":
            await (asyncio.gather(block(), asyncio.sleep(0)) if deep else block())
        await engine.submit(network, "late", sample.target)
        return Score(1.0)

    begun = time.monotonic()
    first = scored(engine, blocking, timeout=0.3, progress=lambda *news: progress.append(news))
    assert time.monotonic() - begun < allowed(5, time.monotonic)
    assert [one.status for one in first] == ["ok", "ok", "timeout", "ok", "timeout"]
    assert (
        "0.3 s" in first[2].note and "test_hostile_rewards.py:" in "".join(one.note for one in first)
    ) or "threading.py" in first[2].note
    assert sorted(index for index, *_ in progress) == list(range(5)), "each row is reported once"
    assert all(one.ok for one in engine.score(samples(3), network_reward(network, "next"))["next"])
    named = [record for record in caplog.records if "toy has held" in record.getMessage()]
    assert len(named) in (1, 2)


def test_a_blocking_reward_among_callers_of_every_kind(engine, free):
    async def blocking(sample):
        await asyncio.sleep(0.01)
        if sample.id == "2":
            free.wait(240)
        return Score(1.0)

    reward, other = toy(blocking), network_reward(FakeNetwork(), "next")

    async def several():
        return await asyncio.gather(
            engine.ascore(samples(4), reward, timeout=0.3), engine.ascore(samples(4), other, timeout=20)
        )

    begun = engine.begin(samples(4), reward, timeout=0.3)
    (ascored, others) = asyncio.run(several())
    for column in (ascored["toy"], begun.result(20)["toy"]):
        assert [one.status for one in column] == ["ok", "ok", "timeout", "ok"]
    assert all(one.ok for one in others["next"])


def loops_of(engine):
    """Counts the loop threads of one engine that was just made: those of other tests may still end."""

    async def own():
        return threading.current_thread()

    others = set(threading.enumerate()) - {engine.run(own())}
    return lambda: sum(
        thread.name == "mmreward-loop" and thread not in others for thread in threading.enumerate()
    )


def test_other_work_of_a_blocked_thread_goes_on_when_it_is_free(engine, free):
    count_loops = loops_of(engine)

    async def blocking(sample):
        free.wait(240)

    async def work():
        await asyncio.sleep(0.1)
        return "done"

    waiting = engine._start(work())
    assert scored(engine, blocking, count=1, timeout=0.2)[0].status == "timeout"
    assert engine.run(work()) == "done"
    free.set()
    assert waiting.result(20) == "done"
    assert eventually(lambda: count_loops() == 1)


def test_an_engine_that_sleeps_does_not_wake_with_another_loop(engine, free):
    """A reward blocks the loop while a trainer has the device: what goes on elsewhere waits for `wake`."""
    network = FakeNetwork()
    asking = network_reward(network, "next")

    async def blocking(sample):
        free.wait(240)

    engine.score(samples(1), asking)
    engine.sleep()
    assert scored(engine, blocking, count=1, timeout=0.2)[0].status == "timeout"
    waiting = engine.begin(samples(2), asking)
    with pytest.raises(TimeoutError):
        waiting.result(0.3)
    assert network.events == ["load", "unload"]
    engine.wake()
    assert all(score.ok for score in waiting.result(20)["next"]) and network.events[2:] == ["load"]


def test_a_reward_that_always_blocks_takes_a_bounded_number_of_threads(engine, free, monkeypatch):
    monkeypatch.setattr(loops, "MOST_STUCK", 2)
    count_loops = loops_of(engine)

    async def blocking(sample):
        free.wait(240)

    results = scored(engine, blocking, count=50, timeout=0.1)
    assert [one.status for one in results] == ["timeout"] * 50
    assert "not tried" in results[-1].note
    assert count_loops() <= 3


@pytest.mark.parametrize("value", ["never", "late", "error"])
def test_a_reward_that_ignores_its_cancellation_times_out_alone(engine, caplog, value):
    async def stubborn(sample):
        while sample.id == "2":
            try:
                await asyncio.sleep(240)
            except asyncio.CancelledError:
                if value == "late":
                    return Score(1.0)
                if value == "error":
                    raise ValueError("cancelled?") from None
        return Score(1.0)

    begun = time.monotonic()
    first = scored(engine, stubborn, timeout=0.3)
    assert time.monotonic() - begun < allowed(5, time.monotonic)
    assert [one.status for one in first] == ["ok", "ok", "timeout", "ok", "ok"]
    assert ("ignores" in first[2].note) == (value == "never")
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < allowed(5, time.monotonic)


def test_a_late_loop_is_not_taken_for_a_stubborn_reward(engine):
    async def slow(sample):
        await asyncio.sleep(0.01)
        if sample.id == "0":
            time.sleep(1.2)  # within nobody's rights, but it ends
        await asyncio.sleep(5)
        return Score(1.0)

    assert not any("ignores" in one.note for one in scored(engine, slow, timeout=0.4))


def test_seconds_in_which_the_process_was_stopped_are_no_reward_s(engine, monkeypatch, caplog):
    """A look of the watchdog that takes 100 seconds, as where the machine slept."""
    clock = itertools.count(step=100.0)
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    async def brief(sample):
        if sample.id == "0":
            time.sleep(0.8)
        return Score(1.0)

    assert all(one.ok for one in scored(engine, brief, timeout=None))
    assert not [record for record in caplog.records if "has held" in record.getMessage()]


@pytest.mark.parametrize("kind", ["blocks", "ignores"])
def test_closing_is_bounded_and_its_callers_are_told(free, kind, caplog):
    engine = Engine("cpu")
    held = threading.Event()

    async def hold(sample):
        held.set()
        while kind == "ignores" and not free.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        free.wait(240)

    done = engine.begin(samples(1), toy(hold))
    assert held.wait(10)
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < allowed(6, time.monotonic)
    with pytest.raises(CancelledError):
        done.result(5)


def test_a_preparation_that_hangs_costs_its_own_row(engine, free, monkeypatch):
    monkeypatch.setattr("mmreward.engine.workers.STALL", 0.3)
    monkeypatch.setattr(loops, "STALL", 0.3)

    class Hanging(FakeNetwork):
        def prepare(self, op, items):
            if any(item.id in (1, 2, 3, 4) for item in items) and len(items) == 1:
                free.wait(240)
            elif any(item.id in (1, 2, 3, 4) for item in items):
                raise ValueError("one at a time")
            return items

    network = Hanging()
    results = engine.score(samples(8), network_reward(network), timeout=3)["toy"]
    assert [one.status for one in results] == ["ok"] + ["timeout"] * 4 + ["ok"] * 3
    begun = time.monotonic()
    again = engine.score(samples(8)[5:], network_reward(network, "next"), timeout=3)["next"]
    assert all(one.ok for one in again)
    engine.close()
    assert time.monotonic() - begun < allowed(8, time.monotonic)


# --- engines that are dropped ---------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 10])
def test_an_engine_that_is_dropped_is_collected_with_its_threads(timeout):
    before = set(threading.enumerate())
    network = FakeNetwork()

    def use():
        engine = Engine("cpu:8")
        assert all(
            one.ok for one in engine.score(samples(3), network_reward(network), timeout=timeout)["toy"]
        )
        return weakref.ref(engine)

    engine = use()
    gc.collect()
    assert engine() is None
    left = lambda: [t for t in threading.enumerate() if t not in before and t.name.startswith("mmreward")]  # noqa: E731
    assert eventually(lambda: not left()), left()
    assert eventually(lambda: network.events == ["load", "unload"]), network.events


def test_an_engine_lives_until_what_it_began_is_done():
    network = FakeNetwork()
    network.gate.clear()
    done = Engine("cpu:8").begin(samples(3), network_reward(network))
    gc.collect()
    network.gate.set()
    assert all(one.ok for one in done.result(20)["toy"])


def test_unscorable_keeps_its_status_and_parts(engine):
    async def score(sample):
        raise Unscorable("no", "na", {"a": 1.0})

    (one,) = scored(engine, score, count=1)
    assert (one.status, one.parts) == ("na", {"a": 1.0})

"""Places that die: every call is answered all the same, and only the one that kills them is blamed."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toys import FakeNetwork, Item

from mmreward import Engine, Unscorable
from mmreward.engine.batching import Budget
from mmreward.engine.engine import DEATHS

pytestmark = pytest.mark.timeout(60)


class Room:
    """A place with one thread; `Item.poison == "kill"` ends it, and everything it has been given."""

    def __init__(self, house, name):
        self.house, self.name = house, name
        self.alive = True
        self.waiting = []
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(1)

    def resident(self, network):
        return True

    def run(self, calls):
        with self.lock:
            if self.alive:
                self.waiting.append(calls)
                self.pool.submit(self._work, calls)
                return
        self.house.report.lost(self, calls, ConnectionError(f"{self.name} is gone"), began=False)

    def _work(self, calls):
        if not self.alive:
            return
        self.house.ran.append((self.name, [call.item.id for call in calls]))
        if any(call.item.poison == "kill" for call in calls):
            self.die()
        elif any(call.item.poison == "forward" for call in calls):
            self._end(calls, lambda: self.house.report.failed(self, calls, ValueError("bad item")))
        else:
            results = [f"{call.network.name}:{call.op}:{call.item.id}" for call in calls]
            self._end(calls, lambda: self.house.report.done(self, calls, results, 0.0, 0.0))

    def _end(self, calls, report):
        with self.lock:
            if not self.alive:
                return
            self.waiting.remove(calls)
        report()

    def die(self):
        with self.lock:
            self.alive = False
            lost, self.waiting = self.waiting, []
        if self.house.rebuilt:
            self.house.rebuilt -= 1
            self.house.rooms.append(Room(self.house, f"room {len(self.house.rooms)}"))
        for calls in lost:
            self.house.report.lost(self, calls, ConnectionError(f"{self.name} died"))


class House:
    """A placement of several rooms; each that dies is replaced while `rebuilt` lasts."""

    nbytes = swaps = 0

    def __init__(self, rooms=2, rebuilt=0):
        self.rebuilt = rebuilt
        self.rooms = []
        self.ran = []
        self.rooms += [Room(self, f"room {i}") for i in range(rooms)]

    def start(self, report):
        self.report = report

    def route(self, call):
        alive = [room for room in self.rooms if room.alive]
        if not alive:
            raise Unscorable("no room is left")
        return alive[call.item.id % len(alive)]

    def sleep(self):
        return _done()

    wake = sleep

    def close(self):
        for room in self.rooms:
            room.pool.shutdown()


def _done():
    future = Future()
    future.set_result(None)
    return future


def ask(engine, items, timeout=20):
    network = FakeNetwork()

    async def gathered():
        async with asyncio.timeout(timeout):
            calls = [engine.submit(network, "op", item, key=item.id) for item in items]
            return await asyncio.gather(*calls, return_exceptions=True)

    return engine.run(gathered())


def expected(items):
    return [f"fake:op:{item.id}" for item in items]


@given(poisons=st.sets(st.integers(0, 39), max_size=4), size=st.integers(1, 40), rooms=st.integers(1, 3))
@settings(max_examples=60)
def test_only_the_items_that_kill_their_place_fail(poisons, size, rooms):
    house = House(rooms, rebuilt=100)
    items = [Item(i, poison="kill" if i in poisons else "") for i in range(40)]
    with Engine(placement=house, budget=Budget(items=size)) as engine:
        results = ask(engine, items)
        engine.sleep()  # nothing is left behind that it would wait for
        engine.wake()
    for item, result in zip(items, results, strict=True):
        if item.poison:
            assert isinstance(result, Unscorable) and "places died" in str(result)
        else:
            assert result == f"fake:op:{item.id}"


def test_a_call_is_not_blamed_for_one_death():
    house = House(1, rebuilt=2)
    with Engine(placement=house) as engine:
        (result,) = ask(engine, [Item(0, poison="kill")])
    assert isinstance(result, Unscorable) and f"{DEATHS} places" in str(result)
    assert len(house.ran) == DEATHS


def test_a_suspect_runs_with_nothing_beside_it():
    house = House(1, rebuilt=20)
    items = [Item(i, poison="kill" if i == 0 else "") for i in range(12)]
    with Engine(placement=house, budget=Budget(items=2)) as engine:
        results = ask(engine, items)
    assert isinstance(results[0], Unscorable) and results[1:] == expected(items[1:])
    assert len(house.rooms) <= 4, "an innocent batch was lost and tried again beside the poison"


def test_a_place_killed_from_outside_loses_nothing():
    house = House(3)
    items = [Item(i) for i in range(300)]
    with Engine(placement=house, budget=Budget(items=4, lookahead=1)) as engine:
        killer = threading.Timer(0.005, house.rooms[1].die)
        killer.start()
        assert ask(engine, items) == expected(items)
        killer.join()
        assert ask(engine, [Item(i) for i in range(300, 330)]) == expected([Item(i) for i in range(300, 330)])


def test_with_no_place_left_every_call_gets_a_typed_error_at_once():
    house = House(2)
    items = [Item(i, poison="kill" if i < 8 else "") for i in range(40)]
    with Engine(placement=house, budget=Budget(items=4, lookahead=1)) as engine:
        results = ask(engine, items)
        (late,) = ask(engine, [Item(99)])
        engine.sleep()
    assert all(isinstance(r, Unscorable) for r in results if not isinstance(r, str))
    assert any(isinstance(r, Unscorable) for r in results)
    assert isinstance(late, Unscorable) and "no room is left" in str(late)


def test_the_calls_of_a_dead_place_still_share_batches():
    house = House(2)
    house.rooms[1].pool.submit(threading.Event().wait, 0.2)  # its batches wait until it is killed
    items = [Item(i) for i in range(256)]
    with Engine(placement=house, budget=Budget(items=16, lookahead=2)) as engine:
        threading.Timer(0.05, house.rooms[1].die).start()
        assert ask(engine, items) == expected(items)
    # 16 batches as planned, and the three that were lost in halves
    assert len(house.ran) <= 16 + 3 + 2


@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_reports_of_a_place_that_has_died_since_are_still_heard(outcome):
    class Late(Room):
        def _work(self, calls):
            report = self.house.report
            if self.alive:
                self.alive = False
                report.lost(self, [], ConnectionError("gone"))
            if outcome == "done":
                report.done(self, calls, [f"fake:op:{call.item.id}" for call in calls], 0.0, 0.0)
            else:
                report.failed(self, calls, MemoryError())

    house = House(2)
    house.rooms[0] = Late(house, "late")
    items = [Item(i) for i in range(0, 40, 2)]
    with Engine(placement=house, budget=Budget(items=4)) as engine:
        assert ask(engine, items) == expected(items)
        asleep = threading.Thread(target=engine.sleep, daemon=True)
        asleep.start()
        asleep.join(5)
        assert not asleep.is_alive(), "the engine waits for a place that is gone"


def test_an_ordinary_failure_of_a_suspect_is_still_its_own():
    house = House(1, rebuilt=10)
    items = [Item(0, poison="kill"), Item(1, poison="forward"), *(Item(i) for i in range(2, 8))]
    with Engine(placement=house) as engine:
        results = ask(engine, items)
    assert isinstance(results[0], Unscorable) and isinstance(results[1], ValueError)
    assert results[2:] == expected(items[2:])


def test_a_place_that_never_began_makes_nobody_a_suspect():
    house = House(6)
    for room in house.rooms[:5]:
        room.run = lambda calls, room=room: refuse(room, calls)

    def refuse(room, calls):
        room.alive = False
        house.report.lost(room, calls, ConnectionError("never there"), began=False)

    with Engine(placement=house) as engine:
        assert ask(engine, [Item(0)]) == ["fake:op:0"]
    assert house.ran == [("room 5", [0])]

"""How the number of requests follows what the server says."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from mmreward.models.served.http import COOLDOWN, START, Pace


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def run(work):
    return asyncio.run(asyncio.wait_for(work, 20))


async def full_round(pace):
    """As many requests at once as are let in, all answered."""
    number = pace.limit
    async with AsyncExitStack() as stack:
        for _ in range(number):
            await stack.enter_async_context(pace.turn())
    for _ in range(number):
        pace.clean()


def test_it_doubles_until_the_first_refusal_and_then_creeps(clock):
    async def work():
        pace = Pace(1000, clock)
        await full_round(pace)
        await full_round(pace)
        assert pace.limit == 4 * START
        pace.overloaded()
        assert pace.limit == int(4 * START * 0.8)
        clock.now += COOLDOWN
        before = pace.limit
        await full_round(pace)
        assert before < pace.limit <= before * 1.1

    run(work())


def test_one_episode_cuts_once_and_a_long_one_never_below_one(clock):
    async def work():
        pace = Pace(1000, clock)
        for _ in range(50):
            pace.overloaded()
        assert pace.limit == int(START * 0.8)
        for _ in range(100):
            clock.now += COOLDOWN
            pace.overloaded()
        assert pace.limit == 1

    run(work())


def test_a_limit_that_was_not_reached_does_not_grow(clock):
    async def work():
        pace = Pace(1000, clock)
        for _ in range(5 * START):
            async with pace.turn():
                pace.clean()
        assert pace.limit == START

    run(work())


def test_a_stumble_spoils_the_round(clock):
    async def work():
        pace = Pace(1000, clock)
        async with AsyncExitStack() as stack:
            for _ in range(START):
                await stack.enter_async_context(pace.turn())
        for i in range(2 * START):
            pace.stumbled() if i % (START // 2) == 0 else pace.clean()
        assert pace.limit == START

    run(work())


def test_it_never_exceeds_the_upper_limit(clock):
    async def work():
        pace = Pace(20, clock)
        for _ in range(3):
            await full_round(pace)
        assert pace.limit == 20 and Pace(3, clock).limit == 3

    run(work())


def test_a_cancelled_wait_leaves_no_gap(clock):
    async def work():
        pace = Pace(1, clock)

        async def hold(event):
            async with pace.turn():
                await event.wait()

        done = asyncio.Event()
        first, second, third = (asyncio.create_task(hold(done)) for _ in range(3))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.wait([second])
        done.set()
        await asyncio.gather(first, third)

    run(work())

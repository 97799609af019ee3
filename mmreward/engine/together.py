"""Several calls of networks awaited at once, as by `asyncio.gather`, without a task for each.

A task costs the loop's thread about as much as the rest of a call: it is made, started a turn later, woken by
its call, and looked at when it has ended. A method of a network's handle does nothing before its call and
nothing after it, so `together` begins it where it stands and lets the call's waiter count for all of them.
What waits for anything else meanwhile gets a task as it would have had.
"""

import asyncio
from collections.abc import Coroutine, Generator, Iterable
from contextlib import suppress
from typing import Any


class Waiter(asyncio.Future[Any]):
    """What the loop delivers a call's result to; `told` hears of it at once, not at the loop's next turn."""

    told: Any = None

    def deliver(self, result: Any, error: Exception | None = None) -> None:
        """Set the result or the error."""
        if error is None:
            self.set_result(result)
        else:
            self.set_exception(error)
        if self.told is not None:
            self.told(self)


async def together(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """Results of methods of networks' handles, in their order, as `asyncio.gather` has them.

    The first failure is raised at once and the other calls run on; cancelled, it cancels them. Differs from
    `gather` in that a method runs in this task up to its call: it may not use `asyncio.timeout` or set
    context variables, and one that fails before its call keeps those behind it from being made.

    Args:
        calls: coroutines that nobody has begun, such as `net.image(media)`.
    """
    group = _Group(calls)
    try:
        return await group.results()
    except asyncio.CancelledError:
        group.cancel()
        raise
    finally:
        group.leave()


class _Group:
    """Coroutines begun by one task, and the future on which it waits for any of them."""

    def __init__(self, calls: Iterable[Coroutine[Any, Any, Any]]) -> None:
        self.calls = list(calls)
        self.ready: list[Any] = [None] * len(self.calls)
        self.waits: dict[int, asyncio.Future[Any]] = {}
        self.woken: asyncio.Future[None] | None = None

    async def results(self) -> list[Any]:
        for number in range(len(self.calls)):
            self._step(number)
        while self.waits:
            # Those that have ended are looked at first, in their order: one may have failed.
            ended = [number for number, waits in self.waits.items() if waits.done()]
            if not ended:
                self.woken = asyncio.get_running_loop().create_future()
                await self.woken
                self.woken = None
                ended = [number for number, waits in self.waits.items() if waits.done()]
            for number in ended:
                self._step(number)
        return self.ready

    def _step(self, number: int) -> None:
        """Run a coroutine until it waits for its call again, or has ended."""
        self.waits.pop(number, None)
        work = self.calls[number]
        try:
            waits = work.send(None)
        except StopIteration as end:
            self.ready[number] = end.value
            return
        if not isinstance(waits, Waiter):
            waits = asyncio.get_running_loop().create_task(_resumed(work, waits))
            waits.add_done_callback(self._told)
            self.calls[number] = _awaited(waits)
            self.calls[number].send(None)
            waits._asyncio_future_blocking = False
        else:
            waits._asyncio_future_blocking = False  # this is what a task does with what is yielded to it
            waits.told = self._told
        self.waits[number] = waits

    def _told(self, waits: "asyncio.Future[Any]") -> None:
        if self.woken is not None and not self.woken.done():  # one that has more to ask asks at once
            self.woken.set_result(None)

    def cancel(self) -> None:
        """Give up the calls that nobody else waits for."""
        for number, waits in self.waits.items():
            waits.cancel()
            if isinstance(waits, Waiter):
                with suppress(asyncio.CancelledError, StopIteration):
                    self.calls[number].throw(asyncio.CancelledError())

    def leave(self) -> None:
        """End the coroutines; their calls run on, and what becomes of them is nobody's concern."""
        for waits in self.waits.values():
            waits.add_done_callback(_looked_at)
        for work in self.calls:
            work.close()


async def _resumed(work: Coroutine[Any, Any, Any], waits: Any) -> Any:
    """The rest of a coroutine that has yielded this future."""
    return await _Rest(work, waits)


async def _awaited(task: "asyncio.Task[Any]") -> Any:
    return await task


class _Rest:
    """Awaitable of a coroutine from where it waits."""

    def __init__(self, work: Coroutine[Any, Any, Any], waits: Any) -> None:
        self.work, self.waits = work, waits

    def __await__(self) -> Generator[Any, Any, Any]:
        waits = self.waits
        while True:
            raised: BaseException | None = None
            given = None
            try:
                given = yield waits
            except BaseException as error:  # thrown in where the coroutine waits, as by its cancellation
                raised = error
            try:
                waits = self.work.send(given) if raised is None else self.work.throw(raised)
            except StopIteration as end:
                return end.value


def _looked_at(waits: "asyncio.Future[Any]") -> None:
    """So that the failure of a call that nobody waits for any more is not logged."""
    if not waits.cancelled():
        waits.exception()

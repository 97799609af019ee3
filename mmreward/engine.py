"""The engine: the only thing between rewards (per sample, async) and networks (per batch).

One loop thread owns the queues, one thread owns the device, a few workers prepare batches ahead of it. Every
structure has one owner, so there are no locks. There are no timers either: a batch is formed when no
coroutine can make progress without one ("quiescence flush"), which in-process means that batches are as full
as they can be.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Coroutine, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from .batching import Budget, Call, Load, Network, plan, take
from .cache import ByteLRU
from .device import Device, deliverable
from .registry import Rewards, resolve
from .residency import Residency, is_out_of_memory
from .scoring import Progress, score_all
from .stats import Stats
from .types import Sample, Score

T = TypeVar("T")

QUIET_TICKS = 3
"""Loop ticks without a new call after which every coroutine counts as blocked (gather within gather takes
two)."""
STAGED = 3
"""Plans being prepared, waiting for the device or running; so at most two wait."""
SHRINK, GROW, CLEAN = 0.7, 1.1, 16
"""The budget's factor after an out-of-memory error, and the factor it regains after so many clean batches."""

PATIENCE = 64
"""Windows after which waiting calls go first although their network is not resident."""

_current: ContextVar["Engine"] = ContextVar("engine")


@dataclass(slots=True, eq=False)
class _Lane:
    """The waiting calls of one network, and how much of the budget it has shown it can take."""

    network: Network
    calls: deque[Call]
    factor: float = 1.0
    clean: int = 0
    passed_over: int = 0


class Engine:
    """Runs networks for any number of coroutines: coalesces, deduplicates, caches, and isolates failures.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", ...
        budget: the size of one batch.
        cache_bytes: results kept for equal calls to come; 0 keeps none.
        resident_bytes: weights kept on the device together; None keeps everything loaded.
        workers: threads that decode and tokenize.

    An engine is a context manager; `close` stops its threads. All public methods may be called from any
    thread.
    """

    def __init__(
        self,
        device: str = "auto",
        *,
        budget: Budget | None = None,
        cache_bytes: int = 256 << 20,
        resident_bytes: int | None = None,
        workers: int = 2,
    ) -> None:
        self.budget = budget or Budget()
        self.cache = ByteLRU(cache_bytes)
        self._residency = Residency(device, resident_bytes)
        self._stats = Stats()
        self._lanes: dict[int, _Lane] = {}
        self._inflight: dict[Hashable, Call] = {}
        self._plans: deque[list[Call]] = deque()
        self._staged = 0
        self._submitted = 0
        self._settling = False
        self._asleep = False
        self._closed = False
        self._callers: set[Future[Any]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mmreward-prepare")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="mmreward-loop", daemon=True)
        self._thread.start()
        self._device = Device(
            self._residency, partial(self._post, self._deliver), partial(self._post, self._failed)
        )

    # --- for callers on any thread ----------------------------------------------------------------

    def score(
        self,
        samples: Sequence[Sample],
        rewards: Rewards,
        *,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> dict[str, list[Score]]:
        """Score every sample with every reward; for trainers and scripts.

        Args:
            samples: what to score. A bad one costs its own row only.
            rewards: a name, a Reward, a sequence of these, or a mapping from your name to a name,
                arguments or Reward.
            timeout: seconds one score may take from its start to its end, queueing included; then its
                status is "timeout".
            progress: called as `progress(index, name, score)` on the engine's thread when a score is there.

        Returns:
            For each reward, one Score per sample, in the samples' order.

        Raises:
            ValueError: a reward or argument that does not exist.
        """
        return self.run(score_all(samples, resolve(rewards), timeout=timeout, progress=progress))

    async def ascore(
        self,
        samples: Sequence[Sample],
        rewards: Rewards,
        *,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> dict[str, list[Score]]:
        """`score` for servers and async trainers; cancelling the caller cancels what only it was waiting
        for."""
        return await self.arun(score_all(samples, resolve(rewards), timeout=timeout, progress=progress))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop and wait for it; also from inside another running loop.

        Raises:
            RuntimeError: the engine is closed, or this is called from the engine's own loop.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "a reward runs on the engine's loop: await inside it instead of calling the engine"
            )
        done = self._start(work)
        try:
            return done.result()
        except BaseException:  # KeyboardInterrupt reaches the caller's thread only
            done.cancel()
            raise

    async def arun(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop from another one; cancelling the caller cancels it."""
        return await asyncio.wrap_future(self._start(work))

    def stats(self) -> Stats:
        """A copy of the counters; `str()` of it is a table."""
        return self._stats.copy(
            cache_bytes=self.cache.nbytes, resident_bytes=self._residency.nbytes, swaps=self._residency.swaps
        )

    def sleep(self) -> None:
        """Finish the running batches, then take every network off the device; calls wait until `wake`."""
        self.run(self._sleep())

    def wake(self) -> None:
        """Load what `sleep` unloaded and go on."""
        self.run(self._wake())

    def close(self) -> None:
        """Stop the threads and free the device. Calls still waiting are cancelled. Closing twice is
        harmless."""
        if self._closed:
            return
        self._closed = True
        self._loop.call_soon_threadsafe(self._cancel_all)
        self._thread.join()
        for caller in list(self._callers):  # came in too late for the loop to take it up
            caller.cancel()
        self._device.close()
        self._pool.shutdown()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- for networks' handles, on the loop thread ------------------------------------------------

    async def submit(
        self, network: Network, op: str, item: Any, *, key: Hashable = None, share: Hashable = None
    ) -> Any:
        """One call of one network; equal keys are computed once. Raises what the network raised for this
        item."""
        name = (network.fingerprint, op, key)
        self._stats.calls += 1
        if key is not None:
            if (hit := self.cache.get(name, self)) is not self:
                self._stats.cached += 1
                return hit
            # A call that everybody has given up may have left the queue already.
            if (known := self._inflight.get(name)) is not None and known.live:
                self._stats.deduplicated += 1
                return await self._wait(known)
        call = Call(network, op, item, name if key is not None else None, share, network.cost(op, item))
        if key is not None:
            self._inflight[name] = call
        lane = self._lanes.get(id(network))
        if lane is None:
            lane = self._lanes[id(network)] = _Lane(network, deque())
        lane.calls.append(call)
        self._submitted += 1
        self._settle_soon()
        return await self._wait(call)

    async def _wait(self, call: Call) -> Any:
        waiter = self._loop.create_future()
        call.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not call.live:
                self._stats.cancelled += 1
                if self._inflight.get(call.key) is call:
                    del self._inflight[call.key]  # the next equal call must not wait for one nobody will run
            raise

    # --- planning, on the loop thread -------------------------------------------------------------

    def _settle_soon(self) -> None:
        if not self._settling:
            self._settling = True
            self._loop.call_soon(self._settle, self._submitted, 0)

    def _settle(self, seen: int, quiet: int) -> None:
        quiet = quiet + 1 if seen == self._submitted else 0
        if quiet < QUIET_TICKS:
            self._loop.call_soon(self._settle, self._submitted, quiet)
        else:
            self._settling = False
            self._pump()

    def _pump(self) -> None:
        while self._staged < STAGED and not self._asleep:
            if not self._plans:
                self._plans.extend(self._next_window())
            if not self._plans:
                break
            calls = [call for call in self._plans.popleft() if call.live]
            if calls:
                self._staged += 1
                self._pool.submit(self._prepare, calls)
        if not self._staged:
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()

    def _next_window(self) -> list[list[Call]]:
        """Plan one look-ahead window of one network: a resident one if it has calls, else the next in turn.

        Without PATIENCE a busy resident network could keep another's callers waiting for ever.
        """
        for lane in sorted(self._lanes.values(), key=self._turn):
            budget = self.budget.scaled(lane.factor)
            if window := take(lane.calls, budget):
                # A served lane goes to the back, so equally resident networks take turns.
                self._lanes[id(lane.network)] = self._lanes.pop(id(lane.network))
                for other in self._lanes.values():
                    other.passed_over = other.passed_over + 1 if other.calls and other is not lane else 0
                return plan(window, budget)
        return []

    def _turn(self, lane: _Lane) -> int:
        return 0 if lane.passed_over >= PATIENCE else 1 if lane.network in self._residency else 2

    # --- on a worker ------------------------------------------------

    def _prepare(self, calls: list[Call]) -> None:
        begun = time.perf_counter()
        try:
            batch = calls[0].network.prepare(calls[0].op, [call.item for call in calls])
        except BaseException as error:  # delivered to its callers; a native panic is no Exception
            self._post(self._failed, calls, deliverable(error))
        else:
            self._device.put(calls, batch, time.perf_counter() - begun)

    # --- results, on the loop thread --------------------------------------------------------------

    def _deliver(self, calls: list[Call], results: list[Any], prepared: float, forwarded: float) -> None:
        self._staged -= 1
        load = Load.all(calls)
        self._stats.batch(calls[0].network.name, load, prepared, forwarded, calls[0].network.ragged)
        lane = self._lanes[id(calls[0].network)]
        lane.clean += 1
        if lane.factor < 1 and lane.clean % CLEAN == 0:
            lane.factor = min(1.0, lane.factor * GROW)
        for call, result in zip(calls, results, strict=True):
            if isinstance(result, Exception):
                self._stats.failed += 1
                self._settle_call(call, None, result)
            else:
                if call.key is not None:
                    self.cache.put(call.key, result)
                self._settle_call(call, result, None)
        self._settle_soon()

    def _failed(self, calls: list[Call], error: Exception) -> None:
        """Blame one call for the error, or halve the batch and try again until there is one to blame."""
        self._staged -= 1
        if is_out_of_memory(error):
            lane = self._lanes[id(calls[0].network)]
            if len(calls) > 1:  # an item that fits nowhere says nothing about the size of batches
                share = Load.all(calls).share(self.budget, lane.network.ragged)
                lane.factor = min(lane.factor, share * SHRINK)
            lane.clean = 0
            self._stats.out_of_memory += 1
        if len(calls) == 1:
            self._stats.failed += 1
            self._settle_call(calls[0], None, error)
        else:
            self._stats.splits += 1
            middle = len(calls) // 2
            self._plans.extendleft((calls[middle:], calls[:middle]))
        self._settle_soon()

    def _settle_call(self, call: Call, result: Any, error: Exception | None) -> None:
        if self._inflight.get(call.key) is call:
            del self._inflight[call.key]
        for waiter in call.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(result)
            else:
                waiter.set_exception(error)

    # --- life cycle -------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        if self._closed:
            work.close()
            raise RuntimeError("the engine is closed")
        wrapped = self._with_engine(work)
        try:
            done = asyncio.run_coroutine_threadsafe(wrapped, self._loop)
        except RuntimeError:  # closed since we looked
            wrapped.close()
            work.close()
            raise RuntimeError("the engine is closed") from None
        self._callers.add(done)
        done.add_done_callback(self._callers.discard)
        if self._loop.is_closed():  # and so `close` may have gone through the callers already
            done.cancel()
        return done

    async def _with_engine(self, work: Coroutine[Any, Any, T]) -> T:
        _current.set(self)
        return await work

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        while tasks := asyncio.all_tasks(self._loop):  # started while the others were being cancelled
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    def _post(self, method: Any, *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
            self._loop.call_soon_threadsafe(method, *args)

    async def _sleep(self) -> None:
        self._asleep = True
        if self._staged:
            self._idle.append(self._loop.create_future())
            await self._idle[-1]
        await asyncio.wrap_future(self._device.call(self._residency.sleep))

    async def _wake(self) -> None:
        await asyncio.wrap_future(self._device.call(self._residency.wake))
        self._asleep = False
        self._settle_soon()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        stop = asyncio.gather(*tasks, return_exceptions=True)
        stop.add_done_callback(lambda _: self._loop.stop()) if tasks else self._loop.stop()


def current() -> Engine:
    """The engine on whose loop this coroutine runs.

    Raises:
        RuntimeError: called outside an engine.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError(
            "networks run inside an engine: score through Engine.score, or wrap the call in Engine.run"
        ) from None

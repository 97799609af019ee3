"""The engine: the only thing between rewards (per sample, async) and networks (per batch).

One loop thread owns the queues, one thread owns the device, a few workers prepare batches ahead of it. Every
structure has one owner, so there are no locks. There are no timers either: a batch is formed when no
coroutine can make progress without one ("quiescence flush"), which in-process means that batches are as full
as they can be.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from ..errors import Unscorable
from ..loading import Rewards, resolve
from ..scoring import Progress, score_all
from ..types import Sample, Score
from .batching import Budget, Call, Cost, Load, Network, Service
from .cache import ByteLRU
from .local import Local, Place, Placement, is_out_of_memory
from .queues import Lanes, Stats

T = TypeVar("T")

QUIET_TICKS = 3
"""Loop ticks without a new call after which every coroutine counts as blocked (gather within gather takes
two)."""
DEATHS = 3
"""Places that have died while they ran a call, the last of them running nothing else, before it is held to be
the cause."""

_current: ContextVar["Engine"] = ContextVar("engine")


class Engine:
    """Runs networks for any number of coroutines: coalesces, deduplicates, caches, and isolates failures.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", ...
        budget: the size of one batch.
        cache_bytes: results kept for equal calls to come; 0 keeps none.
        resident_bytes: weights kept on the device together; None keeps everything loaded.
        workers: threads that decode and tokenize.
        placement: where batches run instead of on this process's device; then device, resident_bytes and
            workers do not apply.

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
        placement: Placement | None = None,
    ) -> None:
        self.budget = budget or Budget()
        self.cache = ByteLRU(cache_bytes)
        self._placement = placement or Local(device, resident_bytes=resident_bytes, workers=workers)
        self._placement.start(_Reporter(self))
        self._stats = Stats()
        self._lanes: dict[Place, Lanes] = {}
        self._inflight: dict[Hashable, Call] = {}
        self._services: set[Service] = set()
        self._submitted = 0
        self._settling = False
        self._asleep = False
        self._closed = False
        self._callers: set[Future[Any]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="mmreward-loop", daemon=True)
        self._thread.start()

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

    def begin(
        self, samples: Sequence[Sample], rewards: Rewards, *, timeout: float | None = None
    ) -> "Future[dict[str, list[Score]]]":
        """`score` that does not wait: a trainer goes on generating and asks the future later."""
        return self._start(score_all(samples, resolve(rewards), timeout=timeout))

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
            cache_bytes=self.cache.nbytes, resident_bytes=self._placement.nbytes, swaps=self._placement.swaps
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
        self._placement.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- for networks' handles, on the loop thread ------------------------------------------------

    async def submit(
        self, network: Network | Service, op: str, item: Any, *, key: Hashable = None, share: Hashable = None
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
        elsewhere = hasattr(network, "answer")
        cost = Cost(1) if elsewhere else cast(Network, network).cost(op, item)
        call = Call(cast(Network, network), op, item, name if key is not None else None, share, cost)
        if elsewhere:
            call.task = self._loop.create_task(self._ask(cast(Service, network), call))
        else:
            self._queue(call)
            self._submitted += 1
            self._settle_soon()
        if key is not None:
            self._inflight[name] = call
        return await self._wait(call)

    def _queue(self, call: Call) -> None:
        self._lanes_of(self._placement.route(call)).add(call)

    def _lanes_of(self, place: Place) -> Lanes:
        if place not in self._lanes:
            self._lanes[place] = Lanes(self.budget, place.resident)
        return self._lanes[place]

    async def _ask(self, service: Service, call: Call) -> None:
        self._services.add(service)
        begun = time.perf_counter()
        try:
            result = await service.answer(call.op, call.item)
        except Exception as error:  # delivered to its callers
            self._settle_call(call, error)
        else:
            self._stats.batch(service.name, Load.row([call]), 0.0, time.perf_counter() - begun, True)
            self._settle_call(call, result)

    async def _wait(self, call: Call) -> Any:
        waiter = self._loop.create_future()
        call.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not call.live:
                self._stats.cancelled += 1
                if call.task is not None:
                    call.task.cancel()
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
        for place, lanes in list(self._lanes.items()):
            while not self._asleep and (calls := lanes.next()):
                place.run(calls)
        if not any(lanes.staged for lanes in self._lanes.values()):
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()

    # --- results, on the loop thread --------------------------------------------------------------

    def _done(
        self, place: Place, calls: list[Call], results: list[Any], prepared: float, forwarded: float
    ) -> None:
        # A place that has died since has no lanes any more, and must not be given new ones.
        if (lanes := self._lanes.get(place)) is not None:
            lanes.back(calls)
            lanes.fitted(calls)
        network: Any = calls[0].network
        self._stats.batch(network.name, Load.all(calls), prepared, forwarded, network.ragged)
        for call, result in zip(calls, results, strict=True):
            self._settle_call(call, result)
        self._settle_soon()

    def _failed(self, place: Place, calls: list[Call], error: Exception) -> None:
        """Blame one call for the error, or halve the batch and try again until there is one to blame."""
        lanes = self._lanes.get(place)
        if lanes is not None:
            lanes.back(calls)
        if is_out_of_memory(error):
            self._stats.out_of_memory += 1
            if lanes is not None:
                lanes.ran_out(calls)
        if len(calls) == 1:
            self._settle_call(calls[0], error)
        else:
            self._stats.splits += 1
            if lanes is not None:
                lanes.again(_halves(calls))
            else:
                self._move(_halves(calls))
        self._settle_soon()

    def _lost(self, place: Place, calls: list[Call], error: Exception, began: bool) -> None:
        """Take what a dead place had elsewhere, its batch in halves: a call may be what killed it.

        A call is blamed only when a place died that ran nothing but it, and others had died with it before.
        """
        self._stats.lost += 1
        lanes = self._lanes.pop(place, None)
        suspects, waiting = lanes.drain() if lanes is not None else ([], [])
        for call in calls:
            call.deaths += began
        if not any(call.deaths for call in calls):
            waiting += calls
        elif began and len(calls) == 1 and (deaths := calls[0].deaths) >= DEATHS:
            blame = f"{deaths} places died while they ran it, the last one running nothing else: {error}"
            self._settle_call(calls[0], Unscorable(blame))
        else:
            suspects += _halves(calls)
        self._move(suspects)
        for call in waiting:
            try:
                self._queue(call)
            except Exception as none_left:  # delivered to its callers
                self._settle_call(call, none_left)
        self._settle_soon()

    def _move(self, batches: list[list[Call]]) -> None:
        """Hand batches to whatever place is there for them now."""
        for batch in batches:
            try:
                self._lanes_of(self._placement.route(batch[0])).again([batch])
            except Exception as none_left:  # delivered to its callers
                for call in batch:
                    self._settle_call(call, none_left)

    def _settle_call(self, call: Call, result: Any) -> None:
        """Hand everyone who waits for it a result, or an exception."""
        if self._inflight.get(call.key) is call:
            del self._inflight[call.key]
        failed = isinstance(result, Exception)
        self._stats.failed += failed
        if call.key is not None and not failed:
            self.cache.put(call.key, result)
        for waiter in call.waiters:
            if waiter.done():
                continue
            if failed:
                waiter.set_exception(result)
            else:
                waiter.set_result(result)

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
        closing = [service.close() for service in self._services]
        self._loop.run_until_complete(asyncio.gather(*closing, return_exceptions=True))
        self._loop.close()

    async def _sleep(self) -> None:
        self._asleep = True
        if any(lanes.staged for lanes in self._lanes.values()):
            self._idle.append(self._loop.create_future())
            await self._idle[-1]
        await asyncio.wrap_future(self._placement.sleep())

    async def _wake(self) -> None:
        await asyncio.wrap_future(self._placement.wake())
        self._asleep = False
        self._settle_soon()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        stop = asyncio.gather(*tasks, return_exceptions=True)
        stop.add_done_callback(lambda _: self._loop.stop()) if tasks else self._loop.stop()


class _Reporter:
    """Carries a place's reports from its threads to the engine's loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def done(
        self, place: Place, calls: list[Call], results: list[Any], prepared: float, forwarded: float
    ) -> None:
        self._post(self._engine._done, place, calls, results, prepared, forwarded)

    def failed(self, place: Place, calls: list[Call], error: Exception) -> None:
        self._post(self._engine._failed, place, calls, error)

    def lost(self, place: Place, calls: list[Call], error: Exception, *, began: bool = True) -> None:
        self._post(self._engine._lost, place, calls, error, began)

    def _post(self, method: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
            self._engine._loop.call_soon_threadsafe(method, *args)


def _halves(calls: list[Call]) -> list[list[Call]]:
    middle = len(calls) // 2
    return [half for half in (calls[:middle], calls[middle:]) if half]


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

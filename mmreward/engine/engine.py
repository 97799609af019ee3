"""The engine: the only thing between rewards (per sample, async) and networks (per batch).

One loop thread owns the queues, one thread owns the device, a few workers prepare batches ahead of it. Every
structure has one owner, so there are no locks. There are no timers either: a batch is formed when no
coroutine can make progress without one ("quiescence flush"), which in-process means that batches are as full
as they can be.

`Engine.score` is for callers, `Engine.submit` for models. Batches are planned in `batching` and `queues` and
run in `local` or `cluster`; results, failures traced by halving and places that die are settled here.
"""

import asyncio
import threading
import time
from collections.abc import Coroutine, Hashable, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..errors import Unscorable
from ..loading import Rewards, resolve
from ..scoring import Progress, score_all
from ..types import Sample, Score
from .batching import Budget, Call, Cost, Load, Network, Service, halves
from .cache import ByteLRU
from .local import Local, LoopReport, Place, Placement, is_out_of_memory
from .queues import PlaceQueues, QuiescenceFlush, Stats

if TYPE_CHECKING:
    from ..config import EngineConfig  # imports pydantic, which listing rewards does not need

T = TypeVar("T")

DEATHS = 3
"""Places that have died while they ran a call, the last of them running nothing else, before the call is
blamed."""

_current: ContextVar["Engine"] = ContextVar("engine")


class Engine:
    """Runner of networks for any number of coroutines: coalesces, deduplicates, caches, isolates failures.

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
        self._stats = Stats()
        self._queues: dict[Place, PlaceQueues] = {}
        self._inflight: dict[Hashable, Call] = {}
        self._services: set[Service] = set()
        self._asleep = False
        self._closed = False
        self._callers: set[Future[Any]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._loop = asyncio.new_event_loop()
        try:
            self._placement.start(LoopReport(self._loop, self._done, self._failed, self._lost))
        except BaseException:
            self._loop.close()
            raise
        self._flush = QuiescenceFlush(self._loop, self._dispatch)
        self._thread = threading.Thread(target=self._run_loop, name="mmreward-loop", daemon=True)
        self._thread.start()

    @classmethod
    def from_config(cls, config: "EngineConfig") -> "Engine":
        """Make the engine that a recipe's `engine:` section describes.

        Raises:
            ValueError: `ray` beside a device or a limit that would be this process's own, or no cluster.
        """
        placement: Placement | None = None
        if config.ray is not None:
            if config.device != "auto" or config.resident_bytes is not None:
                raise ValueError(
                    "with engine.ray, actors own the devices: leave device and resident_bytes out"
                )
            from ..cluster import RayPlacement  # upwards by design: an engine without Ray never imports it

            placement = RayPlacement(**config.ray.model_dump(exclude_none=True), workers=config.workers)
        return cls(
            config.device,
            budget=Budget(tokens=config.tokens, items=config.items),
            cache_bytes=config.cache_bytes,
            resident_bytes=config.resident_bytes,
            workers=config.workers,
            placement=placement,
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
            samples: any number. A bad one costs its own row only.
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
        """`score` that does not wait: a trainer goes on generating and reads the future later."""
        return self._start(score_all(samples, resolve(rewards), timeout=timeout))

    async def ascore(
        self,
        samples: Sequence[Sample],
        rewards: Rewards,
        *,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> dict[str, list[Score]]:
        """`score` for servers and async trainers; cancelling the caller cancels calls that nobody else waits
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
        """Run one item through a network, with others in one batch; equal keys are computed once.

        Args:
            network: weights behind a placement, or a service elsewhere.
            op: operation of the network; a batch has one.
            item: input of that operation.
            key: content of the item, by which its result is cached; None is computed every time.
            share: content that items have in common, such as one picture; equal shares stay in one batch.

        Raises:
            Exception: whatever the network raised for this item.
        """
        name = (network.fingerprint, op, key)
        self._stats.calls += 1
        if key is not None:
            if (hit := self.cache.get(name, self)) is not self:
                self._stats.cached += 1
                return hit
            # A call that every caller has given up may have left the queue already.
            if (running := self._inflight.get(name)) is not None and running.live:
                self._stats.deduplicated += 1
                return await self._wait(running)
        elsewhere = hasattr(network, "answer")
        cost = Cost(1) if elsewhere else cast(Network, network).cost(op, item)
        call = Call(cast(Network, network), op, item, name if key is not None else None, share, cost)
        if elsewhere:
            call.task = self._loop.create_task(self._serve(cast(Service, network), call))
        else:
            self._queue(call)
            self._flush.new_call()
        if key is not None:
            self._inflight[name] = call
        return await self._wait(call)

    def _queue(self, call: Call) -> None:
        self._queues_of(self._placement.route(call)).add(call)

    def _queues_of(self, place: Place) -> PlaceQueues:
        if place not in self._queues:
            self._queues[place] = PlaceQueues(self.budget, place.resident)
        return self._queues[place]

    async def _serve(self, service: Service, call: Call) -> None:
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

    def _dispatch(self) -> None:
        for place, queues in list(self._queues.items()):
            while not self._asleep and (calls := queues.next()):
                place.run(calls)
        if not any(queues.staged for queues in self._queues.values()):
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()

    # --- results, on the loop thread --------------------------------------------------------------

    def _done(
        self, place: Place, calls: list[Call], results: list[Any], prepared: float, forwarded: float
    ) -> None:
        # A place that has died since has no queues any more, and must not be given new ones.
        if (queues := self._queues.get(place)) is not None:
            queues.returned(calls)
            queues.fitted(calls)
        network: Any = calls[0].network
        self._stats.batch(network.name, Load.all(calls), prepared, forwarded, network.ragged)
        for call, result in zip(calls, results, strict=True):
            self._settle_call(call, result)
        self._flush.soon()

    def _failed(self, place: Place, calls: list[Call], error: Exception) -> None:
        """Blame one call for the error, or halve the batch and try again until there is one to blame."""
        queues = self._queues.get(place)
        if queues is not None:
            queues.returned(calls)
        if is_out_of_memory(error):
            self._stats.out_of_memory += 1
            if queues is not None:
                queues.ran_out(calls)
        if len(calls) == 1:
            self._settle_call(calls[0], error)
        else:
            self._stats.splits += 1
            if queues is not None:
                queues.requeue(halves(calls))
            else:
                self._move(halves(calls))
        self._flush.soon()

    def _lost(self, place: Place, calls: list[Call], error: Exception, began: bool) -> None:
        """Move what a dead place had to other places, its batch in halves: a call may be what killed it.

        A call is blamed only when a place died that ran nothing but it, and others had died with it before.
        """
        self._stats.lost += 1
        queues = self._queues.pop(place, None)
        suspects, waiting = queues.drain() if queues is not None else ([], [])
        for call in calls:
            call.deaths += began
        if not any(call.deaths for call in calls):
            waiting += calls
        elif began and len(calls) == 1 and (deaths := calls[0].deaths) >= DEATHS:
            blame = f"{deaths} places died while they ran it, the last one running nothing else: {error}"
            self._settle_call(calls[0], Unscorable(blame))
        else:
            suspects += halves(calls)
        self._move(suspects)
        for call in waiting:
            try:
                self._queue(call)
            except Exception as none_left:  # delivered to its callers
                self._settle_call(call, none_left)
        self._flush.soon()

    def _move(self, batches: list[list[Call]]) -> None:
        """Put batches before everything else of the places they are routed to now."""
        for batch in batches:
            try:
                self._queues_of(self._placement.route(batch[0])).requeue([batch])
            except Exception as none_left:  # delivered to its callers
                for call in batch:
                    self._settle_call(call, none_left)

    def _settle_call(self, call: Call, result: Any) -> None:
        """Deliver a result or an exception to all waiters of a call."""
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
        if any(queues.staged for queues in self._queues.values()):
            self._idle.append(self._loop.create_future())
            await self._idle[-1]
        await asyncio.wrap_future(self._placement.sleep())

    async def _wake(self) -> None:
        await asyncio.wrap_future(self._placement.wake())
        self._asleep = False
        self._flush.soon()

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

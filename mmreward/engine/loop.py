"""Event loop of an engine on its own thread: calls, queues, results, and what ends or outlives it.

`Loop` owns the calls of the coroutines that run on it, and hears of their batches (`HomeReport`). An engine
has one at a time. It gets another after a fork, and when a reward blocks the thread beyond its deadline: the
`Loop` then retires, its thread ends when the reward lets go of it, and the scoring goes on without that row.
Knows nothing of the engine, which can therefore be collected while the thread waits.
"""

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from ..errors import Unscorable
from ..scoring import GRACE, Evaluation, Scoring
from .batching import Budget, Call, Cost, Load, Network, Service, halves
from .cache import ByteLRU
from .device_thread import deliverable
from .devices import is_out_of_memory
from .local import Place, Placement
from .queues import PlaceQueues, QuiescenceFlush, Stats
from .together import Waiter
from .watchdog import Watchdog, task_with_parent
from .workers import STALL, Workers

T = TypeVar("T")

DEATHS = 3
"""Places that have died while they ran a call, the last of them running nothing else, before the call is
blamed."""
CLOSING = 2.0
"""Seconds that cancelled coroutines and services have to end when a loop stops."""
THREADS = 8
"""Threads of `asyncio.to_thread`."""
MOST_STUCK = 16
"""Threads of one engine that rewards may block at once; then such a reward's other rows fail untried."""

home: ContextVar["Loop"] = ContextVar("home")
"""The loop that a coroutine runs on."""
log = logging.getLogger("mmreward.engine")


class Ended(RuntimeError):  # noqa: N818 - reads as what it says at the raise
    """This loop takes no more work: it was stopped, or has retired."""


class HomeReport:
    """`Report` to the loop that each batch's calls came from, and of a place without any to all loops. Refers
    to them weakly, so that a placement keeps no engine alive."""

    def __init__(self) -> None:
        self.loops: weakref.WeakSet[Loop] = weakref.WeakSet()

    def done(
        self, place: Place, calls: list[Call], results: list[Any], prepared: float, forwarded: float
    ) -> None:
        self._post(calls, lambda loop: loop.done(place, calls, results, prepared, forwarded))

    def begun(self, place: Place, calls: list[Call]) -> None:
        self._post(calls, lambda loop: loop.begun(place, calls))

    def failed(self, place: Place, calls: list[Call], error: Exception) -> None:
        self._post(calls, lambda loop: loop.failed(place, calls, error))

    def lost(self, place: Place, calls: list[Call], error: Exception, *, began: bool = True) -> None:
        self._post(calls, lambda loop: loop.lost(place, calls, error, began))

    def _post(self, calls: list[Call], news: Callable[["Loop"], None]) -> None:
        for loop in [calls[0].home] if calls else list(self.loops):
            with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
                loop.events.call_soon_threadsafe(news, loop)


class Loop:
    """One event loop and its thread.

    Args:
        budget: the size of one batch.
        cache_bytes: results kept for equal calls to come.
        placement: where batches run.
        stats: counters of the engine.
        stuck: the engine's retired loops; one that retires adds itself.
    """

    def __init__(
        self,
        budget: Budget,
        cache_bytes: int,
        placement: Placement,
        stats: Stats,
        stuck: "list[Loop]",
    ) -> None:
        self.budget = budget
        self.cache = ByteLRU(cache_bytes)
        self.retired = False
        self._placement = placement
        self._stats = stats
        self._stuck = stuck
        self._queues: dict[Place, PlaceQueues] = {}
        self._inflight: dict[Hashable, Call] = {}
        self._out: dict[int, tuple[float, Place, list[Call]]] = {}
        self._services: set[Service] = set()
        self._asleep: bool = bool(stuck) and stuck[-1]._asleep  # a trainer still has the device
        self._idle: list[asyncio.Future[None]] = []
        self._callers: set[Future[Any]] = set()
        self._scorings: dict[Scoring, Future[Any]] = {}
        self._lock = threading.RLock()  # the collector may stop one loop while its thread starts work
        self._ending = False
        self._last: Callable[[], None] | None = None
        self.watch = Watchdog(self)
        self.events = asyncio.new_event_loop()
        self.events.set_task_factory(task_with_parent)  # type: ignore[arg-type]
        self._threads = Workers(THREADS, "mmreward-thread")
        self.events.set_default_executor(self._threads)
        self._flush = QuiescenceFlush(self.events, self.dispatch)
        self.thread = threading.Thread(target=self._run, name="mmreward-loop", daemon=True)
        self.thread.start()

    # --- from any thread --------------------------------------------------------------------------

    def start(
        self, work: Callable[[], Coroutine[Any, Any, T]], scoring: Scoring | None = None
    ) -> "Future[T]":
        """Run a coroutine, which is made when that is sure, on the loop.

        Raises:
            Ended: nothing runs here any more.
        """
        with self._lock:  # so that nothing is queued behind the end
            if self._ending or self.retired:
                raise Ended
            done = asyncio.run_coroutine_threadsafe(self._at_home(work), self.events)
            self._callers.add(done)
            done.add_done_callback(self._callers.discard)
            if scoring is not None:
                self._scorings[scoring] = done
                done.add_done_callback(lambda _: self._scorings.pop(scoring, None))
                self.watch.begin()
        return done

    def stop(self, last: Callable[[], None] | None = None) -> None:
        """Cancel everything and end the thread; does not wait. Safe inside the garbage collector.

        Args:
            last: called on the loop's thread when the loop has ended.
        """
        with self._lock:
            if self._ending:
                return
            self._ending, self._last = True, last
        self.watch.end()
        self.events.call_soon_threadsafe(self.events.stop)

    def join(self, *, wait: bool = True) -> None:
        """Wait, a bounded time, for the end that `stop` asked for, and cancel the callers that are left.

        Args:
            wait: False for a loop that is known to be blocked.
        """
        current = threading.current_thread()
        if wait and self.thread is not current:
            self.thread.join(2 * CLOSING + GRACE)
            if self.thread.is_alive():
                log.warning("an engine is closed that a reward still holds, %s", self.watch.where())
        if wait:
            self.watch.join(CLOSING)
        for caller in list(self._callers):
            caller.cancel()

    # --- for networks' handles, on the loop -------------------------------------------------------

    async def submit(
        self, network: Network | Service, op: str, item: Any, *, key: Hashable = None, share: Hashable = None
    ) -> Any:
        """See `Engine.submit`."""
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
        call = Call(
            cast(Network, network), op, item, name if key is not None else None, share, cost, home=self
        )
        if elsewhere:
            call.task = self.events.create_task(self._serve(cast(Service, network), call))
        else:
            self._queue(call)
            self._flush.new_call()
        if key is not None:
            self._inflight[name] = call
        return await self._wait(call)

    async def sleep(self) -> None:
        """Finish the running batches and unload all networks."""
        self._asleep = True
        if any(queues.staged for queues in self._queues.values()):
            self._idle.append(self.events.create_future())
            await self._idle[-1]
        await asyncio.wrap_future(self._placement.sleep())

    async def wake(self) -> None:
        """Load what `sleep` unloaded and go on."""
        await asyncio.wrap_future(self._placement.wake())
        self._asleep = False
        self._flush.soon()

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
        except BaseException as error:  # delivered to its callers, who would wait for ever
            if isinstance(error, asyncio.CancelledError | GeneratorExit) and not call.live:
                raise
            self._settle_call(call, deliverable(error))
        else:
            self._stats.batch(service.name, Load.row([call]), 0.0, time.perf_counter() - begun, True)
            self._settle_call(call, result)

    async def _wait(self, call: Call) -> Any:
        waiter = Waiter(loop=self.events)
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

    # --- planning, on the loop --------------------------------------------------------------------

    def dispatch(self) -> None:
        """Hand batches to the places that have room."""
        for place, queues in list(self._queues.items()):
            while not self._asleep and (calls := queues.next()):
                self._out[id(calls)] = time.monotonic(), place, calls
                place.run(calls)
        if not any(queues.staged for queues in self._queues.values()):
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()

    # --- results, on the loop ---------------------------------------------------------------------

    def done(
        self, place: Place, calls: list[Call], results: list[Any], prepared: float, forwarded: float
    ) -> None:
        """Deliver the results of a batch."""
        if (queues := self._returned(place, calls)) is not None:
            queues.fitted(calls)
        network: Any = calls[0].network
        self._stats.batch(network.name, Load.all(calls), prepared, forwarded, network.ragged)
        for call, result in zip(calls, results, strict=True):
            self._settle_call(call, result)
        self._flush.soon()

    def begun(self, place: Place, calls: list[Call]) -> None:
        """Give the room of a batch to others, which its place runs beside it."""
        self._returned(place, calls)
        self._flush.soon()

    def failed(self, place: Place, calls: list[Call], error: Exception) -> None:
        """Blame one call for the error, or halve the batch and try again until there is one to blame."""
        queues = self._returned(place, calls)
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

    def lost(self, place: Place, calls: list[Call], error: Exception, began: bool) -> None:
        """Move what a dead place had to other places, its batch in halves: a call may be what killed it.

        A call is blamed only when a place died that ran nothing but it, and others had died with it before.
        """
        self._out.pop(id(calls), None)
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

    def make_room(self) -> None:
        """Let other batches take the room of those that hang in their preparation."""
        now = time.monotonic()
        for since, place, calls in list(self._out.values()):
            if now - since > STALL and place.stalls(calls):
                self._returned(place, calls)
                self._flush.soon()

    def _returned(self, place: Place, calls: list[Call]) -> PlaceQueues | None:
        """Queues of the place, to which the batch gives back its room; None if the place has died since."""
        queues = self._queues.get(place)  # one that is gone must not be given new ones
        if self._out.pop(id(calls), None) is not None and queues is not None:
            queues.returned(calls)
        return queues

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
        failed = isinstance(result, BaseException)
        self._stats.failed += failed
        for waiter in call.waiters:
            if not waiter.done():
                waiter.deliver(None, deliverable(result)) if failed else waiter.deliver(result)
        if call.key is not None and not failed:
            self.cache.put(call.key, result)

    # --- the thread -------------------------------------------------------------------------------

    async def _at_home(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        home.set(self)
        return await work()

    def _run(self) -> None:
        asyncio.set_event_loop(self.events)
        while not self._ending:
            self._guard(self.events.run_forever)
        until = time.monotonic() + CLOSING
        self._until(asyncio.sleep(0))  # what came in until then becomes tasks
        while (tasks := asyncio.all_tasks(self.events)) and time.monotonic() < until:
            for task in tasks:  # also those started while the others were being cancelled
                task.cancel()
            self._until(asyncio.wait(tasks, timeout=until - time.monotonic()))
        if tasks:
            log.warning("%d coroutines did not end when they were cancelled, and are left behind", len(tasks))
        for caller in list(self._callers):
            caller.cancel()
        if closing := [asyncio.ensure_future(one.close(), loop=self.events) for one in self._services]:
            self._until(asyncio.wait(closing, timeout=CLOSING))
        for task in asyncio.all_tasks(self.events):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._threads.shutdown(cancel_futures=True)
        self.events.close()
        if self._last is not None:
            self._last()

    def _until(self, work: Coroutine[Any, Any, Any]) -> None:
        self._guard(lambda: self.events.run_until_complete(work))

    def _guard(self, turn: Callable[[], object]) -> None:
        """Run the loop; a KeyboardInterrupt or SystemExit that a task raised has reached its waiters."""
        try:
            turn()
        except BaseException as error:  # asyncio raises it here too, which would end the thread
            log.debug("a coroutine raised %s", type(error).__name__)

    # --- a blocked thread -------------------------------------------------------------------------

    def scores(self) -> bool:
        """True while something is scored here."""
        return bool(self._scorings)

    def ask(self, alive: threading.Event) -> None:
        """Set the event on the loop, as a sign of life."""
        with suppress(RuntimeError):  # closed
            self.events.call_soon_threadsafe(self.make_room)
            self.events.call_soon_threadsafe(alive.set)

    def evaluation_of(self, task: "asyncio.Task[Any]") -> Evaluation | None:
        """The evaluation that this very task is at, if any."""
        found = (scoring.under_way(task) for scoring in list(self._scorings))
        return next((one for one in found if one is not None), None)

    def retire(self, evaluation: Evaluation, reason: str) -> None:
        """Give up this loop: its scorings go on elsewhere; other work waits here until the thread is free.

        Args:
            evaluation: the one that blocks the thread.
            reason: for the note of its rows.
        """
        with self._lock:
            self.retired = True
            self._stuck[:] = [loop for loop in self._stuck if loop.thread.is_alive()] + [self]
            scorings = list(self._scorings.items())
        for scoring, _ in scorings:
            scoring.leave(evaluation, reason, forsake=len(self._stuck) >= MOST_STUCK)
        for _, done in scorings:
            done.cancel()  # its caller starts it again
        self.events.call_soon_threadsafe(lambda: self.events.create_task(self._fade()))

    async def _fade(self) -> None:
        while self._callers:
            await asyncio.sleep(0.1)
        self.stop()

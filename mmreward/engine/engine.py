"""The engine: the only thing between rewards (per sample, async) and networks (per batch).

One loop thread owns the queues, one thread owns the device, a few workers prepare batches ahead of it. Every
structure has one owner. There are no timers: a batch is formed when no coroutine can make progress without
one ("quiescence flush"), which in-process means that batches are as full as they can be.

`Engine.score` is for callers, `Engine.submit` for models. Calls and their results are settled in `loop`;
batches are planned in `batching` and `queues` and run in `local` or `cluster`.

Life: threads start with the first work, also in a fork of a process that used the engine. They end with
`close`, or when nothing refers to the engine. A reward that blocks the thread for long costs its row.
"""

import asyncio
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Hashable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..limits import limits
from ..loading import Rewards, resolve
from ..scoring import Progress, Scoring, examine_ahead
from ..types import Sample, Score
from .batching import Budget, Network, Service
from .cache import ByteLRU
from .local import Local, Placement
from .loop import DEATHS as DEATHS
from .loop import Ended, HomeReport, Loop, home
from .preconditions import Known
from .queues import Stats

if TYPE_CHECKING:
    from ..config import EngineConfig  # imports pydantic, which listing rewards does not need

T = TypeVar("T")
Scores = dict[str, list[Score]]

_current: ContextVar["weakref.ref[Engine]"] = ContextVar("engine")


class _Life:
    """Threads of one engine: the loop of the moment, those it had to leave, and where batches run.

    What ends them when the engine is collected holds this, and not the engine.
    """

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self.loop: Loop | None = None
        self.stuck: list[Loop] = []
        self.closed = False
        self.lock = threading.RLock()
        self.refusal = ""

    def collected(self) -> None:
        """End everything without waiting: the garbage collector calls this, on any thread."""
        if not self.closed:
            self.closed = True
            if self.loop is not None:  # otherwise nothing has been started
                self.loop.stop(self.placement.close)

    def forked(self) -> None:
        """Forget, in a fork, the threads that only its parent has."""
        self.lock = threading.RLock()
        _of_the_parent.extend([*self.stuck, *([self.loop] if self.loop is not None else [])])
        self.loop, self.stuck = None, []
        if isinstance(self.placement, Local):
            self.placement.forked()
        elif not self.closed:
            self.refusal = "an engine on Ray does not survive a fork: make one in this process, or use spawn"


class Engine:
    """Runner of networks for any number of coroutines: coalesces, deduplicates, caches, isolates failures.

    >>> from mmreward import Engine, Sample
    >>> with Engine("cpu") as engine:
    ...     engine.score([Sample(response="<answer>4</answer>", target="4")], "label")["label"][0].value
    1.0

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", ...
        budget: the size of one batch.
        cache_bytes: results kept for equal calls to come; 0 keeps none.
        resident_bytes: weights kept on the device together; None keeps everything loaded.
        workers: threads that prepare a batch each; free processors help them decode.
        placement: where batches run instead of on this process's device; then device, resident_bytes and
            workers do not apply.

    An engine is a context manager; `close` stops its threads, within seconds whatever rewards do. Its methods
    may be called from any thread, and in a fork, which gets threads of its own. Pickled, it is its arguments:
    a spawned process makes its own. CUDA does not survive a fork: there it raises RuntimeError.
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
        limits()  # refuses what the environment says wrongly, before any row is charged for it
        self.budget = budget or Budget()
        self._device, self._cache_bytes = device, cache_bytes
        self._given = None if placement else (device, budget, cache_bytes, resident_bytes, workers)
        ByteLRU(cache_bytes)  # refuses what is no size
        self._placement = placement or Local(device, resident_bytes=resident_bytes, workers=workers)
        self._report = HomeReport()
        self._known = Known()
        self._placement.start(self._report)
        self._stats = Stats()
        self._life = _Life(self._placement)
        weakref.finalize(self, self._life.collected).atexit = False
        _engines.add(self)
        if placement is not None:
            _ = self._loop  # ends what the placement has started, should the engine be dropped

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
        check: bool = True,
    ) -> Scores:
        """Score every sample with every reward; for trainers and scripts.

        Args:
            samples: any number. A bad one costs its own row only.
            rewards: a name, a Reward, a sequence of these, or a mapping from your name to a name,
                arguments or Reward.
            timeout: seconds one score may take from its start to its end, queueing included; then its
                status is "timeout".
            progress: called as `progress(index, name, score)` on the engine's thread when a score is there.
            check: refuse, once, a reward that has never worked on this engine and works for no sample. False
                leaves it to the note of each.

        Returns:
            For each reward, one Score per sample, in the samples' order.

        Raises:
            ValueError: a reward or argument that does not exist, or a column that no sample has.
            Unavailable: a reward that can be computed for no sample: no weights, package, device or server.
        """
        self._refuse_own_thread()
        resolved = resolve(rewards)
        trial = self._known.begin(samples, resolved, progress) if check else None
        scoring = Scoring(samples, resolved, timeout=timeout, progress=trial or progress)
        examine_ahead(samples, resolved)  # not in `begin` and `ascore`, whose callers do not wait
        while True:
            loop, done = self._score(scoring)
            try:
                scores = done.result()
                if trial is not None:
                    trial.end()
                return scores
            except CancelledError:
                if not loop.retired:
                    raise
            except BaseException:  # KeyboardInterrupt reaches the caller's thread only
                done.cancel()
                scoring.stop()
                raise

    def check(self, samples: Sequence[Sample], rewards: Rewards) -> None:
        """Refuse what cannot work for any of these samples, as far as it shows without computing; `score`
        does so by itself. What has passed is not checked again.

        Raises:
            ValueError, Unavailable: as `score`.
        """
        self._known.check(samples, resolve(rewards))

    def begin(
        self, samples: Sequence[Sample], rewards: Rewards, *, timeout: float | None = None
    ) -> "Future[Scores]":
        """`score` that does not wait and leaves every failure to its row: a trainer goes on generating and
        reads the future later."""
        scoring = Scoring(samples, resolve(rewards), timeout=timeout)
        outer: Future[Scores] = Future()

        def ended(loop: Loop, done: "Future[Scores]") -> None:
            if outer.done():
                return
            if done.cancelled() and loop.retired:
                try:
                    again()
                except RuntimeError:  # closed since
                    outer.cancel()
            elif done.cancelled():
                outer.cancel()
            elif outer.set_running_or_notify_cancel():
                _pass_on(done, outer)

        def again() -> None:
            loop, done = self._score(scoring)
            outer.add_done_callback(lambda _: done.cancel())
            done.add_done_callback(partial(ended, loop))

        again()
        return outer

    async def ascore(
        self,
        samples: Sequence[Sample],
        rewards: Rewards,
        *,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """`score` for servers and async trainers, which leaves every failure to its row; cancelling the
        caller cancels calls that nobody else waits for."""
        scoring = Scoring(samples, resolve(rewards), timeout=timeout, progress=progress)
        while True:
            loop, done = self._score(scoring)
            try:
                return await asyncio.wrap_future(done)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not loop.retired or (task is not None and task.cancelling()):
                    raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop and wait for it; also from inside another running loop.

        Raises:
            RuntimeError: the engine is closed, or this is called from the engine's own loop.
        """
        try:
            self._refuse_own_thread()
        except RuntimeError:
            work.close()
            raise
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

    @property
    def cache(self) -> ByteLRU:
        """Results kept for equal calls to come."""
        return self._loop.cache

    def sleep(self) -> None:
        """Finish the running batches, then take every network off the device; calls wait until `wake`."""
        self.run(self._loop.sleep())

    def wake(self) -> None:
        """Load what `sleep` unloaded and go on."""
        self.run(self._loop.wake())

    def close(self) -> None:
        """Stop the threads and free the device. Calls still waiting are cancelled; a reward that blocks its
        thread, or ignores that it is cancelled, is left behind after seconds. Closing twice is harmless."""
        with self._life.lock:
            if self._life.closed:
                return
            self._life.closed = True
            loops = [*self._life.stuck, *([self._life.loop] if self._life.loop is not None else [])]
        for loop in loops:
            loop.stop()
        for loop in reversed(loops):
            loop.join(wait=not loop.retired)
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
        loop = home.get(None)
        return await (loop or self._loop).submit(network, op, item, key=key, share=share)

    # --- life cycle -------------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        if self._given is None:
            raise TypeError("an engine with a placement does not travel to another process: make one there")
        return _rebuilt, self._given

    @property
    def _loop(self) -> Loop:
        """The loop of this moment: another one after a fork, and after a reward has blocked the last.

        Raises:
            RuntimeError: the engine is closed, or cannot work in this process.
        """
        life = self._life
        with life.lock:
            if life.closed or life.refusal:
                raise RuntimeError(life.refusal or "the engine is closed")
            if life.loop is None and self._given is not None:
                _refuse_forked_cuda(self._device)
            if life.loop is None or life.loop.retired:
                life.loop = Loop(self.budget, self._cache_bytes, self._placement, self._stats, life.stuck)
                self._report.loops.add(life.loop)
            return life.loop

    def _refuse_own_thread(self) -> None:
        loops = [self._life.loop, *self._life.stuck]
        if any(loop is not None and loop.thread is threading.current_thread() for loop in loops):
            raise RuntimeError(
                "a reward runs on the engine's loop: await inside it instead of calling the engine"
            )

    def _score(self, scoring: Scoring) -> "tuple[Loop, Future[Scores]]":
        return self._begin(scoring.run, scoring)

    def _start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        try:
            return self._begin(lambda: work)[1]
        except BaseException:
            work.close()
            raise

    def _begin(
        self, work: Callable[[], Coroutine[Any, Any, T]], scoring: Scoring | None = None
    ) -> "tuple[Loop, Future[T]]":
        while True:
            loop = self._loop
            with suppress(Ended):  # it has retired since
                return loop, loop.start(partial(self._with_engine, work), scoring)

    async def _with_engine(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        _current.set(weakref.ref(self))
        return await work()


_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()
_of_the_parent: list[Loop] = []
"""In a fork, the loops of its parent, kept for good: to collect one would take the parent's sockets out of an
epoll that both share."""


def _forget_all() -> None:
    for engine in list(_engines):
        engine._life.forked()


os.register_at_fork(after_in_child=_forget_all)


def _rebuilt(
    device: str, budget: Budget | None, cache_bytes: int, resident_bytes: int | None, workers: int
) -> Engine:
    return Engine(
        device, budget=budget, cache_bytes=cache_bytes, resident_bytes=resident_bytes, workers=workers
    )


def _refuse_forked_cuda(device: str) -> None:
    """Once, instead of a failure for every row, or of the CPU without a word where "auto" had meant CUDA."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda._is_in_bad_fork():
        return
    # Asking whether there is CUDA spoils a fork too, so on a machine without devices this says nothing.
    if device.startswith("cuda") or (device == "auto" and torch.cuda.device_count() > 0):
        raise RuntimeError(
            f"the device {device} cannot be used in this process, which was forked from one that uses CUDA: "
            "start it by spawn (multiprocessing_context='spawn'), or give the engine device='cpu'"
        )


def _pass_on(done: "Future[T]", outer: "Future[T]") -> None:
    if (error := done.exception()) is not None:
        outer.set_exception(error)
    else:
        outer.set_result(done.result())


def current() -> Engine:
    """The engine on whose loop this coroutine runs.

    Raises:
        RuntimeError: called outside an engine.
    """
    reference = _current.get(None)
    engine = reference() if reference is not None else None
    if engine is None:
        raise RuntimeError(
            "networks run inside an engine: score through Engine.score, or wrap the call in Engine.run"
        )
    return engine

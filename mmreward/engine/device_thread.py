"""Thread of one device: which networks are loaded on it, and the batches that run there one after another.

That thread is the only one that loads, runs and unloads networks, and there is one per device and process
(`share`), shared by all engines; so residency, which networks are loaded within a limit of bytes, needs no
lock. A network whose rows end one by one takes up the next batch while the last still runs
(`batching.Refilling`).

Knows neither rewards nor callers, nor who prepares a batch.
"""

import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, cast

from ..errors import Unavailable, words
from .batching import Call, Network, Refilling
from .devices import is_out_of_memory, keep_freed, release_memory

# --- which networks are loaded ------------------------------------------------------------------------


class Residency:
    """Networks loaded on one device, within a limit of bytes; the least recently used leave first.

    Args:
        device: handed to `Network.load`.
        limit: bytes of weights kept on the device together; None keeps everything. A network larger than the
            limit is still loaded, alone.
    """

    def __init__(self, device: str, limit: int | None = None) -> None:
        self.device = device
        self.limit = limit
        self.swaps = 0
        self._resident: OrderedDict[int, Network] = OrderedDict()
        self._asleep: list[Network] = []

    def __contains__(self, network: Network) -> bool:
        return id(network) in self._resident

    @property
    def nbytes(self) -> int:
        return sum(network.nbytes for network in list(self._resident.values()))

    def ensure(self, network: Network) -> None:
        """Make the network resident and the most recently used."""
        if id(network) not in self._resident:
            # Room is made before loading, not after: both at once may be more than the device has.
            while self.limit is not None and self._resident and self.nbytes + network.nbytes > self.limit:
                self._evict()
            network.load(self.device)
            self._resident[id(network)] = network
        self._resident.move_to_end(id(network))
        # And after loading, because some networks know their size only then. The one in use never leaves.
        while self.limit is not None and len(self._resident) > 1 and self.nbytes > self.limit:
            self._evict()

    def trim(self, keep: Network) -> bool:
        """Unload everything but `keep`; True when that freed something."""
        others = [network for network in self._resident.values() if network is not keep]
        for network in others:
            del self._resident[id(network)]
            network.unload()
        self.swaps += len(others)
        release_memory()
        return bool(others)

    def sleep(self) -> None:
        """Unload everything, and remember it for `wake`."""
        if not self._resident:
            return
        self._asleep = list(self._resident.values())
        while self._resident:
            self._evict()
        release_memory()

    def wake(self) -> None:
        """Load again what `sleep` unloaded."""
        networks, self._asleep = self._asleep, []
        for network in networks:
            self.ensure(network)

    def _evict(self) -> None:
        _, network = self._resident.popitem(last=False)
        network.unload()
        self.swaps += 1


# --- the device's thread --------------------------------------------------------------------------------

CLOSING = 5.0
"""Seconds that the thread of a device has to finish and unload when its last engine closes."""
Done = Callable[[list[Any], float], None]
"""Called with a result or exception for each call, and the seconds the forward took."""
Failed = Callable[[Exception], None]
"""Called when the batch as a whole raised."""


class Job(NamedTuple):
    """A prepared batch; one of `done` and `failed` is called on the device's thread, and `begun` before it
    where the batch is refilled from others."""

    calls: list[Call]
    batch: Any
    done: Done
    failed: Failed
    begun: Callable[[], None] = lambda: None


class _Feed:
    """`Feed` of a device: the job that runs, and those behind it that are of the same network and op.

    Args:
        first: the job that runs.
        more: the next job, if it is of that kind.
    """

    def __init__(self, first: Job, more: Callable[[], Job | None]) -> None:
        self.taken = 0
        self.open: dict[int, Job] = {}
        """Those that are not done, by their numbers."""
        self._first: Job | None = first
        self._more = more
        self._since = time.perf_counter()

    def take(self) -> Any:
        job, self._first = self._first or self._more(), None
        if job is None:
            return None
        self.open[self.taken] = job
        self.taken += 1
        job.begun()
        return job.batch

    def done(self, number: int, results: list[Any]) -> None:
        checked(self.open[number].calls, results)
        job, now = self.open.pop(number), time.perf_counter()
        job.done(results, now - self._since)  # since the last one ended, as they run side by side
        self._since = now


class Device:
    """Thread of one device: runs batches and jobs in the order they come in, for every engine of the process.

    Made by `share`, ended by the last `release`.

    Args:
        name: of the device.
        before: the thread that had this device and has not ended yet; it is waited for.
    """

    def __init__(self, name: str, before: threading.Thread | None = None) -> None:
        if name.partition(":")[0] == "cpu":
            keep_freed()
        self.residency = Residency(name)
        self._before = before
        self._limits: list[int | None] = []
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._next: list[Any] = []
        """The job that was looked at and is next, if one was."""
        self._thread = threading.Thread(target=self._run, name=f"mmreward-device {name}", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Run a prepared batch."""
        self._jobs.put(job)

    def call(self, job: Callable[[], None]) -> "Future[None]":
        """Run a function on the thread, between two batches."""
        future: Future[None] = Future()

        def run() -> None:
            try:
                job()
            except BaseException as error:  # delivered to the caller; the thread goes on
                future.set_exception(deliverable(error))
            else:
                future.set_result(None)

        self._jobs.put(run)
        return future

    def release(self, limit: int | None) -> None:
        """Undo one `share`; after the last, finish what has come in, unload everything and end the thread. It
        is waited for no longer than `CLOSING`."""
        with _lock:
            self._limits.remove(limit)
            self._limit()
            if self._limits:
                return
            del _devices[self.residency.device]
            _ending[self.residency.device] = self._thread
        self._jobs.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSING)

    def _limit(self) -> None:
        self.residency.limit = min((limit for limit in self._limits if limit is not None), default=None)

    def _run(self) -> None:
        if self._before is not None:
            self._before.join()
        while (job := self._next.pop() if self._next else self._jobs.get()) is not None:
            if isinstance(job, Job):
                self._run_batch(job)
            else:
                job()
            del job
        self.residency.sleep()

    def _run_batch(self, job: Job) -> None:
        begun, network = time.perf_counter(), job.calls[0].network
        try:
            self._ensure(network)
        except BaseException as error:  # no item is to blame: halving the batch would only load again
            job.done([_unloaded(network, deliverable(error))] * len(job.calls), 0.0)
            return
        refills = getattr(network, "refills", None)
        if refills is not None and refills(job.calls[0].op):
            self._run_on(job)
        else:
            self._run_alone(job, begun)

    def _run_alone(self, job: Job, begun: float) -> None:
        try:
            results = self._forward(job.calls, job.batch)
        except BaseException as error:  # delivered to its callers; a native panic is no Exception
            job.failed(deliverable(error))
            if is_out_of_memory(error):
                release_memory()
        else:
            job.done(results, time.perf_counter() - begun)

    def _run_on(self, job: Job) -> None:
        """Run a batch and those that its network takes up meanwhile."""
        network, op = cast(Refilling, job.calls[0].network), job.calls[0].op
        feed = _Feed(job, lambda: self._alike(job))
        raised: Exception | None = None
        try:
            network.forward_on(op, feed)
            if feed.open or not feed.taken:
                raise RuntimeError(f"{network.name}.{op} left {len(feed.open)} of its batches undone")
        except BaseException as error:  # delivered to its callers; a native panic is no Exception
            raised = deliverable(error)
        if raised is None:
            return
        if is_out_of_memory(raised):
            release_memory()
        left = list(feed.open.values()) if feed.taken else [job]
        if len(left) == 1 and not is_out_of_memory(raised):
            left[0].failed(raised)
            return
        for one in left:  # of several nobody knows which it was; of one, a lack of memory may have been ours
            self._run_alone(one, time.perf_counter())

    def _alike(self, job: Job) -> Job | None:
        """The next job, if it has the same network and op, and nothing else waits before it."""
        if not self._next:
            try:
                self._next.append(self._jobs.get_nowait())
            except queue.Empty:
                return None
        other = self._next[0]
        if not isinstance(other, Job):
            return None
        first, second = job.calls[0], other.calls[0]
        if first.network is not second.network or first.op != second.op:
            return None
        return cast(Job, self._next.pop())

    def _ensure(self, network: Network) -> None:
        try:
            self.residency.ensure(network)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            lacking = deliverable(error)
        else:
            return
        if not self.residency.trim(keep=network):
            raise lacking
        self.residency.ensure(network)

    def _forward(self, calls: list[Call], batch: Any) -> list[Any]:
        network, op = calls[0].network, calls[0].op
        lacking: Exception | None = None
        try:
            results = network.forward(op, batch)
        except Exception as error:
            if len(calls) > 1 or not is_out_of_memory(error):
                raise
            lacking = deliverable(error)
        if lacking is not None:
            # One item may fit once the other networks, and what it had itself allocated, have left.
            if not self.residency.trim(keep=network):
                raise lacking
            results = network.forward(op, batch)
        checked(calls, results)
        return results


def checked(calls: list[Call], results: list[Any]) -> None:
    """Refuse results of which there are not as many as calls.

    Raises:
        RuntimeError: with both numbers.
    """
    if len(results) != len(calls):
        named = f"{calls[0].network.name}.{calls[0].op}"
        raise RuntimeError(f"{named} returned {len(results)} results for {len(calls)} items")


_devices: dict[str, Device] = {}
_ending: dict[str, threading.Thread] = {}
"""The last thread of each device that was released; while it runs, no other may touch the device."""
_lock = threading.Lock()


def _forget_all() -> None:
    """Forget, in a fork, the threads that only its parent has. Weights on the CPU are the fork's as well."""
    _devices.clear()
    _ending.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_all)


def share(name: str, limit: int | None = None) -> Device:
    """The process's one `Device` of this name, started if need be; the strictest limit of its engines counts.

    Two threads that both believe to own a device would move each other's weights, and load them twice.
    """
    if name in ("auto", "cuda"):
        import torch

        name = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    with _lock:
        device = _devices.get(name)
        if device is None:
            device = _devices[name] = Device(name, _ending.pop(name, None))
        device._limits.append(limit)
        device._limit()
    return device


def deliverable(error: BaseException) -> Exception:
    """The error in a form that a future can carry.

    StopIteration and what is no Exception become a RuntimeError; a lack of memory loses its traceback, whose
    frames hold on to what did not fit.
    """
    if not isinstance(error, Exception) or isinstance(error, StopIteration):
        return RuntimeError(f"{type(error).__name__}: {words(error)}")
    return error.with_traceback(None) if is_out_of_memory(error) else error


def _unloaded(network: Network, error: Exception) -> Exception:
    """The error of a network that could not be loaded, as one that is no row's (as the system's are)."""
    if isinstance(error, Unavailable | OSError | ImportError) or is_out_of_memory(error):
        return error
    return Unavailable(f"{network.name} cannot be loaded: {type(error).__name__}: {words(error)}")

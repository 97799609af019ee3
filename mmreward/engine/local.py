"""Placement of batches: its contract, and the usual one, this process with one of its devices.

A placement (`Placement`) has one or more places (`Place`). The engine queues calls by place, hands each place
a few batches ahead, and hears of each batch exactly once (`Report`). `Local` is one place: worker threads
prepare batches, and the device's thread (`Device`) forwards them one after another. That thread is the only
one that loads, runs and unloads networks, and there is one per device and process, shared by all engines; so
residency, which networks are loaded within a limit of bytes, needs no lock.

Knows neither rewards nor callers. `cluster.placement` is the other placement: Ray actors.
"""

import gc
import os
import queue
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from ..errors import Unavailable, words
from .batching import Call, Network
from .devices import check_device
from .workers import Workers


class Report(Protocol):
    """Callbacks of a place into the engine, from any thread; every batch ends in exactly one of them."""

    def done(
        self, place: "Place", calls: list[Call], results: list[Any], prepared: float, forwarded: float
    ) -> None:
        """Deliver a result or an exception for each call, and the seconds of preparing and forwarding."""

    def failed(self, place: "Place", calls: list[Call], error: Exception) -> None:
        """Report that the batch as a whole raised; one of its calls may be to blame."""

    def lost(self, place: "Place", calls: list[Call], error: Exception, *, began: bool = True) -> None:
        """Report that the place died with this batch; `Placement.route` names another from now on.

        Args:
            began: False when the batch cannot have been the cause, because none of it had run.
        """


class Place(Protocol):
    """One executor of batches: this process's device, or an actor."""

    def resident(self, network: Network) -> bool:
        """True when the network can run at once, without being loaded first."""

    def run(self, calls: list[Call]) -> None:
        """Accept one batch of one network and op; its report comes later."""

    def stalls(self, calls: list[Call]) -> bool:
        """True when the batch, which has been here for `workers.STALL`, hangs before it reaches the device.
        Then others take its room; its report may still come."""


class Placement(Protocol):
    """All places of an engine."""

    def start(self, report: Report) -> None:
        """Begin, before anything else; called once."""

    def route(self, call: Call) -> Place:
        """Choose the place of a call. Calls with equal shares should meet, so that caches stay warm."""

    def sleep(self) -> "Future[None]":
        """Take every network off its device; nothing runs at that time."""

    def wake(self) -> "Future[None]":
        """Load again what `sleep` unloaded."""

    def close(self) -> None:
        """Stop everything. Batches still running need not be reported."""

    @property
    def nbytes(self) -> int:
        """Bytes of weights on the devices."""

    @property
    def swaps(self) -> int:
        """Number of networks that had to leave a device so far."""


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


def release_memory() -> None:
    """Give freed blocks back to the device, if torch is in use at all."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """True when a smaller batch may work: a lack of memory, by torch's or Python's name for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in words(error)


# --- the device's thread --------------------------------------------------------------------------------

CLOSING = 5.0
"""Seconds that the thread of a device has to finish and unload when its last engine closes."""
Done = Callable[[list[Any], float], None]
"""Called with a result or exception for each call, and the seconds the forward took."""
Failed = Callable[[Exception], None]
"""Called when the batch as a whole raised."""


class Device:
    """Thread of one device: runs batches and jobs in the order they come in, for every engine of the process.

    Made by `share`, ended by the last `release`.

    Args:
        name: of the device.
        before: the thread that had this device and has not ended yet; it is waited for.
    """

    def __init__(self, name: str, before: threading.Thread | None = None) -> None:
        self.residency = Residency(name)
        self._before = before
        self._limits: list[int | None] = []
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"mmreward-device {name}", daemon=True)
        self._thread.start()

    def put(self, calls: list[Call], batch: Any, done: Done, failed: Failed) -> None:
        """Run a prepared batch; `done` or `failed` is called on the device's thread."""
        self._jobs.put((calls, batch, done, failed))

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
        while (job := self._jobs.get()) is not None:
            if callable(job):
                job()
            else:
                self._run_batch(*job)
            del job
        self.residency.sleep()

    def _run_batch(self, calls: list[Call], batch: Any, done: Done, failed: Failed) -> None:
        begun = time.perf_counter()
        try:
            self._ensure(calls[0].network)
        except BaseException as error:  # no item is to blame: halving the batch would only load again
            done([_unloaded(calls[0].network, deliverable(error))] * len(calls), 0.0)
            return
        try:
            results = self._forward(calls, batch)
        except BaseException as error:  # delivered to its callers; a native panic is no Exception
            failed(deliverable(error))
            if is_out_of_memory(error):
                release_memory()
        else:
            done(results, time.perf_counter() - begun)

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
        if len(results) != len(calls):
            raise RuntimeError(f"{network.name}.{op} returned {len(results)} results for {len(calls)} items")
        return results


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


# --- the placement ------------------------------------------------------------------------------------------


class Local:
    """Placement in this process: worker threads that prepare, and the one thread that owns the device.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", ...; engines that name the same one share its thread and
            what is loaded on it.
        resident_bytes: weights kept on the device together; None keeps everything. Of several engines the
            strictest counts.
        workers: threads that decode and tokenize.
    """

    def __init__(self, device: str = "auto", *, resident_bytes: int | None = None, workers: int = 2) -> None:
        if resident_bytes is not None and resident_bytes < 1:
            raise ValueError(f"resident_bytes is at least 1 byte, not {resident_bytes}")
        check_device(device)  # else torch's error would be charged to every row
        self._name = device
        self._limit = resident_bytes
        self._workers = workers
        self._report: Report
        self.forked()

    def forked(self) -> None:
        """Begin anew, without threads, in a fork of the process."""
        self._pool = Workers(self._workers, "mmreward-prepare")
        self._lock = threading.Lock()
        self._device: Device | None = None
        self._preparing: set[int] = set()

    def start(self, report: Report) -> None:
        self._report = report

    def route(self, call: Call) -> "Local":
        return self

    def resident(self, network: Network) -> bool:
        return self._device is not None and network in self._device.residency

    def run(self, calls: list[Call]) -> None:
        self._preparing.add(id(calls))
        self._pool.submit(self._prepare, calls)

    def stalls(self, calls: list[Call]) -> bool:
        self._pool.replace_lost()
        return id(calls) in self._preparing

    def sleep(self) -> "Future[None]":
        return self._call(lambda device: device.residency.sleep())

    def wake(self) -> "Future[None]":
        return self._call(lambda device: device.residency.wake())

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self._device is not None:
            self._device.release(self._limit)

    @property
    def nbytes(self) -> int:
        return self._device.residency.nbytes if self._device is not None else 0

    @property
    def swaps(self) -> int:
        return self._device.residency.swaps if self._device is not None else 0

    def _prepare(self, calls: list[Call]) -> None:
        begun = time.perf_counter()
        try:
            device = self._shared()
            batch = calls[0].network.prepare(calls[0].op, [call.item for call in calls])
        except BaseException as error:  # delivered to its callers; a native panic is no Exception
            self._preparing.discard(id(calls))
            self._report.failed(self, calls, deliverable(error))
        else:
            self._preparing.discard(id(calls))
            prepared = time.perf_counter() - begun
            device.put(
                calls,
                batch,
                lambda results, seconds: self._report.done(self, calls, results, prepared, seconds),
                lambda error: self._report.failed(self, calls, error),
            )

    def _shared(self) -> Device:
        """The device, taken with the first batch and not before: resolving "auto" imports torch."""
        with self._lock:
            if self._device is None:
                self._device = share(self._name, self._limit)
            return self._device

    def _call(self, job: Callable[[Device], None]) -> "Future[None]":
        device = self._device
        if device is None:
            done: Future[None] = Future()
            done.set_result(None)
            return done
        return device.call(lambda: job(device))

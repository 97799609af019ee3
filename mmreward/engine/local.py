"""Placement of batches: its contract, and the usual one, this process with one of its devices.

A placement (`Placement`) has one or more places (`Place`). The engine queues calls by place, hands each place
a few batches ahead, and hears of each batch exactly once (`Report`). `Local` is one place: worker threads
prepare batches, and the device's thread (`device_thread`) forwards them one after another.

Knows neither rewards nor callers. `cluster.placement` is the other placement: Ray actors.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from .batching import Call, Network
from .device_thread import Device, Job, deliverable, share
from .devices import check_device
from .workers import Workers


class Report(Protocol):
    """Callbacks of a place into the engine, from any thread; every batch ends in exactly one of `done`,
    `failed` and `lost`."""

    def begun(self, place: "Place", calls: list[Call]) -> None:
        """Report that the batch runs in the room of rows that have ended: others may be given to the
        place."""

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
            job = Job(
                calls,
                batch,
                done=lambda results, seconds: self._report.done(self, calls, results, prepared, seconds),
                failed=lambda error: self._report.failed(self, calls, error),
                begun=lambda: self._report.begun(self, calls),
            )
            device.put(job)

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

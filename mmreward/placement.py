"""Where batches run, as the engine sees it, and the usual answer: this process, one device.

A placement has one or more places. The engine queues calls by place, hands each place a few batches ahead,
and is told what became of them.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from .batching import Call, Network
from .device import Device, deliverable, hold


class Report(Protocol):
    """What a place tells the engine, from any thread; every batch ends in exactly one of these."""

    def done(
        self, place: "Place", calls: list[Call], results: list[Any], prepared: float, forwarded: float
    ) -> None:
        """A result or an exception for each call, and the seconds spent preparing and forwarding."""

    def failed(self, place: "Place", calls: list[Call], error: Exception) -> None:
        """The batch as a whole raised; one of its calls may be to blame."""

    def lost(self, place: "Place", calls: list[Call], error: Exception, *, began: bool = True) -> None:
        """The place has died with this batch; `Placement.route` names another from now on.

        `began` is False when the batch cannot have been the cause, because none of it had run.
        """


class Place(Protocol):
    """Somewhere batches run."""

    def resident(self, network: Network) -> bool:
        """Whether the network can run at once, without being loaded first."""

    def run(self, calls: list[Call]) -> None:
        """Take one batch of one network and op, and report on it later."""


class Placement(Protocol):
    """All places of an engine."""

    def start(self, report: Report) -> None:
        """Called once, before anything else."""

    def route(self, call: Call) -> Place:
        """Where a call goes. Calls with equal shares should meet, so that caches stay warm."""

    def sleep(self) -> "Future[None]":
        """Take every network off its device; nothing runs at that time."""

    def wake(self) -> "Future[None]": ...

    def close(self) -> None:
        """Stop everything. Batches still running need not be reported."""

    @property
    def nbytes(self) -> int:
        """Bytes of weights on the devices."""

    @property
    def swaps(self) -> int:
        """Networks that had to leave a device so far."""


class Local:
    """This process: worker threads that prepare, and the one thread that owns the device.

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
        self._name = device
        self._limit = resident_bytes
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mmreward-prepare")
        self._lock = threading.Lock()
        self._device: Device | None = None
        self._report: Report

    def start(self, report: Report) -> None:
        self._report = report

    def route(self, call: Call) -> "Local":
        return self

    def resident(self, network: Network) -> bool:
        return self._device is not None and network in self._device.residency

    def run(self, calls: list[Call]) -> None:
        self._pool.submit(self._prepare, calls)

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
            device = self._held()
            batch = calls[0].network.prepare(calls[0].op, [call.item for call in calls])
        except BaseException as error:  # delivered to its callers; a native panic is no Exception
            self._report.failed(self, calls, deliverable(error))
        else:
            prepared = time.perf_counter() - begun
            device.put(
                calls,
                batch,
                lambda results, seconds: self._report.done(self, calls, results, prepared, seconds),
                lambda error: self._report.failed(self, calls, error),
            )

    def _held(self) -> Device:
        """The device, from the first batch on: resolving "auto" imports torch."""
        with self._lock:
            if self._device is None:
                self._device = hold(self._name, self._limit)
            return self._device

    def _call(self, job: Callable[[Device], None]) -> "Future[None]":
        device = self._device
        if device is None:
            done: Future[None] = Future()
            done.set_result(None)
            return done
        return device.call(lambda: job(device))

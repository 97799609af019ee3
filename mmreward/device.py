"""The thread that owns the device: the only place where networks are loaded, run and unloaded.

It takes prepared batches one after another and reports what became of each; why there was a batch, and who
waits for it, is the engine's business. There is one such thread per device and process.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .batching import Call, Network
from .residency import Residency, is_out_of_memory, release_memory

Done = Callable[[list[Any], float], None]
"""Called with a result or exception for each call, and the seconds the forward took."""
Failed = Callable[[Exception], None]
"""Called when the batch as a whole raised."""


class Device:
    """Runs batches and jobs in the order they come in, for every engine of the process that holds it."""

    def __init__(self, name: str) -> None:
        self.residency = Residency(name)
        self._limits: list[int | None] = []
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"mmreward-device {name}", daemon=True)
        self._thread.start()

    def put(self, calls: list[Call], batch: Any, done: Done, failed: Failed) -> None:
        """Run a prepared batch; the outcome is told on the device's thread."""
        self._jobs.put((calls, batch, done, failed))

    def call(self, job: Callable[[], None]) -> "Future[None]":
        """Run a function on the thread, between two batches."""
        future: Future[None] = Future()

        def run() -> None:
            try:
                job()
            except Exception as error:  # delivered to the caller
                future.set_exception(error)
            else:
                future.set_result(None)

        self._jobs.put(run)
        return future

    def release(self, limit: int | None) -> None:
        """Undo one `hold`; after the last, finish what has come in, unload everything and end the thread."""
        with _lock:
            self._limits.remove(limit)
            self._limit()
            if self._limits:
                return
            del _held[self.residency.device]
        self._jobs.put(None)
        self._thread.join()

    def _limit(self) -> None:
        self.residency.limit = min((limit for limit in self._limits if limit is not None), default=None)

    def _run(self) -> None:
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
            done([deliverable(error)] * len(calls), 0.0)
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


_held: dict[str, Device] = {}
_lock = threading.Lock()


def hold(name: str, limit: int | None = None) -> Device:
    """The process's one `Device` of this name, made if need be; the strictest of its holders' limits counts.

    Two threads that both believe to own a device would move each other's weights, and load them twice.
    """
    if name in ("auto", "cuda"):
        import torch

        name = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    with _lock:
        device = _held.get(name)
        if device is None:
            device = _held[name] = Device(name)
        device._limits.append(limit)
        device._limit()
    return device


def deliverable(error: BaseException) -> Exception:
    """The error as a future can carry it; a lack of memory without the frames that hold what did not fit."""
    if not isinstance(error, Exception) or isinstance(error, StopIteration):
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error.with_traceback(None) if is_out_of_memory(error) else error

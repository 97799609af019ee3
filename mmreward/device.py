"""The thread that owns the device: the only place where networks are loaded, run and unloaded.

It takes prepared batches one after another and reports what became of each; why there was a batch, and who
waits for it, is the engine's business.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .batching import Call, Network
from .residency import Residency, is_out_of_memory, release_memory

Done = Callable[[list[Call], list[Any], float, float], None]
"""Called with the calls, a result or exception for each, and the seconds spent preparing and forwarding."""
Failed = Callable[[list[Call], Exception], None]
"""Called when the batch as a whole raised."""


class Device:
    """Runs batches and jobs in the order they come in.

    Args:
        residency: which networks are loaded; from now on only this thread changes it.
        done, failed: called on this thread.
    """

    def __init__(self, residency: Residency, done: Done, failed: Failed) -> None:
        self.residency = residency
        self._done = done
        self._failed = failed
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mmreward-device", daemon=True)
        self._thread.start()

    def put(self, calls: list[Call], batch: Any, prepared: float) -> None:
        """Run a prepared batch."""
        self._jobs.put((calls, batch, prepared))

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

    def close(self) -> None:
        """Finish what has come in, unload everything, and end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if callable(job):
                job()
            else:
                self._run_batch(*job)
            del job
        self.residency.sleep()

    def _run_batch(self, calls: list[Call], batch: Any, prepared: float) -> None:
        begun = time.perf_counter()
        try:
            self._ensure(calls[0].network)
        except BaseException as error:  # no item is to blame: halving the batch would only load again
            self._done(calls, [deliverable(error)] * len(calls), prepared, 0.0)
            return
        try:
            results = self._forward(calls, batch)
        except BaseException as error:  # delivered to its callers; a native panic is no Exception
            self._failed(calls, deliverable(error))
            if is_out_of_memory(error):
                release_memory()
        else:
            self._done(calls, results, prepared, time.perf_counter() - begun)

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


def deliverable(error: BaseException) -> Exception:
    """The error as a future can carry it; a lack of memory without the frames that hold what did not fit."""
    if not isinstance(error, Exception) or isinstance(error, StopIteration):
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error.with_traceback(None) if is_out_of_memory(error) else error

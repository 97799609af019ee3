"""Worker threads that a hanging job cannot hold up: files that never end, templates that never stop.

A thread cannot be stopped. So a thread that has been at one job for long counts as lost and gets a
replacement, nobody waits for it at the end for more than seconds, and it does not keep the process alive, as
those of `concurrent.futures` do.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

STALL = 3.0
"""Seconds at one job after which a thread gets a replacement."""
MOST = 64
"""Threads of one set, lost ones included."""
CLOSING = 2.0
"""Seconds that running jobs have to end at a shutdown."""


class Workers(ThreadPoolExecutor):
    """Executor of daemon threads. A ThreadPoolExecutor in name, which is what asyncio asks for.

    Args:
        most: threads that work; those that hang are not counted.
        name: of the threads.
    """

    def __init__(self, most: int, name: str) -> None:
        if most < 1:
            raise ValueError(f"workers is at least 1 thread, not {most}")
        self._most, self._name = most, name
        self._ready = threading.Condition()
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._team: list[threading.Thread] = []
        self._since: dict[threading.Thread, float] = {}
        self._free = 0
        self._over = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Queue a job.

        Raises:
            RuntimeError: shut down.
        """
        done: Future[Any] = Future()
        with self._ready:
            if self._over:
                raise RuntimeError("these workers have been shut down")
            self._jobs.append((done, partial(fn, *args, **kwargs)))
            self._staff()
            self._ready.notify()
        return done

    def replace_lost(self) -> None:
        """Start a thread for jobs that wait behind hanging ones."""
        with self._ready:
            self._staff()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more jobs, and wait a bounded time for those that run."""
        with self._ready:
            self._over = True
            dropped = list(self._jobs) if cancel_futures else []
            if cancel_futures:
                self._jobs.clear()
            self._ready.notify_all()
        for done, _ in dropped:
            done.cancel()
        until = time.monotonic() + CLOSING
        for thread in self._team if wait else ():
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _staff(self) -> None:
        now = time.monotonic()
        lost = sum(now - since > STALL for since in self._since.values())
        able = len(self._team) - lost
        if len(self._jobs) > self._free and able < self._most and len(self._team) < MOST and not self._over:
            thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._team)}", daemon=True)
            self._team.append(thread)
            thread.start()

    def _work(self) -> None:
        thread = threading.current_thread()
        while True:
            with self._ready:
                self._since.pop(thread, None)
                while not self._jobs and not self._over:
                    self._free += 1
                    self._ready.wait()
                    self._free -= 1
                if not self._jobs:
                    return
                done, job = self._jobs.popleft()
                self._since[thread] = time.monotonic()
            if done.set_running_or_notify_cancel():
                try:
                    result = job()
                except BaseException as error:  # delivered to its caller
                    done.set_exception(error)
                else:
                    done.set_result(result)
                    del result
            del done, job  # an idle thread keeps nothing alive

"""Decoding in parallel: the threads that prepare batches, and helpers for processors that decode nothing just
then.

One thread prepares a batch, and a GPU waits for the first one: of sixteen processors fifteen would look on.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from ..engine.workers import Workers

MOST = 15
"""Helpers of a process."""


def processors() -> int:
    """Processors of this process: those it may use, or of several processes on a machine its share of them
    (`LOCAL_WORLD_SIZE`, which torchrun and accelerate set)."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, usable // max(1, int(told) if told.isdecimal() else 1))


class _Hands:
    """Account of the threads that decode, no more than there are processors, and the helpers among them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decoding = 0
        self._helpers: Workers | None = None

    def take(self, wanted: int) -> int:
        """How many of the wanted helpers there are processors for; with the caller they decode from then
        on."""
        with self._lock:
            taken = max(0, min(wanted, MOST, processors() - self._decoding - 1))
            self._decoding += 1 + taken
            return taken

    def leave(self) -> None:
        """One thread decodes no longer."""
        with self._lock:
            self._decoding -= 1

    def submit(self, work: Callable[[], None]) -> "Future[None]":
        with self._lock:
            if self._helpers is None:
                self._helpers = Workers(MOST, "mmreward-decode")
            return self._helpers.submit(work)


_hands = [_Hands()]


def _forget() -> None:
    _hands[0] = _Hands()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def helped(work: Callable[[], None], wanted: int) -> Iterator[None]:
    """Block in which helpers do the same work as the thread in it, as many of the wanted as find a free
    processor, and whose end waits for those that have begun.

    Args:
        work: takes what is left until there is nothing, on any thread, and does not raise.
        wanted: helpers that there is work for; none for 0 and less.
    """
    hands = _hands[0]

    def job() -> None:
        try:
            work()
        finally:
            hands.leave()

    helpers = [hands.submit(job) for _ in range(hands.take(wanted))]
    try:
        yield
    finally:
        hands.leave()
    for helper in helpers:
        if helper.cancel():
            hands.leave()
        else:
            helper.result()

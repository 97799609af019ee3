"""Asks the workers for algebra: is the truth readable, and is the answer equal to it. Never hangs.

Returns futures, so that it serves any thread and any event loop. One set of workers is shared by the whole
process.
"""

import os
import threading
from collections import OrderedDict
from concurrent.futures import Future
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..failures import Unscorable
from ..killable import Killable, Killed
from .math import Open

MOST_WORKERS = 8
MEMORY = 1 << 30
"""Bytes of address space of one worker."""
GOLDS = 4096


class Algebra:
    """Questions to one set of workers.

    Args:
        workers: processes at most; 0 for one per core, up to `MOST_WORKERS`.
    """

    def __init__(self, workers: int = 0) -> None:
        count = workers or min(MOST_WORKERS, os.cpu_count() or 1)
        self.workers = Killable("mmreward.verifiers.algebra_worker", workers=count, memory=MEMORY)
        self._golds: OrderedDict[tuple[str, float], Future[Any]] = OrderedDict()
        self._lock = threading.Lock()  # the truths are asked for from any thread

    def read(self, gold: str, seconds: float) -> "Future[Any]":
        """Whether the truth can be parsed: a future of "read" or "unread", shared by all who ask.

        A truth that hangs has done so once, and not again for each answer.
        """
        name = gold, seconds
        with self._lock:
            known = self._golds.get(name)
            if known is not None:
                self._golds.move_to_end(name)
                return known
            asked = self._golds[name] = self.workers.submit({"gold": gold}, seconds)
            if len(self._golds) > GOLDS:
                self._golds.popitem(last=False)
        asked.add_done_callback(partial(self._forget_accident, name))
        return asked

    def compare(self, pair: Open, seconds: float) -> "Future[Any]":
        """A future of "equal", "different" or "unread"; TimeoutError and `Killed` as in `Killable.submit`."""
        return self.workers.submit({"gold": pair.gold, "answer": pair.answer}, seconds)

    def _forget_accident(self, name: tuple[str, float], asked: "Future[Any]") -> None:
        if asked.cancelled() or isinstance(asked.exception(), Killed):
            with self._lock:
                self._golds.pop(name, None)


def require_math_verify() -> str:
    """The release of math-verify that is installed.

    Raises:
        ValueError: there is none; the message says how to get it.
    """
    try:
        return version("math-verify")
    except PackageNotFoundError:
        raise ValueError("math needs math-verify: pip install mmreward[math]") from None


def readable(reply: Any, gold: str) -> None:
    """Raise for a truth that the workers could not read: a fault of the data."""
    if reply != "read":
        raise Unscorable(f"the target {gold[:80]!r} cannot be read as mathematics; correct it")

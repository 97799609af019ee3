"""Watchdog of an engine's loop: notices that its thread is held, says by which reward, and ends the wait.

A coroutine that never awaits cannot be cancelled, and while it runs no timer of its loop does. So another
thread asks the loop for a sign of life a few times per second, as long as it scores. It can name what holds
the thread, as every task knows which one started it (`task_with_parent`).
"""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..scoring import GRACE, Evaluation

if TYPE_CHECKING:
    from .loop import Loop

T = TypeVar("T")
BEAT = 0.2
"""Seconds between two looks at a loop that scores."""
HELD = 5.0
"""Seconds for which a reward without a deadline may hold the thread before a warning names it."""
log = logging.getLogger("mmreward.engine")


class _Task(asyncio.Task[T]):
    parent: "asyncio.Task[Any] | None" = None


def task_with_parent(
    events: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **options: Any
) -> "_Task[T]":
    """Task factory of an engine's loop: tasks that know which task started them."""
    task = _Task(work, loop=events, **options)
    task.parent = asyncio.current_task(events)
    return task


class Watchdog:
    """Watchdog of one loop; its thread starts with the first scoring, and waits while there is none."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()
        self._over = threading.Event()
        self._named: set[str] = set()

    def begin(self) -> None:
        """Watch from now on."""
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="mmreward-watchdog", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Watch no more."""
        self._over.set()
        self._wanted.set()

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def where(self) -> str:
        """The line at which the loop's thread is, as the end of a sentence."""
        frame = sys._current_frames().get(self._loop.thread.ident or 0)
        return f"at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "somewhere"

    def _watch(self) -> None:
        alive, held = threading.Event(), 0.0
        alive.set()
        while self._wanted.wait() and not self._over.is_set():
            if alive.is_set():
                if not self._loop.scores():
                    self._wanted.clear()
                    if not self._loop.scores():  # none has begun since
                        continue
                alive.clear()
                held = 0.0
                self._loop.ask(alive)
            looked = time.monotonic()
            if alive.wait(BEAT):
                self._over.wait(BEAT)
                continue
            # A look that takes longer says that this process was stopped, or asleep with its machine.
            held += min(time.monotonic() - looked, 2 * BEAT)
            if held > GRACE:
                self._accuse(held)

    def _accuse(self, seconds: float) -> None:
        """Name what holds the thread, once; retire the loop if that is an evaluation beyond its deadline."""
        evaluation = self._holder()
        if evaluation is None:
            return
        late, where = evaluation.late(time.monotonic()) > GRACE, self.where()
        if (late or seconds > HELD) and evaluation.name not in self._named:
            self._named.add(evaluation.name)
            log.warning(
                "reward %s has held the engine's thread for %.1f s, %s, and all else waits for it: it should "
                "await, or do its work in asyncio.to_thread",
                evaluation.name,
                seconds,
                where,
            )
        if late:
            self._over.set()
            self._loop.retire(evaluation, f"it holds the engine's thread, {where}")

    def _holder(self) -> Evaluation | None:
        task = asyncio.current_task(self._loop.events)
        while task is not None:
            if (found := self._loop.evaluation_of(task)) is not None:
                return found
            task = getattr(task, "parent", None)
        return None

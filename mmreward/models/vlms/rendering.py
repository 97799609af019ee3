"""Chat templates under a deadline: a template is a program that came with the weights, and may not end.

It runs as Python on the thread that needs its text, and no thread can be stopped from outside, except by an
exception that the interpreter raises in it between two instructions. A watcher raises it when the thread has
spent too much of its own time: a busy machine is nobody's fault.
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable

from ...errors import Unscorable
from ...limits import limits, most

TRIES = 3
"""Conversations that a template may fail to end before it counts as broken for all."""
_POLL = 0.05


class _Stop(BaseException):
    """Raised in a thread by the watcher; no Exception, so that no template's error handling takes it."""


class _Arrived(BaseException):
    """Raised in a thread by itself, see `_take_back`."""


class _Ticket:
    """One rendering under way on this thread."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.clock = time.pthread_getcpuclockid(self.thread)
        self.limit = time.clock_gettime(self.clock) + limits().template_seconds
        self.lock = threading.Lock()
        self.over = self.fired = False

    def check(self) -> None:
        """By the watcher: stop the thread if it has spent its time."""
        with self.lock:
            if not self.over and not self.fired and time.clock_gettime(self.clock) > self.limit:
                self.fired = True
                _raise_in(self.thread, _Stop)

    def end(self) -> None:
        """By the thread: from here on it is not stopped, also if that was under way."""
        with self.lock:
            self.over = True
            if self.fired:
                _take_back()


class Renderer:
    """Renderer of one model's chat template, within limits.

    Args:
        name: of the model, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._endless = 0

    def text(self, render: Callable[[], str]) -> str:
        """Text of one conversation. A template that did not end `TRIES` times is not tried again.

        Args:
            render: renders; in Python, without taking locks that others need.

        Raises:
            Unscorable: "timeout", it took more than `Limits.template_seconds`; or it wrote more than
                `Limits.template_characters`.
        """
        if self._endless >= TRIES:
            raise self._late()
        ticket = _Ticket()
        _watcher.watch(ticket)
        try:
            try:
                text = render()
            finally:
                ticket.end()
                _watcher.forget(ticket)
        except _Stop:
            ticket.end()  # it may have been interrupted in there
            _watcher.forget(ticket)
            self._endless += 1
            raise self._late() from None
        if len(text) > limits().template_characters:
            raise Unscorable(
                f"the chat template of {self._name} writes {len(text)} characters, above "
                f"{most('template_characters')}"
            )
        return text

    def _late(self) -> Unscorable:
        seconds = most("template_seconds", "s of processor time")
        reason = f"the chat template of {self._name} does not end within {seconds}"
        return Unscorable(reason, "timeout")


class _Watcher:
    """Thread that checks the renderings under way; it waits while there are none."""

    def __init__(self) -> None:
        self._tickets: set[_Ticket] = set()
        self._some = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, ticket: _Ticket) -> None:
        self._tickets.add(ticket)
        self._some.set()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mmreward-rendering", daemon=True)
                self._thread.start()

    def forget(self, ticket: _Ticket) -> None:
        self._tickets.discard(ticket)

    def _run(self) -> None:
        while self._some.wait():
            time.sleep(_POLL)
            self._some.clear()
            for ticket in list(self._tickets):
                self._some.set()
                ticket.check()


_watcher = _Watcher()


def _forget_all() -> None:
    """In a fork, which has neither the thread nor its tickets."""
    _watcher.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_forget_all)


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Raise an exception in a thread at its next instruction, in the place of one that has not arrived."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _take_back() -> None:
    """Take back from this thread an exception that has not arrived, by one that arrives here.

    CPython 3.11 can also set none in its place, but leaves the sign up that there is one, for good: from
    then on the whole process takes the long way at every check, and under a profiler it never ends.
    """
    try:
        _raise_in(threading.get_ident(), _Arrived)
        for _ in range(100):
            pass
    except _Arrived:
        pass

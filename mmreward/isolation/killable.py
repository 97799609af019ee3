"""Processes that can be killed, for work that may hang or eat the memory: symbolic algebra above all.

A thread cannot be stopped, and a signal reaches only the main one, so each job runs in a process of its own
program with a deadline. The kernel keeps the deadline too (an alarm without a handler), so that a job which
holds the interpreter's lock dies, and an orphan does not outlive its job. Nothing is forked from the parent,
which may hold a GPU: a worker is a fresh interpreter, and imports only what its module needs.

Knows processes and lines of JSON, not what is asked in them. `child.Child` is for rewards in other
interpreters, whose requests share an engine; there one hanging request cannot be ended without the others.
"""

# FOLDED mmreward/jobs.py: The worker's side of `killable`: a loop that answers jobs, one a line, and can be ended at any moment.

import atexit
import json
import os
import queue
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple

READY = "ready"
"""What a worker says when it may be given work."""


def answer_jobs(answer: Callable[[Any], Any], warm: Callable[[], object]) -> None:
    """What a worker's module runs: answer each job of stdin on stdout, until stdin ends.

    The first argument of the command line is the limit of the address space. Whatever the answer raises is
    told as {"raised": the exception's name}.

    Args:
        answer: from a job to its answer, both what JSON can hold.
        warm: done once before the first job, so that no deadline pays for imports.
    """
    jobs, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    try:
        warm()
    except Exception as error:  # said by the parent, to whom it means something
        _say(replies, f"{type(error).__name__}: {error}")
        return
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends us, whatever holds the interpreter
    _say(replies, READY)
    for line in jobs:
        seconds, _, job = line.decode().partition(" ")
        signal.setitimer(signal.ITIMER_REAL, float(seconds))
        try:
            reply = answer(json.loads(job))
        except Exception as error:  # MemoryError and RecursionError are answers too
            reply = {"raised": type(error).__name__}
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say(replies, reply)


def _say(replies: Any, reply: Any) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


START = 120.0
"""Seconds that a worker may take to import what it needs; not counted against any job."""
SLACK = 0.5
"""Seconds after the deadline at which the kernel ends a worker whose parent did not."""
_LONGEST = 1 << 20
"""Bytes of a reply; a longer one is a worker gone mad."""


class Killed(RuntimeError):  # noqa: N818 - reads as what it says at the raise
    """The job was ended: its process died, or could not start. Running out of time raises TimeoutError."""


class Killable:
    """Worker processes that answer one job at a time each; safe to use from any thread.

    Workers start when there is work and no idle one, and stay warm. One that is killed, by the deadline, by
    the kernel for its memory or by anybody, costs its own job and is replaced at the next.

    Args:
        module: run by each worker as `python -m module`; it calls `jobs.answer_jobs`.
        workers: processes at most.
        memory: bytes of address space of each, above which it gets a MemoryError.
    """

    def __init__(self, module: str, *, workers: int = 2, memory: int = 1 << 30) -> None:
        if workers < 1 or memory < 1 << 28:
            raise ValueError(f"at least one worker with 256 MiB, not {workers} with {memory} bytes")
        self._command = [sys.executable, "-P", "-m", module, str(memory)]
        self._most = workers
        self._reset()
        _pools.add(self)

    def submit(self, job: Any, seconds: float) -> "Future[Any]":
        """Queue a job, anything that JSON can hold; the future is its answer.

        The deadline counts from when a worker takes the job. A job that is cancelled while it waits is never
        begun. The future's exception is TimeoutError when the deadline passed, and `Killed` when the worker
        died or could not start.

        Raises:
            RuntimeError: closed.
            ValueError: the deadline is not above 0.
        """
        if not seconds > 0:
            raise ValueError(f"a deadline of {seconds} s leaves no time; give one above 0")
        task = _Task(json.dumps(job), seconds, Future())
        with self._lock:  # the number of threads, and that nothing comes in behind the one who closes
            if self._closed:
                raise RuntimeError("these workers have been closed")
            self._waiting += 1
            self._tasks.put(task)
            if self._waiting > self._idle and len(self._threads) < self._most:
                thread = threading.Thread(target=self._serve, name="mmreward-killable", daemon=True)
                self._threads.append(thread)
                self._idle += 1
                thread.start()
        return task.answer

    def close(self) -> None:
        """End every worker at once and fail what waits. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._tasks.put(None)
            workers, threads = list(self._workers), list(self._threads)
        for worker in workers:
            worker.kill()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(START)

    @property
    def processes(self) -> list[int]:
        """The ids of the workers that run now."""
        with self._lock:
            return [worker.pid for worker in self._workers]

    def _reset(self) -> None:
        """As new; also in a fork, which has none of the threads and must not keep the pipes open."""
        for worker in getattr(self, "_workers", ()):
            worker.forget()
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._workers: set[_Worker] = set()
        self._waiting, self._idle = 0, 0
        self._closed = False

    # --- on the thread of one worker --------------------------------------------------------------

    def _serve(self) -> None:
        worker: _Worker | None = None
        while (task := self._tasks.get()) is not None:
            with self._lock:
                self._waiting -= 1
                self._idle -= 1
                closed = self._closed
            if closed:
                task.answer.cancel()
            elif task.answer.set_running_or_notify_cancel():
                worker = self._attempt(task, worker)
            with self._lock:
                self._idle += 1
        self._drop(worker)

    def _attempt(self, task: "_Task", worker: "_Worker | None") -> "_Worker | None":
        """Settle the task; returns the worker if it can take another."""
        try:
            if worker is None or not worker.alive:
                self._drop(worker)
                worker = self._start()
            answer = worker.ask(task.job, task.seconds)
        except Exception as error:  # delivered to whoever asked, whatever it is
            self._drop(worker)
            task.answer.set_exception(error)
            return None
        task.answer.set_result(answer)
        return worker

    def _start(self) -> "_Worker":
        worker = _Worker(self._command)
        with self._lock:
            self._workers.add(worker)
            closed = self._closed
        try:
            if closed:
                raise Killed("these workers have been closed")
            if (said := worker.receive(START)) != READY:
                raise Killed(str(said))
        except Exception as error:
            self._drop(worker)
            raise Killed(f"a worker could not start: {error}") from error
        return worker

    def _drop(self, worker: "_Worker | None") -> None:
        if worker is not None:
            worker.end()
            with self._lock:
                self._workers.discard(worker)


class _Task(NamedTuple):
    job: str
    seconds: float
    answer: "Future[Any]"


class _Worker:
    """One process, owned by one thread; `kill` may be called from another."""

    def __init__(self, command: list[str]) -> None:
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # threads of BLAS would fill the address space
            start_new_session=True,  # so that Ctrl-C is ours alone
            bufsize=0,
        )
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._in, self._out = self._popen.stdin, self._popen.stdout

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def ask(self, job: str, seconds: float) -> Any:
        """Send a job and wait for its answer.

        Raises:
            TimeoutError, Killed
        """
        message = memoryview(f"{seconds + SLACK} {job}\n".encode())
        try:
            while message:
                message = message[self._in.write(message) or 0 :]
        except OSError:
            raise Killed("the worker was gone") from None
        return self.receive(seconds)

    def receive(self, seconds: float) -> Any:
        """The next line it says."""
        until = time.monotonic() + seconds
        said = b""
        while not said.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not _readable(self._out.fileno(), left):
                raise TimeoutError(f"no answer within {seconds:g} s")
            more = os.read(self._out.fileno(), 1 << 16)
            if not more:
                raise _death(self._popen.wait(), seconds)
            said += more
            if len(said) > _LONGEST:
                raise Killed(f"the worker said more than {_LONGEST} bytes")
        return json.loads(said)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._popen.kill()

    def end(self) -> None:
        self.kill()
        self._popen.wait()
        self.forget()

    def forget(self) -> None:
        for pipe in (self._in, self._out):
            with suppress(OSError):
                pipe.close()


def _readable(file: int, seconds: float) -> bool:
    poll = select.poll()  # select() refuses file numbers above 1023, which a trainer may well have
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _death(code: int, seconds: float) -> Exception:
    if code == -signal.SIGALRM:  # the kernel was there before us
        return TimeoutError(f"no answer within {seconds:g} s")
    cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return Killed(f"the worker {cause}")


_pools: "weakref.WeakSet[Killable]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


def _forget_all() -> None:
    for pool in list(_pools):
        pool._reset()


os.register_at_fork(after_in_child=_forget_all)

"""Killable workers: processes that answer one job at a time under a hard deadline, for algebra and code.

A thread cannot be stopped, and a signal reaches only the main one, so each job runs in a process of its own
program. The deadline is kept twice: the parent kills the worker, and the kernel does (an alarm without a
handler), so that a job which holds the interpreter's lock dies and an orphan does not outlive its job.
Nothing is forked from the parent, which may hold a GPU: a worker is a fresh interpreter that imports only
what its module needs.

Processes and messages are those of `process` and `protocol`. `child.Child` is for rewards in other
interpreters, whose requests share an engine: there one hanging request cannot be ended without the others.
Here one job is one process, nothing is sent twice, and a worker's death costs its own job.

Not multiprocessing, nor a pool built on it (concurrent.futures, pebble): such workers import the caller's
main module, so that a trainer's script without a main guard starts itself again, torch and all, and a
daemonic process, such as a data loader's worker, may not have any. In pebble 5.2 a worker that dies idle
breaks its pool.
"""

import asyncio
import atexit
import os
import resource
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .process import Process, inherited
from .protocol import Largest, Message, hello, pack, read_blocking

START = 120.0
"""Seconds that a worker may take to import what it needs; not counted against any job."""
SLACK = 0.5
"""Seconds after the deadline at which the kernel ends a worker whose parent did not."""


class Killed(RuntimeError):  # noqa: N818 - reads as what it says at the raise
    """The job was ended: its process died, or could not start. Running out of time raises TimeoutError."""


class Killable:
    """Worker processes that answer one job at a time each; safe to use from any thread.

    Workers start when there is work and no idle one, and stay warm. One that is killed, by the deadline, by
    the kernel for its memory or by anybody, costs its own job and is replaced at the next.

    Args:
        module: run by each worker as `python -m module`; it calls `answer_jobs`.
        workers: processes at most.
        memory: bytes of address space of each, above which it gets a MemoryError.

    Raises:
        ValueError: no worker, or less memory than an interpreter needs.
    """

    _loop: asyncio.AbstractEventLoop | None
    _thread: threading.Thread | None

    def __init__(self, module: str, *, workers: int = 2, memory: int = 1 << 30) -> None:
        if workers < 1 or memory < 1 << 28:
            raise ValueError(f"at least one worker with 256 MiB, not {workers} with {memory} bytes")
        self._module, self._memory = module, memory
        self._most = workers
        self._reset()
        _pools.add(self)

    def submit(self, job: Any, seconds: float, blobs: Sequence[bytes] = ()) -> "Future[Any]":
        """Queue a job, anything that JSON can hold, and bytes beside it; the future is its answer.

        The deadline counts from when a worker takes the job. A job that is cancelled while it waits is never
        begun; one that is cancelled while it runs ends with its worker. The future's exception is
        TimeoutError when the deadline passed, and `Killed` when the worker died or could not start.

        Raises:
            RuntimeError: closed.
            ValueError: the deadline is not above 0.
        """
        if not seconds > 0:
            raise ValueError(f"a deadline of {seconds} s leaves no time; give one above 0")
        task = _Task(job, seconds, list(blobs))
        with self._lock:  # so that nothing is queued behind the end of the loop
            if self._closed:
                raise RuntimeError("these workers have been closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run_loop, name="mmreward-killable", daemon=True)
                self._thread.start()
            self._loop.call_soon_threadsafe(self._enqueue, task)
        task.answer.add_done_callback(partial(self._answered, self._loop, task))
        return task.answer

    def close(self) -> None:
        """End every worker at once and cancel the jobs that wait. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            if self._loop is not None:
                with suppress(RuntimeError):  # closed before
                    self._loop.call_soon_threadsafe(self._closing.set)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(START)

    def _answered(self, loop: asyncio.AbstractEventLoop, task: "_Task", answer: "Future[Any]") -> None:
        if answer.cancelled():
            with suppress(RuntimeError):  # closed: the worker has been killed
                loop.call_soon_threadsafe(task.given_up.set)

    @property
    def processes(self) -> list[int]:
        """The ids of the workers that run now."""
        return [process.pid for process in list(self._processes)]

    def _reset(self) -> None:
        """As new; also in a fork, which has none of the threads and must not keep the sockets open."""
        self._lock = threading.Lock()
        self._loop = None
        self._thread = None
        self._closed = False
        self._closing = asyncio.Event()
        self._tasks: asyncio.Queue[_Task | None] = asyncio.Queue()
        self._servers: list[asyncio.Task[None]] = []
        self._idle = 0
        self._processes: set[Process] = set()

    def _forget(self) -> None:
        for process in self._processes:
            process.close_in_fork()
        if self._loop is not None:
            _of_the_parent.append(self._loop)
        self._reset()

    # --- on the thread of the loop ----------------------------------------------------------------

    def _run_loop(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve_until_closed())
        self._loop.close()

    async def _serve_until_closed(self) -> None:
        await self._closing.wait()
        for _ in self._servers:
            self._tasks.put_nowait(None)
        for process in self._processes:
            process.kill()
        await asyncio.gather(*self._servers)

    def _enqueue(self, task: "_Task") -> None:
        self._tasks.put_nowait(task)
        if self._tasks.qsize() > self._idle and len(self._servers) < self._most:
            self._idle += 1
            self._servers.append(asyncio.get_running_loop().create_task(self._serve()))

    async def _serve(self) -> None:
        """Answer tasks, one after another, by one process, started again when it is gone."""
        process: Process | None = None
        while (task := await self._tasks.get()) is not None:
            self._idle -= 1
            if self._closed:
                task.answer.cancel()
            elif not task.answer.cancelled():
                process = await self._attempt(task, process)
            self._idle += 1
        await self._drop(process)

    async def _attempt(self, task: "_Task", process: Process | None) -> Process | None:
        """Settle the task; returns the process if it can take another."""
        try:
            if process is None or not process.alive:
                await self._drop(process)
                process = None
                if self._closed:
                    raise Killed("these workers have been closed")
                process = await self._start()
                if task.answer.cancelled():
                    return process
            answer = await _answer_of(process, task)
        except Exception as error:  # delivered to the caller
            await self._drop(process)
            _settle(task.answer, error)
            return await self._replaced() if isinstance(error, TimeoutError) else None
        _settle(task.answer, answer)
        return process

    async def _replaced(self) -> Process | None:
        """A process in the place of one that was killed, so that no later job waits for its start."""
        with suppress(Killed):  # the next job says why
            return await self._start() if not self._closed else None
        return None

    async def _start(self) -> Process:
        # OMP_NUM_THREADS: the stacks of BLAS's threads would fill the address space.
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = Process(sys.executable, self._module, [str(self._memory)], env)
        self._processes.add(process)
        try:
            async with asyncio.timeout(START):
                await process.greet()
        except Exception as error:
            await self._drop(process)
            ending = await process.end()
            why = f"the worker {ending.how}" if ending.code is not None else f"{error}"
            raise Killed(f"a worker could not start: {why or f'no answer within {START:g} s'}") from error
        return process

    async def _drop(self, process: Process | None) -> None:
        if process is not None:
            await process.end()
            self._processes.discard(process)


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    job: Any
    seconds: float
    blobs: list[bytes]
    answer: "Future[Any]" = field(default_factory=Future)
    given_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set on the loop when the answer was cancelled."""


def _settle(answer: "Future[Any]", result: Any) -> None:
    if answer.cancelled() or not answer.set_running_or_notify_cancel():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


async def _answer_of(process: Process, task: _Task) -> Any:
    """Send a job and read its answer.

    Raises:
        TimeoutError: the deadline passed, or nobody waits any more; the process still runs, or the kernel has
            ended it.
        Killed: the process died, or sent something else.
        WireError: the job cannot be sent.
    """
    late = TimeoutError(f"no answer within {task.seconds:g} s")
    message = Message({"job": task.job, "seconds": task.seconds + SLACK}, task.blobs)
    exchange = asyncio.create_task(_exchange(process, message))
    given_up = asyncio.create_task(task.given_up.wait())
    both = (exchange, given_up)
    await asyncio.wait(both, timeout=task.seconds, return_when=asyncio.FIRST_COMPLETED)
    for one in both:
        one.cancel()
    if not exchange.done():
        raise late
    reply = exchange.result()
    if reply is None:
        ending = await process.end()
        raise late if ending.code == -signal.SIGALRM else Killed(f"the worker {ending.how}")
    if "answer" not in reply:
        raise Killed(f"the worker said {str(reply)[:100]}, which is no answer")
    return reply["answer"]


async def _exchange(process: Process, message: Message) -> dict[str, Any] | None:
    await process.send(message)
    return await process.read()


# --- the worker's side ----------------------------------------------------------------------------


def answer_jobs(answer: Callable[..., Any], warm: Callable[[], object]) -> None:
    """Answer jobs until the parent is gone; the main function of a worker's module.

    The arguments of the command line are the socket's number and the limit of the address space in bytes. An
    exception of `answer` becomes the answer {"raised": the exception's name}.

    Args:
        answer: from a job, and the bytes that came beside it, to its answer; jobs and answers are what JSON
            can hold.
        warm: called once before the first job, so that no deadline pays for imports.
    """
    sock, memory = inherited(), int(sys.argv[2])
    try:
        warm()
    except Exception as error:  # raised by the parent, to whom it means something
        sock.sendall(pack(Message({"failed": f"{type(error).__name__}: {error}"}, [])))
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends us, whatever holds the interpreter
    sock.sendall(pack(hello()))
    stream = sock.makefile("rb")
    while (message := read_blocking(stream, Largest())) is not None:
        signal.setitimer(signal.ITIMER_REAL, message.header["seconds"])
        try:
            reply = pack(Message({"answer": answer(message.header["job"], *message.blobs)}, []))
        except Exception as error:  # MemoryError and RecursionError are answers too
            reply = pack(Message({"answer": {"raised": type(error).__name__}}, []))
        signal.setitimer(signal.ITIMER_REAL, 0)
        sock.sendall(reply)


_pools: "weakref.WeakSet[Killable]" = weakref.WeakSet()
_of_the_parent: list[asyncio.AbstractEventLoop] = []
"""In a fork, the loops of its parent, kept for good: to collect one would take the parent's sockets out of an
epoll that both share."""


@atexit.register
def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


def _forget_all() -> None:
    for pool in list(_pools):
        pool._forget()


os.register_at_fork(after_in_child=_forget_all)

"""Supervisor of a reward's own interpreter: starts it, sends it requests, starts it again when it dies.

`Request` is one question and its reply, `Outbox` the order in which requests go and what a death means for
each, `Child` the process that is kept running. Knows nothing of what a request asks. Everything happens on
one thread with an event loop, so there is one owner, and one lock: between `submit` and the end of that loop.

Replays: whatever a process was working on when it died may be the cause. Those requests are sent again one at
a time, nothing beside them, before anything else: so the one that kills the process a second time has been
found, and takes no other with it. Scoring has no side effects, so a request that is sent twice costs time
only.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from ..config import EngineConfig
from ..errors import Unscorable
from .process import LAST_WORDS, Process
from .protocol import Message, WireError

WORKER = "mmreward.isolation.worker"
IN_FLIGHT = 256
"""Requests a process has at once: a full batch, and few enough that their pictures fit into memory."""
DEATHS = 2
"""Times a process may die with a request before the request is blamed."""

START, LOAD = 120.0, 600.0
"""Seconds an interpreter may take to say hello, and a reward to load in it."""
GRACE = 10.0
"""Seconds in which a process must confirm that it has cancelled a request, or be killed."""
STARTS, DEATHS_IN_A_ROW = 3, 16
"""Failed starts, and deaths without a reply between them, after which the child is given up."""
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_NOT_ITS_OWN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
"""Variables that describe this interpreter's packages, not those of another."""

Reply = dict[str, Any]


class Request:
    """One request: a function that packs its message, and the future of its reply.

    Args:
        pack: returns the message without its id; called again when the process has died.
        loads: the number of the reward that this loads, if it loads one.
    """

    def __init__(self, pack: Callable[[], Message], *, loads: int | None = None) -> None:
        self.pack = pack
        self.loads = loads
        self.reply: Future[Reply] = Future()
        self.id = 0
        self.deaths = 0
        self.written = False

    def settle(self, result: Reply | Exception) -> None:
        """Deliver the reply, unless the caller has cancelled it."""
        if self.reply.done() or not self.reply.set_running_or_notify_cancel():
            return
        if isinstance(result, Exception):
            self.reply.set_exception(result)
        else:
            self.reply.set_result(result)


class Outbox:
    """Requests of one child without a reply: waiting, suspect, or sent. All methods are for one thread."""

    def __init__(self) -> None:
        self._queue: deque[Request] = deque()
        self._suspects: deque[Request] = deque()
        self._sent: dict[int, Request] = {}
        self._alone = False
        self._ids = 0

    def add(self, request: Request) -> None:
        self._queue.append(request)

    def waiting(self) -> bool:
        """True when there is something to send; cancelled requests are dropped."""
        for line in (self._suspects, self._queue):
            while line and line[0].reply.done():
                line.popleft()
        return bool(self._suspects or self._queue)

    def next(self) -> Request | None:
        """The next request that may be sent, which counts as sent from now on; None if it must wait.

        A suspect goes when nothing else is under way, and nothing follows it before its reply: if the process
        dies now, there is one cause only.
        """
        if not self.waiting():
            return None
        if not self._sent:
            self._alone = False
        if self._suspects:
            if self._sent:
                return None
            self._alone = True
            return self._number(self._suspects.popleft())
        if self._alone or len(self._sent) >= IN_FLIGHT:
            return None
        return self._number(self._queue.popleft())

    def under_way(self, request: Request) -> bool:
        """True from `next` until `pop` or a death."""
        return self._sent.get(request.id) is request

    def written(self, reply: "Future[Reply]") -> Request | None:
        """The request of this reply, if its message has gone to the process."""
        return next((one for one in self._sent.values() if one.reply is reply and one.written), None)

    def pop(self, number: Any) -> Request | None:
        """Take out the request with this id; None when no such request is under way."""
        return self._sent.pop(number, None) if isinstance(number, int) else None

    def replay(self, reason: str, *, blame: bool) -> None:
        """After a death, queue what was under way again, first; what has now died DEATHS times fails.

        Args:
            reason: of the failure.
            blame: True when a request may be the cause; not if we killed the process ourselves.
        """
        for request in reversed(self._sent.values()):
            request.deaths += blame
            if request.deaths == DEATHS:
                # It has been sent twice, the second time alone: another reason for the second death is
                # possible, such as the machine's lack of memory, but to try for ever would stop all that
                # waits behind it.
                request.settle(Unscorable(reason))
            else:
                (self._suspects if request.deaths else self._queue).appendleft(request)
        self._sent.clear()

    def fail(self, reason: str) -> None:
        """Settle every request with a failure."""
        for request in (*self._sent.values(), *self._suspects, *self._queue):
            request.settle(Unscorable(reason))
        self._sent.clear()
        self._suspects.clear()
        self._queue.clear()

    def _number(self, request: Request) -> Request:
        self._ids += 1
        request.id, request.written = self._ids, False
        self._sent[request.id] = request
        return request


class Child:
    """One interpreter, kept running as long as requests wait.

    Args:
        python: the interpreter's path.
        engine: the size of the engine in it.
        env: variables added to its environment.
    """

    def __init__(self, python: str, engine: EngineConfig, env: dict[str, str]) -> None:
        self.python = python
        self.rewards: dict[int, Request] = {}
        """The request that loads each reward in use; a process that is started again gets these first."""
        self._arguments = [engine.model_dump_json()]
        self._env = env
        self._process: Process | None = None
        self._outbox = Outbox()
        self._deaths = 0
        self._given_up = ""
        self._blame = True
        self._changed = asyncio.Event()
        self._packing = ThreadPoolExecutor(1, "mmreward-pack")
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] = self._loop.create_task(self._run())
        self._thread = threading.Thread(target=self._run_loop, name="mmreward-child", daemon=True)
        self._thread.start()

    # --- for any thread ---------------------------------------------------------------------------

    def submit(self, request: Request, *, restart: bool = False) -> "Future[Reply]":
        """Queue a request. Cancelling the future takes it back. Its exception is `Unscorable` when the child
        cannot answer.

        Args:
            request: its reply is the future returned.
            restart: start the interpreter again even if it has been given up.

        Raises:
            RuntimeError: closed, or this is a fork of the process that started it.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(f"this process was forked from the one that uses {self.python}: load again")
        request.reply.add_done_callback(self._replied)
        with self._lock:  # so that nothing is queued behind the end of the loop
            if self._closed:
                raise RuntimeError(f"{self.python} has been closed")
            self._loop.call_soon_threadsafe(self._enqueue, request, restart)
        return request.reply

    def stop(self) -> None:
        """End the process and fail all requests; does not wait. Stopping twice is harmless."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._main.cancel)

    def join(self) -> None:
        """Wait, a bounded time, until everything that `stop` ends has ended."""
        if threading.current_thread() is not self._thread:
            self._thread.join(2 * LAST_WORDS + _LONGEST_PAUSE)

    def call_soon(self, job: Callable[[], object]) -> None:
        """Run a function on the child's thread, if that still runs. Safe inside the garbage collector."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(job)

    def close_in_fork(self) -> None:
        """Close a fork's copy of the socket: the process ends with its parent, not with the fork."""
        if self._process is not None:
            self._process.close_in_fork()

    def _replied(self, reply: "Future[Reply]") -> None:
        if reply.cancelled():
            self.call_soon(partial(self._cancel, reply))

    # --- on the child's thread --------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._main)
        finally:
            with self._lock:
                self._closed = True
            self._loop.run_until_complete(asyncio.sleep(0))  # what came in until then is settled
            self._packing.shutdown(cancel_futures=True)
            self._loop.close()

    def _enqueue(self, request: Request, restart: bool) -> None:
        if restart:
            self._given_up, self._deaths = "", 0
        if self._given_up:
            request.settle(Unscorable(self._given_up))
            return
        self._outbox.add(request)
        self._changed.set()

    def _cancel(self, reply: "Future[Reply]") -> None:
        """Cancel a request in the process; one that is only queued is passed over when its turn comes."""
        request = self._outbox.written(reply)
        if request is not None and self._process is not None:
            self._process.post(Message({"op": "cancel", "id": request.id}, []))
            self._loop.call_later(GRACE, self._kill_hanging, request, self._process)

    def _kill_hanging(self, request: Request, process: Process) -> None:
        """Kill a process that has not confirmed a cancellation: it hangs; no other request is to blame."""
        if self._outbox.under_way(request) and process is self._process:
            self._blame = False
            process.kill()

    async def _run(self) -> None:
        failed = 0
        try:
            while True:
                while not self._outbox.waiting():
                    self._changed.clear()
                    await self._changed.wait()
                try:
                    process = await self._start()
                except (OSError, WireError) as error:
                    failed += 1
                    if failed == STARTS:
                        failed = 0
                        self._give_up(f"{self.python} could not be started, {STARTS} times: {error}")
                    await self._pause(failed)
                    continue
                failed = 0
                await self._exchange(process)
                await self._pause(self._deaths)
        finally:
            if self._process is not None:
                await self._process.end()
            self._give_up(f"{self.python} has been closed")

    async def _pause(self, failures: int) -> None:
        if failures:
            await asyncio.sleep(min(_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE))

    async def _start(self) -> Process:
        """Start the process, shake hands, and load again what was loaded.

        Raises:
            OSError, WireError: it cannot be started, died on the way, or speaks another protocol.
        """
        ours = {name: value for name, value in os.environ.items() if name not in _NOT_ITS_OWN}
        process = Process(self.python, WORKER, self._arguments, {**ours, **self._env})
        self._process = process
        try:
            async with asyncio.timeout(START):
                await process.greet()
            for number, request in list(self.rewards.items()):
                message = request.pack()
                message.header["id"] = -number
                async with asyncio.timeout(LOAD):
                    await process.request(message)
        except (TimeoutError, WireError) as error:
            self._process = None
            raise WireError(f"{str(error) or 'it took too long'} ({await process.end()})") from None
        return process

    async def _exchange(self, process: Process) -> None:
        """Send requests and deliver replies until the process is gone; then replay or fail the rest."""
        why = ""
        sender = asyncio.create_task(self._send_all(process))
        try:
            while (reply := await process.read()) is not None:
                self._deliver(reply)
        except WireError as error:
            why = f"{error}; "
        finally:
            sender.cancel()
        how = f"{why}{await process.end()}"
        self._process = None
        self._outbox.replay(f"{self.python} died of this request, {DEATHS} times: {how}", blame=self._blame)
        self._blame = True
        self._deaths += 1
        if self._deaths == DEATHS_IN_A_ROW:
            self._give_up(f"{self.python} died {DEATHS_IN_A_ROW} times without an answer in between: {how}")

    async def _send_all(self, process: Process) -> None:
        while True:
            while (request := self._outbox.next()) is None:
                self._changed.clear()
                await self._changed.wait()
            try:
                message = await self._loop.run_in_executor(self._packing, request.pack)  # reads files
                message.header["id"] = request.id
                if not request.reply.done():
                    request.written = True
                    await process.send(message)
                    continue
            except Exception as error:  # delivered to its caller: this request cannot be sent
                request.settle(error)
            self._outbox.pop(request.id)

    def _deliver(self, reply: Reply) -> None:
        request = self._outbox.pop(reply.get("id"))
        if request is None:
            raise WireError(f"a reply to nothing: {str(reply)[:100]}")
        self._deaths = 0
        if "loaded" in reply and request.loads is not None:
            self.rewards[request.loads] = request
        request.settle(reply)
        self._changed.set()

    def _give_up(self, reason: str) -> None:
        """Fail every request, now and until a reward is loaded again."""
        self._given_up = reason
        self._outbox.fail(reason)

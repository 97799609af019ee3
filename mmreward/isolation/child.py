"""The parent's side of an interpreter of its own: starts it, hands it requests, starts it again when it dies.

Knows processes and requests, not what is asked in them. Everything happens on one thread with an event loop,
so there is one owner and, but for the closing of the door, no lock.
"""

# FOLDED mmreward/outbox.py: Requests on their way to a process that may die: which goes next, and what a death means for each.
#
# Whatever a process was working on when it died may be the cause. Those requests are sent again one at a time,
# nothing beside them, before anything else: so the one that kills it a second time has been found, and takes
# nobody with it. Knows nothing of processes.
#

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
from .protocol import PROTOCOL, Message, WireError

IN_FLIGHT = 256
"""Requests a process has at once: a full batch, and few enough that their pictures fit into memory."""
DEATHS = 2
"""Times a request may take the process down before it is held to be the cause."""

Reply = dict[str, Any]


class Request:
    """One request: how it becomes a message, and where its reply goes.

    Args:
        pack: gives the message without its id; called again when the process has died.
        loads: the number of the reward that this loads, if it loads one.
    """

    def __init__(self, pack: Callable[[], Message], *, loads: int | None = None) -> None:
        self.pack = pack
        self.loads = loads
        self.reply: Future[Reply] = Future()
        self.id = 0
        self.deaths = 0
        self.sent = False

    def settle(self, result: Reply | Exception) -> None:
        """Hand over the reply, unless whoever asked has gone."""
        if self.reply.done() or not self.reply.set_running_or_notify_cancel():
            return
        if isinstance(result, Exception):
            self.reply.set_exception(result)
        else:
            self.reply.set_result(result)


class Outbox:
    """The requests of one child that have no reply yet. All methods are for one thread."""

    def __init__(self) -> None:
        self._queue: deque[Request] = deque()
        self._suspects: deque[Request] = deque()
        self._flight: dict[int, Request] = {}
        self._alone = False
        self._ids = 0

    def add(self, request: Request) -> None:
        self._queue.append(request)

    def waiting(self) -> bool:
        """Whether there is something to send; what has been cancelled since is dropped."""
        for line in (self._suspects, self._queue):
            while line and line[0].reply.done():
                line.popleft()
        return bool(self._suspects or self._queue)

    def next(self) -> Request | None:
        """The next request that may be sent, which counts as under way from now on; None if it must wait."""
        if not self.waiting():
            return None
        if not self._flight:
            self._alone = False
        if self._suspects:
            if self._flight:
                return None
            self._alone = True
            return self._depart(self._suspects.popleft())
        if self._alone or len(self._flight) >= IN_FLIGHT:
            return None
        return self._depart(self._queue.popleft())

    def under_way(self, request: Request) -> bool:
        return self._flight.get(request.id) is request

    def sent(self, reply: "Future[Reply]") -> Request | None:
        """The request under way, and with the process already, that this is the reply of."""
        return next((one for one in self._flight.values() if one.reply is reply and one.sent), None)

    def arrive(self, number: Any) -> Request | None:
        """Take the request with this id out; None when no such request is under way."""
        return self._flight.pop(number, None) if isinstance(number, int) else None

    def bury(self, reason: str, *, blame: bool) -> None:
        """The process has died. What was under way goes again, first; what has now died DEATHS times fails.

        Args:
            reason: what the culprit is told.
            blame: whether a request may be the cause; not if we ended the process ourselves.
        """
        for request in reversed(self._flight.values()):
            request.deaths += blame
            if request.deaths == DEATHS:
                request.settle(Unscorable(reason))
            else:
                (self._suspects if request.deaths else self._queue).appendleft(request)
        self._flight.clear()

    def fail(self, reason: str) -> None:
        """Answer everything with a failure."""
        for request in (*self._flight.values(), *self._suspects, *self._queue):
            request.settle(Unscorable(reason))
        self._flight.clear()
        self._suspects.clear()
        self._queue.clear()

    def _depart(self, request: Request) -> Request:
        self._ids += 1
        request.id, request.sent = self._ids, False
        self._flight[request.id] = request
        return request


START, LOAD = 120.0, 600.0
"""Seconds an interpreter may take to say hello, and a reward to load in it."""
GRACE = 10.0
"""Seconds in which a process must confirm that it has given up a cancelled request, or be ended."""
STARTS, DEATHS_IN_A_ROW = 3, 16
"""Failed starts, and deaths without an answer between them, after which the child is given up."""
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class Child:
    """One interpreter, kept running as long as there is something to ask.

    Args:
        python: the interpreter's path.
        engine: the size of the engine in it.
        env: variables added to its environment.
    """

    def __init__(self, python: str, engine: EngineConfig, env: dict[str, str]) -> None:
        self.python = python
        self.rewards: dict[int, Request] = {}
        """What loads each reward in use; a process that is started again gets these requests first."""
        self._arguments = [engine.model_dump_json()]
        self._env = env
        self._process: Process | None = None
        self._outbox = Outbox()
        self._deaths = 0
        self._given_up = ""
        self._blame = True
        self._news = asyncio.Event()
        self._packing = ThreadPoolExecutor(1, "mmreward-pack")
        self._pid = os.getpid()
        self._door = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] = self._loop.create_task(self._run())
        self._thread = threading.Thread(target=self._run_loop, name="mmreward-child", daemon=True)
        self._thread.start()

    # --- for any thread ---------------------------------------------------------------------------

    def submit(self, request: Request, *, afresh: bool = False) -> "Future[Reply]":
        """Queue a request. Cancelling the future takes it back. Its exception is `Unscorable` when the child
        cannot answer.

        Args:
            request: what to ask.
            afresh: start the interpreter again even if it has been given up.

        Raises:
            RuntimeError: closed, or this is a fork of the process that started it.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(f"this process was forked from the one that uses {self.python}: load again")
        request.reply.add_done_callback(self._replied)
        with self._door:  # so that nothing comes in behind the one who closes it
            if self._closed:
                raise RuntimeError(f"{self.python} has been closed")
            self._loop.call_soon_threadsafe(self._enqueue, request, afresh)
        return request.reply

    def stop(self) -> None:
        """End the process and fail what waits for it; does not wait. Stopping twice is harmless."""
        with self._door:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._main.cancel)

    def join(self) -> None:
        """Wait, a bounded time, until everything that `stop` ends has ended."""
        if threading.current_thread() is not self._thread:
            self._thread.join(2 * LAST_WORDS + _LONGEST_PAUSE)

    def later(self, job: Callable[[], object]) -> None:
        """Run a function on the child's thread, if that is still there. Safe even inside the garbage
        collector."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(job)

    def forget(self) -> None:
        """In a fork: close the socket, whose other end must not believe that we still hold it."""
        if self._process is not None:
            self._process.socket.close()

    def _replied(self, reply: "Future[Reply]") -> None:
        if reply.cancelled():
            self.later(partial(self._give_up, reply))

    # --- on the child's thread --------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._main)
        finally:
            with self._door:
                self._closed = True
            self._loop.run_until_complete(asyncio.sleep(0))  # what came in until then is told
            self._packing.shutdown(cancel_futures=True)
            self._loop.close()

    def _enqueue(self, request: Request, afresh: bool) -> None:
        if afresh:
            self._given_up, self._deaths = "", 0
        if self._given_up:
            request.settle(Unscorable(self._given_up))
            return
        self._outbox.add(request)
        self._news.set()

    def _give_up(self, reply: "Future[Reply]") -> None:
        """Tell the process; a request that is only queued is passed over when its turn comes."""
        request = self._outbox.sent(reply)
        if request is not None and self._process is not None:
            self._process.post(Message({"op": "cancel", "id": request.id}, []))
            self._loop.call_later(GRACE, self._insist, request, self._process)

    def _insist(self, request: Request, process: Process) -> None:
        """End a process that has not given up what it was told to: it hangs, and no other is to blame."""
        if self._outbox.under_way(request) and process is self._process:
            self._blame = False
            process.kill()

    async def _run(self) -> None:
        failed = 0
        try:
            while True:
                while not self._outbox.waiting():
                    self._news.clear()
                    await self._news.wait()
                try:
                    process = await self._start()
                except (OSError, WireError) as error:
                    failed += 1
                    if failed == STARTS:
                        failed = 0
                        self._abandon(f"{self.python} could not be started, {STARTS} times: {error}")
                    await self._pause(failed)
                    continue
                failed = 0
                await self._converse(process)
                await self._pause(self._deaths)
        finally:
            if self._process is not None:
                await self._process.end()
            self._abandon(f"{self.python} has been closed")

    async def _pause(self, failures: int) -> None:
        if failures:
            await asyncio.sleep(min(_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE))

    async def _start(self) -> Process:
        """Start the process, shake hands, and load again what was loaded.

        Raises:
            OSError, WireError: it cannot be started, died on the way, or speaks another protocol.
        """
        process = self._process = Process(self.python, self._arguments, self._env)
        try:
            async with asyncio.timeout(START):
                await process.open()
                hello = await process.read()
            match hello:
                case None:
                    raise WireError("it ended before it was ready")
                case {"hello": {"protocol": int(spoken), "mmreward": release}} if spoken != PROTOCOL:
                    raise WireError(f"mmreward {release} there speaks protocol {spoken}, not {PROTOCOL}")
                case {"hello": {"protocol": int()}}:
                    pass
                case _:
                    raise WireError(f"it said {str(hello)[:100]} instead of hello")
            for number, request in list(self.rewards.items()):
                message = request.pack()
                message.header["id"] = -number
                async with asyncio.timeout(LOAD):
                    await process.ask(message)
        except (TimeoutError, WireError) as error:
            self._process = None
            how = await process.end()
            raise WireError(f"{str(error) or 'it took too long'} ({how})") from None
        return process

    async def _converse(self, process: Process) -> None:
        """Send what is queued and hand out replies until the process is gone."""
        why = ""
        sender = asyncio.create_task(self._send_all(process))
        try:
            while (reply := await process.read()) is not None:
                self._take(reply)
        except WireError as error:
            why = f"{error}; "
        finally:
            sender.cancel()
        how = why + await process.end()
        self._process = None
        self._outbox.bury(f"{self.python} died of this request, {DEATHS} times: {how}", blame=self._blame)
        self._blame = True
        self._deaths += 1
        if self._deaths == DEATHS_IN_A_ROW:
            self._abandon(f"{self.python} died {DEATHS_IN_A_ROW} times without an answer in between: {how}")

    async def _send_all(self, process: Process) -> None:
        while True:
            while (request := self._outbox.next()) is None:
                self._news.clear()
                await self._news.wait()
            try:
                message = await self._loop.run_in_executor(self._packing, request.pack)  # reads files
                message.header["id"] = request.id
                if not request.reply.done():
                    request.sent = True
                    await process.send(message)
                    continue
            except Exception as error:  # delivered to its caller: this request cannot be sent
                request.settle(error)
            self._outbox.arrive(request.id)

    def _take(self, reply: Reply) -> None:
        request = self._outbox.arrive(reply.get("id"))
        if request is None:
            raise WireError(f"a reply to nothing: {str(reply)[:100]}")
        self._deaths = 0
        if "loaded" in reply and request.loads is not None:
            self.rewards[request.loads] = request
        request.settle(reply)
        self._news.set()

    def _abandon(self, reason: str) -> None:
        """Answer everybody with a failure, now and until something is loaded afresh."""
        self._given_up = reason
        self._outbox.fail(reason)

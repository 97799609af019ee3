"""One worker process, from both sides: an inherited socket, a hello, messages, its last words and its end.

The parent's side is `Process`, for `child` (a reward's own interpreter) and `killable` (jobs with a
deadline); the worker's side is `inherited`. The socket is one half of a pair that the process inherits, so
nobody else can connect to it, and its end of file tells each side that the other is gone, however it went.
Knows nothing of what the messages ask, nor which process replaces one that died.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from . import protocol
from .protocol import PROTOCOL, Largest, Message, WireError

TAIL = 2000
"""Bytes of output that are quoted when a process dies."""
LAST_WORDS = 2.0
"""Seconds that a process has to finish what it was saying, and the kernel to end one."""
_REAPED = 0.5
"""Seconds between a process's last word and its exit code."""
_POLL = 0.005
_BUFFER = 1 << 20


class Ending(NamedTuple):
    """End of a process: its exit code, negative for a signal, None if we ended it; and its last output."""

    code: int | None
    words: str

    @property
    def how(self) -> str:
        """The end as the rest of a sentence about the process."""
        if self.code is None:
            return "was ended"
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        return f"was killed by {signal.Signals(-self.code).name}"

    def __str__(self) -> str:
        return f"{self.how}; " + (f"it last said: {self.words}" if self.words else "it said nothing")


class Process:
    """A worker process, as seen from the event loop that made it."""

    def __init__(self, python: str, module: str, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        """Start `python -P -m module FD *arguments` with this environment and no other.

        Raises:
            OSError: the interpreter cannot be run.
        """
        self._socket, theirs = socket.socketpair()
        try:
            self._popen = subprocess.Popen(
                # -P: a folder named mmreward where we happen to stand is not the package.
                [python, "-P", "-m", module, str(theirs.fileno()), *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,  # so that Ctrl-C is ours alone, and that what it starts ends with it
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._tail = b""
        self._gone = False
        self._ending: Ending | None = None
        self._reader = asyncio.StreamReader(limit=_BUFFER)
        self._writer: asyncio.StreamWriter | None = None
        self._listening = asyncio.create_task(self._listen())

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """False once the process has exited."""
        return self._popen.poll() is None

    async def greet(self) -> None:
        """Connect the socket to the event loop and read the hello; comes before any other message.

        Raises:
            WireError: it ended, cannot start its work (the message is its own), or speaks another protocol.
        """
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket, limit=_BUFFER)
        match hello := await self.read():
            case None:
                raise WireError("it ended before it was ready")
            case {"failed": str(reason)}:
                raise WireError(reason)
            case {"hello": {"protocol": int(spoken), "mmreward": release}} if spoken != PROTOCOL:
                raise WireError(f"mmreward {release} there speaks protocol {spoken}, not {PROTOCOL}")
            case {"hello": {"protocol": int()}}:
                pass
            case _:
                raise WireError(f"it said {str(hello)[:100]} instead of hello")

    async def read(self) -> dict[str, Any] | None:
        """The header of its next message; None when it is gone.

        Raises:
            WireError: it sent something else.
        """
        try:
            message = await protocol.read(self._reader, Largest(blobs=0))
        except OSError:  # reset instead of closed: it died with a message of ours unread
            message = None
        self._gone = self._gone or message is None
        return None if message is None else message.header

    async def send(self, message: Message) -> None:
        """Send a message whole; waits while the process is slower than we are. To a process that is gone
        this does nothing: `read` finds that out.

        Raises:
            WireError: the message is above the limits.
        """
        self.post(message)
        assert self._writer is not None
        with suppress(OSError):
            await self._writer.drain()

    def post(self, message: Message) -> None:
        """`send` without waiting, for small messages.

        Raises:
            WireError: the message is above the limits.
        """
        assert self._writer is not None
        self._writer.write(protocol.pack(message))

    async def request(self, message: Message) -> dict[str, Any]:
        """Send one request and read one reply, while nothing else is under way.

        Raises:
            WireError: the process ended, or sent something else.
        """
        await self.send(message)
        reply = await self.read()
        if reply is None:
            raise WireError("it ended")
        return reply

    def kill(self) -> None:
        """End it and what it has started, at once."""
        with suppress(ProcessLookupError, PermissionError):  # gone, or gone and not yet reaped
            os.killpg(self._popen.pid, signal.SIGKILL)

    async def end(self) -> Ending:
        """Make sure that it is gone. One that has closed its socket has time to end by itself."""
        if self._ending is not None:
            return self._ending
        going = self._gone or self._reader.at_eof()
        if self._writer is None:
            self._socket.close()
        else:
            self._writer.transport.abort()
        code = None
        if going:
            await asyncio.wait([self._listening], timeout=LAST_WORDS)
            code = await self._exit_code(_REAPED)
        self.kill()
        await self._exit_code(LAST_WORDS)  # the kernel may be holding it longer; then it is init's
        await asyncio.wait([self._listening], timeout=LAST_WORDS)
        self._listening.cancel()
        await asyncio.wait([self._listening])
        self._ending = Ending(code, self._tail.decode("utf-8", "replace").strip())
        return self._ending

    def close_in_fork(self) -> None:
        """Close a fork's copy of the socket, which would keep the process waiting when its parent is gone."""
        self._socket.close()

    async def _exit_code(self, seconds: float) -> int | None:
        """Its exit code, waited for without blocking the other processes of this event loop."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (code := self._popen.poll()) is None and loop.time() < until:
            await asyncio.sleep(_POLL)
        return code

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_BUFFER)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._popen.stdout
        )
        try:
            while said := await reader.read(_BUFFER):
                self._tail = (self._tail + said)[-TAIL:]
        finally:
            transport.close()


def inherited() -> socket.socket:
    """In a worker: its end of the socket, whose number is the first argument of the command line."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    os.register_at_fork(after_in_child=sock.close)  # a fork that held it would hide our end from the parent
    return sock

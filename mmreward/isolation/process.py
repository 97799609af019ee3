"""One run of `python -m mmreward.isolation.worker`: its socket, what it says on stderr, and its end.

The socket is one half of a pair that the process inherits, so nobody else can connect to it, and its end of
file tells each side that the other is gone, however it went.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from . import protocol
from .protocol import Limits, Message, WireError

TAIL = 2000
"""Bytes of stderr that are quoted when a process dies."""
LAST_WORDS = 2.0
"""Seconds that a process has to finish what it was saying, and the kernel to end one."""
_REAPED = 0.5
"""Seconds between a process's last word and its exit code."""
_BUFFER = 1 << 20
_REPLIES = Limits(blobs=0)
_NOT_ITS_OWN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
"""Variables that describe this interpreter's packages, not those of another."""


class Process:
    """A running child, as seen from an event loop."""

    def __init__(self, python: str, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        """Start the worker of this interpreter, with variables added to this process's own.

        Raises:
            OSError: the interpreter cannot be run.
        """
        self.socket, theirs = socket.socketpair()
        own = {name: value for name, value in os.environ.items() if name not in _NOT_ITS_OWN}
        try:
            self._popen = subprocess.Popen(
                # -P: a folder named mmreward where we happen to stand is not the package.
                [python, "-P", "-m", "mmreward.isolation.worker", str(theirs.fileno()), *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**own, **env},
                start_new_session=True,  # so that Ctrl-C is ours alone, and that what it starts ends with it
            )
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()
        self._tail = b""
        self._reader = asyncio.StreamReader(limit=_BUFFER)
        self._writer: asyncio.StreamWriter | None = None
        self._listening = asyncio.create_task(self._listen())

    async def open(self) -> None:
        """Connect the socket to the event loop; comes before any message."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self.socket, limit=_BUFFER)

    async def read(self) -> dict[str, Any] | None:
        """The header of its next message; None when it is gone.

        Raises:
            WireError: it sent something else.
        """
        try:
            message = await protocol.read(self._reader, _REPLIES)
        except OSError:  # reset instead of closed
            return None
        return None if message is None else message.header

    async def send(self, message: Message) -> None:
        """Send a message whole; waits while the process is slower than we are. To a process that is gone
        this does nothing: `read` tells."""
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

    async def ask(self, message: Message) -> dict[str, Any]:
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

    async def end(self) -> str:
        """Make sure that it is gone, and tell how it ended and its last words. One that has closed its socket
        has time to end by itself."""
        going = self._reader.at_eof()
        if self._writer is None:
            self.socket.close()
        else:
            self._writer.transport.abort()
        if going:
            await asyncio.wait([self._listening], timeout=LAST_WORDS)
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(_REAPED)
        ended = self._popen.returncode
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # the kernel may be holding it; then it is init's
            self._popen.wait(LAST_WORDS)
        await asyncio.wait([self._listening], timeout=LAST_WORDS)
        self._listening.cancel()
        await asyncio.wait([self._listening])
        words = self._tail.decode("utf-8", "replace").strip()
        return f"{_how(ended)}; " + (f"it last said: {words}" if words else "it said nothing")

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


def _how(code: int | None) -> str:
    if code is None:
        return "was ended"
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"

"""A real HTTP server on loopback for tests: what it answers, and how it misbehaves, is a function of the
request."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    """An answer. `after` delays it, `torn` breaks the connection off after so many bytes of it (with a reset,
    or `politely`), `never` keeps the client waiting until it hangs up."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    after: float = 0.0
    torn: int | None = None
    politely: bool = False
    never: bool = False

    def encoded(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json", **self.headers}
        lines = [f"HTTP/1.1 {self.status} Said", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: Any
    at: float


class ChatServer:
    """Runs `app(request) -> Reply` in a thread of its own; a context manager."""

    def __init__(self, app: Callable[[Request], Reply]) -> None:
        self.app = app
        self.requests: list[Request] = []
        self.hung_up = threading.Event()
        """Set when a client went away before its answer."""
        self.open = self.busy = self.busiest = 0
        """Connections open now; requests being answered now, and at most so far."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "ChatServer":
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(first.split()[1], headers, json.loads(body) if body else None, time.monotonic())
        self.requests.append(request)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            return await self._answer(self.app(request), reader, writer)
        finally:
            self.busy -= 1

    async def _answer(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        gone = asyncio.ensure_future(reader.read(1))  # a client that waits sends nothing
        done, _ = await asyncio.wait([gone], timeout=None if reply.never else reply.after)
        if done:
            self.hung_up.set()
            return False
        gone.cancel()
        await asyncio.wait([gone])
        data = reply.encoded()
        writer.write(data if reply.torn is None else data[: reply.torn])
        await writer.drain()
        if reply.torn is None:
            return True
        if reply.politely:
            return False
        linger = struct.pack("ii", 1, 0)  # closing sends a reset
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return when the condition holds; fail when it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


def completion(text: str = "yes", finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion as servers give it."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, **message},
    }
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": {"completion_tokens": 3}}


def shown(*top: tuple[str, float]) -> dict[str, Any]:
    """A chat completion that shows these tokens and their log-probabilities."""
    answer = completion("x", "length")
    rows = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in top]
    answer["choices"][0]["logprobs"] = {"content": [{**rows[0], "top_logprobs": rows}]}
    return answer

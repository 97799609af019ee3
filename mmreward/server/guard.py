"""Guard of the HTTP application: what a client may hold, and for how long, before anything is scored.

Three pieces of ASGI middleware, from the outside in. `Key` asks for the server's key. `BodyLimit` reads a
body whole, under limits of size and time and without a place among those that are scored, so that a client
that never ends one holds up nobody. `Turns` lets so many requests be scored at once, and cancels one whose
client has gone. Every refusal is a status with a reason in JSON.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from ..limits import limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

SMALL = 64 << 10
"""Bytes of a body that count against no budget."""
FULL = "other large bodies are being read: come again (limits.bodies_bytes)"


def of(name: str) -> Any:
    """Field whose default is the limit of this name at that time."""
    return field(default_factory=lambda: getattr(limits(), name))


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds of a server; what is not given is as `limits.Limits` says.

    Args:
        body_bytes: of one body.
        held_bytes: of all bodies together, `Limits.bodies_bytes`.
        body_seconds: until a body must have come.
        concurrency: requests that are scored at once, `Limits.requests`.
        waiting: requests that wait for their turn.
        rows: of one /get_reward, `Limits.request_rows`.
    """

    body_bytes: int = of("body_bytes")
    held_bytes: int = of("bodies_bytes")
    body_seconds: float = of("body_seconds")
    concurrency: int = of("requests")
    waiting: int = of("waiting")
    rows: int = of("request_rows")


class Key:
    """Middleware: 401 without "Authorization: Bearer KEY", except for GET /.

    Args:
        app: the application.
        key: empty asks for none.
    """

    def __init__(self, app: App, key: str = "") -> None:
        self._app = app
        self._expected = f"Bearer {key}".encode() if key else b""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._expected and not _is_health(scope):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                await refuse(send, 401, "this server asks for its key: Authorization: Bearer KEY")
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Middleware: a body is read whole before the application sees it. 413 for one above the limit, whether
    its length is announced or not; 408 for one that does not come in time; 503 while others hold the budget.

    Args:
        app: the application.
        max_bytes: of one body.
        held_bytes: of all bodies, see `Bounds`.
        seconds: until a body must have come.
    """

    def __init__(
        self,
        app: App,
        max_bytes: int,
        held_bytes: int | None = None,
        seconds: float | None = None,
    ) -> None:
        self._app = app
        usual = Bounds()
        self._max_bytes = max_bytes
        self._held_bytes = usual.held_bytes if held_bytes is None else held_bytes
        self._seconds = usual.body_seconds if seconds is None else seconds
        self._too_long = f"the body has more than {max_bytes} bytes (limits.body_bytes)"
        self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_health(scope):
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or len(announced) > 20 or int(announced) > self._max_bytes:
            await refuse(send, 413, self._too_long)
            return
        body = bytearray()
        held = 0
        try:
            async with asyncio.timeout(self._seconds):
                while True:  # a body without a length, or with a false one
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    if len(body) > self._max_bytes:
                        await refuse(send, 413, self._too_long)
                        return
                    more = max(0, len(body) - SMALL - held)
                    if self._held + more > self._held_bytes:
                        await refuse(send, 503, FULL)
                        return
                    held += more
                    self._held += more
                    if not message.get("more_body", False):
                        break
            await self._app(scope, _replay(bytes(body), receive), send)
        except TimeoutError:
            await refuse(send, 408, f"the body did not come within {self._seconds:g} s (limits.body_seconds)")
        finally:
            self._held -= held


class Turns:
    """Middleware: so many requests are scored at once, the others wait in order, 503 for those beyond; one
    whose client has gone is cancelled.

    Args:
        app: the application; requests come with whole bodies.
        concurrency: see `Bounds`.
        waiting: the same.
    """

    def __init__(self, app: App, concurrency: int, waiting: int) -> None:
        self._app = app
        self._turns = asyncio.Semaphore(concurrency)
        self._most = concurrency + waiting
        self._inside = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_health(scope):
            await self._app(scope, receive, send)
            return
        if self._inside >= self._most:
            await refuse(send, 503, f"{self._inside} requests wait already: come again (limits.waiting)")
            return
        self._inside += 1
        first = await receive()
        work = asyncio.ensure_future(self._in_turn(scope, _replay(first.get("body", b""), _never), send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
        finally:
            self._inside -= 1
            work.cancel()  # nobody waits for the answer
            gone.cancel()

    async def _in_turn(self, scope: Message, receive: Receive, send: Send) -> None:
        async with self._turns:
            await self._app(scope, receive, send)


def _is_health(scope: Message) -> bool:
    return scope.get("method") == "GET" and scope.get("path") == "/"


def _replay(body: bytes, then: Receive) -> Receive:
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return parts.pop() if parts else await then()

    return receive


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def refuse(send: Send, status: int, detail: str) -> None:
    """Answer with a status and its reason, and close the connection: a body may still be on its way."""
    body = json.dumps({"detail": detail}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    if status == 503:
        headers["retry-after"] = "1"
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})

"""Refuses a body that is too large before it is read into memory. Plain ASGI."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BYTES = 8 << 20
"""A response of 65,536 characters and a page of parameters need far less."""


class BodyLimit:
    """Middleware: 413 for a body above the limit, whether its length is announced or not."""

    def __init__(self, app: App, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not announced.isdigit() or int(announced) > self._max_bytes:
            await _refuse(send, self._max_bytes)
            return
        parts: list[Message] = []
        size = 0
        while True:  # a body without a length, or with a false one
            message = await receive()
            parts.append(message)
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                await _refuse(send, self._max_bytes)
                return
            if not message.get("more_body", False):
                break
        read = iter(parts)

        async def replay() -> Message:
            return next(read, None) or await receive()

        await self._app(scope, replay, send)


async def _refuse(send: Send, limit: int) -> None:
    body = f'{{"detail":"the body has more than {limit} bytes"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})

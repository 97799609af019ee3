"""Requests to one server: bounded in number, in time and in size; retried where that can help.

Knows nothing of chats: it sends JSON to a path and hands back the bytes of a good answer. A failure is
`Unscorable` with the server's own words, so it costs the one call that met it.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from ..failures import Unscorable
from .address import Address
from .pace import Pace

TRIES = 6
"""Requests one call may cost a server that takes them and then fails (5xx, or hangs up in the middle)."""
BACKOFF, LONGEST = 0.5, 20.0
"""Seconds: a retry waits a random time up to BACKOFF * 2 ** retries, at most LONGEST."""
BODY = 32 << 20
"""Bytes of an answer that are read; a longer one is refused."""
OVERLOADED = (429, 503)
RETRIED = (408, 429)


class Refused(Unscorable):
    """The server answered with an HTTP status that retrying does not change."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Passing(Exception):  # noqa: N818 - never leaves this file
    """A failure that may be over at the next try; `after` is what the server asked to wait, in seconds."""

    def __init__(self, reason: str, *, after: float = 0.0, load: bool = False, counts: bool = False) -> None:
        super().__init__(reason)
        self.after, self.load, self.counts = after, load, counts


class Line:
    """The connections of one event loop to one server. Use `line_to` to share one.

    Args:
        address: whose URL, key and upper limit of concurrency apply.
    """

    def __init__(self, address: Address) -> None:
        self.pace = Pace(address.concurrency)
        self._secret = address.secret
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._secret}"} if self._secret else {},
            timeout=httpx2.Timeout(None, connect=10.0),  # the deadline bounds everything else
            # Servers drop idle connections after 5 s; one that is given up earlier is never half dead.
            limits=httpx2.Limits(max_keepalive_connections=address.concurrency, keepalive_expiry=4.0),
        )
        self._heard = -float("inf")
        """When the server last answered anything."""
        self._given_up = -float("inf")
        """When a call's whole deadline last passed without any answer to anybody."""

    async def ask(
        self, url: str, body: dict[str, Any] | None = None, *, deadline: float, tries: int = TRIES
    ) -> bytes:
        """POST a JSON body, or GET without one, and return the bytes of a 2xx answer.

        The deadline runs from this call's turn to its last retry, so a long queue does not eat it up; calls
        still queued when a whole deadline has passed without any answer from the server fail with it.

        Raises:
            Refused: a 3xx or 4xx status (except 408 and 429).
            Unscorable: "timeout" when the deadline passed, "error" otherwise.
        """
        loop = asyncio.get_running_loop()
        content = None if body is None else json.dumps(body).encode()
        joined = loop.time()
        async with self.pace.turn():
            if joined < self._given_up and self._heard < self._given_up:
                raise Unscorable("the server has stopped answering; this call was not sent", "timeout")
            began = loop.time()
            trouble = ["no answer"]
            try:
                async with asyncio.timeout_at(began + deadline):
                    return await self._persist(url, content, tries, began + deadline, trouble)
            except TimeoutError:
                if self._heard < began:
                    self._given_up = loop.time()
                raise Unscorable(f"no good answer within {deadline:g} s: {trouble[-1]}", "timeout") from None

    async def close(self) -> None:
        """Give the sockets back. Closing twice is harmless."""
        for key in [key for key, line in _lines.items() if line is self]:
            del _lines[key]
        await self._client.aclose()

    async def _persist(
        self, url: str, content: bytes | None, tries: int, end: float, trouble: list[str]
    ) -> bytes:
        """Try until it works, until it cannot, or until no try is left before the end; note what went wrong.

        Raises:
            TimeoutError: the server asks to wait beyond the end, so waiting would only hold up others.
        """
        retries = counted = 0
        while True:
            try:
                answer = await self._try(url, content)
            except _Passing as failure:
                trouble.append(str(failure))
                self.pace.overloaded() if failure.load else self.pace.stumbled()
                counted += failure.counts
                if counted >= tries:
                    raise Unscorable(f"{failure} ({tries} tries)") from None
                wait = failure.after + random.uniform(0, min(BACKOFF * 2.0**retries, LONGEST))
                retries += 1
                if asyncio.get_running_loop().time() + wait > end:
                    raise TimeoutError from None
                await asyncio.sleep(wait)
            else:
                if not retries:
                    self.pace.clean()
                return answer

    async def _try(self, url: str, content: bytes | None) -> bytes:
        try:
            async with self._send(url, content) as response:
                self._heard = asyncio.get_running_loop().time()
                data = await _read(response)
                if not response.is_success:
                    self._refuse(response, data)
                return data
        except httpx2.ConnectError as error:
            raise _Passing(f"cannot connect: {error}") from None
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            raise _Passing(f"the connection broke: {error or type(error).__name__}", counts=True) from None
        except httpx2.TimeoutException:
            raise _Passing("cannot connect within 10 s") from None
        except httpx2.RequestError as error:
            raise Unscorable(self._clean(f"{type(error).__name__}: {error}")) from None

    @asynccontextmanager
    async def _send(self, url: str, content: bytes | None) -> AsyncIterator[httpx2.Response]:
        if content is None:
            request = self._client.build_request("GET", url)
        else:
            json_type = {"Content-Type": "application/json"}
            request = self._client.build_request("POST", url, content=content, headers=json_type)
        response = await self._client.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    def _refuse(self, response: httpx2.Response, data: bytes) -> None:
        """Raise what a status that is not 2xx means."""
        code = response.status_code
        words = self._clean(f"HTTP {code}: {words_of(data) or response.reason_phrase}")
        if code in RETRIED or (code >= 500 and code != 501):
            load = code in OVERLOADED
            counts = code >= 500 and not load
            raise _Passing(words, after=_retry_after(response.headers), load=load, counts=counts)
        if code == 404:
            words += " (is this the model's name there, and does the URL end where the API begins: /v1?)"
        raise Refused(code, words)

    def _clean(self, words: str) -> str:
        """Without the key, which a server may repeat when it refuses it."""
        return words.replace(self._secret, "***") if self._secret else words


_lines: dict[tuple[asyncio.AbstractEventLoop, str, str, int], Line] = {}


def line_to(address: Address) -> Line:
    """The running loop's one `Line` to a server: all models there share its connections and its pace."""
    key = (asyncio.get_running_loop(), address.root, address.key, address.concurrency)
    if key not in _lines:
        _lines[key] = Line(address)
    return _lines[key]


def words_of(data: bytes) -> str:
    """The message inside an error's body, or the body's beginning, on one line."""
    text = data[:4096].decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        told: Any = json.loads(data)
        while isinstance(told, dict) and (
            inner := told.get("error") or told.get("message") or told.get("detail")
        ):
            told = inner
        text = told if isinstance(told, str) else json.dumps(told)
    return " ".join(text.split())[:300]


async def _read(response: httpx2.Response) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > BODY:
            raise Unscorable(f"the server's answer is longer than {BODY >> 20} MiB")
    return bytes(data)


def _retry_after(headers: httpx2.Headers) -> float:
    """Seconds the server asks to wait; 0 when it does not say, or says nonsense."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())

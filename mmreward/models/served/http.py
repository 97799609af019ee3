"""HTTP requests to one model server: bounded in number, in time and in size; retried where that can help.

`Pace` is the number of requests to an `Address` under way, and `Line` sends JSON to a path and returns the
bytes of a good answer. A failure is `Unscorable` with the server's words: it costs the one call that met it.

The pace is slow start, then additive growth and multiplicative cuts (AIMD), with the rules and figures of
inspect_ai's AdaptiveConcurrencyController: only a refusal for load cuts, one episode cuts once, and a limit
that was never reached does not grow.

Knows nothing of chats.
"""

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2
from anyio import CapacityLimiter

from ...errors import Unavailable, Unscorable
from ...trust import redacted, unescaped
from .address import Address
from .body import ENCODING, read_body

REACH = 5.0
"""Seconds within which a server's port must accept a connection."""


def reach(address: Address) -> None:
    """Refuse an address where nobody accepts connections. Behind a proxy nothing is looked at.

    A server that is busy accepts connections all the same; whether it knows the model is up to its answers.

    Raises:
        Unavailable: names the address, the reason and the fix.
    """
    if getproxies():
        return
    parts = urlsplit(address.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((host, port), REACH):
            return
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
    fix = f"start it, or mend the address of {address.name}"
    raise Unavailable(f"no server at {host}:{port} ({reason}); {fix}")


# --- pace -----------------------------------------------------------------------------------------

START = 16
CUT, GROWTH = 0.8, 0.05
COOLDOWN = 5.0
"""Seconds after a cut in which neither answers nor further refusals count: they were under way before it."""
SATURATED = 0.8
"""Share of the limit that must have been in use for a clean round to raise it."""


class Pace:
    """Concurrency limit that adapts between 1 and `most`. Owned by one event loop.

    Waiting for a turn is first come, first served, without bound, and can be cancelled.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._limiter = CapacityLimiter(min(START, most))
        self._clock = clock
        self._clean = 0
        self._peak = 0
        self._doubling = True
        self._cut_until = -float("inf")

    @property
    def limit(self) -> int:
        return int(self._limiter.total_tokens)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a request may be sent; held until it and its retries are over."""
        holder = object()
        await self._limiter.acquire_on_behalf_of(holder)
        self._peak = max(self._peak, self._limiter.borrowed_tokens)
        try:
            yield
        finally:
            self._limiter.release_on_behalf_of(holder)

    def clean(self) -> None:
        """Count a request that was answered at the first try. After a round of these the limit grows, if it
        was reached."""
        if self._clock() < self._cut_until:
            return
        self._clean += 1
        if self._clean < max(self.limit, 4):
            return
        reached = self._peak >= SATURATED * self.limit
        self._clean = self._peak = 0
        if reached:
            more = self.limit if self._doubling else max(1, round(self.limit * GROWTH))
            self._limiter.total_tokens = min(self.limit + more, self.most)

    def stumbled(self) -> None:
        """Count a request that failed for another reason than load: the round is not clean."""
        self._clean = 0

    def overloaded(self) -> None:
        """Count a request that the server refused for load: the limit is cut, once per episode."""
        self._clean = 0
        if self._clock() < self._cut_until:
            return
        self._doubling = False
        self._peak = 0
        self._cut_until = self._clock() + COOLDOWN
        self._limiter.total_tokens = max(1, int(self.limit * CUT))


# --- requests -------------------------------------------------------------------------------------

TRIES = 6
"""Requests one call may cost a server that takes them and then fails (5xx, or hangs up in the middle)."""
BACKOFF, LONGEST = 0.5, 20.0
"""Seconds: a retry waits a random time up to BACKOFF * 2 ** retries, at most LONGEST."""
OVERLOADED = (429, 503)
RETRIED = (408, 429)


Body = Callable[[], Awaitable[dict[str, Any]]]
"""Coroutine function that makes a request's JSON."""


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
    """Connections of one event loop to one server. Use `line_to` to share one.

    Args:
        address: its URL, key and upper limit of concurrency apply.
    """

    def __init__(self, address: Address) -> None:
        self.pace = Pace(address.concurrency)
        self._client = httpx2.AsyncClient(
            headers={"Accept-Encoding": ENCODING}
            | ({"Authorization": f"Bearer {address.secret}"} if address.secret else {}),
            timeout=httpx2.Timeout(None, connect=10.0),  # the deadline bounds everything else
            # Servers drop idle connections after 5 s; one that is given up earlier is never half dead.
            limits=httpx2.Limits(max_keepalive_connections=address.concurrency, keepalive_expiry=4.0),
        )
        self._answered = -float("inf")
        """Time of the server's last answer to any call."""
        self._given_up = -float("inf")
        """Time at which a call's whole deadline last passed without an answer to any call."""

    async def ask(self, url: str, body: Body | None = None, *, deadline: float, tries: int = TRIES) -> bytes:
        """POST a JSON body, or GET without one, and return the bytes of a 2xx answer.

        The body is made at this call's turn, so that thousands of waiting calls hold no pictures. The
        deadline runs from then to the last retry, so that a long queue does not eat it up; calls still queued
        when a whole deadline has passed without any answer from the server fail with it.

        Raises:
            Refused: a 3xx or 4xx status (except 408 and 429).
            Unscorable: "timeout" when the deadline passed, "error" otherwise.
        """
        loop = asyncio.get_running_loop()
        joined = loop.time()
        async with self.pace.turn():
            if joined < self._given_up and self._answered < self._given_up:
                raise Unscorable("the server has stopped answering; this call was not sent", "timeout")
            content = None if body is None else json.dumps(await body()).encode()
            began = loop.time()
            trouble = ["no answer"]
            try:
                async with asyncio.timeout_at(began + deadline):
                    return await self._persist(url, content, tries, began + deadline, trouble)
            except TimeoutError:
                if self._answered < began:
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
        """Bytes of a good answer, with retries until the tries or the time are spent; `trouble` lists
        failures.

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
                self._answered = asyncio.get_running_loop().time()
                data = await read_body(response)
                if not response.is_success:
                    self._refuse(response, data)
                return data
        except httpx2.ConnectError as error:
            raise _Passing(redacted(f"cannot connect: {error}")) from None
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            words = redacted(f"the connection broke: {error or type(error).__name__}")
            raise _Passing(words, counts=True) from None
        except httpx2.TimeoutException:
            raise _Passing("cannot connect within 10 s") from None
        except httpx2.RequestError as error:
            raise Unscorable(redacted(f"{type(error).__name__}: {error}")) from None

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
        """Raise the failure of a status that is not 2xx: passing, or refused for good."""
        code = response.status_code
        words = f"HTTP {code}: {words_of(data) or redacted(response.reason_phrase)}"
        if code in RETRIED or (code >= 500 and code != 501):
            load = code in OVERLOADED
            counts = code >= 500 and not load
            raise _Passing(words, after=_retry_after(response.headers), load=load, counts=counts)
        if code == 404:
            words += " (is this the model's name there, and does the URL end where the API begins: /v1?)"
        raise Refused(code, words)


_lines: dict[tuple[asyncio.AbstractEventLoop, str, str, int], Line] = {}


def line_to(address: Address) -> Line:
    """The running loop's one `Line` to a server: all models there share its connections and its pace."""
    key = (asyncio.get_running_loop(), address.root, address.key, address.concurrency)
    if key not in _lines:
        _lines[key] = Line(address)
    return _lines[key]


def words_of(data: bytes) -> str:
    """Message inside an error's body, or the body's beginning, on one line, without the key that a server may
    repeat when it refuses it."""
    text = redacted(unescaped(data.decode("utf-8", "replace")))[:4096]
    with suppress(ValueError, RecursionError):
        message: Any = json.loads(data)
        while isinstance(message, dict) and (
            inner := message.get("error") or message.get("message") or message.get("detail")
        ):
            message = inner
        text = redacted(message if isinstance(message, str) else json.dumps(message, ensure_ascii=False))
    return " ".join(text.split())[:300]


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

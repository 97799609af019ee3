"""How many requests one server gets at once: more while it keeps up, fewer when it says that it does not.

Slow start, then additive growth and multiplicative cuts (AIMD), with the rules and figures of inspect_ai's
AdaptiveConcurrencyController: only a refusal for load cuts, one episode cuts once, and a limit that was never
reached does not grow.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio import CapacityLimiter

START = 16
CUT, GROWTH = 0.8, 0.05
COOLDOWN = 5.0
"""Seconds after a cut in which neither answers nor further refusals count: they were under way before it."""
SATURATED = 0.8
"""Share of the limit that must have been in use for a clean round to raise it."""


class Pace:
    """A concurrency limit that adapts between 1 and `most`. Owned by one event loop.

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
        """A request was answered at the first try. After a round of these the limit grows, if it was
        reached."""
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
        """A request failed for another reason than load: the round is not clean."""
        self._clean = 0

    def overloaded(self) -> None:
        """The server refused a request for load."""
        self._clean = 0
        if self._clock() < self._cut_until:
            return
        self._doubling = False
        self._peak = 0
        self._cut_until = self._clock() + COOLDOWN
        self._limiter.total_tokens = max(1, int(self.limit * CUT))

"""Requests on their way to a process that may die: which goes next, and what a death means for each.

Whatever a process was working on when it died may be the cause. Those requests are sent again one at a time,
nothing beside them, before anything else: so the one that kills it a second time has been found, and takes
nobody with it. Knows nothing of processes.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .failures import Unscorable
from .frames import Message

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

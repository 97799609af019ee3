"""Queues of waiting calls: when a batch is formed, which is next at each place, and counters.

`QuiescenceFlush` finds the moment at which no coroutine can make progress without a batch. `PlaceQueues`
decides the order in which networks take turns, how many batches a place is given ahead, how a budget shrinks
after an out-of-memory error, and that a suspect of killing its place runs alone. `Stats` counts what an
engine did and where the time went. No torch, no threads: all of it belongs to the engine's loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from .batching import Budget, Call, Load, Network, plan, take

QUIET_TICKS = 3
"""Loop ticks without a new call after which every coroutine counts as blocked (gather within gather takes
two)."""
STAGED = 3
"""Batches of one place being prepared, waiting for the device or running; so at most two wait."""
SHRINK, GROW, CLEAN = 0.7, 1.1, 16
"""Factor of the budget after an out-of-memory error, factor by which it grows again, and number of clean
batches before each growth."""
PATIENCE = 64
"""Windows after which waiting calls go first although their network is not resident."""


class QuiescenceFlush:
    """Calls `flush` on the loop once no coroutine can make progress without it; instead of a timer.

    asyncio does not tell when all coroutines wait, but its ready queue is first in, first out: a callback
    that puts itself at the end of that queue runs again only after every coroutine that was ready has had its
    turn. When QUIET_TICKS such rounds pass without a new call, all coroutines wait for the engine, or for
    something slower, such as a server, for which no batch should wait. A new call starts the count again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, flush: Callable[[], None]) -> None:
        self._loop = loop
        self._flush = flush
        self._submitted = 0
        self._under_way = False

    def new_call(self) -> None:
        """Note a new call, and flush when the loop is quiet."""
        self._submitted += 1
        self.soon()

    def soon(self) -> None:
        """Flush when the loop is quiet; any number of requests until then are one."""
        if not self._under_way:
            self._under_way = True
            self._loop.call_soon(self._tick, self._submitted, 0)

    def _tick(self, seen: int, quiet: int) -> None:
        quiet = quiet + 1 if seen == self._submitted else 0
        if quiet < QUIET_TICKS:
            self._loop.call_soon(self._tick, self._submitted, quiet)
        else:
            self._under_way = False
            self._flush()


@dataclass(slots=True, eq=False)
class _Queue:
    """Waiting calls of one network, and the fraction of the budget that has been seen to fit."""

    network: Network
    calls: deque[Call]
    factor: float = 1.0
    clean: int = 0
    passed_over: int = 0


class PlaceQueues:
    """Calls of one place, queued by network and planned one look-ahead window of one network at a time.

    A window of a resident network goes first, so that under pressure everything waiting for A runs before A
    leaves for B; PATIENCE keeps B's callers from waiting for ever.

    Args:
        budget: the size of one batch.
        resident: whether a network can run without being loaded first.
    """

    def __init__(self, budget: Budget, resident: Callable[[Network], bool]) -> None:
        self.budget = budget
        self.staged = 0
        """Batches handed out and not returned; a suspect counts as STAGED of them."""
        self._resident = resident
        self._queues: dict[int, _Queue] = {}
        self._plans: deque[list[Call]] = deque()

    def add(self, call: Call) -> None:
        """Queue a call behind the others of its network."""
        self._queue(call).calls.append(call)

    def next(self) -> list[Call]:
        """The next batch of live calls; empty when there is none, or no room for it.

        A suspect, which was being run when a place died, has its place to itself: if that dies too, no
        other batch can be to blame.
        """
        while self._plans or self._next_window():
            calls = [call for call in self._plans.popleft() if call.live]
            if calls and self.staged + _room(calls) > STAGED:
                self._plans.appendleft(calls)
                return []
            if calls:
                self.staged += _room(calls)
                return calls
        return []

    def returned(self, calls: list[Call]) -> None:
        """Count a batch that `next` handed out as no longer staged, whatever became of it."""
        self.staged -= _room(calls)

    def requeue(self, batches: Iterable[list[Call]]) -> None:
        """Put batches before everything else, in their order."""
        self._plans.extendleft(reversed(list(batches)))

    def drain(self) -> tuple[list[list[Call]], list[Call]]:
        """Take out all that waits: the suspect batches as they are, and all other calls."""
        suspects = [batch for batch in self._plans if _suspect(batch)]
        calls = [call for batch in self._plans if not _suspect(batch) for call in batch]
        self._plans.clear()
        for queue in self._queues.values():
            calls.extend(queue.calls)
            queue.calls.clear()
        return suspects, calls

    def fitted(self, calls: list[Call]) -> None:
        """Note that a batch ran; after CLEAN of them a shrunken budget grows."""
        queue = self._queue(calls[0])
        queue.clean += 1
        if queue.factor < 1 and queue.clean % CLEAN == 0:
            queue.factor = min(1.0, queue.factor * GROW)

    def ran_out(self, calls: list[Call]) -> None:
        """Note that a batch did not fit into memory; the next ones are smaller than it was."""
        queue = self._queue(calls[0])
        queue.clean = 0
        if len(calls) > 1:  # an item that fits nowhere says nothing about the size of batches
            share = Load.all(calls).share(self.budget, queue.network.ragged)
            queue.factor = min(queue.factor, share * SHRINK)

    def _queue(self, call: Call) -> _Queue:
        network = call.network
        if id(network) not in self._queues:
            self._queues[id(network)] = _Queue(network, deque())
        return self._queues[id(network)]

    def _next_window(self) -> bool:
        """Plan the next window; False when nothing waits."""
        for queue in sorted(self._queues.values(), key=self._turn):
            budget = self.budget.scaled(queue.factor)
            if window := take(queue.calls, budget):
                # A served queue goes to the back, so equally resident networks take turns.
                self._queues[id(queue.network)] = self._queues.pop(id(queue.network))
                for other in self._queues.values():
                    other.passed_over = other.passed_over + 1 if other.calls and other is not queue else 0
                self._plans.extend(plan(window, budget))
                return True
        return False

    def _turn(self, queue: _Queue) -> int:
        return 0 if queue.passed_over >= PATIENCE else 1 if self._resident(queue.network) else 2


def _suspect(calls: list[Call]) -> bool:
    return any(call.deaths for call in calls)


def _room(calls: list[Call]) -> int:
    return STAGED if _suspect(calls) else 1


@dataclass(slots=True)
class NetworkStats:
    """Counters of one network's batches. `padding` is the share of computed tokens that were padding."""

    batches: int = 0
    items: int = 0
    tokens: int = 0
    computed: int = 0
    prepare_seconds: float = 0.0
    forward_seconds: float = 0.0

    @property
    def padding(self) -> float:
        return 1 - self.tokens / self.computed if self.computed else 0.0


@dataclass(slots=True)
class Stats:
    """Counters of an engine since it was made; `str()` is a table.

    Of all `calls`, `cached` and `deduplicated` cost nothing, `failed` raised, and `cancelled` were given up
    by every caller. `splits` counts batches halved to isolate a failure or to fit memory, `lost` batches
    whose place died.
    """

    calls: int = 0
    cached: int = 0
    deduplicated: int = 0
    cancelled: int = 0
    failed: int = 0
    splits: int = 0
    lost: int = 0
    out_of_memory: int = 0
    swaps: int = 0
    cache_bytes: int = 0
    resident_bytes: int = 0
    networks: dict[str, NetworkStats] = field(default_factory=dict)

    def batch(self, name: str, load: Load, prepared: float, forwarded: float, ragged: bool) -> None:
        """Count one finished batch."""
        entry = self.networks.setdefault(name, NetworkStats())
        entry.batches += 1
        entry.items += load.items
        entry.tokens += load.total
        entry.computed += load.tokens(ragged)
        entry.prepare_seconds += prepared
        entry.forward_seconds += forwarded

    def copy(self, **changes: int) -> "Stats":
        """A copy with fields replaced."""
        networks: Mapping[str, NetworkStats] = dict(self.networks)  # another thread may be adding
        return replace(self, networks={name: replace(entry) for name, entry in networks.items()}, **changes)

    def __str__(self) -> str:
        lines = [
            f"calls {self.calls}  cached {self.cached}  deduplicated {self.deduplicated}",
            f"failed {self.failed}  cancelled {self.cancelled}  splits {self.splits}  lost {self.lost}",
            f"out of memory {self.out_of_memory}  swaps {self.swaps}",
            f"cache {self.cache_bytes / 1e6:.1f} MB  resident {self.resident_bytes / 1e6:.1f} MB",
            f"{'network':<28}{'batches':>9}{'items':>9}{'per batch':>11}{'padding':>9}"
            f"{'prepare s':>11}{'forward s':>11}",
        ]
        for name, n in self.networks.items():
            lines.append(
                f"{name[:27]:<28}{n.batches:>9}{n.items:>9}{n.items / n.batches:>11.1f}{n.padding:>9.1%}"
                f"{n.prepare_seconds:>11.2f}{n.forward_seconds:>11.2f}"
            )
        return "\n".join(lines)

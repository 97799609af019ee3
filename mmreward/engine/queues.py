"""The waiting calls of one place, a lane for each network, and which batch is next. No torch, no threads."""

# FOLDED mmreward/stats.py: Counters a user can read: what an engine did, and where the time went.

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from .batching import Budget, Call, Load, Network, plan, take

STAGED = 3
"""Batches of one place being prepared, waiting for the device or running; so at most two wait."""
SHRINK, GROW, CLEAN = 0.7, 1.1, 16
"""The budget's factor after an out-of-memory error, and the factor it regains after so many clean batches."""
PATIENCE = 64
"""Windows after which waiting calls go first although their network is not resident."""


@dataclass(slots=True, eq=False)
class _Lane:
    """The waiting calls of one network, and how much of the budget it has shown it can take."""

    network: Network
    calls: deque[Call]
    factor: float = 1.0
    clean: int = 0
    passed_over: int = 0


class Lanes:
    """Queues calls and plans them, one look-ahead window of one network at a time.

    A window of a resident network goes first, so that under pressure everything waiting for A runs before A
    leaves for B; PATIENCE keeps B's callers from waiting for ever.

    Args:
        budget: the size of one batch.
        resident: whether a network can run without being loaded first.
    """

    def __init__(self, budget: Budget, resident: Callable[[Network], bool]) -> None:
        self.budget = budget
        self.staged = 0
        """Batches that were handed out and have not come back; a suspect counts as STAGED of them."""
        self._resident = resident
        self._lanes: dict[int, _Lane] = {}
        self._plans: deque[list[Call]] = deque()

    def add(self, call: Call) -> None:
        self._lane(call).calls.append(call)

    def next(self) -> list[Call]:
        """The next batch of calls somebody still waits for; empty when there is none, or no room for it.

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

    def back(self, calls: list[Call]) -> None:
        """A batch that `next` handed out has come back, whatever became of it."""
        self.staged -= _room(calls)

    def again(self, batches: Iterable[list[Call]]) -> None:
        """Batches that go before everything else."""
        self._plans.extendleft(reversed(list(batches)))

    def drain(self) -> tuple[list[list[Call]], list[Call]]:
        """Take out what waits: the suspect batches as they are, and all other calls."""
        suspects = [batch for batch in self._plans if _suspect(batch)]
        calls = [call for batch in self._plans if not _suspect(batch) for call in batch]
        self._plans.clear()
        for lane in self._lanes.values():
            calls.extend(lane.calls)
            lane.calls.clear()
        return suspects, calls

    def fitted(self, calls: list[Call]) -> None:
        """A batch ran; after CLEAN of them a shrunken budget grows."""
        lane = self._lane(calls[0])
        lane.clean += 1
        if lane.factor < 1 and lane.clean % CLEAN == 0:
            lane.factor = min(1.0, lane.factor * GROW)

    def ran_out(self, calls: list[Call]) -> None:
        """A batch did not fit into memory; the next ones are smaller than it was."""
        lane = self._lane(calls[0])
        lane.clean = 0
        if len(calls) > 1:  # an item that fits nowhere says nothing about the size of batches
            share = Load.all(calls).share(self.budget, lane.network.ragged)
            lane.factor = min(lane.factor, share * SHRINK)

    def _lane(self, call: Call) -> _Lane:
        network = call.network
        if id(network) not in self._lanes:
            self._lanes[id(network)] = _Lane(network, deque())
        return self._lanes[id(network)]

    def _next_window(self) -> bool:
        """Plan the next window; False when nothing waits."""
        for lane in sorted(self._lanes.values(), key=self._turn):
            budget = self.budget.scaled(lane.factor)
            if window := take(lane.calls, budget):
                # A served lane goes to the back, so equally resident networks take turns.
                self._lanes[id(lane.network)] = self._lanes.pop(id(lane.network))
                for other in self._lanes.values():
                    other.passed_over = other.passed_over + 1 if other.calls and other is not lane else 0
                self._plans.extend(plan(window, budget))
                return True
        return False

    def _turn(self, lane: _Lane) -> int:
        return 0 if lane.passed_over >= PATIENCE else 1 if self._resident(lane.network) else 2


def _suspect(calls: list[Call]) -> bool:
    return any(call.deaths for call in calls)


def _room(calls: list[Call]) -> int:
    return STAGED if _suspect(calls) else 1


@dataclass(slots=True)
class NetworkStats:
    """One network's batches. `padding` is the share of computed tokens that were padding."""

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
    """What the engine has done since it was made.

    `calls` were asked for; of these `cached` and `deduplicated` cost nothing, `failed` raised, `cancelled`
    were given up by every caller. `splits` counts batches halved to isolate a failure or to fit memory,
    `lost` batches whose place died.
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

"""How waiting calls become batches: pure functions over queues. No torch, no asyncio, no threads.

The rule is TEI's pad-aware token budget (text-embeddings-inference, core/src/queue.rs) inside a look-ahead
window that is sorted by cost, so that a batch pads little and the largest batch comes first.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


class Cost(NamedTuple):
    """What one item asks of a batch: tokens (or patches) of compute, and bytes of staging memory."""

    tokens: int
    bytes: int = 0


class Network(Protocol):
    """The batch side. `cost` and `prepare` run off the device thread; `load`, `forward` and `unload` on
    it. To run in another process it must be picklable, items and results too; `cost` stays here."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Everything that changes its numbers: weights, preprocessing, dtype."""

    @property
    def ragged(self) -> bool:
        """True when a batch costs the sum of its items; False when it is padded to the longest."""

    @property
    def nbytes(self) -> int:
        """Bytes the weights take on the device."""

    def cost(self, op: str, item: Any) -> Cost:
        """From headers and lengths alone. Raises Unscorable for an item that can never run."""

    def prepare(self, op: str, items: list[Any]) -> Any:
        """Decode and tokenize on a worker thread. An exception is traced to its item by bisection."""

    def forward(self, op: str, batch: Any) -> list[Any]:
        """One result per item, on the CPU, in order; a result may be an exception meant for that item
        alone."""

    def load(self, device: str) -> None: ...

    def unload(self) -> None: ...


class Service(Protocol):
    """A network that runs and batches elsewhere, such as behind HTTP; it is asked on the engine's loop."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Everything that changes its numbers, as far as can be known from here."""

    async def answer(self, op: str, item: Any) -> Any:
        """The result of one item; an exception is that item's alone."""

    async def close(self) -> None:
        """Give back what belongs to the running event loop. Called when an engine closes."""


@dataclass(slots=True, eq=False)
class Call:
    """One unit of work for one network. Waiters are whatever the engine delivers to; none left means
    cancelled."""

    network: Network
    op: str
    item: Any
    key: Hashable
    share: Hashable = None
    """Calls with an equal share have a prefix in common and are kept in one batch where they fit."""
    cost: Cost = Cost(1)  # noqa: RUF009 - a NamedTuple, immutable
    waiters: list[Any] = field(default_factory=list)
    task: Any = None
    """Of a call to a service: what is cancelled when nobody waits any more."""
    deaths: int = 0
    """Places that died while they ran it."""

    @property
    def live(self) -> bool:
        return any(not waiter.done() for waiter in self.waiters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The size of one batch, and how many batches are looked ahead."""

    tokens: int = 16_384
    items: int = 256
    bytes: int = 1 << 30
    lookahead: int = 8

    def __post_init__(self) -> None:
        for name in ("tokens", "items", "bytes", "lookahead"):
            if getattr(self, name) < 1:
                raise ValueError(f"budget {name} must be at least 1, not {getattr(self, name)}")

    def scaled(self, factor: float) -> "Budget":
        return Budget(
            tokens=max(1, int(self.tokens * factor)),
            items=max(1, int(self.items * factor)),
            bytes=max(1, int(self.bytes * factor)),
            lookahead=self.lookahead,
        )


def take(queue: deque[Call], budget: Budget) -> list[Call]:
    """Pop live calls, oldest first, up to `lookahead` budgets' worth; cancelled ones are dropped on the
    way."""
    window: list[Call] = []
    tokens = staged = 0
    while queue:
        call = queue[0]
        if not call.live:
            queue.popleft()
            continue
        tokens += call.cost.tokens
        staged += call.cost.bytes
        full = tokens > budget.lookahead * budget.tokens or staged > budget.lookahead * budget.bytes
        if window and (full or len(window) == budget.lookahead * budget.items):
            break
        window.append(queue.popleft())
    return window


def plan(calls: Iterable[Call], budget: Budget) -> list[list[Call]]:
    """Pack calls of one network into batches of one op each, costliest first.

    Every call appears exactly once. A batch exceeds the budget only when it holds a single call. Calls with
    an equal share stay in one batch whenever they fit one.
    """
    families: dict[Hashable, list[Call]] = {}
    for index, call in enumerate(calls):
        families.setdefault((call.op, index if call.share is None else (call.share,)), []).append(call)
    for family in families.values():
        family.sort(key=lambda call: -call.cost.tokens)
    batches: list[list[Call]] = []
    load = Load()
    for family in sorted(families.values(), key=lambda family: (family[0].op, -family[0].cost.tokens)):
        whole = Load()
        for call in family:
            whole += Load.of(call)
        ragged = family[0].network.ragged
        apart = whole.fits(budget, ragged) and not (load + whole).fits(budget, ragged)
        if not batches or apart or batches[-1][0].op != family[0].op:
            batches.append([])
            load = Load()
        for call in family:
            more = load + Load.of(call)
            if batches[-1] and not more.fits(budget, ragged):
                batches.append([])
                more = Load.of(call)
            batches[-1].append(call)
            load = more
    return batches


class Load(NamedTuple):
    """What a batch under construction asks for; `+` merges two."""

    items: int = 0
    longest: int = 0
    total: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, call: Call) -> "Load":
        return cls(1, call.cost.tokens, call.cost.tokens, call.cost.bytes)

    @classmethod
    def all(cls, calls: Iterable[Call]) -> "Load":
        return sum(map(cls.of, calls), cls())

    def __add__(self, other: "Load") -> "Load":  # type: ignore[override]
        return Load(
            self.items + other.items,
            max(self.longest, other.longest),
            self.total + other.total,
            self.bytes + other.bytes,
        )

    def tokens(self, ragged: bool) -> int:
        """Tokens the batch really computes: padded to the longest unless the network is ragged."""
        return self.total if ragged else self.longest * self.items

    def share(self, budget: Budget, ragged: bool) -> float:
        """How much of the budget it takes, by whichever limit is the tightest."""
        taken = (self.items / budget.items, self.tokens(ragged) / budget.tokens, self.bytes / budget.bytes)
        return max(taken)

    def fits(self, budget: Budget, ragged: bool) -> bool:
        return (
            self.items <= budget.items and self.bytes <= budget.bytes and self.tokens(ragged) <= budget.tokens
        )

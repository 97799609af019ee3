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
    shared: int = 0
    """Of the tokens, how many are computed once for all calls of an equal share that run together; their
    bytes are too."""


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
    """Calls with an equal share begin alike (one picture, many questions) and stay in one batch where they
    fit."""
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
    seen: set[Hashable] = set()
    tokens = staged = 0
    while queue:
        call = queue[0]
        if not call.live:
            queue.popleft()
            continue
        known = call.cost.shared > 0 and (call.op, call.share) in seen
        tokens += call.cost.tokens - (call.cost.shared if known else 0)
        staged += 0 if known else call.cost.bytes
        full = tokens > budget.lookahead * budget.tokens or staged > budget.lookahead * budget.bytes
        if window and (full or len(window) == budget.lookahead * budget.items):
            break
        window.append(queue.popleft())
        seen.add((call.op, call.share))
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
    sized = [(Load.all(family), family) for family in families.values()]
    staged: dict[str, int] = {}
    for _, family in sized:
        staged[family[0].op] = max(staged.get(family[0].op, 0), family[0].cost.bytes)
    # The op that is quickest to prepare comes first: the device then works while pictures are decoded.
    sized.sort(key=lambda each: (staged[each[1][0].op], each[1][0].op, -each[0].longest))
    batches: list[list[Call]] = []
    load = Load()
    for whole, family in sized:
        ragged = family[0].network.ragged
        apart = not (load + whole).fits(budget, ragged) and whole.fits(budget, ragged)
        if not batches or apart or batches[-1][0].op != family[0].op:
            batches.append([])
            load = Load()
        for row in _rows(family, budget):
            more = load + Load.row(row)
            if batches[-1] and not more.fits(budget, ragged):
                batches.append([])
                more = Load.row(row)
            batches[-1].extend(row)
            load = more
    return batches


def _rows(family: list[Call], budget: Budget) -> list[list[Call]]:
    """The family as the rows a network makes of it: calls that share tokens in one row, as far as it fits."""
    if len(family) == 1:
        return [family]
    rows: list[list[Call]] = []
    for call in family:
        last = rows[-1] if rows and call.cost.shared else []
        if last and Load.row([*last, call]).fits(budget, ragged=True):
            last.append(call)
        else:
            rows.append([call])
    return rows


class Load(NamedTuple):
    """What a batch under construction asks for; `+` merges two. A row is one call, or several that share."""

    items: int = 0
    rows: int = 0
    longest: int = 0
    total: int = 0
    bytes: int = 0

    @classmethod
    def row(cls, calls: list[Call]) -> "Load":
        """Calls in one row: what they share counts once."""
        if len(calls) == 1:
            tokens, staged, _ = calls[0].cost
            return cls(1, 1, tokens, tokens, staged)
        shared = max(call.cost.shared for call in calls)
        tokens = shared + sum(call.cost.tokens - call.cost.shared for call in calls)
        staged = max(call.cost.bytes for call in calls) if shared else sum(call.cost.bytes for call in calls)
        return cls(len(calls), 1, tokens, tokens, staged)

    @classmethod
    def all(cls, calls: list[Call]) -> "Load":
        """Calls of one op, those that share in one row."""
        if len(calls) == 1:
            return cls.row(calls)
        rows: dict[Hashable, list[Call]] = {}
        for index, call in enumerate(calls):
            rows.setdefault((call.share,) if call.cost.shared else index, []).append(call)
        return sum(map(cls.row, rows.values()), cls())

    def __add__(self, other: "Load") -> "Load":  # type: ignore[override]
        return Load(
            self.items + other.items,
            self.rows + other.rows,
            max(self.longest, other.longest),
            self.total + other.total,
            self.bytes + other.bytes,
        )

    def tokens(self, ragged: bool) -> int:
        """Tokens the batch really computes: rows padded to the longest unless the network is ragged."""
        return self.total if ragged else self.longest * self.rows

    def share(self, budget: Budget, ragged: bool) -> float:
        """How much of the budget it takes, by whichever limit is the tightest."""
        taken = (self.items / budget.items, self.tokens(ragged) / budget.tokens, self.bytes / budget.bytes)
        return max(taken)

    def fits(self, budget: Budget, ragged: bool) -> bool:
        return (
            self.items <= budget.items and self.bytes <= budget.bytes and self.tokens(ragged) <= budget.tokens
        )

"""Batch planning: calls, their costs, budgets, and the packing of waiting calls into batches.

The contract of a network (`Network`: weights in this process or an actor) and of a service (`Service`:
weights elsewhere), one unit of work (`Call`), and pure functions over queues of them: `take` a look-ahead
window, `plan` it into batches. The rule is TEI's pad-aware token budget (text-embeddings-inference,
core/src/queue.rs) inside a window that is sorted by cost, so that a batch pads little and the largest batch
comes first.

Knows no torch, no asyncio and no threads, nor which queue or device a batch is for.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


class Cost(NamedTuple):
    """Size of one item in a batch: tokens (or patches) of compute, and bytes of staging memory."""

    tokens: int
    bytes: int = 0
    shared: int = 0
    """Tokens, of these, that are computed once for all calls of an equal share that run together; the bytes
    are then staged once too."""


class Network(Protocol):
    """A model over batches. `cost` and `prepare` run off the device thread; `load`, `forward` and `unload` on
    it. To run in another process it must be picklable, items and results too; `cost` stays here."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Name of everything that changes its numbers: weights, preprocessing, dtype."""

    @property
    def ragged(self) -> bool:
        """True when a batch costs the sum of its items; False when it is padded to the longest."""

    @property
    def nbytes(self) -> int:
        """Bytes the weights take on the device."""

    def cost(self, op: str, item: Any) -> Cost:
        """Cost of one item, from headers and lengths alone.

        Raises:
            Unscorable: the item can never run.
        """

    def prepare(self, op: str, items: list[Any]) -> Any:
        """Decode and tokenize, on a worker thread. An exception is traced to its item by bisection."""

    def forward(self, op: str, batch: Any) -> list[Any]:
        """One result per item, on the CPU, in order; a result may be an exception meant for that item
        alone."""

    def load(self, device: str) -> None: ...

    def unload(self) -> None: ...


class Feed(Protocol):
    """Batches of one network and op, for a network that takes up the next before the last has ended."""

    def take(self) -> Any:
        """The next prepared batch; None where none waits, or something else comes first. The first is always
        there."""

    def done(self, number: int, results: list[Any]) -> None:
        """Hand over the results, as `Network.forward` gives them, of the batch taken as the number-th, from
        0."""


class Refilling(Network, Protocol):
    """A network whose rows end one by one, as texts that are written do, and that lets others take their
    room."""

    def refills(self, op: str) -> bool:
        """True where batches of this op go through `forward_on`."""

    def forward_on(self, op: str, feed: Feed) -> None:
        """Run what the feed has, and what comes meanwhile, until all is done. Where it raises, each batch
        that is not done runs alone, by `forward`."""


class Service(Protocol):
    """A network that runs and batches elsewhere, such as behind HTTP; called on the engine's loop."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Name of everything that changes its numbers, as far as it is known here."""

    async def answer(self, op: str, item: Any) -> Any:
        """Result of one item; an exception is that item's alone."""

    async def close(self) -> None:
        """Release connections and tasks of the running event loop. Called when an engine closes."""


@dataclass(slots=True, eq=False)
class Call:
    """One unit of work for one network. Waiters are the futures the engine delivers to; a call without a
    pending one is cancelled."""

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
    """The task of a call to a service; cancelled with its last waiter."""
    deaths: int = 0
    """Number of places that died while they ran it."""
    home: Any = None
    """The loop whose coroutines wait for it."""

    @property
    def live(self) -> bool:
        for waiter in self.waiters:  # asked thrice of every call; any() costs thrice as much  # noqa: SIM110
            if not waiter.done():
                return True
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of one batch, and the number of batches that are planned together."""

    tokens: int = 16_384
    items: int = 256
    bytes: int = 1 << 30
    lookahead: int = 8

    def __post_init__(self) -> None:
        for name in ("tokens", "items", "bytes", "lookahead"):
            if getattr(self, name) < 1:
                raise ValueError(f"budget {name} must be at least 1, not {getattr(self, name)}")

    def scaled(self, factor: float) -> "Budget":
        """The budget times `factor`, each limit at least 1; the look-ahead stays."""
        return Budget(
            tokens=max(1, int(self.tokens * factor)),
            items=max(1, int(self.items * factor)),
            bytes=max(1, int(self.bytes * factor)),
            lookahead=self.lookahead,
        )


def take(queue: deque[Call], budget: Budget) -> list[Call]:
    """Pop live calls, oldest first, up to `lookahead` budgets' worth; cancelled ones are dropped."""
    window: list[Call] = []
    seen: set[Hashable] = set()
    tokens = staged = 0
    while queue:
        call = queue[0]
        if not call.live:
            queue.popleft()
            continue
        # The picture that earlier calls of the window brought along is neither computed nor staged again.
        repeated = call.cost.shared > 0 and (call.op, call.share) in seen
        tokens += call.cost.tokens - (call.cost.shared if repeated else 0)
        staged += 0 if repeated else call.cost.bytes
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
    # A family is what should meet in one batch: the calls of one op and one share. None shares with nobody,
    # and a share is wrapped so that it cannot equal the index that stands for it.
    families: dict[Hashable, list[Call]] = {}
    for index, call in enumerate(calls):
        families.setdefault((call.op, index if call.share is None else (call.share,)), []).append(call)
    for family in families.values():
        family.sort(key=lambda call: -call.cost.tokens)
    sized = [(Load.all(family), family) for family in families.values()]
    staged: dict[str, int] = {}
    for _, family in sized:
        staged[family[0].op] = max(staged.get(family[0].op, 0), family[0].cost.bytes)
    # The op that is quickest to prepare comes first: the device then works while pictures are decoded. Within
    # an op the longest family comes first: neighbours in that order are of like length, so batches pad
    # little, and a batch that does not fit into memory fails at once and not after all smaller ones.
    sized.sort(key=lambda each: (staged[each[1][0].op], each[1][0].op, -each[0].longest))
    batches: list[list[Call]] = []
    load = Load()
    for whole, family in sized:
        ragged = family[0].network.ragged
        more = load + whole
        fits = more.fits(budget, ragged)
        # A family that would be torn at the end of this batch, and fits one of its own, opens a new batch.
        apart = not fits and whole.fits(budget, ragged)
        opened = not batches or apart or batches[-1][0].op != family[0].op
        if opened:
            batches.append([])
            load = Load()
        if len(family) == 1:  # most are: a row of its own, whose load is known
            if not opened and not fits:
                batches.append([])
                opened = True
            batches[-1].append(family[0])
            load = whole if opened else more
            continue
        for row in _rows(family, budget):
            more = load + Load.row(row)
            if batches[-1] and not more.fits(budget, ragged):
                batches.append([])
                more = Load.row(row)
            batches[-1].extend(row)
            load = more
    return batches


def halves(calls: list[Call]) -> list[list[Call]]:
    """A batch as two, or as one of a single call: bisection towards the call that made it fail."""
    middle = len(calls) // 2
    return [half for half in (calls[:middle], calls[middle:]) if half]


def _rows(family: list[Call], budget: Budget) -> list[list[Call]]:
    """Rows a network makes of a family: calls that share tokens stand in one row, as far as it fits."""
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
    """Size of a batch under construction; `+` merges two. A row is one call, or several that share tokens."""

    items: int = 0
    rows: int = 0
    longest: int = 0
    total: int = 0
    bytes: int = 0

    @classmethod
    def row(cls, calls: list[Call]) -> "Load":
        """Load of calls in one row: shared tokens count once."""
        if len(calls) == 1:
            tokens, staged, _ = calls[0].cost
            return cls(1, 1, tokens, tokens, staged)
        shared = max(call.cost.shared for call in calls)
        tokens = shared + sum(call.cost.tokens - call.cost.shared for call in calls)
        staged = max(call.cost.bytes for call in calls) if shared else sum(call.cost.bytes for call in calls)
        return cls(len(calls), 1, tokens, tokens, staged)

    @classmethod
    def all(cls, calls: list[Call]) -> "Load":
        """Load of calls of one op, those that share tokens in one row."""
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
        """Tokens the batch computes: rows padded to the longest unless the network is ragged."""
        return self.total if ragged else self.longest * self.rows

    def share(self, budget: Budget, ragged: bool) -> float:
        """Fraction of the budget it takes, by the tightest limit."""
        taken = (self.items / budget.items, self.tokens(ragged) / budget.tokens, self.bytes / budget.bytes)
        return max(taken)

    def fits(self, budget: Budget, ragged: bool) -> bool:
        return (
            self.items <= budget.items and self.bytes <= budget.bytes and self.tokens(ragged) <= budget.tokens
        )

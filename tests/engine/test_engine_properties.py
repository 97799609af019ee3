"""Whatever the sizes, failures, cancellations and memory: nothing lost, doubled, reordered or mixed up."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from support.toys import FakeNetwork, Item

from mmreward import Engine
from mmreward.engine.batching import Budget

STAGES = ("", "", "", "", "", "cost", "prepare", "forward", "result")
pools = st.lists(st.tuples(st.integers(1, 40), st.sampled_from(STAGES)), min_size=1, max_size=40)
budgets = st.builds(Budget, tokens=st.integers(1, 120), items=st.integers(1, 16), bytes=st.integers(1, 200))


class Checked(FakeNetwork):
    """Notes every batch that is handed to `forward`, also those that fail."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tried = []

    def forward(self, op, batch):
        self.tried.append((op, batch))
        return super().forward(op, batch)


def outcomes(engine, networks, asks, *, cancelled=frozenset(), ticks=0):
    """Submit every (network, op, item, key) at once, cancel some after a number of ticks, gather all."""

    async def drive():
        calls = [engine.submit(networks[n], op, item, key=key) for n, op, item, key in asks]
        tasks = [asyncio.create_task(call) for call in calls]
        for _ in range(ticks):
            await asyncio.sleep(0)
        for index in cancelled:
            tasks[index].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return engine.run(drive())


@settings(max_examples=80)
@given(
    pool=pools,
    picks=st.lists(st.tuples(st.integers(0, 39), st.booleans(), st.sampled_from("ab")), max_size=80),
    budget=budgets,
    capacity=st.none() | st.integers(1, 100),
    cancelled=st.sets(st.integers(0, 79), max_size=20),
    ticks=st.integers(0, 8),
    ragged=st.booleans(),
)
def test_every_caller_gets_exactly_what_is_its_own(pool, picks, budget, capacity, cancelled, ticks, ragged):
    items = [Item(i, tokens, poison) for i, (tokens, poison) in enumerate(pool)]
    chosen = [(items[i % len(items)], keyed, op) for i, keyed, op in picks]
    asks = [(0, op, item, item.id if keyed else None) for item, keyed, op in chosen]
    cancelled = {index for index in cancelled if index < len(asks)}
    network = Checked(capacity=capacity)
    network.ragged = ragged
    with Engine("cpu", budget=budget) as engine:
        results = outcomes(engine, [network], asks, cancelled=cancelled, ticks=ticks)
        again = outcomes(engine, [network], asks)

    for round_, answers in enumerate((results, again)):
        for index, ((_, op, item, _key), answer) in enumerate(zip(asks, answers, strict=True)):
            if round_ == 0 and index in cancelled and isinstance(answer, asyncio.CancelledError):
                continue
            if item.poison and item.poison != "result":
                assert isinstance(answer, ValueError) and str(answer) == f"{item.poison} {item.id}"
            elif capacity is not None and item.tokens > capacity:
                assert isinstance(answer, MemoryError)
            elif item.poison:
                assert isinstance(answer, ValueError) and str(answer) == f"result {item.id}"
            else:
                assert answer == f"fake:{op}:{item.id}"

    for op, batch in network.tried:
        tokens = sum(i.tokens for i in batch) if ragged else max(i.tokens for i in batch) * len(batch)
        fits = (
            tokens <= budget.tokens
            and len(batch) <= budget.items
            and sum(i.tokens for i in batch) <= budget.bytes
        )
        assert fits or len(batch) == 1, (op, batch)


@settings(max_examples=60)
@given(picks=st.lists(st.integers(0, 9), min_size=1, max_size=60), budget=budgets, data=st.data())
def test_equal_keys_cost_one_computation_and_other_calls_one_each(picks, budget, data):
    keyed = data.draw(st.lists(st.booleans(), min_size=len(picks), max_size=len(picks)))
    asks = [(0, "op", Item(i), i if k else None) for i, k in zip(picks, keyed, strict=True)]
    network = FakeNetwork()
    with Engine("cpu", budget=budget) as engine:
        outcomes(engine, [network], asks)
        stats = engine.stats()
    wanted = Counter({i for i, k in zip(picks, keyed, strict=True) if k})
    wanted += Counter(i for i, k in zip(picks, keyed, strict=True) if not k)
    assert Counter(network.computed) == wanted
    assert stats.calls == len(asks) and stats.deduplicated == len(asks) - wanted.total()


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=5),
    picks=st.lists(st.integers(0, 4), max_size=60),
    limit=st.integers(60, 120),
    size_known_late=st.booleans(),
)
def test_weights_on_the_device_stay_within_their_limit(sizes, picks, limit, size_known_late):
    resident: dict[str, int] = {}
    most = 0

    class Sized(FakeNetwork):
        def load(self, device):
            resident[self.name], self.nbytes = self.size, self.size

        def unload(self):
            del resident[self.name]

        def forward(self, op, batch):
            nonlocal most
            most = max(most, sum(resident.values()))
            return super().forward(op, batch)

    networks = [Sized(f"n{i}", nbytes=0 if size_known_late else size) for i, size in enumerate(sizes)]
    for network, size in zip(networks, sizes, strict=True):
        network.size = size
    asks = [(pick % len(sizes), "op", Item(i), None) for i, pick in enumerate(picks)]
    with Engine("cpu:7", budget=Budget(items=3), resident_bytes=limit) as engine:
        results = outcomes(engine, networks, asks)
    assert results == [f"n{n}:op:{item.id}" for n, _, item, _ in asks]
    assert most <= limit and not resident


@settings(max_examples=15)
@given(moves=st.lists(st.sampled_from(["sleep", "wake", "ask", "ask"]), max_size=12))
def test_sleeping_and_waking_in_any_order_loses_no_call(moves):
    network = FakeNetwork()
    futures = []
    with Engine("cpu") as engine:
        for number, move in enumerate(moves):
            if move == "ask":
                futures.append((number, engine._start(engine.submit(network, "op", Item(number)))))
            else:
                getattr(engine, move)()
        engine.wake()
        for number, future in futures:
            assert future.result(timeout=20) == f"fake:op:{number}"

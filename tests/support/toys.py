"""Fakes for tests: a network without weights that misbehaves on request, and rewards around it."""

import threading
from dataclasses import dataclass
from typing import Any

from mmreward import Score, Unscorable, load, reward
from mmreward.engine.batching import Cost
from mmreward.engine.engine import current


@dataclass(frozen=True)
class Item:
    """One item; `poison` names the stage that fails because of it."""

    id: int
    tokens: int = 1
    poison: str = ""


class Panic(BaseException):
    """A fault in a native library: no Exception."""


class FakeNetwork:
    """Answers "NAME:OP:ID" for every item and writes down what it was asked to do."""

    def __init__(self, name: str = "fake", *, capacity: int | None = None, nbytes: int = 1) -> None:
        self.name = self.fingerprint = name
        self.ragged = False
        self.capacity = capacity
        self.nbytes = nbytes
        self.batches: list[list[Item]] = []
        self.events: list[str] = []
        self.gate = threading.Event()
        self.started = threading.Event()
        self.gate.set()

    def cost(self, op: str, item: Item) -> Cost:
        self._check(item, "cost")
        return Cost(item.tokens, item.tokens)

    def prepare(self, op: str, items: list[Item]) -> Any:
        for item in items:
            self._check(item, "prepare")
        return items

    def forward(self, op: str, batch: list[Item]) -> list[Any]:
        self.started.set()
        assert self.gate.wait(30)
        for item in batch:
            self._check(item, "forward")
        if self.capacity is not None and max(item.tokens for item in batch) * len(batch) > self.capacity:
            raise MemoryError(f"{len(batch)} items do not fit")
        self.batches.append(batch)
        return [
            ValueError(f"result {item.id}") if item.poison == "result" else f"{self.name}:{op}:{item.id}"
            for item in batch
        ]

    def load(self, device: str) -> None:
        self.events.append("load")

    def unload(self) -> None:
        self.events.append("unload")

    @property
    def computed(self) -> list[int]:
        return [item.id for batch in self.batches for item in batch]

    def _check(self, item: Item, stage: str) -> None:
        if item.poison == stage:
            raise ValueError(f"{stage} {item.id}")


def toy(fn: Any, name: str = "toy", **facts: Any) -> Any:
    """Register an async function as a reward and load it."""

    def factory() -> Any:
        """A toy."""
        return fn

    factory.__qualname__ = f"{fn.__qualname__}.{name}"
    reward(name, **{"needs": (), "range": (0.0, 1.0), **facts})(factory)
    return load(name)


def network_reward(network: FakeNetwork, name: str = "toy") -> Any:
    """A reward whose value is 1 when the network answered with the sample's own item (in its target)."""

    async def score(sample: Any) -> Score:
        answer = await current().submit(network, "op", sample.target)
        if answer != f"{network.name}:op:{sample.target.id}":
            raise Unscorable(f"the answer {answer} belongs to another sample")
        return Score(1.0)

    return toy(score, name)

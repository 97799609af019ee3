"""Networks without weights that travel to actors: what they are asked decides how they misbehave."""

import os
import time

from mmreward import Unscorable
from mmreward.engine.batching import Cost


class Travelling:
    """Answers (process id, item id); `Item.poison` may be forward, refuse, exit, slow or unpicklable."""

    def __init__(self, name="travelling", *, capacity=None):
        self.name = self.fingerprint = name
        self.ragged = False
        self.capacity = capacity
        self.nbytes = 7

    def cost(self, op, item):
        return Cost(item.tokens)

    def prepare(self, op, items):
        return items

    def forward(self, op, batch):
        if self.capacity is not None and len(batch) > self.capacity:
            raise MemoryError(f"{len(batch)} items do not fit")
        for item in batch:
            misbehave(item)
        return [(os.getpid(), item.id) for item in batch]

    def load(self, device):
        pass

    def unload(self):
        pass


def misbehave(item):
    if item.poison == "forward":
        raise ValueError(f"forward {item.id}")
    if item.poison == "refuse":
        raise Unscorable(f"refused {item.id}", "out_of_range")
    if item.poison == "stranger":
        raise type("Stranger", (Exception,), {})(f"stranger {item.id}")
    if item.poison == "slow":
        time.sleep(0.02)
    if item.poison == "exit":
        os._exit(1)


class Unwilling(Travelling):
    """Cannot be made again where it arrives."""

    def __setstate__(self, state):
        raise ValueError("other weights lie here")


class Homebound(Travelling):
    """Cannot leave."""

    def __reduce__(self):
        raise TypeError("it holds a lock")

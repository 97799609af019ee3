"""What the engine costs per call when the network costs nothing: `python -m mmreward.evals.overhead`.

Two figures over 100,000 different calls of a network that hands its items back: `submit` alone (queue, batch,
deliver), and a whole score (sample, reward, call, range check). Exits with 1 above the bar of 50 microseconds
per call.
"""

import asyncio
import sys
import time
from typing import Any

from mmreward import Engine, Sample, Score
from mmreward.batching import Cost
from mmreward.engine import current
from mmreward.registry import Reward
from mmreward.types import RewardInfo

CALLS = 100_000
CONCURRENT = 4096
BAR = 50.0


class Echo:
    """A network of no cost: its results are its items."""

    name = fingerprint = "echo"
    ragged = False
    nbytes = 0

    def cost(self, op: str, item: Any) -> Cost:
        return Cost(1 + item % 7)

    def prepare(self, op: str, items: list[Any]) -> Any:
        return items

    def forward(self, op: str, batch: Any) -> list[Any]:
        return list(batch)

    def load(self, device: str) -> None: ...

    def unload(self) -> None: ...


ECHO = Echo()


async def submit_all() -> None:
    """Keep CONCURRENT coroutines submitting until every number has come back."""
    engine = current()
    numbers = iter(range(CALLS))

    async def worker() -> None:
        for number in numbers:
            assert await engine.submit(ECHO, "echo", number, key=number) == number

    await asyncio.gather(*(worker() for _ in range(CONCURRENT)))


async def score(sample: Sample) -> Score:
    return Score(float(await current().submit(ECHO, "echo", sample.target, key=sample.target)))


def main() -> bool:
    """Print both figures; True when the first is within the bar."""
    reward = Reward(RewardInfo(name="echo", needs=("target",), range=(0, CALLS)), {}, score)
    samples = [Sample(target=number) for number in range(CALLS)]
    with Engine("cpu", cache_bytes=0) as engine:
        begun = time.process_time(), time.perf_counter()
        engine.run(submit_all())
        submit = 1e6 * (time.perf_counter() - begun[1]) / CALLS
        busy = 1e6 * (time.process_time() - begun[0]) / CALLS
        began = time.perf_counter()
        engine.score(samples, reward)
        whole = 1e6 * (time.perf_counter() - began) / CALLS
        batches = engine.stats().networks["echo"]
    print(f"submit  {submit:6.1f} us per call ({busy:.1f} us of processor time), bar {BAR:g}")
    print(f"score   {whole:6.1f} us per sample")
    print(f"batches {batches.items / batches.batches:6.1f} calls on average")
    return submit <= BAR


if __name__ == "__main__":
    sys.exit(0 if main() else 1)

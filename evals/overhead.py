"""The engine's own cost: `python -m mmreward.evals.overhead [calls|scaling|many]`.

`calls` (the default): microseconds per call over 100,000 different calls of a network that hands its items
back: `submit` alone (queue, batch, deliver), and a whole score (sample, reward, call, range check). Exits
with 1 above the bar of 50 microseconds per submitted call.

`scaling`: cost and memory in proportion to 20,000 samples. One dual encoder of a few thousand weights scores
pictures that are drawn when the engine asks for them and never twice the same, so what is measured is the
engine: its queues, its cache and what it keeps of a sample. Exits with 1 when a sample of 20,000 costs more
than 1.15 times one of 2,000, or when the process grows by more than 15 % between 5,000 and 20,000.

`many`: the same pictures by one call, by 1,000 callers at once (coroutines, then threads), by several engines
of one process, by callers beside a trainer that has the engine give up the device again and again
(`Engine.sleep` and `wake`), and rows sent to a server by clients that never pause: samples a second, and what
half and 99 of 100 callers wait at most. Exits with 1 when a caller gets another value than the one call's, or
something is left on the device of a trainer.

How the engine compares with what its users would otherwise write is `mmreward bench`, in speed/.
"""

import argparse
import asyncio
import resource
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mmreward import Engine, Media, Sample, Score, load
from mmreward.engine.batching import Cost
from mmreward.engine.engine import current
from mmreward.registry import Reward
from mmreward.types import RewardInfo

from .audits import serving
from .speed.inputs import PROMPTS, SCALES, save_dual_encoder

# --- calls: microseconds per call ---------------------------------------------------------------------------

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
    """Submit every number from CONCURRENT coroutines and wait until it has come back."""
    engine = current()
    numbers = iter(range(CALLS))

    async def worker() -> None:
        for number in numbers:
            assert await engine.submit(ECHO, "echo", number, key=number) == number

    await asyncio.gather(*(worker() for _ in range(CONCURRENT)))


async def score(sample: Sample) -> Score:
    """The sample's target, by way of the network of no cost."""
    return Score(float(await current().submit(ECHO, "echo", sample.target, key=sample.target)))


def calls() -> bool:
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


# --- scaling: cost and memory per sample --------------------------------------------------------------------

COUNTS = (1000, 2000, 5000, 10_000, 20_000)
SIDE = 48
CACHE = 4 << 20
"""Bytes of results kept: few enough that the largest counts fill it."""
TOWER = replace(SCALES["toy"], clip_side=224, clip_patch=56)
"""A full-size input, so that what is kept of resized pictures is full, too, before the counts that matter."""
SLOWER, LARGER = 1.15, 1.15


class Generated(Sequence[Sample]):
    """Samples that exist only while they are referred to; equal indices give equal samples."""

    def __init__(self, number: int, seed: int) -> None:
        self._number, self._seed = number, seed

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self._number))

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._number))]
        if not 0 <= index < self._number:
            raise IndexError(f"{index} is not below {self._number}")
        drawn = np.random.default_rng((self._seed, index)).bytes(3 * SIDE * SIDE)
        pixels = np.frombuffer(drawn, dtype=np.uint8).reshape(SIDE, SIDE, 3)
        return Sample(id=str(index), prompt=PROMPTS[index % len(PROMPTS)], image=Media(pixels))


class ScalingRow(NamedTuple):
    """Cost of one count: seconds on the wall and of processor time, the most memory the process has ever
    held, and what the engine's cache holds afterwards, both in bytes."""

    number: int
    wall: float
    cpu: float
    peak: int
    cached: int

    @property
    def each(self) -> float:
        """Processor seconds per sample, which other work on the machine disturbs less than the wall's."""
        return self.cpu / self.number


def measure(counts: Sequence[int]) -> list[ScalingRow]:
    """Score each count in turn, the smaller ones several times over; counts must rise, as the peak does."""
    with TemporaryDirectory(prefix="mmreward-scaling-") as folder:
        weights = Path(folder) / "clip"
        save_dual_encoder(weights, TOWER, 0, torch.float32)
        reward = load("clipscore", weights=str(weights))
        with Engine("cpu", cache_bytes=CACHE) as engine:
            _seconds(engine, reward, counts[0], 0)
            return [_row(engine, reward, number) for number in counts]


def complaints(rows: Sequence[ScalingRow]) -> list[str]:
    """The bars that are missed, in words; empty when all are met."""
    by = {row.number: row for row in rows}
    found = []
    if (slower := by[20_000].each / by[2000].each) > SLOWER:
        found.append(f"a sample of 20,000 costs {slower:.2f} times one of 2,000; at most {SLOWER} is right")
    if (larger := by[20_000].peak / by[5000].peak) > LARGER:
        found.append(f"memory at 20,000 is {larger:.2f} times that at 5,000; at most {LARGER} is right")
    return found


def table(rows: Sequence[ScalingRow]) -> Table:
    """The measured rows for a terminal."""
    shown = Table("samples", "s per 1000", "processor s per 1000", "peak MB", "cache MB")
    for row in rows:
        times = f"{1000 * row.wall / row.number:.3f}", f"{1000 * row.each:.3f}"
        shown.add_row(f"{row.number:,}", *times, f"{row.peak / 1e6:.0f}", f"{row.cached / 1e6:.2f}")
    return shown


def scaling() -> bool:
    """Print the table; True when everything is in proportion."""
    torch.set_num_threads(1)  # threads that spin for work would count as cost
    rows = measure(COUNTS)
    console = Console()
    console.print(table(rows))
    found = complaints(rows)
    for text in found or ["in proportion"]:
        console.print(text, highlight=False)
    return not found


def _row(engine: Engine, reward: Reward, number: int) -> ScalingRow:
    repeats = min(6, max(1, 6000 // number))
    times = [_seconds(engine, reward, number, number + again) for again in range(repeats)]
    walls, cpus = zip(*times, strict=True)
    return ScalingRow(number, median(walls), median(cpus), _peak(), engine.stats().cache_bytes)


def _seconds(engine: Engine, reward: Reward, number: int, seed: int) -> tuple[float, float]:
    begun = time.perf_counter(), time.process_time()
    scores = engine.score(Generated(number, seed), reward)["clipscore"]
    taken = time.perf_counter() - begun[0], time.process_time() - begun[1]
    if failed := [score.note for score in scores if not score.ok]:
        raise RuntimeError(f"{len(failed)} of {number} samples failed: {failed[0]}")
    return taken


def _peak() -> int:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


# --- many: callers, engines, a trainer and a server ---------------------------------------------------------

CALLERS, ENGINES, BESIDE, CLIENTS = 1000, 4, 64, 64
STEPS, STEP = 5, 0.2
"""Steps of the trainer, and seconds it has the device for in each."""
SERVED = 5.0
"""Seconds for which the server is asked."""


class ManyRow(NamedTuple):
    """One way of asking: samples a second, and the wait of a caller in milliseconds."""

    name: str
    rate: float
    waits: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.waits, percent))


class Crowd:
    """Callers with a sample each, their waits, and whether they got what one call for all of them gives.

    Args:
        reward: of a picture and a prompt.
        number: of callers.
    """

    def __init__(self, reward: Reward, number: int) -> None:
        self.reward = reward
        self.samples = list(Generated(number, seed=0))
        self.wrong = 0
        with Engine("cpu", cache_bytes=0) as engine:
            engine.score(self.samples[:50], reward)  # builds the network
            begun = time.perf_counter()
            self.wanted = [score.value for score in engine.score(self.samples, reward)["clipscore"]]
            self.row = self._row("one call", begun, [time.perf_counter() - begun])

    def coroutines(self, engines: Sequence[Engine], name: str) -> ManyRow:
        """Every caller is a coroutine of one loop, and asks one of the engines in turn."""

        async def one(number: int) -> float:
            began = time.perf_counter()
            found = await engines[number % len(engines)].ascore([self.samples[number]], self.reward)
            self._check(number, found)
            return time.perf_counter() - began

        async def every() -> list[float]:
            return await asyncio.gather(*map(one, range(len(self.samples))))

        begun = time.perf_counter()
        return self._row(name, begun, asyncio.run(every()))

    def threads(self, engine: Engine) -> ManyRow:
        """Every caller is a thread."""
        waits = [0.0] * len(self.samples)

        def one(number: int) -> None:
            began = time.perf_counter()
            self._check(number, engine.score([self.samples[number]], self.reward))
            waits[number] = time.perf_counter() - began

        crowd = [threading.Thread(target=one, args=(number,)) for number in range(len(self.samples))]
        begun = time.perf_counter()
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        return self._row(f"{len(crowd):,} threads", begun, waits)

    def beside_a_trainer(self, engine: Engine, name: str) -> ManyRow:
        """So many threads ask one after another, while the engine sleeps for every step of a trainer."""
        numbers = iter(range(len(self.samples)))
        waits: list[float] = []
        away: list[float] = []

        def several() -> None:
            for number in numbers:  # the threads share them
                began = time.perf_counter()
                self._check(number, engine.score([self.samples[number]], self.reward))
                waits.append(time.perf_counter() - began)

        crowd = [threading.Thread(target=several) for _ in range(BESIDE)]
        begun = time.perf_counter()
        for thread in crowd:
            thread.start()
        for _ in range(STEPS):
            time.sleep(STEP)  # the trainer generates
            began = time.perf_counter()
            engine.sleep()
            self.wrong += engine.stats().resident_bytes > 0
            slept = time.perf_counter()
            time.sleep(STEP)  # and has the device to itself
            woken = time.perf_counter()
            engine.wake()
            away.append(slept - began + time.perf_counter() - woken)
        for thread in crowd:
            thread.join()
        return self._row(f"{name}, {1000 * median(away):.0f} ms to sleep and wake", begun, waits)

    def _check(self, number: int, found: dict[str, list[Score]]) -> None:
        score = found["clipscore"][0]
        self.wrong += not (score.ok and abs(score.value - self.wanted[number]) <= 1e-4)

    def _row(self, name: str, begun: float, waits: Sequence[float]) -> ManyRow:
        rate = len(self.samples) / (time.perf_counter() - begun)
        return ManyRow(name, rate, tuple(1000 * wait for wait in waits))


def crowded(number: int) -> tuple[list[ManyRow], int]:
    """Rows of so many callers in this process, and how many got something else than one call gives."""
    with TemporaryDirectory(prefix="mmreward-many-") as folder, ExitStack() as stack:
        weights = Path(folder) / "clip"
        save_dual_encoder(weights, TOWER, 0, torch.float32)
        crowd = Crowd(load("clipscore", weights=str(weights)), number)
        engines = [stack.enter_context(Engine("cpu", cache_bytes=0)) for _ in range(ENGINES)]
        rows = [crowd.row, crowd.coroutines(engines[:1], f"{number:,} coroutines")]
        rows.append(crowd.threads(engines[0]))
        rows.append(crowd.coroutines(engines, f"{number:,} coroutines, {ENGINES} engines"))
        rows.append(crowd.beside_a_trainer(engines[0], f"{BESIDE} threads beside a trainer"))
        return rows, crowd.wrong


def served(clients: int, seconds: float) -> tuple[ManyRow, int]:
    """The row of a server that clients ask without a pause, and the number of requests that failed."""
    phase = serving.Phase("asked")
    with TemporaryDirectory(prefix="mmreward-many-") as folder, serving.Server(Path(folder)) as server:
        asyncio.run(serving.measured(server.port, clients, 1.0, serving.Phase("warm"), pause=0.0))
        asyncio.run(serving.measured(server.port, clients, seconds, phase, pause=0.0))
    waits = tuple(1000 * wait for wait in phase.seconds)
    return ManyRow(f"server, {clients} clients", len(waits) / seconds, waits), sum(phase.failed.values())


def many() -> bool:
    """Print the table; True when every caller got what it would have got alone."""
    torch.set_num_threads(1)
    rows, wrong = crowded(CALLERS)
    asked, failed = served(CLIENTS, SERVED)
    shown = Table("asked by", "samples/s", "p50 ms", "p99 ms")
    for row in [*rows, asked]:
        shown.add_row(row.name, f"{row.rate:.0f}", *(f"{row.percentile(p):.0f}" for p in (50, 99)))
    console = Console()
    console.print(shown)
    console.print(f"{wrong} callers got another value, {failed} requests failed", highlight=False)
    return not wrong and not failed


COMMANDS = {"calls": calls, "scaling": scaling, "many": many}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=COMMANDS, nargs="?", default="calls", help="default: calls")
    sys.exit(0 if COMMANDS[parser.parse_args().what]() else 1)


if __name__ == "__main__":
    main()

"""Rewards that only the child's interpreter has: some behave, and some take it down."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from mmreward import Score, reward
from mmreward.engine.batching import Cost
from mmreward.engine.engine import current


class Network:
    """Answers with the size of the batch that a call was in."""

    name = fingerprint = "batch sizes"
    ragged, nbytes = False, 1

    def cost(self, op, item):
        return Cost(1)

    def prepare(self, op, items):
        time.sleep(0.02)
        return items

    def forward(self, op, batch):
        return [len(batch)] * len(batch)

    def load(self, device):
        pass

    def unload(self):
        pass


@reward("echo", needs=(), range=(0, 1), example={"meta": {"numbers": (1, 2)}})
def echo(value: float = 0.5):
    "Gives its argument, and says in the note what it was sent."

    async def score(sample):
        return Score(
            value, {"pid": float(os.getpid())}, note=repr((sample.prompt, sample.target, sample.meta))
        )

    return score


@reward("poisonous", needs=("prompt",), range=(0, 1))
def poisonous():
    "Ends the process on certain prompts."

    async def score(sample):
        if sample.prompt == "poison":
            print("the poison worked", file=sys.stderr, flush=True)
            os._exit(7)
        if sample.prompt == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if sample.prompt == "orphan":
            if (fork := os.fork()) == 0:
                time.sleep(60)  # it lives on, with all that it inherited
                os._exit(0)
            print("fork", fork, file=sys.stderr, flush=True)
            os._exit(8)
        return Score(float(sample.id) / 1000)

    return score


@reward("blocking", needs=("prompt",), range=(0, 1))
def blocking():
    "Blocks the loop on certain prompts, waits on others, and counts what runs and what was cancelled."
    counts = {"running": 0, "most": 0, "cancelled": 0}

    async def score(sample):
        counts["running"] += 1
        counts["most"] = max(counts["most"], counts["running"])
        try:
            if sample.prompt == "hang":
                time.sleep(1000)
            await asyncio.sleep({"wait": 1000, "pause": 0.3}.get(sample.prompt, 0))
        except asyncio.CancelledError:
            counts["cancelled"] += 1
            raise
        finally:
            counts["running"] -= 1
        return Score(0.5, {"pid": float(os.getpid()), **{name: float(n) for name, n in counts.items()}})

    return score


@reward("leaving", needs=("prompt",), range=(0, 1))
def leaving():
    "Calls sys.exit on certain prompts, and looks cancelled on others."

    async def score(sample):
        if sample.prompt == "exit":
            sys.exit(3)
        if sample.prompt == "cancel":
            raise asyncio.CancelledError
        return Score(0.5, {"pid": float(os.getpid())})

    return score


@reward("noisy", needs=("prompt",), range=(0, 1))
def noisy():
    "Writes a lot to both outputs, and bytes that are no text."

    async def score(sample):
        os.write(1, b"\xff\x00MMR1 not a message\n" * 1000)
        print("and by print", flush=True)
        return Score(0.5, note="x" * (33 << 20) if sample.prompt == "endless" else "")

    return score


@reward("wide", needs=(), range=(-float("inf"), float("inf")))
def wide():
    "Has no bounds, and waits for its samples together."
    network = Network()

    async def score(sample):
        return Score(float(await current().submit(network, "op", sample.id)))

    return score


@reward("duel", needs=("prompt",), range=(0, 1), arity="pair")
def duel():
    "Prefers the longer prompt."

    async def score(first, second):
        return Score(float(len(first.prompt) > len(second.prompt)))

    return score


@reward("ranked", needs=("prompt",), range=(0, 1), arity="group")
def ranked():
    "Ranks a group by the length of the prompts."

    async def score(samples):
        lengths = sorted(len(sample.prompt) for sample in samples)
        return [Score(lengths.index(len(sample.prompt)) / len(samples)) for sample in samples]

    return score


@reward("counted", needs=(), range=(0, 1))
def counted(log: str, fatal: bool = False, deadly_from: int = 1_000_000):
    "Counts in a file how often it was made, and may die of it."
    made = len(Path(log).read_text()) + 1 if Path(log).exists() else 1
    Path(log).write_text("x" * made)
    if made >= deadly_from:
        print(f"made for the {made}. time", file=sys.stderr, flush=True)
        os._exit(9)

    async def score(sample):
        if sample.prompt == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return Score(0.5, {"pid": float(os.getpid())})

    return score

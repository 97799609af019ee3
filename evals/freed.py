"""Freed memory that a CPU's process keeps for its next batch: `python -m mmreward.evals.freed`.

Fresh processes by turns, with `mmreward.engine.devices.keep_freed` and without it, score 64 pictures of 224 x
224 in memory with a CLIP ViT-B/32 of random weights, new ones in every round. By default glibc gives a large
block back to the system as soon as it is freed, and the system clears the next one page by page, at a page
fault each. Exits with 1 when a process that keeps them has more than half of the other's faults.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mmreward import Engine, Media, Sample, load

from .speed.inputs import PROMPTS, SCALES, save_dual_encoder

PICTURES, ROUNDS, TURNS = 64, 3, 3
WAYS = {"glibc's own": {"GLIBC_TUNABLES": ""}, "kept": {}}
"""Environment of each way: where a user has said something to glibc, the engine says nothing."""


class ProcessCost(NamedTuple):
    """Medians of a process's rounds, and what it holds after them and after its engine is closed."""

    seconds: float
    processor: float
    faults: float
    resident: float
    closed: float


def measure(encoder: str) -> ProcessCost:
    """The cost in this process, whose environment has decided the way."""
    rng, reward, rounds = np.random.default_rng(0), load("clipscore", weights=encoder, resize="uint8"), []
    with Engine("cpu") as engine:
        for _ in range(ROUNDS + 1):
            pixels = rng.integers(0, 256, (PICTURES, 224, 224, 3), dtype=np.uint8)
            samples = [Sample(prompt=PROMPTS[0], image=Media(picture)) for picture in pixels]
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            begun, processor = time.perf_counter(), time.process_time()
            engine.score(samples, reward)
            spent = time.perf_counter() - begun, time.process_time() - processor
            rounds.append((*spent, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
        resident = _resident()
    seconds, processor, faults = (median(column) for column in zip(*rounds[1:], strict=True))
    return ProcessCost(seconds, processor, faults, resident, _resident())


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def compare() -> dict[str, ProcessCost]:
    """Medians over fresh processes, which take turns."""
    found: dict[str, list[ProcessCost]] = {way: [] for way in WAYS}
    others = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    with TemporaryDirectory(prefix="mmreward-freed-") as folder:
        encoder = Path(folder, "clip")
        save_dual_encoder(encoder, SCALES["small"], 0, torch.float32)
        for _ in range(TURNS):
            for way, environment in WAYS.items():
                words = [sys.executable, "-m", "mmreward.evals.freed", str(encoder)]
                done = subprocess.run(words, env=others | environment, stdout=subprocess.PIPE, check=True)
                found[way].append(ProcessCost(*json.loads(done.stdout.splitlines()[-1])))
    return {
        way: ProcessCost(*(median(column) for column in zip(*costs, strict=True)))
        for way, costs in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="mmreward.evals.freed", description=__doc__)
    parser.add_argument("encoder", nargs="?", help="measure in this process alone, with this dual encoder")
    if (encoder := parser.parse_args().encoder) is not None:
        print(json.dumps(measure(encoder)))
        return
    costs = compare()
    columns = ("freed memory", "s", "processor s", "page faults", "resident MB", "closed MB")
    table = Table(*columns, title=f"{PICTURES} pictures, ViT-B/32")
    for way, cost in costs.items():
        table.add_row(way, f"{cost.seconds:.2f}", f"{cost.processor:.2f}", *(f"{n:,.0f}" for n in cost[2:]))
    Console(width=100).print(table)
    own, kept = costs.values()
    within = kept.faults <= own.faults / 2
    print("within the bar" if within else "the engine's process clears its memory anew")
    sys.exit(not within)


if __name__ == "__main__":
    main()

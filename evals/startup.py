"""Time to the first score, part of `python -m mmreward.evals.host`: fresh processes, from the command to its
end, and the packages whose import takes longest in each.

Imports are of a second process that Python times for itself (`-X importtime`), which makes them slower:
they say where the time goes, not how much it is.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from PIL import Image
from rich.table import Table

PICTURES = 10
RUNS = 3
SHOWN = 3
"""Packages that are named."""


class Start(NamedTuple):
    """Seconds until a process has ended, on the wall and of the processor; and its longest imports."""

    wall: float
    processor: float
    imports: tuple[tuple[str, float], ...]


def commands(folder: Path) -> dict[str, Sequence[str]]:
    """What is started, by name; `folder` gets the data."""
    from .host import drawn

    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(PICTURES):
        Image.fromarray(drawn(number, 0, 512)).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text("a red circle")
    rows = folder / "rows.jsonl"
    rows.write_text(json.dumps({"response": "<answer>4</answer>", "target": "4"}) + "\n")
    scored = ("-m", "mmreward", "score")
    return {
        "python": ("-c", "pass"),
        "import mmreward": ("-c", "import mmreward"),
        "import torch": ("-c", "import torch"),
        "mmreward --help": ("-m", "mmreward", "--help"),
        "score one answer": (*scored, str(rows), "--reward", "answer", "--out", str(folder / "a.jsonl")),
        f"score {PICTURES} pictures, saturation": (
            *(*scored, str(pictures), "--reward", "saturation", "--out", str(folder / "b.jsonl")),
        ),
        f"score {PICTURES} pictures, clipscore": (
            *(*scored, str(pictures), "--reward", "clipscore:weights=mini-clip"),
            *("--out", str(folder / "c.jsonl")),
        ),
    }


def measure(given: Mapping[str, Sequence[str]], runs: int = RUNS) -> dict[str, Start]:
    """Medians of so many fresh processes, which take turns.

    Raises:
        RuntimeError: a command failed; the message has its last words.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in given}
    for _ in range(runs):
        for name, arguments in given.items():
            found[name].append(_timed(arguments))
    medians = {name: [median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    return {
        name: Start(wall, processor, _imports(given[name])) for name, (wall, processor) in medians.items()
    }


def _timed(arguments: Sequence[str]) -> tuple[float, float]:
    _forget(arguments)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    words = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:200]} ended with {process.returncode}: {words[-500:]}")
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime


def _forget(arguments: Sequence[str]) -> None:
    """Remove the scores of the run before, which would not be computed again."""
    if "--out" in arguments:
        Path(arguments[arguments.index("--out") + 1]).unlink(missing_ok=True)


def _imports(arguments: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Whole packages, ours left out, with the seconds of their import; the longest first."""
    _forget(arguments)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], check=True, capture_output=True, text=True
    )
    return longest(done.stderr)


def longest(timed: str) -> tuple[tuple[str, float], ...]:
    """The longest imports in what `-X importtime` wrote: of packages, in seconds, with all they import."""
    seconds: dict[str, float] = {}
    for line in timed.splitlines():
        head, *columns = line.split("|")
        if head.startswith("import time:") and len(columns) == 2 and columns[0].strip().isdigit():
            name = columns[1].strip()
            if "." not in name and not name.startswith("_") and name not in ("mmreward", "site"):
                seconds[name] = max(seconds.get(name, 0.0), int(columns[0]) / 1e6)
    return tuple(sorted(seconds.items(), key=lambda item: -item[1])[:SHOWN])


def table(rows: Mapping[str, Start]) -> Table:
    """The measured rows for a terminal."""
    shown = Table("from the start", "wall s", "processor s", "longest imports")
    for name, row in rows.items():
        imports = ", ".join(f"{package} {seconds:.2f}" for package, seconds in row.imports)
        shown.add_row(name, f"{row.wall:.2f}", f"{row.processor:.2f}", imports)
    return shown

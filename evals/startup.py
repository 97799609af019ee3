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
MISTAKE = 2
"""Exit code of a user's mistake."""
RUNS = 3
SHOWN = 3
"""Packages that are named."""


class Command(NamedTuple):
    """Arguments of Python, the exit code that they end with, and whether scores that are there stay there."""

    arguments: Sequence[str]
    code: int = 0
    again: bool = False


class Start(NamedTuple):
    """Seconds until a process has ended, on the wall and of the processor; and its longest imports."""

    wall: float
    processor: float
    imports: tuple[tuple[str, float], ...]


def commands(folder: Path) -> dict[str, Command]:
    """What is started, by name; `folder` gets the data."""
    from .host import drawn

    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(PICTURES):
        Image.fromarray(drawn(number, 0, 512)).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text("a red circle")
    rows = folder / "rows.jsonl"
    rows.write_text(json.dumps({"response": "<answer>4</answer>", "target": "4"}) + "\n")

    def score(data: Path, reward: str, out: str, *more: str) -> tuple[str, ...]:
        place = ("--out", str(folder / out))
        return ("-m", "mmreward", "score", str(data), "--reward", reward, *place, *more)

    clip = "clipscore:weights=mini-clip"
    return {
        "python": Command(("-c", "pass")),
        "import mmreward": Command(("-c", "import mmreward")),
        "import torch": Command(("-c", "import torch")),
        "mmreward --help": Command(("-m", "mmreward", "--help")),
        "mmreward list": Command(("-m", "mmreward", "list")),
        "a path that is not there": Command(score(folder / "pictres", clip, "d.jsonl"), MISTAKE),
        "a reward that is not there": Command(score(pictures, "clipscor", "d.jsonl"), MISTAKE),
        "a column that is not there": Command(
            score(rows, "answer", "d.jsonl", "--map", "target=targt"), MISTAKE
        ),
        "score one answer": Command(score(rows, "answer", "a.jsonl")),
        f"score {PICTURES} pictures, saturation": Command(score(pictures, "saturation", "b.jsonl")),
        f"score {PICTURES} pictures, clipscore": Command(score(pictures, clip, "c.jsonl")),
        "the same again, with nothing to do": Command(score(pictures, clip, "c.jsonl"), again=True),
    }


def measure(given: Mapping[str, Command], runs: int = RUNS) -> dict[str, Start]:
    """Medians of so many fresh processes, which take turns.

    Raises:
        RuntimeError: a command failed; the message has its last words.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in given}
    for _ in range(runs):
        for name, command in given.items():
            found[name].append(_timed(command))
    medians = {name: [median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    return {
        name: Start(wall, processor, _imports(given[name])) for name, (wall, processor) in medians.items()
    }


def _timed(command: Command) -> tuple[float, float]:
    _forget(command)
    arguments = command.arguments
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    words = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != command.code:
        raise RuntimeError(f"{' '.join(arguments)[:200]} ended with {process.returncode}: {words[-500:]}")
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime


def _forget(command: Command) -> None:
    """Remove the scores of the run before, which would not be computed again."""
    arguments = command.arguments
    if "--out" in arguments and not command.again:
        Path(arguments[arguments.index("--out") + 1]).unlink(missing_ok=True)


def _imports(command: Command) -> tuple[tuple[str, float], ...]:
    """Whole packages, ours left out, with the seconds of their import; the longest first."""
    _forget(command)
    timed = [sys.executable, "-X", "importtime", *command.arguments]
    done = subprocess.run(timed, check=False, capture_output=True, text=True)
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

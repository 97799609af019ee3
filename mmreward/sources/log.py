"""Metrics by source on disk: one JSON object per step and line, which `mmreward report` draws."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .metrics import OVERALL, SOURCES

STEP = "step"


def append_metrics(path: Path, step: int, metrics: Mapping[str, float]) -> None:
    """Add a line; the folder is made. A value that is no number is left out, as JSON has none for it.

    A line that a killed run left unfinished is dropped first: joined with the new one it would be neither.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_unfinished(path)
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({STEP: step, **finite}) + "\n")


def _drop_unfinished(path: Path) -> None:
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as lines:
        lines.seek(-1, os.SEEK_END)
        if lines.read() != b"\n":
            lines.seek(0)
            lines.truncate(lines.read().rfind(b"\n") + 1)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines by step, the newest where a resumed run wrote a step again; a cut-off last line is left out.

    Raises:
        ValueError: another line that is not one of metrics.
    """
    texts = path.read_text(encoding="utf-8").splitlines()
    steps: dict[float, dict[str, float]] = {}
    for number, text in enumerate(texts, start=1):
        line = _line(text)
        if line is None and number == len(texts):
            break
        if line is None:
            raise ValueError(f"{path}, line {number}: not an object with the number 'step' and other numbers")
        steps[line[STEP]] = line
    return [steps[step] for step in sorted(steps)]


def is_metrics_log(path: Path) -> bool:
    """Whether a file begins like one that `append_metrics` wrote."""
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as lines:
        first = _line(next(lines, ""))
    return first is not None and any(name.startswith((f"{OVERALL}/", f"{SOURCES}/")) for name in first)


def _line(text: str) -> dict[str, float] | None:
    try:
        line: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or STEP not in line:
        return None
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in line.values()):
        return None
    return {name: float(value) for name, value in line.items()}

"""What a run writes down: metrics by round, evaluations, before/after pictures, and when what was under way.

The folder is what `mmreward report` reads:

    config.json         the run as it was described
    rounds.jsonl        one line per round
    evaluations.jsonl   one line per evaluation: means, standard errors and counts of every reward, monitors, verdict
    pictures/ROUND.png  a grid of held-out prompts from fixed seeds; prompts.json names them, row by row
    timeline.json       spans of the last round: generating, scoring, updating
"""

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image


@dataclass
class Timeline:
    """Spans of a round, in seconds of one clock; may be written by several threads."""

    spans: list[tuple[str, float, float]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, what: str, begun: float, ended: float) -> None:
        with self._lock:
            self.spans.append((what, begun, ended))

    def take(self) -> list[tuple[str, float, float]]:
        """All spans so far, which are forgotten."""
        with self._lock:
            taken, self.spans = self.spans, []
        return sorted(taken, key=lambda span: span[1])


def seconds(spans: list[tuple[str, float, float]], what: str) -> float:
    """Time during which at least one such span was under way."""
    total, reached = 0.0, -math.inf
    for name, begun, ended in sorted(spans, key=lambda span: span[1]):
        if name == what and ended > reached:
            total += ended - max(begun, reached)
            reached = ended
    return total


class Journal:
    """Writes the folder of a run. Only the main process has one that writes.

    Args:
        folder: of the run.
        writes: whether anything is written.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder, self._writes = folder, writes

    def begin(self, config: str, after_round: int) -> None:
        """Write the config, and drop lines of rounds that will be run again.

        Args:
            config: the run as JSON.
            after_round: rounds that are done.
        """
        if not self._writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(config, encoding="utf-8")
        for name, last in (("rounds", after_round - 1), ("evaluations", after_round)):
            path = self.folder / f"{name}.jsonl"
            kept = [line for line in lines(path) if line["round"] <= last]
            path.write_text("".join(_line(line) for line in kept), encoding="utf-8")

    def write(self, name: str, line: Mapping[str, Any]) -> None:
        """Add a line to rounds.jsonl or evaluations.jsonl."""
        if self._writes:
            with (self.folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
                file.write(_line(line))

    def write_json(self, name: str, value: Any) -> None:
        if self._writes:
            (self.folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

    def write_grid(self, round: int, pictures: list[Image.Image], columns: int = 8) -> None:
        """One PNG of all pictures in rows of `columns`."""
        if not self._writes or not pictures:
            return
        width, height = pictures[0].size
        columns = min(columns, len(pictures))
        sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height))
        for number, picture in enumerate(pictures):
            sheet.paste(picture, (number % columns * width, number // columns * height))
        (self.folder / "pictures").mkdir(exist_ok=True)
        sheet.save(self.folder / "pictures" / f"{round:05d}.png")


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a .jsonl file, none where there is no file; a last line that was cut short is left out."""
    if not path.exists():
        return []
    read = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            read.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return read


def _line(values: Mapping[str, Any]) -> str:
    """JSON has no NaN: a figure that could not be computed is null."""
    return json.dumps({name: _plain(value) for name, value in values.items()}) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

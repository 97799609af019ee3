"""Journal and checkpoints of a run: metrics by round, evaluations, before/after pictures, and the state to
resume from.

The folder is what `mmreward report` reads:

    config.json          the run as it was described
    rounds.jsonl         one line per round
    evaluations.jsonl    one line per evaluation: means, standard errors and counts of every reward, its
                         values prompt by prompt, monitors (those of larger pictures too), verdict
    pictures/ROUND.png   the same held-out prompts from the same seeds after each evaluation, in rows of 8
    prompts.json         their prompts, in that order
    timeline.json        spans of the last round: generating, scoring, updating
    ended.json           how the run ended; there is none while it is under way or when it was killed

A checkpoint holds everything that a run needs to go on as if it had not been stopped. All random draws are
functions of the run's seed, the round and the row, so there is no generator's state to keep: weights,
optimiser, average, the method's own copies, and a few numbers are all.
"""

import json
import math
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..errors import words
from ..files import whole_file, whole_folder
from .learner import Copy, Learner, read_weights, write_weights

COLUMNS = 8
"""Pictures in a row of a sheet."""


@dataclass
class Timeline:
    """Timeline of a round: spans in seconds of one clock; may be written by several threads."""

    spans: list[tuple[str, float, float]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, what: str, begun: float, ended: float) -> None:
        with self._lock:
            self.spans.append((what, begun, ended))

    def take(self) -> list[tuple[str, float, float]]:
        """All spans so far, in order; they are forgotten."""
        with self._lock:
            taken, self.spans = self.spans, []
        return sorted(taken, key=lambda span: span[1])


def seconds(spans: list[tuple[str, float, float]], what: str) -> float:
    """Time during which at least one span of this name was under way."""
    total, reached = 0.0, -math.inf
    for name, begun, ended in sorted(spans, key=lambda span: span[1]):
        if name == what and ended > reached:
            total += ended - max(begun, reached)
            reached = ended
    return total


class Journal:
    """Journal of a run: writes its folder, in the main process alone.

    Args:
        folder: of the run.
        writes: whether anything is written.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder, self._writes = folder, writes

    def begin(self, config: str, after_round: int) -> None:
        """Write the config, and drop the lines of rounds that will be run again and of the end.

        Args:
            config: the run as JSON.
            after_round: rounds that are done.
        """
        if not self._writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / "config.json", config)
        (self.folder / "ended.json").unlink(missing_ok=True)
        evaluated = after_round if after_round else -1  # a run that starts again evaluates round 0 again
        for name, last in (("rounds", after_round - 1), ("evaluations", evaluated)):
            path = self.folder / f"{name}.jsonl"
            kept = [line for line in lines(path) if line["round"] <= last]
            _write(path, "".join(_line(line) for line in kept))

    def write(self, name: str, line: Mapping[str, Any]) -> None:
        """Add a line to rounds.jsonl or evaluations.jsonl."""
        if self._writes:
            with (self.folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
                file.write(_line(line))

    def write_json(self, name: str, value: Any) -> None:
        """Replace NAME.json; a reader sees the old or the new one, whole."""
        if self._writes:
            _write(self.folder / f"{name}.json", json.dumps(value, indent=1) + "\n")

    def write_grid(self, round: int, pictures: list[Image.Image]) -> None:
        """One PNG of all pictures, which have one size; `read_grid` takes it apart."""
        if not self._writes or not pictures:
            return
        width, height = pictures[0].size
        columns = min(COLUMNS, len(pictures))
        sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height))
        for number, picture in enumerate(pictures):
            sheet.paste(picture, (number % columns * width, number // columns * height))
        path = sheet_of(self.folder, round)
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as part:
            sheet.save(part, "PNG")


def sheet_of(folder: Path, round: int) -> Path:
    """File of the pictures of an evaluation."""
    return folder / "pictures" / f"{round:05d}.png"


def read_grid(folder: Path, round: int, number: int) -> list[Image.Image]:
    """The pictures of an evaluation, in the order of prompts.json; `number` is how many there are.

    Raises:
        FileNotFoundError: there is no sheet of this round.
        OSError: it cannot be read.
    """
    columns = min(COLUMNS, number)
    with Image.open(sheet_of(folder, round)) as sheet:
        width, height = sheet.width // columns, sheet.height // -(-number // columns)
        corners = [(i % columns * width, i // columns * height) for i in range(number)]
        return [sheet.crop((x, y, x + width, y + height)) for x, y in corners]


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


def _write(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def _line(values: Mapping[str, Any]) -> str:
    """JSON has no NaN: a figure that could not be computed is null."""
    return json.dumps({name: _plain(value) for name, value in values.items()}) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# --- checkpoints --------------------------------------------------------------------------------------------


KEPT = 2
"""Checkpoints that are kept."""


@dataclass(frozen=True)
class Restored:
    """Checkpointed state beside the learner's: finished rounds, the method's copies, the trainer's own
    state."""

    rounds: int
    copies: Mapping[str, Copy]
    state: Mapping[str, Any]


def save(
    folder: Path, learner: Learner, rounds: int, copies: Mapping[str, Copy], state: Mapping[str, Any]
) -> None:
    """Write `folder`/ROUNDS; a run that is killed meanwhile finds the one before. Later ones, which could not
    be read or this run would not be here, are removed."""
    numbers = {
        "rounds": rounds,
        "steps": learner.steps,
        "average_steps": learner.average.steps if learner.average is not None else 0,
        "copies": sorted(copies),
        "state": state,
    }
    for left in folder.glob(".[0-9]*.part"):  # of a run that was killed while it wrote
        shutil.rmtree(left)
    with whole_folder(folder / f"{rounds:06d}") as part:
        write_weights(learner.weights.copy(), part / "weights.safetensors")
        if learner.average is not None:
            write_weights(learner.average.copy, part / "average.safetensors")
        for name, copy in copies.items():
            write_weights(copy, part / f"method-{name}.safetensors")
        torch.save(learner.optimiser.state_dict(), part / "optimiser.pt")
        (part / "state.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    finished = _finished(folder)
    kept = [path for path in finished if int(path.name) <= rounds][-KEPT:]
    for old in finished:
        if old not in kept:
            shutil.rmtree(old)


def restore(folder: Path, learner: Learner, warn: Callable[[str], None]) -> Restored | None:
    """Load the newest checkpoint that is whole into the learner; None when there is none at all.

    Args:
        folder: of the checkpoints.
        learner: gets the weights, the optimiser's state and the average.
        warn: called with a line for each checkpoint that cannot be read, and was passed over.

    Raises:
        ValueError: none of them can be read, or they are of another network.
    """
    finished = _finished(folder)
    saved = None
    for path in reversed(finished):
        try:
            saved = _Saved.read(path, average=learner.average is not None)
            break
        except Exception as error:  # torch, safetensors and json each have errors of their own
            reason = f"{type(error).__name__}: {words(error)}".splitlines()[0][:200]
            warn(f"the checkpoint {path} cannot be read and is passed over ({reason})")
    if saved is None:
        if finished:
            raise ValueError(
                f"none of the checkpoints in {folder} can be read: bring one back from a copy, or remove "
                "that folder to start anew"
            )
        return None
    numbers = saved.numbers
    learner.weights.set(saved.weights)
    learner.optimiser.load_state_dict(saved.optimiser)
    learner.steps = numbers["steps"]
    device = learner.generator.device
    if learner.average is not None:
        learner.average.copy = _on(device, saved.average)
        learner.average.steps = numbers["average_steps"]
    copies = {name: _on(device, copy) for name, copy in saved.copies.items()}
    return Restored(numbers["rounds"], copies, numbers["state"])


@dataclass(frozen=True)
class _Saved:
    """Files of one checkpoint, all read before any of them changes the learner."""

    numbers: dict[str, Any]
    weights: Copy
    average: Copy
    copies: dict[str, Copy]
    optimiser: dict[str, Any]

    @classmethod
    def read(cls, folder: Path, *, average: bool) -> "_Saved":
        numbers = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        for key in ("rounds", "steps", "average_steps", "copies", "state"):
            numbers[key]
        return cls(
            numbers,
            read_weights(folder / "weights.safetensors"),
            read_weights(folder / "average.safetensors") if average else {},
            {name: read_weights(folder / f"method-{name}.safetensors") for name in numbers["copies"]},
            torch.load(folder / "optimiser.pt", weights_only=True),
        )


def _finished(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []


def _on(device: torch.device, copy: Copy) -> Copy:
    return {name: tensor.to(device) for name, tensor in copy.items()}

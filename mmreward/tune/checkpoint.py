"""Everything a run needs to go on as if it had not been stopped.

All random draws are functions of the run's seed, the round and the row, so there is no generator's state to keep:
weights, optimiser, average, the method's own copies, and a few numbers are all.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .learner import Learner
from .weights import Copy, read, write

KEPT = 2
"""Checkpoints that are kept."""


@dataclass(frozen=True)
class Restored:
    """What is not the learner's: rounds that are done, the method's copies, and the trainer's own state."""

    rounds: int
    copies: Mapping[str, Copy]
    state: Mapping[str, Any]


def save(
    folder: Path, learner: Learner, rounds: int, copies: Mapping[str, Copy], state: Mapping[str, Any]
) -> None:
    """Write `folder`/ROUNDS; a run that is killed meanwhile finds the one before."""
    target, unfinished = folder / f"{rounds:06d}", folder / f".{rounds:06d}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write(learner.weights.copy(), unfinished / "weights.safetensors")
    if learner.average is not None:
        write(learner.average.copy, unfinished / "average.safetensors")
    for name, copy in copies.items():
        write(copy, unfinished / f"method-{name}.safetensors")
    torch.save(learner.optimiser.state_dict(), unfinished / "optimiser.pt")
    numbers = {
        "rounds": rounds,
        "steps": learner.steps,
        "average_steps": learner.average.steps if learner.average is not None else 0,
        "copies": sorted(copies),
        "state": state,
    }
    (unfinished / "state.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    for old in _finished(folder)[:-KEPT]:
        shutil.rmtree(old)


def restore(folder: Path, learner: Learner) -> Restored | None:
    """Load the newest checkpoint into the learner; None when there is none.

    Raises:
        ValueError: it is of another network.
    """
    finished = _finished(folder)
    if not finished:
        return None
    newest = finished[-1]
    numbers = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    learner.weights.set(read(newest / "weights.safetensors"))
    learner.optimiser.load_state_dict(torch.load(newest / "optimiser.pt", weights_only=True))
    learner.steps = numbers["steps"]
    device = learner.generator.device
    if learner.average is not None:
        learner.average.copy = _on(device, read(newest / "average.safetensors"))
        learner.average.steps = numbers["average_steps"]
    copies = {name: _on(device, read(newest / f"method-{name}.safetensors")) for name in numbers["copies"]}
    return Restored(numbers["rounds"], copies, numbers["state"])


def _finished(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []


def _on(device: torch.device, copy: Copy) -> Copy:
    return {name: tensor.to(device) for name, tensor in copy.items()}

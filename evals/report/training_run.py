"""A training run, finished or not, read from what `mmreward.tune.journal` wrote.

The model of the training page. Knows nothing of HTML. A figure that could not be measured is NaN.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mmreward.monitor.intervals import Measured, mean_of, paired_change
from mmreward.tune.journal import lines

NEEDED = ("config.json", "rounds.jsonl", "evaluations.jsonl")
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: rounds before it, every reward, every monitor, the level and reasons of the alarm."""

    after: int
    rewards: Mapping[str, Measured]
    optimised: float
    worth: float
    """The value that evaluations are ranked by: the held-out rewards together, else the optimised total."""
    monitors: Mapping[str, float]
    larger: Mapping[str, float]
    """Monitors of the pictures that are larger than those of the training; empty where there are none."""
    level: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class TrainingRun:
    """The contents of a run's folder. `rounds` are lines as they are: their figures depend on the method."""

    folder: Path
    config: Line
    rounds: Sequence[Line]
    evaluations: Sequence[Evaluated]
    prompts: Sequence[str]
    spans: Sequence[tuple[str, float, float]]
    """(what, begun, ended) in the last round, in seconds from its beginning."""
    ended: Line | None
    written: str

    @property
    def title(self) -> str:
        return f"{self.config['method']['name']} on {self.config['generator']['name']}"

    @property
    def optimised(self) -> tuple[str, ...]:
        return tuple(self.config["rewards"])

    @property
    def held_out(self) -> tuple[str, ...]:
        return tuple(self.config["held_out"])

    @property
    def done(self) -> int:
        """Number of rounds that are written down."""
        return int(self.rounds[-1]["round"]) + 1 if self.rounds else 0

    @cached_property
    def best(self) -> Evaluated | None:
        """The evaluation of the highest worth, whose weights the trainer keeps; the first of equals."""
        known = [one for one in self.evaluations if math.isfinite(one.worth)]
        return max(known, key=lambda one: one.worth) if known else None

    @staticmethod
    def measured(one: Evaluated, name: str) -> Measured:
        """A reward's mean and error in an evaluation."""
        return one.rewards.get(name, Measured(math.nan, math.nan, 0))


def change(first: Measured, last: Measured) -> Measured:
    """The mean change from one evaluation to another over the prompts that both could score.

    The prompts and their noise are the same, so the error is that of the differences.
    """
    return paired_change(first.values, last.values, prompts=first.prompts or None)


def column(rounds: Sequence[Line], key: str, absent: float = math.nan) -> list[float]:
    """A figure of every round: NaN where it was no number, `absent` where a round says nothing of it."""
    return [_number(line.get(key, absent)) for line in rounds]


def load_training_run(folder: Path) -> TrainingRun:
    """Read the folder of a run, finished or not.

    Raises:
        ValueError: a file that is needed is missing or cannot be read, or there is no evaluation yet.
    """
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        raise ValueError(
            f"{folder} is no training run: it holds no {' and no '.join(missing)}; "
            "`mmreward tune` writes config.json, rounds.jsonl and evaluations.jsonl"
        )
    config = _read(folder / NEEDED[0])
    absent = [key for key in ("method", "generator", "rewards", "held_out", "rounds") if key not in config]
    if absent:
        raise ValueError(f"{folder / NEEDED[0]} describes no training run: it has no {', '.join(absent)}")
    evaluations = [_evaluated(line) for line in lines(folder / "evaluations.jsonl")]
    if not evaluations:
        raise ValueError(f"{folder} has no evaluation yet: wait for the first one, or start the run again")
    stamp = (folder / "evaluations.jsonl").stat().st_mtime
    return TrainingRun(
        folder=folder,
        config=config,
        rounds=lines(folder / "rounds.jsonl"),
        evaluations=evaluations,
        prompts=_read_if_there(folder / "prompts.json", []),
        spans=[(str(what), a, b) for what, a, b in _read_if_there(folder / "timeline.json", [])],
        ended=_read_if_there(folder / "ended.json", None),
        written=datetime.fromtimestamp(stamp, UTC).isoformat(timespec="seconds"),
    )


def _evaluated(line: Line) -> Evaluated:
    prompts = line.get("prompts")  # the number of each value's prompt, where several share one
    rewards = {
        name: mean_of(map(_number, line["values"][name]), prompts)._replace(mean=_number(one["mean"]))
        for name, one in line["rewards"].items()
    }
    return Evaluated(
        after=int(line["round"]),
        rewards=rewards,
        optimised=_number(line["optimised"]),
        worth=_number(line["worth"]),
        monitors={name: _number(value) for name, value in line["monitors"].items()},
        larger={name: _number(value) for name, value in line.get("monitors_larger", {}).items()},
        level=str(line["verdict"]),
        reasons=tuple(map(str, line["reasons"])),
    )


def _number(value: Any) -> float:
    """A float; NaN for null, which the journal writes for what is no number."""
    return math.nan if value is None else float(value)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _read_if_there(path: Path, otherwise: Any) -> Any:
    return _read(path) if path.exists() else otherwise

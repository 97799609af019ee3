"""The demo's second act: a short Flow-GRPO run of mini-flow, and what it did to a reward nobody optimised."""

import math
from dataclasses import dataclass
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

from mmreward.generators.loading import load
from rich.console import Console
from rich.table import Table

from mmreward.tune.commands import tune
from mmreward.tune.config import TuneConfig, load_tune_config

from .figures import Interval
from .report import write_report
from .training_run import Measured, TrainingRun, change, load_training_run

RECIPE = "tune-mini-grpo.yaml"
HELD_OUT = "oracle"
EVERY = 8
"""Rounds between evaluations, whatever the number of rounds, so that a run may go on for longer."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained: rounds of `prompts` x `group` samples, measured on `evaluated` other prompts."""

    rounds: int = 24
    prompts: int = 12
    group: int = 12
    evaluated: int = 256


def train(out: Path, size: Size, console: Console) -> Path:
    """Train as configs/tune-mini-grpo.yaml says, but shorter; print before and after, and write the page.

    The same folder again goes on where it stopped, or shows what a finished run found.

    Args:
        out: the folder of the run.
        size: how much is trained.
        console: where it prints.

    Returns:
        The page.

    Raises:
        ValueError: `out` holds a run with other settings.
    """
    number = size.prompts * size.group
    console.print(
        "training mini-flow by Flow-GRPO on a checklist that mini-vlm answers and, a little, on "
        f"mini-artifact: {size.rounds} rounds of {number} samples; the oracle is never optimised"
    )
    tune(config_of(out, size), load, partial(console.print, style="dim", highlight=False, markup=False))
    run = load_training_run(out)
    console.print(before_after(run))
    console.print(told(run), soft_wrap=True, highlight=False, markup=False)
    return write_report(out)


def config_of(out: Path, size: Size) -> TuneConfig:
    """The recipe in this size."""
    with as_file(files("mmreward.configs") / RECIPE) as path:
        settings = load_tune_config(path).model_dump()
    settings["rollout"] |= {"prompts": size.prompts, "group": size.group}
    settings["rollout"]["micro_batch"] = min(settings["rollout"]["micro_batch"], size.prompts * size.group)
    settings["evaluation"]["every"] = EVERY
    settings["evaluation"]["prompts"]["count"] = size.evaluated
    changes = {"rounds": size.rounds, "minutes": None, "checkpoint_every": 2, "out": str(out)}
    return TuneConfig.model_validate(settings | changes)


def before_after(run: TrainingRun) -> Table:
    """Every reward before and after, with 95 % intervals."""
    first, last = run.evaluations[0], run.evaluations[-1]
    table = Table("reward", "", "before", f"after {last.after} rounds", "change", "n")
    for name in (*run.optimised, *run.held_out):
        before, after = run.measured(first, name), run.measured(last, name)
        role = "held out" if name in run.held_out else "optimised"
        moved = _shown(change(before, after), sign="+")
        table.add_row(name, role, _shown(before), _shown(after), moved, str(after.n))
    return table


def told(run: TrainingRun) -> str:
    """What may be said about the held-out oracle."""
    first, last = (run.measured(one, HELD_OUT) for one in (run.evaluations[0], run.evaluations[-1]))
    moved = change(first, last)
    said = f"{HELD_OUT}: {_shown(first)} before, {_shown(last)} after, n = {last.n} held-out prompts. "
    return said + _judged(moved.interval, run.done)


def _judged(between: Interval | None, rounds: int) -> str:
    if between is None:
        return "The change could not be measured."
    if between.low <= 0 <= between.high:
        return (
            f"{rounds} rounds on so few prompts cannot tell this change from chance; "
            f"`mmreward tune configs/{RECIPE}` trains for longer and measures on more."
        )
    return f"The change is {'a rise' if between.low > 0 else 'a fall'} beyond chance (95 % interval)."


def _shown(one: Measured, sign: str = "") -> str:
    if not math.isfinite(one.mean):
        return "-"
    between = one.interval
    ends = f" [{between.low:{sign}.3f}, {between.high:{sign}.3f}]" if between is not None else ""
    return f"{one.mean:{sign}.3f}{ends}"

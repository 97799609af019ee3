"""RL of a weakened mini-vlm with TRL's GRPOTrainer: `python -m mmreward.evals.studies.vlm_rl
configs/vlm/mini-*.yaml [--seeds 0 1 2]`.

Several kinds of questions at once, each verified by its own route. mini-vlm's weights are disturbed first, so
that there is something to learn. Held-out scenes are examined now and then (`vlm_exam`); figures by source go
to metrics.jsonl, and those of the training itself to training.jsonl, which `mmreward report` draws. The table
is Markdown: one run with intervals over scenes, or several seeds together. Figures: evals/vlm.md.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import numpy as np
from datasets import Dataset
from pydantic import Field, model_validator
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration
from transformers import TrainerCallback as Callback
from trl import GRPOConfig, GRPOTrainer

from mmreward import Engine
from mmreward.adapters import trl
from mmreward.adapters.trl_gate import LOGGED, Gate, GatedGRPOTrainer
from mmreward.assets import ASSETS
from mmreward.config import Amount, Positive, RouteConfig, Strict, load_yaml
from mmreward.data.routing import Router
from mmreward.monitor.by_source import append_metrics
from mmreward.monitor.intervals import paired_change

from .vlm_exam import (
    USUAL,
    Examiner,
    Exercise,
    TaskName,
    VlmExam,
    draw_exercises,
    figure,
    weaken,
    with_probes,
)

PAID = "paid"
"""The reward function's name in TRL's log."""
PROBE_TOKENS = 4
"""Of an answer to a probe: a word or a number, and the end of the turn."""


class GateConfig(Strict):
    """PEARL's gate, see `adapters.trl_gate`.

    Args:
        floor: the least an advantage is multiplied by.
        probes: sub-questions about each picture.
        greedy: answered once per group, greedily; else once per completion, sampled.
    """

    floor: Annotated[float, Field(ge=0, le=1)] = 0.5
    probes: Positive = 3
    greedy: bool = False


class VlmConfig(Strict):
    """Config of one training.

    Args:
        weaken: noise on the weights, in standard deviations of each matrix.
        exercises: training scenes of each task.
        tasks: of the exercises, in turn; of `vlm_exam.DIALOGUES`.
        routes: what each task pays.
        gate: of the advantages; none by default.
        trainer: arguments of `trl.GRPOConfig`.
        examined: held-out scenes of each task.
        every: steps between examinations.
        out: folder of metrics.jsonl, training.jsonl, exams.jsonl and the weights.
        seed: of the noise, the scenes, the probes and the trainer.
    """

    weaken: Amount = 1.0
    exercises: Positive = 1000
    tasks: tuple[TaskName, ...] = Field(default=USUAL, min_length=1)
    routes: dict[str, RouteConfig]
    gate: GateConfig | None = None
    trainer: dict[str, Any] = Field(default_factory=dict)
    examined: Positive = 150
    every: Positive = 25
    out: str
    seed: int = 0

    @model_validator(mode="after")
    def _paid(self) -> "VlmConfig":
        if unpaid := [task for task in self.tasks if task not in self.routes]:
            raise ValueError(f"no route for {', '.join(unpaid)}: add it to routes, or leave the task out")
        return self


class RlRun(NamedTuple):
    """One training: its examinations in order, and the minutes of all of it."""

    seed: int
    exams: Sequence[VlmExam]
    minutes: float

    @property
    def ends(self) -> tuple[VlmExam, VlmExam]:
        return self.exams[0], self.exams[-1]


class RecipeRuns(NamedTuple):
    """The runs of one YAML file: one, or one per seed."""

    name: str
    runs: Sequence[VlmConfig]


class TrainingLog(Callback):  # type: ignore[misc]
    """The figures of the reward function and the gate by source, as training.jsonl under plain names."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        own = {
            name.partition("/")[2]: value
            for name, value in (logs or {}).items()
            if name.startswith((f"{PAID}/", f"{LOGGED}/")) and isinstance(value, float)
        }
        if own:
            append_metrics(self._path, state.global_step, own)


def rows(exercises: Sequence[Exercise], gate: GateConfig | None = None, seed: int = 0) -> Dataset:
    """The exercises as TRL's data set: prompt, picture, columns for the verifier, and probes for a gate."""
    columns = {
        "prompt": [[{"role": "user", "content": one.question}] for one in exercises],
        "image": [one.picture for one in exercises],
        "source": [one.task for one in exercises],
        "target": [one.answer for one in exercises],
    }
    if gate is not None:
        columns["probes"] = with_probes(exercises, gate.probes, seed)
    return Dataset.from_dict(columns)


def trainer_of(
    config: VlmConfig, model: Any, processor: Any, engine: Engine, *, beside: Sequence[Any] = (), **more: Any
) -> GRPOTrainer:
    """TRL's own trainer, or the gated one where the run has a gate.

    Args:
        config: of the run.
        model: to be trained.
        processor: the model's.
        engine: what verifies.
        beside: reward functions after ours.
        **more: arguments of the trainer.
    """
    drawn = draw_exercises(config.exercises, config.seed, config.tasks)
    common = {
        "model": model,
        "processing_class": processor,
        "reward_funcs": [trl.reward(Router(config.routes), name=PAID, engine=engine), *beside],
        "args": GRPOConfig(output_dir=str(Path(config.out) / "trainer"), seed=config.seed, **config.trainer),
        "train_dataset": rows(drawn, config.gate, config.seed),
        **more,
    }
    if config.gate is None:
        return GRPOTrainer(**common)
    gate = Gate(
        floor=config.gate.floor,
        together=False,  # mini-vlm knows single questions
        greedy=config.gate.greedy,
        longest=PROBE_TOKENS,
        engine=engine,
    )
    return GatedGRPOTrainer(gate=gate, **common)


def train(config: VlmConfig) -> RlRun:
    """Run one training and return its examinations.

    Raises:
        ValueError: the folder is there already.
    """
    _not_there([config])
    out = Path(config.out)
    out.mkdir(parents=True)
    begun = time.perf_counter()
    model = Qwen3VLForConditionalGeneration.from_pretrained(ASSETS / "mini-vlm")
    processor = AutoProcessor.from_pretrained(ASSETS / "mini-vlm")
    weaken(model, config.weaken, config.seed)
    with Engine("cpu") as engine:
        examiner = Examiner(out, model, processor, engine, config.tasks, config.examined, config.every)
        log = TrainingLog(out / "training.jsonl")
        trainer = trainer_of(config, model, processor, engine, callbacks=[examiner, log])
        trainer.train()
    trainer.save_model(str(out / "weights"))
    return RlRun(config.seed, examiner.exams, (time.perf_counter() - begun) / 60)


def planned(paths: Sequence[Path], out: Path | None, seeds: Sequence[int]) -> list[RecipeRuns]:
    """The runs of each recipe; with seeds, one per seed in a folder of its own.

    Raises:
        ValueError: a recipe that makes no sense, a folder that is there already or that two runs would share.
    """
    plan: list[RecipeRuns] = []
    for path in paths:
        config = load_yaml(path, VlmConfig)
        folder = Path(config.out) if out is None else out / path.stem
        seeded = [
            config.model_copy(update={"out": str(folder / f"seed-{seed}"), "seed": seed}) for seed in seeds
        ]
        plan.append(RecipeRuns(path.stem, seeded or [config.model_copy(update={"out": str(folder)})]))
    _not_there([config for recipe in plan for config in recipe.runs])
    return plan


def _not_there(configs: Sequence[VlmConfig]) -> None:
    folders = [config.out for config in configs]
    if taken := [folder for folder in folders if Path(folder).exists()]:
        raise ValueError(
            f"{', '.join(taken)}: there already. A run is never continued or written over; move it away, or "
            "name another folder with --out"
        )
    if shared := {folder for folder in folders if folders.count(folder) > 1}:
        raise ValueError(f"{', '.join(sorted(shared))}: more than one run would go there")


# --- the table ----------------------------------------------------------------------------------------------


def table(name: str, runs: Sequence[RlRun]) -> str:
    """One line per task, and one more where boxes are written."""
    return _one(name, runs[0]) if len(runs) == 1 else _several(name, runs)


def _one(name: str, run: RlRun) -> str:
    lines = [
        f"| {name}, {run.minutes:.1f} min | before | after | points (95 %) | n |",
        "|---|---|---|---|---|",
    ]
    first, last = run.ends
    for task, marks in first.marks.items():
        points = paired_change(marks, last.marks[task], scale=100)
        lines.append(
            f"| {task}, {figure(task)} | {marks.mean():.3f} | {last.marks[task].mean():.3f} "
            f"| {points.signed(1)} | {len(marks)} |"
        )
    return "\n".join([*lines, *(f"{line} |  | {n} |" for line, n in _boxes([run]))])


def _several(name: str, runs: Sequence[RlRun]) -> str:
    seeds = ", ".join(str(run.seed) for run in runs)
    minutes = fmean(run.minutes for run in runs)
    lines = [
        f"| {name}, seeds {seeds}, {minutes:.1f} min each | before | after | points by seed | points | n |",
        "|---|---|---|---|---|---|",
    ]
    for task in runs[0].exams[0].marks:
        ends = [run.ends for run in runs]
        points = [paired_change(a.marks[task], b.marks[task], scale=100).mean for a, b in ends]
        before, after = (_mean(task, [run.ends[end] for run in runs]) for end in (0, 1))
        by_seed = ", ".join(f"{value:+.1f}" for value in points)
        lines.append(
            f"| {task}, {figure(task)} | {before:.3f} | {after:.3f} | {by_seed} "
            f"| {fmean(points):+.1f} (sd {float(np.std(points, ddof=1)):.1f}) "
            f"| {len(runs)} x {len(runs[0].exams[0].marks[task])} |"
        )
    return "\n".join([*lines, *(f"{line} |  |  | {len(runs)} x {n} |" for line, n in _boxes(runs))])


def _mean(task: TaskName, exams: Sequence[VlmExam]) -> float:
    return fmean(float(exam.marks[task].mean()) for exam in exams)


def _boxes(runs: Sequence[RlRun]) -> list[tuple[str, int]]:
    """Boxes written before and after, beside the number there are, as a line; and the number of scenes."""
    lines = []
    for task, true in runs[0].exams[0].true.items():
        before, after = (fmean(float(run.ends[end].written[task].mean()) for run in runs) for end in (0, 1))
        lines.append(
            (f"| {task}, boxes written of {true.mean():.2f} | {before:.2f} | {after:.2f}", len(true))
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("configs", type=Path, nargs="+", help="YAML files, trained one after the other")
    parser.add_argument("--out", type=Path, help="where the runs are left; default: as the configs say")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="train each once per seed")
    given = parser.parse_args()
    try:
        plan = planned(given.configs, given.out, given.seeds)
    except ValueError as error:
        parser.error(str(error))
    tables = [table(recipe.name, [train(config) for config in recipe.runs]) for recipe in plan]
    print("\n\n".join(tables))


if __name__ == "__main__":
    main()

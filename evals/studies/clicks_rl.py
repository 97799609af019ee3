"""RL of mini-gui on clicks with TRL's GRPOTrainer: `python -m mmreward.evals.studies.clicks_rl
configs/gui/mini-clicks.yaml [--seeds 0 1 2]`.

The policy is shown a window and an instruction and writes a click, which the reward `click` verifies by the
element's box. It learns on the texts and arrangements that mini-gui knows and is examined, greedily, before
and after, on windows whose texts and arrangements neither training has drawn. Every seed has windows, noise
and sampling of its own, and all the same exam. metrics.jsonl and training.jsonl are what `mmreward report`
draws. The table is Markdown, with Student's interval over the seeds. Figures: evals/gui.md.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from pydantic import Field
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration
from transformers import TrainerCallback as Callback
from trl import GRPOConfig, GRPOTrainer

from mmreward import Engine, Media, Sample
from mmreward.adapters import trl
from mmreward.config import Amount, Positive, RewardArgs, Strict, load_yaml
from mmreward.mini.screens import draw_task
from mmreward.mini.screens import rows as steps_of
from mmreward.mini.vlm_measure import write
from mmreward.models.weights import locate
from mmreward.monitor.by_source import append_metrics
from mmreward.monitor.intervals import mean_of, paired_change

from .vlm_exam import weaken
from .vlm_rl import PAID, TrainingLog

EXAM_SEED = 6_000_000
"""Seed of the first window of the exam; those of training are below it."""
OF = ("overall", "sources/windows")
APART = 100_000
"""Seeds between the windows of two trainings, or of two exams."""


class ClicksConfig(Strict):
    """Config of one training.

    Args:
        start: the policy, a miniature or a folder.
        weaken: noise on its weights, in standard deviations of each matrix; 0 leaves them as they are.
        exercises: training windows.
        rewards: what a click is paid, summed; the target is {"bbox_2d": the element's box}.
        trainer: arguments of `trl.GRPOConfig`.
        examined: held-out windows.
        exam: number of the exam; another one has other windows.
        every: steps between examinations.
        out: folder of metrics.jsonl, training.jsonl and the weights.
        seed: of the noise, the windows and the trainer; below 50.
    """

    start: str = "mini-gui"
    weaken: Amount = 0.0
    exercises: Positive = 1000
    rewards: RewardArgs = Field(min_length=1)
    trainer: dict[str, Any] = Field(default_factory=dict)
    examined: Positive = 200
    exam: int = Field(0, ge=0, lt=50)
    every: Positive = 40
    out: str
    seed: int = Field(0, ge=0, lt=50)


class ClicksRun(NamedTuple):
    """One training: the marks (N,) of the exam before it and after it, and the minutes of all of it."""

    seed: int
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    minutes: float


class ClicksExaminer(Callback):  # type: ignore[misc]
    """Examinations of a policy by `click`, on held-out windows.

    Args:
        out: folder of metrics.jsonl.
        model: the policy.
        processor: the model's.
        engine: what verifies.
        number: windows.
        exam: which exam they are of.
        every: steps between two examinations.
    """

    def __init__(
        self, out: Path, model: Any, processor: Any, engine: Engine, number: int, exam: int, every: int
    ) -> None:
        self._out, self._model, self._processor, self._engine = out, model, processor, engine
        begin = EXAM_SEED + exam * APART
        self._rows = steps_of([draw_task(begin + index, texts=True) for index in range(number)])
        self._every = every
        self.marks: list[NDArray[np.float64]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.examine(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self.examine(state.global_step)

    def examine(self, step: int) -> None:
        """One examination: answers, their marks, a line in the file and on the screen."""
        training = self._model.training
        self._model.eval()
        pictures = [[row["image"]] for row in self._rows]
        said = write(self._model, self._processor, pictures, [row["prompt"] for row in self._rows])
        self._model.train(training)
        samples = [
            Sample(image=Media(row["image"]), response=one, target={"bbox_2d": row["box"]})
            for row, one in zip(self._rows, said, strict=True)
        ]
        scores = self._engine.score(samples, "click")["click"]
        # An answer that holds no click presses nothing, as on a device.
        marks = np.array([score.value if score.ok else 0.0 for score in scores])
        read = fmean(score.parts.get("parsed", 0.0) for score in scores)
        self.marks.append(marks)
        found = {"hit": float(marks.mean()), "read": read}
        named = {f"{of}/{name}": value for of in OF for name, value in found.items()}
        append_metrics(self._out / "metrics.jsonl", step, named)
        print(f"step {step}: right {marks.mean():.3f}, read {read:.3f}", flush=True)


def exercises(config: ClicksConfig) -> Dataset:
    """Training windows as TRL's data set: prompt, picture and target."""
    begin = APART * (1 + config.seed)
    drawn = [draw_task(begin + index, texts=True, held_out=False) for index in range(config.exercises)]
    found = steps_of(drawn)
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": row["prompt"]}] for row in found],
            "image": [row["image"] for row in found],
            "target": [{"bbox_2d": row["box"]} for row in found],
        }
    )


def train(config: ClicksConfig) -> ClicksRun:
    """Run one training.

    Raises:
        ValueError: the folder is there already, or no such weights.
    """
    out = Path(config.out)
    if out.exists():
        raise ValueError(f"{out}: there already. Move it away, or name another folder with --out")
    source = locate(config.start)
    out.mkdir(parents=True)
    begun = time.perf_counter()
    model = Qwen3VLForConditionalGeneration.from_pretrained(source)
    processor = AutoProcessor.from_pretrained(source)
    weaken(model, config.weaken, config.seed)
    with Engine("cpu") as engine:
        examiner = ClicksExaminer(out, model, processor, engine, config.examined, config.exam, config.every)
        trainer = GRPOTrainer(
            model=model,
            processing_class=processor,
            reward_funcs=[trl.reward(config.rewards, name=PAID, engine=engine)],
            args=GRPOConfig(output_dir=str(out / "trainer"), seed=config.seed, **config.trainer),
            train_dataset=exercises(config),
            callbacks=[examiner, TrainingLog(out / "training.jsonl")],
        )
        trainer.train()
    trainer.save_model(str(out / "weights"))
    first, last = examiner.marks[0], examiner.marks[-1]
    return ClicksRun(config.seed, first, last, (time.perf_counter() - begun) / 60)


def table(name: str, runs: Sequence[ClicksRun]) -> str:
    """A line per seed, and their mean with the interval over them where there are several."""
    lines = [f"| {name} | before | after | points (95 %) | n |", "|---|---|---|---|---|"]
    points = []
    for run in runs:
        change = paired_change(run.before, run.after, scale=100)
        points.append(change.mean)
        lines.append(
            f"| seed {run.seed}, {run.minutes:.1f} min | {run.before.mean():.3f} | {run.after.mean():.3f} "
            f"| {change.signed(1)} | {len(run.after)} |"
        )
    if len(runs) > 1:
        before = fmean(float(run.before.mean()) for run in runs)
        after = fmean(float(run.after.mean()) for run in runs)
        mean = mean_of(points).signed(1)
        lines.append(f"| all {len(runs)} | {before:.3f} | {after:.3f} | {mean} | {len(runs)} seeds |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Train, examine and print."""
    parser = argparse.ArgumentParser(
        prog="python -m mmreward.evals.studies.clicks_rl",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="YAML file")
    parser.add_argument("--out", type=Path, help="folder of the runs; default: as the config says")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="train once per seed")
    parser.add_argument("--steps", type=int, help="of each training, in place of the recipe's max_steps")
    given = parser.parse_args(words)
    try:
        config = load_yaml(given.config, ClicksConfig)
        folder = given.out or Path(config.out)
        trainer = {**config.trainer, **({"max_steps": given.steps} if given.steps else {})}
        seeds = given.seeds or [config.seed]
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"--seeds has one twice: {' '.join(map(str, seeds))}")
        plan = [
            config.model_validate(
                {**config.model_dump(), "trainer": trainer, "out": str(folder / f"seed-{seed}"), "seed": seed}
            )
            for seed in seeds
        ]
        runs = [train(one) for one in plan]
    except ValueError as error:
        parser.error(str(error))
    print(table(given.config.stem, runs))


if __name__ == "__main__":
    main()

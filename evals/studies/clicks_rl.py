"""RL of mini-gui on clicks with TRL's GRPOTrainer: `python -m mmreward.evals.studies.clicks_rl
configs/gui/mini-clicks.yaml [--seeds 0 1 2]`; on tasks of two presses with mini-episodes.yaml.

The policy is shown a window and an instruction and writes a click, which the reward `click` verifies by the
element's box. It learns on the texts and arrangements that mini-gui knows and is examined, greedily, before
and after, on windows whose texts and arrangements neither training has drawn. Every seed has windows, noise
and sampling of its own, and all the same exam. metrics.jsonl and training.jsonl are what `mmreward report`
draws. The tables are Markdown, with Student's interval over the seeds. Figures: evals/gui.md.

Of two presses both are asked with the whole goal; the second on its own page, with the history that the
first is done, in training and exam alike. The exam grades such an episode by `gui_episode`, and lets the
policy do the task on a device besides, where its own first click leads to what follows and is the history.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

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
from mmreward.mini.screens import Device, ScreenTask, asked, draw_task
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
Marks = Mapping[str, NDArray[np.float64]]
"""Marks (N,) of the tasks of an exam by what they are of: "presses", the share that is right; of two presses
also "episodes", 1 where both are, and "tasks", 1 where the device says that it is done."""


class ClicksConfig(Strict):
    """Config of one training.

    Args:
        start: the policy, a miniature or a folder.
        weaken: noise on its weights, in standard deviations of each matrix; 0 leaves them as they are.
        presses: of a task, 1 or 2.
        exercises: training tasks.
        rewards: what a click is paid, summed; the target is {"bbox_2d": the element's box}.
        trainer: arguments of `trl.GRPOConfig`.
        examined: held-out tasks.
        exam: number of the exam; another one has other windows.
        every: steps between examinations.
        out: folder of metrics.jsonl, training.jsonl and the weights.
        seed: of the noise, the windows and the trainer; below 50.
    """

    start: str = "mini-gui"
    weaken: Amount = 0.0
    presses: Literal[1, 2] = 1
    exercises: Positive = 1000
    rewards: RewardArgs = Field(min_length=1)
    trainer: dict[str, Any] = Field(default_factory=dict)
    examined: Positive = 200
    exam: int = Field(0, ge=0, lt=50)
    every: Positive = 40
    out: str
    seed: int = Field(0, ge=0, lt=50)


class ClicksRun(NamedTuple):
    """One training: the marks of the exam before it and after it, and the minutes of all of it."""

    seed: int
    before: Marks
    after: Marks
    minutes: float


class ClicksExaminer(Callback):  # type: ignore[misc]
    """Examinations of a policy on held-out windows.

    Args:
        config: of the training.
        model: the policy.
        processor: the model's.
        engine: what verifies.
    """

    def __init__(self, config: ClicksConfig, model: Any, processor: Any, engine: Engine) -> None:
        self._out, self._every = Path(config.out), config.every
        self.model, self.processor, self.engine = model, processor, engine
        begin = EXAM_SEED + config.exam * APART
        self._tasks = [
            draw_task(begin + index, config.presses, texts=True) for index in range(config.examined)
        ]
        self.marks: list[Marks] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.examine(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self.examine(state.global_step)

    def examine(self, step: int) -> None:
        """One examination: answers, their marks, a line in the file and on the screen."""
        training = self.model.training
        self.model.eval()
        found = questions(self._tasks)
        said = self._said([row["image"] for row in found], [row["asked"] for row in found])
        marks, read = graded(found, said, len(self._tasks), self.engine)
        if len(found) > len(self._tasks):
            marks["tasks"] = self._done(said[:: len(found) // len(self._tasks)])
        self.model.train(training)
        self.marks.append(marks)
        figures = {"hit": float(marks["presses"].mean()), "read": read}
        figures |= {name: float(own.mean()) for name, own in marks.items() if name != "presses"}
        named = {f"{of}/{name}": value for of in OF for name, value in figures.items()}
        append_metrics(self._out / "metrics.jsonl", step, named)
        others = "".join(f", {name} {figures[name]:.3f}" for name in marks if name != "presses")
        print(f"step {step}: right {figures['hit']:.3f}{others}, read {read:.3f}", flush=True)

    def _said(self, screens: Sequence[Any], asking: Sequence[str]) -> list[str]:
        return write(self.model, self.processor, [[screen] for screen in screens], asking)

    def _done(self, first: Sequence[str]) -> NDArray[np.float64]:
        """Success of tasks on devices of their own, the first press of which was said already."""
        devices = [Device(task) for task in self._tasks]
        for device, words in zip(devices, first, strict=True):
            device.obey(words)
        asking = [asked(device.task.goal, device.pressed) for device in devices]
        second = self._said([device.picture() for device in devices], asking)
        for device, words in zip(devices, second, strict=True):
            device.obey(words)
        return np.array([float(device.success) for device in devices])


def questions(tasks: Sequence[ScreenTask]) -> list[dict[str, Any]]:
    """Rows of `mini.screens.rows`, with `asked`: the goal, and what is done of it."""
    words = [asked(task.goal, task.wanted[:step]) for task in tasks for step in range(len(task.wanted))]
    return [{**row, "asked": one} for row, one in zip(steps_of(tasks), words, strict=True)]


def graded(
    found: Sequence[Mapping[str, Any]], said: Sequence[str], number: int, engine: Engine
) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Marks of tasks, `number` of them, out of answers to their presses in order; and the share read."""
    samples = [
        Sample(image=Media(row["image"]), response=one, target={"bbox_2d": row["box"]})
        for row, one in zip(found, said, strict=True)
    ]
    scores = engine.score(samples, "click")["click"]
    read = fmean(score.parts.get("parsed", 0.0) for score in scores)
    # An answer that holds no click presses nothing, as on a device.
    hits = np.array([score.value if score.ok else 0.0 for score in scores]).reshape(number, -1)
    if hits.shape[1] == 1:
        return {"presses": hits[:, 0]}, read
    episodes = [
        Sample(
            steps=tuple({"action": words} for words in said[begin : begin + hits.shape[1]]),
            target=[row["target"] for row in found[begin : begin + hits.shape[1]]],
        )
        for begin in range(0, len(said), hits.shape[1])
    ]
    told = engine.score(episodes, "gui_episode")["gui_episode"]
    return {
        "presses": np.array([score.parts["step"] for score in told]),
        "episodes": np.array([score.value for score in told]),
    }, read


def exercises(config: ClicksConfig) -> Dataset:
    """Training windows as TRL's data set: prompt, picture and target; a row for each press."""
    begin = APART * (1 + config.seed)
    found = questions(
        [
            draw_task(begin + index, config.presses, texts=True, held_out=False)
            for index in range(config.exercises)
        ]
    )
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": row["asked"]}] for row in found],
            "image": [row["image"] for row in found],
            "target": [{"bbox_2d": row["box"]} for row in found],
        }
    )


@contextmanager
def examiner_of(config: ClicksConfig) -> Iterator[ClicksExaminer]:
    """The examiner of a policy that is as its training begins.

    Raises:
        ValueError: the folder is there already, or no such weights.
    """
    out = Path(config.out)
    if out.exists():
        raise ValueError(f"{out}: there already. Move it away, or name another folder with --out")
    source = locate(config.start)
    out.mkdir(parents=True)
    model = Qwen3VLForConditionalGeneration.from_pretrained(source)
    processor = AutoProcessor.from_pretrained(source)
    weaken(model, config.weaken, config.seed)
    with Engine("cpu") as engine:
        yield ClicksExaminer(config, model, processor, engine)


def train(config: ClicksConfig) -> ClicksRun:
    """Run one training; raises as `examiner_of`."""
    out, begun = Path(config.out), time.perf_counter()
    with examiner_of(config) as examiner:
        trainer = GRPOTrainer(
            model=examiner.model,
            processing_class=examiner.processor,
            reward_funcs=[trl.reward(config.rewards, name=PAID, engine=examiner.engine)],
            args=GRPOConfig(output_dir=str(out / "trainer"), seed=config.seed, **config.trainer),
            train_dataset=exercises(config),
            callbacks=[examiner, TrainingLog(out / "training.jsonl")],
        )
        trainer.train()
    trainer.save_model(str(out / "weights"))
    first, last = examiner.marks[0], examiner.marks[-1]
    return ClicksRun(config.seed, first, last, (time.perf_counter() - begun) / 60)


def table(name: str, runs: Sequence[ClicksRun]) -> str:
    """For each kind of mark a line per seed, and their mean with the interval over them where there are
    several."""
    kinds = list(runs[0].before)
    lines = []
    for kind in kinds:
        head = name if len(kinds) == 1 else f"{name}, {kind}"
        lines += [f"| {head} | before | after | points (95 %) | n |", "|---|---|---|---|---|"]
        points = []
        for run in runs:
            before, after = run.before[kind], run.after[kind]
            change = paired_change(before, after, scale=100)
            points.append(change.mean)
            lines.append(
                f"| seed {run.seed}, {run.minutes:.1f} min | {before.mean():.3f} | {after.mean():.3f} "
                f"| {change.signed(1)} | {len(after)} |"
            )
        if len(runs) > 1:
            mean, (first, last) = mean_of(points).signed(1), _means(runs, kind)
            lines.append(f"| all {len(runs)} | {first:.3f} | {last:.3f} | {mean} | {len(runs)} seeds |")
        lines += [""] * (kind != kinds[-1])
    return "\n".join(lines)


def _means(runs: Sequence[ClicksRun], kind: str) -> tuple[float, float]:
    before = fmean(float(run.before[kind].mean()) for run in runs)
    return before, fmean(float(run.after[kind].mean()) for run in runs)


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
    parser.add_argument("--exam", action="store_true", help="examine what the training begins with, and end")
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
        if given.exam:
            for one in plan:
                with examiner_of(one) as examiner:
                    examiner.examine(0)
            return
        runs = [train(one) for one in plan]
    except ValueError as error:
        parser.error(str(error))
    print(table(given.config.stem, runs))


if __name__ == "__main__":
    main()

"""RL of a weakened mini-vlm with TRL's GRPOTrainer: `python -m mmreward.evals.vlm_rl
configs/vlm-mini-*.yaml`.

Grounding, counting and yes-or-no questions at once, each verified by its own route. mini-vlm's weights are
disturbed first, so that there is something to learn. Held-out scenes are examined now and then by rewards
that stay the same whatever the training pays for; figures by source go to metrics.jsonl, which `mmreward
report` draws.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from pydantic import Field
from transformers import AutoProcessor, PreTrainedModel, ProcessorMixin, Qwen3VLForConditionalGeneration
from transformers import TrainerCallback as Callback
from trl import GRPOConfig, GRPOTrainer

from mmreward import Engine
from mmreward.adapters import trl
from mmreward.config import Amount, Positive, RouteConfig, Strict, load_yaml
from mmreward.models import ASSETS
from mmreward.routing import Router
from mmreward.sources.log import append_metrics
from mmreward.sources.metrics import source_metrics
from mmreward.sources.outcomes import outcomes_of

from .vlm_tasks import ASKED, Exercise, answers, exercises, weaken

EXAMINED = {
    "yes_no": {"rewards": {"yes_no": {"bare": True}}},
    "count": {"rewards": {"count": {"bare": True}}},
    "locate": {"rewards": {"iou": {"bare": True}}},
}
"""The examination's routes. Of `iou`, the part `mean_iou` is reported."""
EXAM_SEED = 10_007
FIGURES = {"yes_no": "accuracy", "count": "accuracy", "locate": "mean IoU"}


class VlmConfig(Strict):
    """One run.

    Args:
        weaken: noise on the weights, in standard deviations of each matrix.
        exercises: training scenes of each task.
        routes: what each task pays.
        trainer: arguments of `trl.GRPOConfig`.
        examined: held-out scenes of each task.
        every: steps between examinations.
        out: folder of metrics.jsonl, exams.jsonl and the weights.
        seed: of the noise, the scenes and the trainer.
    """

    weaken: Amount = 1.0
    exercises: Positive = 1000
    routes: dict[str, RouteConfig]
    trainer: dict[str, Any] = Field(default_factory=dict)
    examined: Positive = 150
    every: Positive = 25
    out: str
    seed: int = 0


class Exam(NamedTuple):
    """What each task's exercises earned, (N,) each."""

    marks: Mapping[str, NDArray[np.float64]]

    def mean(self, task: str) -> float:
        return float(self.marks[task].mean())


class Examiner(Callback):  # type: ignore[misc]
    """Examines the policy before the first step, every so often, and after the last one."""

    def __init__(
        self, config: VlmConfig, model: PreTrainedModel, processor: ProcessorMixin, engine: Engine
    ) -> None:
        self._config, self._model, self._processor, self._engine = config, model, processor, engine
        self._asked = exercises(config.examined, EXAM_SEED)
        self._router = Router(EXAMINED)
        self.exams: list[Exam] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.examine(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._config.every == 0 or state.global_step == state.max_steps:
            self.examine(state.global_step)

    def examine(self, step: int) -> None:
        """Ask, verify, write down and say."""
        written = answers(self._model, self._processor, self._asked)
        samples = [one.sample(text) for one, text in zip(self._asked, written, strict=True)]
        routed = self._router.score(self._engine, samples)
        lengths = [len(self._processor.tokenizer(text).input_ids) for text in written]
        metrics = source_metrics(outcomes_of(samples, routed, lengths))
        exam = Exam({task: _marks(task, self._asked, routed.scores) for task in ASKED})
        self.exams.append(exam)
        out = Path(self._config.out)
        append_metrics(out / "metrics.jsonl", step, metrics)
        with (out / "exams.jsonl").open("a", encoding="utf-8") as file:
            marks = {task: column.tolist() for task, column in exam.marks.items()}
            file.write(json.dumps({"step": step, "marks": marks}) + "\n")
        told = "  ".join(f"{task} {FIGURES[task]} {exam.mean(task):.3f}" for task in ASKED)
        print(f"step {step}: {told}", flush=True)


def _marks(task: str, asked: Sequence[Exercise], scores: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    own = [found for one, found in zip(asked, scores, strict=True) if one.task == task]
    if task == "locate":
        return np.array([found["iou"].parts["mean_iou"] for found in own])
    return np.array([found[task].value for found in own])


def rows(asked: Sequence[Exercise]) -> Dataset:
    """As TRL wants them: a prompt, its picture, and what the verifier needs."""
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": one.question}],
                "image": one.picture,
                "source": one.task,
                "target": one.answer,
            }
            for one in asked
        ]
    )


def train(config: VlmConfig) -> tuple[list[Exam], float]:
    """Train as described; every examination, and the minutes of the whole."""
    out = Path(config.out)
    out.mkdir(parents=True)
    begun = time.perf_counter()
    model = Qwen3VLForConditionalGeneration.from_pretrained(ASSETS / "mini-vlm")
    processor = AutoProcessor.from_pretrained(ASSETS / "mini-vlm")
    weaken(model, config.weaken, config.seed)
    with Engine("cpu") as engine:
        examiner = Examiner(config, model, processor, engine)
        trainer = GRPOTrainer(
            model=model,
            processing_class=processor,
            reward_funcs=trl.reward(Router(config.routes)),
            args=GRPOConfig(output_dir=str(out / "trainer"), seed=config.seed, **config.trainer),
            train_dataset=rows(exercises(config.exercises, config.seed)),
            callbacks=[examiner],
        )
        trainer.train()
    trainer.save_model(str(out / "weights"))
    return examiner.exams, (time.perf_counter() - begun) / 60


def gain(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Points gained, and half the width of the paired 95 % interval."""
    difference = 100 * (after - before)
    return float(difference.mean()), 1.96 * float(difference.std(ddof=1)) / math.sqrt(len(difference))


def table(name: str, exams: Sequence[Exam], minutes: float) -> str:
    """Markdown, one line per task."""
    lines = [f"| {name}, {minutes:.1f} min | before | after | points (95 %) | n |", "|---|---|---|---|---|"]
    first, last = exams[0], exams[-1]
    for task in ASKED:
        points, half = gain(first.marks[task], last.marks[task])
        lines.append(
            f"| {task}, {FIGURES[task]} | {first.mean(task):.3f} | {last.mean(task):.3f} "
            f"| {points:+.1f} ({points - half:+.1f} to {points + half:+.1f}) | {len(first.marks[task])} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("configs", type=Path, nargs="+", help="YAML files, trained one after the other")
    parser.add_argument("--out", type=Path, help="where the runs are left; default: as the configs say")
    given = parser.parse_args()
    tables = []
    for path in given.configs:
        config = load_yaml(path, VlmConfig)
        if given.out is not None:
            config = config.model_copy(update={"out": str(given.out / path.stem)})
        exams, minutes = train(config)
        tables.append(table(path.stem, exams, minutes))
    print("\n\n".join(tables))


if __name__ == "__main__":
    main()

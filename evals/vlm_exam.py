"""Examinations of the policy that `vlm_rl` trains: held-out scenes, answered greedily, and verified by
rewards that stay the same whatever the training pays for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, ProcessorMixin
from transformers import TrainerCallback as Callback

from mmreward import Engine, Score
from mmreward.adapters.trl_gate import FIGURE, LOGGED
from mmreward.routing import Router
from mmreward.sources.log import append_metrics
from mmreward.sources.metrics import source_metrics
from mmreward.sources.outcomes import outcomes_of

from .vlm_tasks import BOXES, Exercise, Task, answers, exercises

EXAMINED = {
    "yes_no": {"rewards": {"yes_no": {"bare": True}}},
    "count": {"rewards": {"count": {"bare": True}}},
    "locate": {"rewards": {"iou": {"bare": True}}},
    "locate_all": {"rewards": {"iou": {"bare": True}}},
}
"""The examination's routes. Of `iou`, the part `mean_iou` is reported, which no false box lowers, and beside
it the number of boxes."""
EXAM_SEED = 10_007
Column = NDArray[np.float64]


class Exam(NamedTuple):
    """What each task's exercises earned, (N,) each; of tasks with boxes also how many were written in answers
    that could be read, and how many are true."""

    marks: Mapping[Task, Column]
    written: Mapping[Task, Column]
    true: Mapping[Task, Column]

    def line(self, step: int) -> str:
        """As JSON."""
        columns = {
            name: {task: column.tolist() for task, column in given.items()}
            for name, given in self._asdict().items()
        }
        return json.dumps({"step": step, **columns})

    def told(self) -> str:
        """In a few words."""
        marks = (f"{task} {figure(task)} {column.mean():.3f}" for task, column in self.marks.items())
        boxes = (
            f"{task} {column.mean():.2f} boxes of {self.true[task].mean():.2f}"
            for task, column in self.written.items()
        )
        return "  ".join((*marks, *boxes))


class Examiner(Callback):  # type: ignore[misc]
    """Examines the policy before the first step, every so often, and after the last one.

    What a gate logged since the last examination goes into the same line of metrics.jsonl.

    Args:
        out: folder of metrics.jsonl and exams.jsonl.
        model: the policy.
        processor: the model's.
        engine: what verifies.
        tasks: what is asked.
        number: held-out scenes of each task.
        every: steps between examinations.
    """

    def __init__(
        self,
        out: Path,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        engine: Engine,
        tasks: Sequence[Task],
        number: int,
        every: int,
    ) -> None:
        self._out, self._model, self._processor, self._engine = out, model, processor, engine
        self._asked = exercises(number, EXAM_SEED, tasks)
        self._router = Router(EXAMINED)
        self._every = every
        self._gated: dict[str, list[float]] = {}
        self.exams: list[Exam] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.examine(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self.examine(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        for name, value in (logs or {}).items():
            if name.startswith(f"{LOGGED}/") and f"/{FIGURE}/" in name and value is not None:
                self._gated.setdefault(name.removeprefix(f"{LOGGED}/"), []).append(value)

    def examine(self, step: int) -> None:
        """Ask, verify, write down and say."""
        written = answers(self._model, self._processor, self._asked)
        samples = [one.sample(text) for one, text in zip(self._asked, written, strict=True)]
        routed = self._router.score(self._engine, samples)
        lengths = [len(self._processor.tokenizer(text).input_ids) for text in written]
        gated = {name: fmean(values) for name, values in self._gated.items()}
        self._gated.clear()
        exam = marked(self._asked, routed.scores)
        self.exams.append(exam)
        append_metrics(
            self._out / "metrics.jsonl",
            step,
            source_metrics(outcomes_of(samples, routed, lengths)) | gated,
        )
        with (self._out / "exams.jsonl").open("a", encoding="utf-8") as file:
            file.write(exam.line(step) + "\n")
        print(f"step {step}: {exam.told()}", flush=True)


def marked(asked: Sequence[Exercise], scores: Sequence[Mapping[str, Score]]) -> Exam:
    """The columns of an examination from the scores of its answers."""
    marks: dict[Task, Column] = {}
    written: dict[Task, Column] = {}
    true: dict[Task, Column] = {}
    for task in dict.fromkeys(one.task for one in asked):
        rows = [row for row, one in enumerate(asked) if one.task == task]
        if task not in BOXES:
            marks[task] = np.array([scores[row][task].value for row in rows])
            continue
        parts = [scores[row]["iou"].parts for row in rows]
        marks[task] = np.array([part["mean_iou"] for part in parts])
        written[task] = np.array([part["found"] for part in parts])
        # an answer that could not be read has parts of zeros, `true` among them
        true[task] = np.array([float(len(json.loads(asked[row].answer))) for row in rows])
    return Exam(marks, written, true)


def figure(task: Task) -> str:
    """What a task's marks are called."""
    return "mean IoU" if task in BOXES else "accuracy"

"""Exercises and examinations of the policy that `vlm_rl` trains.

Exercises are questions about shapes world with true answers: yes or no, counting, and grounding one kind of
shape or every shape. An examination asks held-out ones, greedily, and verifies the answers by rewards that
stay the same whatever the training pays for. Probes say what else is true of an exercise's picture (PEARL's
gate asks them); they are drawn beside the exercises, never with their random state, so that a run with a gate
trains on the same pictures and questions as one without.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin
from transformers import TrainerCallback as Callback

from mmreward import Engine, Media, Sample, Score
from mmreward.adapters.trl_gate import FIGURE, LOGGED
from mmreward.data.routing import Router
from mmreward.mini import dialogues, world
from mmreward.monitor.by_source import append_metrics, source_metrics
from mmreward.monitor.outcomes import outcomes_of

TaskName = Literal["yes_no", "count", "locate", "locate_all"]
DIALOGUES: dict[TaskName, dialogues.Single] = {
    "yes_no": dialogues.present,
    "count": dialogues.count,
    "locate": dialogues.locate,
    "locate_all": dialogues.locate_all,
}
USUAL: tuple[TaskName, ...] = ("yes_no", "count", "locate")
BOXES: tuple[TaskName, ...] = ("locate", "locate_all")
"""Tasks whose answers are boxes."""
LONGEST: dict[TaskName, int] = {"yes_no": 6, "count": 6, "locate": 60, "locate_all": 112}
"""Tokens of an answer, in an examination: a box takes 13, and there are four at most."""


class Exercise(NamedTuple):
    """A question about a picture, and its true answer as mini-vlm would write it."""

    task: TaskName
    scene: world.Scene
    picture: Image.Image
    question: str
    answer: str

    def sample(self, response: str) -> Sample:
        """The exercise with a response, ready to be verified; the task is the source."""
        return Sample(
            source=self.task,
            prompt=self.question,
            image=Media(self.picture),
            response=response,
            target=self.answer,
        )


def draw_exercises(number: int, seed: int, tasks: Sequence[TaskName] = USUAL) -> list[Exercise]:
    """`number` exercises of each task in turn, each about a scene of its own."""
    rng = np.random.default_rng(seed)
    drawn: list[Exercise] = []
    while len(drawn) < number * len(tasks):
        task, scene = tasks[len(drawn) % len(tasks)], world.sample_scene(rng)
        dialogue = DIALOGUES[task](scene, rng)
        if dialogue is not None:  # not every question fits every scene
            drawn.append(Exercise(task, scene, world.render(scene), dialogue.question, dialogue.answer))
    return drawn


@torch.no_grad()
def weaken(model: torch.nn.Module, amount: float, seed: int = 0) -> None:
    """Add noise to every matrix but the embeddings: `amount` times the standard deviation of its weights."""
    noise = torch.Generator().manual_seed(seed)
    for name, weights in model.named_parameters():
        if weights.ndim == 2 and "embed" not in name:
            drawn = torch.randn(weights.shape, generator=noise).to(weights)
            weights.add_(amount * weights.std() * drawn)


@torch.no_grad()
def answers(
    model: PreTrainedModel, processor: ProcessorMixin, exercises: Sequence[Exercise], batch: int = 64
) -> list[str]:
    """The model's greedy answers, in the order of the exercises."""
    training = model.training
    model.eval()
    written: dict[int, str] = {}
    for task, longest in LONGEST.items():
        rows = [i for i, one in enumerate(exercises) if one.task == task]
        for start in range(0, len(rows), batch):
            chosen = rows[start : start + batch]
            inputs = _inputs(processor, [exercises[i] for i in chosen]).to(model.device)
            tokens = model.generate(**inputs, max_new_tokens=longest, do_sample=False)
            fresh = tokens[:, inputs["input_ids"].shape[1] :]
            written |= zip(chosen, processor.batch_decode(fresh, skip_special_tokens=True), strict=True)
    model.train(training)
    return [written[i] for i in range(len(exercises))]


def _inputs(processor: ProcessorMixin, exercises: Sequence[Exercise]) -> Any:
    texts = [
        processor.apply_chat_template(conversation(one), add_generation_prompt=True, tokenize=False)
        for one in exercises
    ]
    pictures = [one.picture for one in exercises]
    return processor(text=texts, images=pictures, return_tensors="pt", padding=True, padding_side="left")


def conversation(one: Exercise) -> list[dict[str, object]]:
    """The exercise as a chat of one turn, its picture before the question."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": one.question}]}]


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


class VlmExam(NamedTuple):
    """The marks of each task's exercises, (N,) each; of tasks with boxes also the number written in answers
    that could be read, and the true number."""

    marks: Mapping[TaskName, Column]
    written: Mapping[TaskName, Column]
    true: Mapping[TaskName, Column]

    def line(self, step: int) -> str:
        """The columns as a line of JSON."""
        columns = {
            name: {task: column.tolist() for task, column in given.items()}
            for name, given in self._asdict().items()
        }
        return json.dumps({"step": step, **columns})

    def summary(self) -> str:
        """The means in one line."""
        marks = (f"{task} {figure(task)} {column.mean():.3f}" for task, column in self.marks.items())
        boxes = (
            f"{task} {column.mean():.2f} boxes of {self.true[task].mean():.2f}"
            for task, column in self.written.items()
        )
        return "  ".join((*marks, *boxes))


class Examiner(Callback):  # type: ignore[misc]
    """Examinations of the policy before the first step, every `every` steps, and after the last one.

    A gate's figures since the last examination go into the same line of metrics.jsonl.

    Args:
        out: folder of metrics.jsonl and exams.jsonl.
        model: the policy.
        processor: the model's.
        engine: what verifies.
        tasks: of the exercises.
        number: held-out scenes of each task.
        every: steps between examinations.
    """

    def __init__(
        self,
        out: Path,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        engine: Engine,
        tasks: Sequence[TaskName],
        number: int,
        every: int,
    ) -> None:
        self._out, self._model, self._processor, self._engine = out, model, processor, engine
        self._exercises = draw_exercises(number, EXAM_SEED, tasks)
        self._router = Router(EXAMINED)
        self._every = every
        self._gated: dict[str, list[float]] = {}
        self.exams: list[VlmExam] = []

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
        """One examination: answers, scores, a line in both files and on the screen."""
        written = answers(self._model, self._processor, self._exercises)
        samples = [one.sample(text) for one, text in zip(self._exercises, written, strict=True)]
        routed = self._router.score(self._engine, samples)
        lengths = [len(self._processor.tokenizer(text).input_ids) for text in written]
        gated = {name: fmean(values) for name, values in self._gated.items()}
        self._gated.clear()
        exam = marked(self._exercises, routed.scores)
        self.exams.append(exam)
        append_metrics(
            self._out / "metrics.jsonl",
            step,
            source_metrics(outcomes_of(samples, routed, lengths)) | gated,
        )
        with (self._out / "exams.jsonl").open("a", encoding="utf-8") as file:
            file.write(exam.line(step) + "\n")
        print(f"step {step}: {exam.summary()}", flush=True)


def marked(exercises: Sequence[Exercise], scores: Sequence[Mapping[str, Score]]) -> VlmExam:
    """The columns of an examination from the scores of its answers."""
    marks: dict[TaskName, Column] = {}
    written: dict[TaskName, Column] = {}
    true: dict[TaskName, Column] = {}
    for task in dict.fromkeys(one.task for one in exercises):
        rows = [row for row, one in enumerate(exercises) if one.task == task]
        if task not in BOXES:
            marks[task] = np.array([scores[row][task].value for row in rows])
            continue
        parts = [scores[row]["iou"].parts for row in rows]
        marks[task] = np.array([part["mean_iou"] for part in parts])
        written[task] = np.array([part["found"] for part in parts])
        # an answer that could not be read has parts of zeros, `true` among them
        true[task] = np.array([float(len(json.loads(exercises[row].answer))) for row in rows])
    return VlmExam(marks, written, true)


def figure(task: TaskName) -> str:
    """The name of a task's marks."""
    return "mean IoU" if task in BOXES else "accuracy"


PROBED: tuple[dialogues.Single, ...] = (dialogues.present, dialogues.count, dialogues.attribute)
"""Kinds of probes in turn: one word or number each, as mini-vlm can say them."""
DRAWS = 64
"""Questions drawn for one exercise at most: a small picture has few."""


def probes(one: Exercise, number: int, seed: Sequence[int]) -> list[dict[str, str]]:
    """`number` different sub-questions about the picture with their answers, or as many as there are.

    The exercise's own question is none of them.
    """
    found: dict[str, str] = {}
    for question, answer in _drawn(one, seed):
        if len(found) == number:
            break
        if question != one.question:
            found.setdefault(question, answer)
    return [{"question": question, "answer": answer} for question, answer in found.items()]


def _drawn(one: Exercise, seed: Sequence[int]) -> Iterator[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    for draw in range(DRAWS):
        dialogue = PROBED[draw % len(PROBED)](one.scene, rng)
        if dialogue is not None:  # not every question fits every scene
            yield dialogue.question, dialogue.answer


def with_probes(exercises: Sequence[Exercise], number: int, seed: int) -> list[list[dict[str, str]]]:
    """The probes of each exercise, a column of the data set; the same for the same seed."""
    return [probes(one, number, (seed, row)) for row, one in enumerate(exercises)]

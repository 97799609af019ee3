"""What mini-vlm is trained and examined on by RL: yes or no, counting, and grounding one kind of shape or
every shape in shapes world."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from mmreward import Media, Sample
from mmreward.mini import dialogues, world

Task = Literal["yes_no", "count", "locate", "locate_all"]
ASKED: dict[Task, dialogues.Single] = {
    "yes_no": dialogues.present,
    "count": dialogues.count,
    "locate": dialogues.locate,
    "locate_all": dialogues.locate_all,
}
USUAL: tuple[Task, ...] = ("yes_no", "count", "locate")
BOXES: tuple[Task, ...] = ("locate", "locate_all")
"""Tasks whose answers are boxes."""
LONGEST: dict[Task, int] = {"yes_no": 6, "count": 6, "locate": 60, "locate_all": 112}
"""Tokens of an answer, in an examination: a box takes 13, and there are four at most."""


class Exercise(NamedTuple):
    """A question about a picture, and its true answer as mini-vlm would write it."""

    task: Task
    scene: world.Scene
    picture: Image.Image
    question: str
    answer: str

    def sample(self, response: str) -> Sample:
        """With a response, ready to be verified; the task is the source."""
        return Sample(
            source=self.task,
            prompt=self.question,
            image=Media(self.picture),
            response=response,
            target=self.answer,
        )


def exercises(number: int, seed: int, tasks: Sequence[Task] = USUAL) -> list[Exercise]:
    """`number` of each task in turn, each about a scene of its own."""
    rng = np.random.default_rng(seed)
    drawn: list[Exercise] = []
    while len(drawn) < number * len(tasks):
        task, scene = tasks[len(drawn) % len(tasks)], world.sample_scene(rng)
        dialogue = ASKED[task](scene, rng)
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
    model: PreTrainedModel, processor: ProcessorMixin, asked: Sequence[Exercise], batch: int = 64
) -> list[str]:
    """What the model writes, greedily, in the order of the exercises."""
    training = model.training
    model.eval()
    written: dict[int, str] = {}
    for task, longest in LONGEST.items():
        rows = [i for i, one in enumerate(asked) if one.task == task]
        for start in range(0, len(rows), batch):
            chosen = rows[start : start + batch]
            inputs = _inputs(processor, [asked[i] for i in chosen]).to(model.device)
            tokens = model.generate(**inputs, max_new_tokens=longest, do_sample=False)
            fresh = tokens[:, inputs["input_ids"].shape[1] :]
            written |= zip(chosen, processor.batch_decode(fresh, skip_special_tokens=True), strict=True)
    model.train(training)
    return [written[i] for i in range(len(asked))]


def _inputs(processor: ProcessorMixin, asked: Sequence[Exercise]) -> Mapping[str, torch.Tensor]:
    texts = [
        processor.apply_chat_template(conversation(one), add_generation_prompt=True, tokenize=False)
        for one in asked
    ]
    pictures = [one.picture for one in asked]
    return processor(text=texts, images=pictures, return_tensors="pt", padding=True, padding_side="left")


def conversation(one: Exercise) -> list[dict[str, object]]:
    """The exercise as a chat of one turn, its picture before the question."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": one.question}]}]

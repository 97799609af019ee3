"""The stages by which a judge is trained, each a few lines around TRL: taught, parrot, rejection, grpo."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from datasets import Dataset
from pydantic import Field
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from mmreward import Engine, load, models
from mmreward.adapters import trl, trl_turns
from mmreward.config import Positive, RouteConfig, Strict
from mmreward.judges.asking import Asking
from mmreward.judges.comparison import Comparison
from mmreward.judges.rationales import HINT, Drawing, best, draw, fates, unsolved
from mmreward.judges.rows import SOURCE, Row, exercises, lessons
from mmreward.models.base import locate
from mmreward.models.remote import ServedVLM
from mmreward.models.vlms import VLM
from mmreward.routing import Router

from .judge_pairs import draw as draw_pairs

Who = Literal["student", "teacher"]
TEACHING_SEED = 50_021


class Taught(Strict):
    """Fine-tuning on the rationales of one who knows the scenes.

    Args:
        who: learns.
        number: of comparisons.
        hint: say the right verdict after the question; a teacher that is to write rationales for known
            verdicts learns to make use of it.
        trainer: arguments of `trl.SFTConfig`.
    """

    kind: Literal["taught"]
    who: Who = "student"
    number: Positive = 1000
    hint: bool = False
    trainer: dict[str, Any] = Field(default_factory=dict)


class Parrot(Strict):
    """PARROT: the teacher writes rationales for known verdicts, a listener filters them, the student learns.

    Args:
        draws: rationales per comparison, of which the most convincing is learned.
        least: the listener's probability of the right verdict from which a rationale is kept.
        temperature: of the teacher.
        trainer: arguments of `trl.SFTConfig`.
    """

    kind: Literal["parrot"]
    draws: Positive = 1
    least: Annotated[float, Field(ge=0, lt=1)] = 0.5
    temperature: Annotated[float, Field(ge=0)] = 1.0
    trainer: dict[str, Any] = Field(default_factory=dict)


class Rejection(Strict):
    """Rejection sampling: the student learns its own rationales that reach the right verdict.

    Args:
        draws: rationales per comparison, of which one is learned.
        temperature: of the student.
        trainer: arguments of `trl.SFTConfig`.
    """

    kind: Literal["rejection"]
    draws: Positive = 4
    temperature: Annotated[float, Field(ge=0)] = 1.0
    trainer: dict[str, Any] = Field(default_factory=dict)


class Grpo(Strict):
    """Reinforcement learning on verdicts, and on what else the route pays.

    Args:
        route: what a judgement earns.
        unsolved: only comparisons that a rejection before it found wrong answers to.
        trainer: arguments of `trl.GRPOConfig`.
    """

    kind: Literal["grpo"]
    route: RouteConfig
    unsolved: bool = False
    trainer: dict[str, Any] = Field(default_factory=dict)


Stage = Annotated[Taught | Parrot | Rejection | Grpo, Field(discriminator="kind")]


@dataclass
class School:
    """Who learns, what about, and where things are left.

    Args:
        engine: runs whoever writes or listens.
        people: folder of the latest weights of student and teacher.
        asked: the training comparisons.
        asking: how they are asked.
        listener: name or folder of the frozen model that filters rationales.
        max_tokens: of a turn.
        out: folder of weights and trainers.
        seed: of everything that is drawn.
    """

    engine: Engine
    people: dict[Who, str]
    asked: Sequence[Comparison]
    asking: Asking
    listener: str
    max_tokens: int
    out: Path
    seed: int
    hard: list[Comparison] = field(default_factory=list)
    passed: int = 0

    def attend(self, stage: Taught | Parrot | Rejection | Grpo) -> None:
        """Go through one stage, and leave the new weights in a folder of their own."""
        self.passed += 1
        if isinstance(stage, Taught):
            drawn = draw_pairs(stage.number, TEACHING_SEED + self.seed)
            rows = lessons([one.told(self.asking) for one in drawn], self.asking)
            if stage.hint:
                rows = [_hinted(row, one) for row, one in zip(rows, _each(drawn, self.asking), strict=True)]
            self._tune(stage.who, rows, stage.trainer)
        elif isinstance(stage, Parrot):
            drawing = self._drawing(HINT, stage.draws, stage.temperature)
            listener = load("listener", listener=self.listener, labels=("1", "2"))
            written = self.engine.run(
                draw(self._vlm("teacher"), self.asked, drawing, listener=listener, least=stage.least)
            )
            print(f"rationales: {_told(fates(written))}", flush=True)
            self._tune("student", lessons(best(written), self.asking), stage.trainer)
        elif isinstance(stage, Rejection):
            drawing = self._drawing("", stage.draws, stage.temperature)
            written = self.engine.run(draw(self._vlm("student"), self.asked, drawing))
            self.hard = unsolved(written)
            print(f"rationales: {_told(fates(written))}; {len(self.hard)} hard comparisons", flush=True)
            self._tune("student", lessons(best(written), self.asking), stage.trainer)
        else:
            self._reinforce(stage)

    def _drawing(self, hint: str, draws: int, temperature: float) -> Drawing:
        return Drawing(
            asking=self.asking,
            hint=hint,
            draws=draws,
            temperature=temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
        )

    def _vlm(self, who: Who) -> "VLM | ServedVLM":
        return models.vlm(self.people[who])

    def _tune(self, who: Who, rows: list[Row], arguments: dict[str, Any]) -> None:
        model, processor = load_judge(self.people[who])
        trainer = SFTTrainer(
            model=model,
            processing_class=processor,
            args=SFTConfig(**self._common(arguments)),
            train_dataset=Dataset.from_list(rows),
        )
        trainer.train()
        self._leave(who, trainer)

    def _reinforce(self, stage: Grpo) -> None:
        model, processor = load_judge(self.people["student"])
        asked = self.hard if stage.unsolved else self.asked
        two = {"rollout_func": trl_turns.rollout(self.asking.following)} if self.asking.turns == 2 else {}
        trainer = GRPOTrainer(
            model=model,
            processing_class=processor,
            reward_funcs=trl.reward(Router({SOURCE: stage.route}), engine=self.engine),
            args=GRPOConfig(**self._common(stage.trainer)),
            train_dataset=Dataset.from_list(exercises(asked, self.asking)),
            **two,
        )
        trainer.train()
        self._leave("student", trainer)

    def _common(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"output_dir": str(self.out / "trainer"), "seed": self.seed, **arguments}

    def _leave(self, who: Who, trainer: Any) -> None:
        folder = self.out / f"{self.passed}-{who}"
        trainer.save_model(str(folder))
        self.people[who] = str(folder)


def load_judge(folder: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Weights and processor for a trainer."""
    place = locate(folder)
    return AutoModelForImageTextToText.from_pretrained(place), AutoProcessor.from_pretrained(place)


def _each(drawn: Sequence[Any], asking: Asking) -> list[Comparison]:
    """The comparison of every lesson: one per turn."""
    return [one.comparison for one in drawn for _ in range(asking.turns)]


def _hinted(row: Row, one: Comparison) -> Row:
    """The row with the hint after its first question."""
    place = next(i for i, message in enumerate(row["prompt"]) if message["role"] == "user")
    messages = [dict(message) for message in row["prompt"]]
    messages[place]["content"] += HINT.format(better=one.better)
    return {**row, "prompt": messages}


def _told(counts: dict[Any, int]) -> str:
    return ", ".join(f"{number} {fate}" for fate, number in counts.items() if number)

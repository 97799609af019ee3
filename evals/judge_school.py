"""Where a judge is trained: who learns and teaches, what about, and TRL's trainers around them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from mmreward import Engine, models
from mmreward.adapters import trl, trl_turns
from mmreward.config import RouteConfig
from mmreward.judges.asking import Asking
from mmreward.judges.comparison import Comparison, both_orders
from mmreward.judges.rationales import Drawing, Rationale, balanced, best, draw, fates
from mmreward.judges.rows import SOURCE, Row, exercises, lessons
from mmreward.models.base import locate
from mmreward.registry import Reward
from mmreward.routing import Router

Who = Literal["student", "teacher"]


@dataclass
class School:
    """What stages work with.

    Args:
        engine: runs whoever writes or listens.
        people: name or folder of the latest weights of student and teacher.
        asked: the training comparisons.
        asking: how they are asked.
        listener: the reward that filters rationales.
        max_tokens: of a turn.
        out: folder of weights and trainers.
        seed: of everything that is drawn.
        hard: comparisons that a rejection found wrong answers to.
        passed: stages so far.
    """

    engine: Engine
    people: dict[Who, str]
    asked: Sequence[Comparison]
    asking: Asking
    listener: Reward
    max_tokens: int
    out: Path
    seed: int
    hard: list[Comparison] = field(default_factory=list)
    passed: int = 0

    def write(
        self, who: Who, draws: int, temperature: float, *, hint: str = "", least: float | None = None
    ) -> list[Rationale]:
        """Rationales for all training comparisons; with `least`, the listener filters them."""
        drawing = Drawing(
            asking=self.asking,
            hint=hint,
            draws=draws,
            temperature=temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
        )
        writer = models.vlm(self.people[who])
        heard = {} if least is None else {"listener": self.listener, "least": least}
        written = self.engine.run(draw(writer, self.asked, drawing, **heard))
        told = ", ".join(f"{number} {fate}" for fate, number in fates(written).items() if number)
        print(f"rationales: {told}", flush=True)
        return written

    def learn(self, written: Sequence[Rationale], arguments: dict[str, Any]) -> None:
        """Fine-tune the student on the best rationale of each comparison, both places alike.

        Raises:
            ValueError: none was kept.
        """
        kept = balanced(best(written))
        if not kept:
            raise ValueError(f"nothing to learn from in {len(written)} rationales; the counts above say why")
        self.tune("student", lessons(kept, self.asking), arguments)

    def tune(self, who: Who, rows: list[Row], arguments: dict[str, Any]) -> None:
        """Supervised fine-tuning."""
        model, processor = load_judge(self.people[who])
        trainer = SFTTrainer(
            model=model,
            processing_class=processor,
            args=SFTConfig(**self._common(arguments)),
            train_dataset=Dataset.from_list(rows),
        )
        self._train(who, trainer)

    def reinforce(self, asked: Sequence[Comparison], route: RouteConfig, arguments: dict[str, Any]) -> None:
        """GRPO of the student, in both orders: what it got wrong favours the place that it does not."""
        model, processor = load_judge(self.people["student"])
        two = {"rollout_func": trl_turns.rollout(self.asking.following)} if self.asking.turns == 2 else {}
        trainer = GRPOTrainer(
            model=model,
            processing_class=processor,
            reward_funcs=trl.reward(Router({SOURCE: route}), engine=self.engine),
            args=GRPOConfig(**self._common(arguments)),
            train_dataset=Dataset.from_list(exercises(both_orders(asked), self.asking)),
            **two,
        )
        self._train("student", trainer)

    def _common(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"output_dir": str(self.out / "trainer"), "seed": self.seed, **arguments}

    def _train(self, who: Who, trainer: Any) -> None:
        """The new weights are left in a folder of their own."""
        trainer.train()
        self.passed += 1
        folder = self.out / f"{self.passed}-{who}"
        trainer.save_model(str(folder))
        self.people[who] = str(folder)


def load_judge(folder: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Weights and processor for a trainer."""
    place = locate(folder)
    return AutoModelForImageTextToText.from_pretrained(place), AutoProcessor.from_pretrained(place)

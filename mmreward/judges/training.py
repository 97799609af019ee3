"""Where a judge is trained: who learns and teaches, what about, and TRL's trainers around them."""

# FOLDED evals/judge_pairs.py: Comparisons drawn from shapes world, and the rationales of one who knows the scenes.
#
# They stand where a stronger model's do elsewhere: a cold start, and what a teacher is taught.
#
# FOLDED evals/judge_stages.py: The stages by which a judge is trained, as a recipe names them: taught, parrot, rejection, grpo.

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from datasets import Dataset
from pydantic import Field
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin
from trl import GRPOConfig, SFTConfig, SFTTrainer

from .. import Engine, Media, models
from ..adapters import trl
from ..adapters.trl_stable import StableGRPOTrainer
from ..config import Positive, RouteConfig, Strict
from ..data.routing import Router
from ..mini import dialogues, world
from ..mini.tasks import REASONED, compare, faithfulness, prefer_reasoning
from ..mini.tasks import Comparison as Compared
from ..models.base import locate
from ..registry import Reward
from ..rewards.judged.asking import Asking
from .comparison import Comparison, both_orders
from .rationales import (
    HINT,
    SOURCE,
    Drawing,
    Rationale,
    Row,
    balanced,
    best,
    draw,
    exercises,
    fates,
    lessons,
    unsolved,
)

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
        heard: dict[str, Any] = {} if least is None else {"listener": self.listener, "least": least}
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

    def reinforce(
        self,
        asked: Sequence[Comparison],
        route: RouteConfig,
        arguments: dict[str, Any],
        *,
        stable: bool = False,
    ) -> None:
        """GRPO of the student, in both orders: what it got wrong favours the place that it does not."""
        model, processor = load_judge(self.people["student"])
        two: dict[str, Any] = (
            {"rollout_func": trl.rollout(self.asking.following)} if self.asking.turns == 2 else {}
        )
        trainer = StableGRPOTrainer(
            stable=stable,
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


CRITERIA = ("colour", "shape", "number", "place")
"""Of shapes world, for judges that think twice."""


class Drawn(NamedTuple):
    """A comparison and the truth about it."""

    comparison: Comparison
    caption: world.Caption
    scenes: tuple[world.Scene, world.Scene]

    def told(self, asking: Asking) -> Rationale:
        """What one who knows the scenes would answer."""
        first, second = self.scenes
        reasoning = prefer_reasoning(self.caption, first.things, second.things)
        answer = REASONED.format(reasoning=reasoning, answer=self.comparison.better)
        turns = (answer,) if asking.turns == 1 else (self._noted(), answer)
        return Rationale(self.comparison, turns, self.comparison.better, "kept")

    def _noted(self) -> str:
        found = [compare(self.caption, scene.things) for scene in self.scenes]
        wrong = {name for one in found for name in _criteria(one)}
        named = ", ".join([name for name in CRITERIA if name in wrong][:3])
        first, second = (faithfulness(self.caption, scene.things).rstrip(".") for scene in self.scenes)
        return f"Look at: {named}\nPicture 1: {first}\nPicture 2: {second}"


def draw_pairs(number: int, seed: int) -> list[Drawn]:
    """Pairs of fresh scenes and a request that one of them fits better."""
    rng = np.random.default_rng(seed)
    drawn: list[Drawn] = []
    while len(drawn) < number:
        scenes = world.sample_scene(rng), world.sample_scene(rng)
        chosen = dialogues.preferable(*scenes, rng)
        if chosen is not None:
            caption, better = chosen
            pictures = (Media(world.render(scenes[0])), Media(world.render(scenes[1])))
            drawn.append(
                Drawn(Comparison(f"{seed}-{len(drawn):06d}", str(caption), pictures, better), caption, scenes)
            )
    return drawn


def comparisons(drawn: Sequence[Drawn]) -> list[Comparison]:
    """Without the truth."""
    return [one.comparison for one in drawn]


def _criteria(found: Compared) -> list[str]:
    """In what a picture is not as asked."""
    missing, extra = found.missing, found.extra
    colours: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    for kinds, sign in ((missing, 1), (extra, -1)):
        for (colour, shape), number in kinds.items():
            colours[colour] += sign * number
            shapes[shape] += sign * number
    facts = {
        "colour": any(colours.values()),
        "shape": any(shapes.values()),
        "number": missing.total() != extra.total(),
        "place": found.crossed,
    }
    crosswise = ["colour", "shape"] if missing else []  # a red circle and a blue square the other way round
    return [name for name, wrong in facts.items() if wrong] or crosswise


TEACHING_SEED = 50_021
Temperature = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Taught(Strict):
    """Fine-tuning on the rationales of one who knows the scenes of shapes world.

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

    def go(self, school: School) -> None:
        drawn = draw_pairs(self.number, TEACHING_SEED + school.seed)
        rows = [
            _hinted(row, one.comparison) if self.hint else row
            for one in drawn
            for row in lessons([one.told(school.asking)], school.asking)
        ]
        school.tune(self.who, rows, self.trainer)


class Parrot(Strict):
    """PARROT: the teacher writes rationales for known verdicts, a listener filters them, the student learns.

    Args:
        draws: rationales per comparison, of which the most convincing is learned.
        least: the listener's probability of the right verdict above which a rationale is kept.
        temperature: of the teacher.
        trainer: arguments of `trl.SFTConfig`.
    """

    kind: Literal["parrot"]
    draws: Positive = 1
    least: Annotated[float, Field(ge=0, lt=1)] = 0.5
    temperature: Temperature = 1.0
    trainer: dict[str, Any] = Field(default_factory=dict)

    def go(self, school: School) -> None:
        written = school.write("teacher", self.draws, self.temperature, hint=HINT, least=self.least)
        school.learn(written, self.trainer)


class Rejection(Strict):
    """Rejection sampling: the student learns its own rationales that reach the right verdict.

    Of two verdicts one is right, so half of all bad reasoning passes: a listener may be asked as well.

    Args:
        draws: rationales per comparison, of which one is learned.
        least: the listener's probability of the right verdict above which a rationale is kept; by default it
            is not asked.
        temperature: of the student.
        trainer: arguments of `trl.SFTConfig`.
    """

    kind: Literal["rejection"]
    draws: Positive = 4
    least: Annotated[float, Field(ge=0, lt=1)] | None = None
    temperature: Temperature = 1.0
    trainer: dict[str, Any] = Field(default_factory=dict)

    def go(self, school: School) -> None:
        written = school.write("student", self.draws, self.temperature, least=self.least)
        school.hard = unsolved(written)
        print(f"hard comparisons: {len(school.hard)}", flush=True)
        school.learn(written, self.trainer)


class Grpo(Strict):
    """Reinforcement learning on verdicts, and on what else the route pays.

    Args:
        route: what a judgement earns.
        unsolved: only comparisons that the rejection before it found wrong answers to.
        stable: with StableReinforce's two guards (R1-Reward), see `adapters.trl_stable`.
        trainer: arguments of `trl.GRPOConfig`.
    """

    kind: Literal["grpo"]
    route: RouteConfig
    unsolved: bool = False
    stable: bool = False
    trainer: dict[str, Any] = Field(default_factory=dict)

    def go(self, school: School) -> None:
        asked = school.hard if self.unsolved else school.asked
        if not asked:
            raise ValueError("no comparison is left to learn from: the rejection solved them all")
        school.reinforce(asked, self.route, self.trainer, stable=self.stable)


Stage = Annotated[Taught | Parrot | Rejection | Grpo, Field(discriminator="kind")]


def _hinted(row: Row, one: Comparison) -> Row:
    """The row with the hint after its first question."""
    place = next(i for i, message in enumerate(row["prompt"]) if message["role"] == "user")
    messages = [dict(message) for message in row["prompt"]]
    messages[place]["content"] += HINT.format(better=one.better)
    return {**row, "prompt": messages}

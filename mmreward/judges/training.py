"""Training of a judge in stages: the run that stages share, TRL's trainers, and the stages a recipe names.

Stages are `taught` (true rationales of shapes world), `parrot` (a teacher's rationales for known verdicts
and, where asked for, its critiques of each picture, kept where a filter is convinced), `rejection` (the
student's own rationales) and `grpo` (reinforcement learning). Roles are the student, the teacher and the
frozen listener.

Needs TRL, which is imported when a trainer is made. Knows nothing of exams.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .. import models
from ..adapters import trl as adapter
from ..config import Positive, RouteConfig, Strict
from ..data.routing import Router
from ..engine.engine import Engine
from ..loading import load
from ..models.weights import locate
from ..progress import Display
from ..registry import Reward
from ..rewards.judged.asking import Asking
from .comparison import Comparison, both_orders
from .miniature import sample_answers, sample_comparisons
from .projection import critiques_row, projected_rows, sample_critiques
from .rationales import (
    HINT,
    OUTCOMES,
    SOURCE,
    Rationale,
    RationaleSampling,
    Row,
    balanced,
    best,
    count_outcomes,
    grpo_rows,
    sample_rationales,
    sft_rows,
    unsolved,
)

Role = Literal["student", "teacher"]


@dataclass
class TrainingRun:
    """State of one run, which its stages share and change.

    Args:
        engine: runs the models that write rationales and listen to them.
        weights: name or folder of the latest weights of student and teacher.
        comparisons: the training set.
        asking: the questions to a judge.
        listener: the reward that filters rationales.
        max_tokens: of a turn.
        out: folder of weights and trainers.
        seed: of samples and trainers.
        unsolved: comparisons for which the latest rejection stage found wrong answers.
        trained: trainings so far; numbers the folders of weights.
        display: shows the steps of trainers, in the place of their own bars.
    """

    engine: Engine
    weights: dict[Role, str]
    comparisons: Sequence[Comparison]
    asking: Asking
    listener: Reward
    max_tokens: int
    out: Path
    seed: int
    unsolved: list[Comparison] = field(default_factory=list)
    trained: int = 0
    display: Display | None = None

    def say(self, line: str) -> None:
        """Print a line, above what is shown."""
        if self.display is None:
            print(line, flush=True)
        else:
            self.display.line(line)

    def sample(
        self,
        role: Role,
        draws: int,
        temperature: float,
        *,
        hint: str = "",
        least: float | None = None,
        again: bool = False,
    ) -> list[Rationale]:
        """Rationales for all training comparisons; with `least`, the listener filters them, or, `again`,
        their own writer, who is not told the verdict any more."""
        sampling = RationaleSampling(
            asking=self.asking,
            hint=hint,
            draws=draws,
            temperature=temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
        )
        writer = models.vlm(self.weights[role])
        filtered: dict[str, Any] = {}
        if least is not None:
            own: dict[str, Any] = {"listener": self.weights[role], "labels": ("1", "2")}
            filtered = {"listener": load("listener", **own) if again else self.listener, "least": least}
        written = self.engine.run(sample_rationales(writer, self.comparisons, sampling, **filtered))
        counts = ", ".join(
            f"{number} {outcome}" for outcome, number in count_outcomes(written).items() if number
        )
        self.say(f"rationales: {counts}")
        return written

    def finetune_student(
        self, written: Sequence[Rationale], arguments: dict[str, Any], beside: Sequence[Row] = ()
    ) -> None:
        """Fine-tune the student on the best rationale of each comparison, both places equally often, and on
        the rows beside them.

        Raises:
            ValueError: none was kept.
        """
        kept = balanced(best(written))
        if not kept:
            raise ValueError(f"nothing to learn from in {len(written)} rationales; the counts above say why")
        self.finetune("student", [*sft_rows(kept, self.asking), *beside], arguments)

    def finetune(self, role: Role, rows: list[Row], arguments: dict[str, Any]) -> None:
        """Supervised fine-tuning on rows of `rationales.sft_rows`; `arguments` are those of
        `trl.SFTConfig`."""
        library, datasets = _trainers()
        model, processor = load_judge(self.weights[role])
        trainer = library.SFTTrainer(
            model=model,
            processing_class=processor,
            args=library.SFTConfig(**self._common(arguments)),
            train_dataset=datasets.Dataset.from_list(rows),
        )
        self._train(role, trainer)

    def reinforce(
        self,
        compared: Sequence[Comparison],
        route: RouteConfig,
        arguments: dict[str, Any],
        *,
        stable: bool = False,
    ) -> None:
        """GRPO of the student; `arguments` are those of `trl.GRPOConfig`; `stable` is StableReinforce.

        Comparisons are asked in both orders: those that the student got wrong favour the place it does not
        name.
        """
        library, datasets = _trainers()
        model, processor = load_judge(self.weights["student"])
        two: dict[str, Any] = (
            {"rollout_func": adapter.rollout(self.asking.following)} if self.asking.turns == 2 else {}
        )
        trainer = (_stable_trainer() if stable else library.GRPOTrainer)(
            model=model,
            processing_class=processor,
            reward_funcs=adapter.reward(Router({SOURCE: route}), engine=self.engine),
            args=library.GRPOConfig(**self._common(arguments)),
            train_dataset=datasets.Dataset.from_list(grpo_rows(both_orders(compared), self.asking)),
            **two,
        )
        self._train("student", trainer)

    def _common(self, arguments: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = {"disable_tqdm": True} if self.display is not None else {}
        return {"output_dir": str(self.out / "trainer"), "seed": self.seed, **shown, **arguments}

    def _train(self, role: Role, trainer: Any) -> None:
        """Train, and leave the new weights in a folder of their own."""
        if self.display is not None:
            trainer.add_callback(_shown_steps(self.display, f"training the {role}"))
        trainer.train()
        self.trained += 1
        folder = self.out / f"{self.trained}-{role}"
        trainer.save_model(str(folder))
        self.weights[role] = str(folder)


def _shown_steps(display: Display, name: str) -> Any:
    """A trainer's callback that shows its steps."""
    from transformers import TrainerCallback

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            display.phase(name, "steps", state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            display.update(state.global_step)

    return Steps()


def load_judge(folder: str) -> tuple[Any, Any]:
    """Weights and processor of a judge, for a trainer."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    place = locate(folder)
    return AutoModelForImageTextToText.from_pretrained(place), AutoProcessor.from_pretrained(place)


def _trainers() -> tuple[Any, Any]:
    """The modules trl and datasets.

    Raises:
        ValueError: TRL is not installed.
    """
    try:
        import datasets
        import trl
    except ModuleNotFoundError as error:
        raise ValueError(f'training a judge needs {error.name}: pip install "mmreward[trl]"') from None
    return trl, datasets


def _stable_trainer() -> Any:
    from ..adapters.trl_stable import StableGRPOTrainer

    return StableGRPOTrainer


# --- stages ---------------------------------------------------------------------------------------

TEACHING_SEED = 50_021
Temperature = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TaughtStage(Strict):
    """Fine-tuning on true rationales of shapes world, written from the scenes themselves.

    Args:
        who: the role whose weights learn.
        number: of comparisons.
        hint: state the right verdict after the question; a teacher that is to write rationales for known
            verdicts learns to make use of it.
        critiques: teach critiques of both pictures, as `Projection` asks a teacher for, on every second
            comparison.
        answers: compare two answers about one picture on every second comparison (UnifiedReward-Think's
            understanding beside its generation).
        seed: of a teacher's lessons and training; by default the run's. With one, runs of all seeds share the
            teacher, as those of a published one would.
        trainer: arguments of `trl.SFTConfig`.
    """

    kind: Literal["taught"]
    who: Role = "student"
    number: Positive = 1000
    hint: bool = False
    critiques: bool = False
    answers: bool = False
    seed: int | None = None
    trainer: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _of_one_piece(self) -> "TaughtStage":
        if self.critiques and self.answers:
            raise ValueError("critiques and answers both take every second comparison: two stages do both")
        if self.seed is not None and self.who != "teacher":
            raise ValueError("seed: only a teacher is shared between runs; a student is what they compare")
        return self

    def run(self, training: TrainingRun) -> None:
        own = training.seed if self.seed is None else self.seed
        seed = TEACHING_SEED + own
        answers = sample_answers(self.number // 2 if self.answers else 0, seed)
        rows = []
        for place, one in enumerate(sample_comparisons(self.number, seed)):
            if self.critiques and place % 2:
                made = [critiques_row(one.comparison, one.true_critiques())]
            else:
                told = answers[place // 2] if self.answers and place % 2 else one
                made = sft_rows([told.true_rationale(training.asking)], training.asking)
            rows += [_hinted(row, one.comparison) if self.hint else row for row in made]
        training.finetune(self.who, rows, {"seed": own, **self.trainer})


class Projection(Strict):
    """PARROT's pointwise samples: the teacher, told the verdict, criticises both pictures, aspect by aspect;
    what it stands by without having been told is a critique of each picture, see `judges.projection`.

    Args:
        max_tokens: of the teacher's text.
        refined: end each critique with the request that the teacher wrote in its place.
    """

    max_tokens: Positive = 1024
    refined: bool = True

    def rows(self, training: TrainingRun, temperature: float) -> list[Row]:
        """Rows that teach the critiques which were kept.

        Raises:
            ValueError: none was.
        """
        teacher = training.weights["teacher"]
        checker = load("listener", listener=teacher, labels=("1", "2"))
        pictures = [one for one in training.comparisons if one.answers is None]
        written = training.engine.run(
            sample_critiques(
                models.vlm(teacher), pictures, checker, temperature=temperature,
                max_tokens=self.max_tokens, seed=training.seed,
            )
        )  # fmt: skip
        counts = Counter(one.outcome for one in written)
        said = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])
        training.say(f"critiques: {said}")
        rows = projected_rows(written, refined=self.refined)
        if not rows:
            why = Counter(one.note[:200] for one in written if one.note).most_common(1)
            reason = f": {why[0][0]}" if why else ""
            raise ValueError(f"nothing to learn from in {len(written)} critiques ({said}){reason}")
        return rows


class ParrotStage(Strict):
    """PARROT (arXiv:2604.11626): the teacher writes rationales for known verdicts, a filter keeps those that
    lead to the verdict by themselves, the student learns them, and critiques of single pictures beside them.

    Args:
        draws: rationales per comparison, of which the most convincing is learned.
        filter: "teacher", as published: the teacher reads pictures and rationale without having been told,
            and must predict the verdict again. "listener": the frozen model of the config must.
        least: probability of the right verdict above which a rationale is kept; at 0.5 it is the prediction.
        temperature: of the teacher.
        projected: critiques to learn as well, so that the student serves the reward `critique`; null: none.
        trainer: arguments of `trl.SFTConfig`.
    """

    kind: Literal["parrot"]
    draws: Positive = 1
    filter: Literal["teacher", "listener"] = "listener"
    least: Annotated[float, Field(ge=0, lt=1)] = 0.5
    temperature: Temperature = 1.0
    projected: Projection | None = None
    trainer: dict[str, Any] = Field(default_factory=dict)

    def run(self, training: TrainingRun) -> None:
        again = self.filter == "teacher"
        written = training.sample(
            "teacher", self.draws, self.temperature, hint=HINT, least=self.least, again=again
        )
        beside = self.projected.rows(training, self.temperature) if self.projected is not None else []
        training.finetune_student(written, self.trainer, beside)


class RejectionStage(Strict):
    """Rejection sampling (UnifiedReward-Think, arXiv:2505.03318): the student learns its own rationales that
    reach the right verdict.

    Of two verdicts one is right, so half of all bad reasoning passes: a listener may filter as well.

    Args:
        draws: rationales per comparison, of which one is learned.
        least: the listener's probability of the right verdict above which a rationale is kept; by default it
            filters nothing.
        temperature: of the student.
        trainer: arguments of `trl.SFTConfig`.
    """

    kind: Literal["rejection"]
    draws: Positive = 4
    least: Annotated[float, Field(ge=0, lt=1)] | None = None
    temperature: Temperature = 1.0
    trainer: dict[str, Any] = Field(default_factory=dict)

    def run(self, training: TrainingRun) -> None:
        written = training.sample("student", self.draws, self.temperature, least=self.least)
        training.unsolved = unsolved(written)
        training.say(f"hard comparisons: {len(training.unsolved)}")
        training.finetune_student(written, self.trainer)


class GrpoStage(Strict):
    """GRPO of the student on verdicts, and on the route's other rewards.

    Args:
        route: rewards of a judgement and their total.
        unsolved: only comparisons for which the rejection stage before it found wrong answers.
        stable: with StableReinforce's two guards (R1-Reward), see `adapters.trl_stable`.
        trainer: arguments of `trl.GRPOConfig`.
    """

    kind: Literal["grpo"]
    route: RouteConfig
    unsolved: bool = False
    stable: bool = False
    trainer: dict[str, Any] = Field(default_factory=dict)

    def run(self, training: TrainingRun) -> None:
        compared = training.unsolved if self.unsolved else training.comparisons
        if not compared:
            raise ValueError("no comparison is left to learn from: the rejection solved them all")
        training.reinforce(compared, self.route, self.trainer, stable=self.stable)


Stage = Annotated[TaughtStage | ParrotStage | RejectionStage | GrpoStage, Field(discriminator="kind")]


def _hinted(row: Row, one: Comparison) -> Row:
    """Row whose first question is followed by the hint."""
    place = next(i for i, message in enumerate(row["prompt"]) if message["role"] == "user")
    messages = [dict(message) for message in row["prompt"]]
    messages[place]["content"] += HINT.format(better=one.better)
    return {**row, "prompt": messages}

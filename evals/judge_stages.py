"""The stages by which a judge is trained, as a recipe names them: taught, parrot, rejection, grpo."""

from typing import Annotated, Any, Literal

from pydantic import Field

from mmreward.config import Positive, RouteConfig, Strict
from mmreward.judges.comparison import Comparison
from mmreward.judges.rationales import HINT, unsolved
from mmreward.judges.rows import Row, lessons

from .judge_pairs import draw
from .judge_school import School, Who

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
        drawn = draw(self.number, TEACHING_SEED + school.seed)
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
        trainer: arguments of `trl.GRPOConfig`.
    """

    kind: Literal["grpo"]
    route: RouteConfig
    unsolved: bool = False
    trainer: dict[str, Any] = Field(default_factory=dict)

    def go(self, school: School) -> None:
        asked = school.hard if self.unsolved else school.asked
        if not asked:
            raise ValueError("no comparison is left to learn from: the rejection solved them all")
        school.reinforce(asked, self.route, self.trainer)


Stage = Annotated[Taught | Parrot | Rejection | Grpo, Field(discriminator="kind")]


def _hinted(row: Row, one: Comparison) -> Row:
    """The row with the hint after its first question."""
    place = next(i for i, message in enumerate(row["prompt"]) if message["role"] == "user")
    messages = [dict(message) for message in row["prompt"]]
    messages[place]["content"] += HINT.format(better=one.better)
    return {**row, "prompt": messages}

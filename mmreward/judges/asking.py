"""How a judge is asked which of two pictures fits a request, in one turn or in two, and how it is heard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..failures import Unscorable
from ..media import Media
from ..models.answers import Turn
from ..verifiers.branches import CRITERIA, read_branch
from ..verifiers.readable import reasoned
from ..verifiers.which import preferred

if TYPE_CHECKING:
    from ..models.remote import ServedVLM
    from ..models.vlms import VLM

QUESTION = (
    "Two pictures were made for the request: {prompt}\n"
    "Which one fits it better? Think first, then answer 1 or 2."
)
SYSTEM = "Write your reasoning between <think> and </think>, then the answer between <answer> and </answer>."
BRANCH = (
    "Two pictures were made for the request: {prompt}\n"
    "Name one to three of these that are most important here: {criteria}. Then say what is wrong with each "
    "picture.\nLook at: ...\nPicture 1: ...\nPicture 2: ..."
)
RETHINK = "Look again at {criteria}. Which picture fits better? Think first, then answer 1 or 2."
TURNS = (1, 2)


class Judgement(NamedTuple):
    """What a judge wrote, turn by turn: reasoning and verdict stand in the last."""

    turns: tuple[str, ...]
    thought: str
    verdict: str
    """ "1", "2", or `which.TIE`."""


class Sampling(NamedTuple):
    """How a judge writes: tokens of each turn, temperature (0 is greedy), and seed."""

    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a judge is asked.

    In two turns it thinks twice (BR-RM, arXiv:2510.23596): first it names the criteria that matter here and
    what is wrong with each picture, then it looks again at those and decides.

    Args:
        turns: 1 or 2.
        question: of one turn, with `{prompt}` where the request stands.
        branch: the first of two turns, with `{prompt}` and `{criteria}`.
        rethink: the second, with `{criteria}` where those stand that it chose.
        criteria: what it chooses from.
        system: the system message; "" for none.

    Raises:
        ValueError: a field that is missing from a text, or a number of turns that is neither 1 nor 2.
    """

    turns: int = 1
    question: str = QUESTION
    branch: str = BRANCH
    rethink: str = RETHINK
    criteria: Sequence[str] = CRITERIA
    system: str = SYSTEM

    def __post_init__(self) -> None:
        if self.turns not in TURNS:
            raise ValueError(f"turns is {self.turns}; a judge is asked in 1 or in 2")
        needed = {"question": ("prompt",), "branch": ("prompt", "criteria"), "rethink": ("criteria",)}
        for name, fields in needed.items():
            text = getattr(self, name)
            if missing := [field for field in fields if f"{{{field}}}" not in text]:
                raise ValueError(f"{name} has no {{{missing[0]}}}: {text!r}")

    def opening(self, request: str) -> str:
        """The first thing asked."""
        if self.turns == 1:
            return self.question.format(prompt=request)
        return self.branch.format(prompt=request, criteria=", ".join(self.criteria))

    def following(self, noted: str) -> str:
        """What is asked after the first of two turns.

        Raises:
            Unscorable: "unparsable" when the first turn is not as `verifiers.branches` wants it.
        """
        return self.rethink.format(criteria=" and ".join(read_branch(noted, self.criteria).criteria))

    async def ask(
        self,
        judge: "VLM | ServedVLM",
        request: str,
        pictures: tuple[Media, ...],
        sampling: Sampling = Sampling(),  # noqa: B008 - immutable
        *,
        hint: str = "",
    ) -> Judgement:
        """Ask, and read what is answered.

        Args:
            judge: who is asked.
            request: what the pictures were made for.
            pictures: two.
            sampling: how it writes.
            hint: said at the end of the first question.

        Raises:
            Unscorable: "unparsable" for a turn that is cut off or cannot be read; "error" and "timeout" as
                `VLM.write`.
        """
        said: list[Turn] = []
        asked = self.opening(request)
        for turn in range(self.turns):
            if turn:
                asked = self.following(said[-1].answer)
            shown = asked if turn else asked + hint
            written = await judge.write(
                pictures, shown, system=self.system, history=said, **sampling._asdict()
            )
            said.append(Turn(shown, written.text))
            if not written.finished:
                raise Unscorable(f"cut off after {written.tokens} tokens: {written.text[:200]}", "unparsable")
        return heard(tuple(turn.answer for turn in said))


def heard(turns: tuple[str, ...]) -> Judgement:
    """The judgement in what a judge wrote.

    Raises:
        Unscorable: "unparsable" when the last turn has no reasoning, or no verdict.
    """
    thought, answer = reasoned(turns[-1])
    return Judgement(turns, thought, preferred(answer))

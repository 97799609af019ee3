"""Pairwise judgement of two pictures by a vision-language model, in one turn or two: questions and readers.

`Asking` puts the questions and returns a `Judgement`; `grammar.preferred` reads a verdict and `read_branch`
the first of two turns (BR-RM, arXiv:2510.23596), which names the criteria that matter and what is wrong with
each picture:

    Look at: number, colour
    Picture 1: ...
    Picture 2: ...

The readers are pure string work, and strict: a policy that skips the noticing is not paid for the verdict.
The rewards are in `preference`; judges are trained in `mmreward.judges`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ...errors import Unscorable
from ...media import Media
from ...models.vlms.answers import Turn
from ...tracing import noted
from ..published.grammar import answered_of, preferred

if TYPE_CHECKING:
    from ...models.vlms.answers import Writer


# --- the first of two turns -----------------------------------------------------------------------

CRITERIA = ("colour", "shape", "number", "place", "text", "style", "realism", "artifacts")
WRITTEN = "written_turns"
"""Key of `meta` that holds the texts of all turns of a judge; the last is the sample's response."""
MOST_CRITERIA = 3
HEADS = ("look at", "picture 1", "picture 2")
SEPARATORS = re.compile(r",|;|\band\b")


class Branch(NamedTuple):
    """First turn of a judge: one to three criteria, and the faults it found in each picture."""

    criteria: tuple[str, ...]
    issues: tuple[str, str]


def read_branch(text: str, criteria: Sequence[str] = CRITERIA) -> Branch:
    """Read the first of two turns.

    Raises:
        Unscorable: "unparsable" when the three heads are not there once each and in order, a text is empty,
            or the criteria are none, more than three, unknown, or named twice.
    """
    heads, texts = [], []
    for line in text.splitlines():
        head, colon, rest = line.replace("*", "").strip().partition(":")
        if colon and head.strip().lower() in HEADS:
            heads.append(head.strip().lower())
            texts.append(rest.strip())
        elif line.strip() and texts:
            texts[-1] = f"{texts[-1]} {line.strip()}".strip()
        elif line.strip():
            raise Unscorable(f"the first turn begins with {line.strip()[:60]!r}", "unparsable")
    if tuple(heads) != HEADS or not all(texts):
        raise Unscorable(f"the first turn says {', '.join(heads) or 'nothing'}; it needs each of "
                         f"{', '.join(HEADS)} once, and something after it", "unparsable")  # fmt: skip
    named, first, second = texts
    branch = Branch(_chosen(named, criteria), (first, second))
    noted("first turn", "looks at {}; of picture 1: {}; of picture 2: {}", branch.criteria, first, second)
    return branch


def _chosen(named: str, criteria: Sequence[str]) -> tuple[str, ...]:
    known = {name.lower(): name for name in criteria}
    chosen = [name.lower() for part in SEPARATORS.split(named[:400]) if (name := part.strip(" ."))]
    unknown = [name for name in chosen if name not in known]
    wrong_number = not 1 <= len(chosen) <= MOST_CRITERIA or len(named) > 400
    if unknown or wrong_number or len(set(chosen)) != len(chosen):
        raise Unscorable(
            f"the criteria are {named[:60]!r}; one to {MOST_CRITERIA} of {', '.join(criteria)} can be chosen",
            "unparsable",
        )
    return tuple(known[name] for name in chosen)


# --- the questions --------------------------------------------------------------------------------

QUESTION = (
    "Two pictures were made for the request: {prompt}\n"
    "Which one fits it better? Think first, then answer 1 or 2."
)
ANSWERS = (
    "Two answers were given to the question: {prompt}\nAnswer 1: {first}\nAnswer 2: {second}\n"
    "Which one is better? Think first, then answer 1 or 2."
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
    """Texts of a judge's turns, with the reasoning and the verdict of the last."""

    turns: tuple[str, ...]
    thought: str
    verdict: str
    """ "1", "2", or `TIE`."""


class Sampling(NamedTuple):
    """Sampling of a judge's text: tokens of each turn, temperature (0 is greedy), and seed."""

    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Questions to a judge of two pictures, in one turn or two, and of two answers, in one.

    In two turns it thinks twice (BR-RM, arXiv:2510.23596): first it names the criteria that matter here and
    what is wrong with each picture, then it looks again at those and decides.

    Args:
        turns: 1 or 2.
        question: the only question of one turn, with `{prompt}` in the place of the request.
        branch: the first of two turns, with `{prompt}` and `{criteria}`.
        rethink: the second, with `{criteria}` in the place of those that the judge chose.
        criteria: the criteria it chooses from.
        answers: the question about two answers, with `{prompt}`, `{first}` and `{second}`.
        system: the system message; "" for none.

    Raises:
        ValueError: a field that is missing from a text, or a number of turns that is neither 1 nor 2.
    """

    turns: int = 1
    question: str = QUESTION
    branch: str = BRANCH
    rethink: str = RETHINK
    criteria: Sequence[str] = CRITERIA
    answers: str = ANSWERS
    system: str = SYSTEM

    def __post_init__(self) -> None:
        if self.turns not in TURNS:
            raise ValueError(f"turns is {self.turns}; a judge is asked in 1 or in 2")
        needed = {
            "question": ("prompt",),
            "branch": ("prompt", "criteria"),
            "rethink": ("criteria",),
            "answers": ("prompt", "first", "second"),
        }
        for name, fields in needed.items():
            text = getattr(self, name)
            if missing := [field for field in fields if f"{{{field}}}" not in text]:
                raise ValueError(f"{name} has no {{{missing[0]}}}: {text!r}")

    def opening(self, request: str, answers: tuple[str, str] | None = None) -> str:
        """First question.

        Raises:
            ValueError: two turns about two answers.
        """
        if answers is not None:
            if self.turns == 2:
                raise ValueError("turns is 2: two answers are compared in one turn, pictures in one or two")
            return self.answers.format(prompt=request, first=answers[0], second=answers[1])
        if self.turns == 1:
            return self.question.format(prompt=request)
        return self.branch.format(prompt=request, criteria=", ".join(self.criteria))

    def following(self, first_turn: str) -> str:
        """Question of the second turn, given the text of the first.

        Raises:
            Unscorable: "unparsable" when the first turn is not as `read_branch` reads it.
        """
        return self.rethink.format(criteria=" and ".join(read_branch(first_turn, self.criteria).criteria))

    async def ask(
        self,
        judge: "Writer",
        request: str,
        pictures: tuple[Media, ...],
        sampling: Sampling = Sampling(),  # noqa: B008 - immutable
        *,
        hint: str = "",
        answers: tuple[str, str] | None = None,
    ) -> Judgement:
        """Ask a judge, and read its judgement.

        Args:
            judge: the model, in this process or served.
            request: the prompt that the pictures were made for, or the question that was answered.
            pictures: two, or what the question is about.
            sampling: of each turn.
            hint: text added to the first question.
            answers: two answers to be compared; None compares the pictures.

        Raises:
            Unscorable: "unparsable" for a turn that is cut off or cannot be read; "error" and "timeout" as
                `VLM.write`.
        """
        turns: list[Turn] = []
        question = self.opening(request, answers)
        for turn in range(self.turns):
            if turn:
                question = self.following(turns[-1].answer)
            shown = question if turn else question + hint
            written = await judge.write(
                pictures, shown, system=self.system, history=turns, **sampling._asdict()
            )
            turns.append(Turn(shown, written.text))
            if not written.finished:
                raise Unscorable(f"cut off after {written.tokens} tokens: {written.text[:200]}", "unparsable")
        return read_judgement(tuple(turn.answer for turn in turns))


def read_judgement(turns: tuple[str, ...]) -> Judgement:
    """Read a judgement from the texts of a judge's turns.

    Raises:
        Unscorable: "unparsable" when the last turn has no reasoning, or no verdict.
    """
    thought, answer = answered_of(turns[-1])
    if not thought:
        raise Unscorable("there is no reasoning before the answer", "unparsable")
    verdict = preferred(answer)
    noted("verdict", "{} is " + (f"picture {verdict}" if verdict else "a tie"), answer)
    return Judgement(turns, thought, verdict)

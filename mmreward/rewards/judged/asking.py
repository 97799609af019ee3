"""How a judge is asked which of two pictures fits a request, in one turn or in two, and how it is heard."""

# FOLDED mmreward/verifiers/branches.py: The first of a judge's two turns (BR-RM, arXiv:2510.23596): what it will look at, and what it noticed.
#
#     Look at: number, colour
#     Picture 1: ...
#     Picture 2: ...
#
# Pure string work, strict: a policy that skips the noticing is not paid for the verdict.
#
# FOLDED mmreward/verifiers/which.py: Which of two a judge prefers, read from its final answer. Pure string work.

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ...errors import Unscorable
from ...media import Media
from ...models.vlms.answers import Turn
from ...verifiers.response import reasoned

if TYPE_CHECKING:
    from ...models.vlms.answers import VLM


CRITERIA = ("colour", "shape", "number", "place", "text", "style", "realism", "artifacts")
WRITTEN = "written_turns"
"""Where a sample's `meta` holds the list of what was written, turn by turn; the last is its response."""
MOST = 3
HEADS = ("look at", "picture 1", "picture 2")
SEPARATORS = re.compile(r",|;|\band\b")


class Branch(NamedTuple):
    """One to three criteria, and what the judge holds against each picture."""

    criteria: tuple[str, ...]
    issues: tuple[str, str]


def read_branch(text: str, criteria: Sequence[str] = CRITERIA) -> Branch:
    """Read a first turn.

    Raises:
        Unscorable: "unparsable" when the three heads are not there once each and in order, a text is empty,
            or the criteria are none, more than three, unknown, or named twice.
    """
    heads, said = [], []
    for line in text.splitlines():
        head, colon, rest = line.replace("*", "").strip().partition(":")
        if colon and head.strip().lower() in HEADS:
            heads.append(head.strip().lower())
            said.append(rest.strip())
        elif line.strip() and said:
            said[-1] = f"{said[-1]} {line.strip()}".strip()
        elif line.strip():
            raise Unscorable(f"the first turn begins with {line.strip()[:60]!r}", "unparsable")
    if tuple(heads) != HEADS or not all(said):
        raise Unscorable(f"the first turn says {', '.join(heads) or 'nothing'}; it needs each of "
                         f"{', '.join(HEADS)} once, and something after it", "unparsable")  # fmt: skip
    named, first, second = said
    return Branch(_chosen(named, criteria), (first, second))


def _chosen(named: str, criteria: Sequence[str]) -> tuple[str, ...]:
    known = {name.lower(): name for name in criteria}
    asked = [part.strip(" .").lower() for part in SEPARATORS.split(named[:400]) if part.strip(" .")]
    unknown = [name for name in asked if name not in known]
    if unknown or not 1 <= len(asked) <= MOST or len(set(asked)) != len(asked) or len(named) > 400:
        raise Unscorable(
            f"the criteria are {named[:60]!r}; one to {MOST} of {', '.join(criteria)} can be chosen",
            "unparsable",
        )
    return tuple(known[name] for name in asked)


TIE = ""
FIRST, SECOND = ("1", "one", "first", "a"), ("2", "two", "second", "b")
NOUNS = "image|picture|video|clip|answer|response|candidate|option"
PLACES = "|".join((*FIRST, *SECOND))
NAMED = re.compile(
    rf"(?:overall judge?ment ?:? )?(?:the )?(?:(?:{NOUNS}) )?({PLACES})(?: (?:{NOUNS}|one))?"
    r"(?: (?:is|fits|wins)(?: it)?(?: the)?(?: better| best)?(?: one)?)?"
)
TIED = re.compile(rf"tie|equal|a=b|both (?:{NOUNS})s are equally good|(?:they|both|the two) are equally good")


def preferred(answer: str) -> str:
    """ "1" or "2", or TIE where the answer says that neither is better.

    It must say so and nothing else: "2", "B", "the second image", "Image 2 is better" (UnifiedReward),
    "Overall Judgment: Answer 2 is better" (ARM-Thinker), "Both images are equally good". Upper and lower
    case, markdown and a final stop make no difference.

    Raises:
        Unscorable: "unparsable" for anything else, such as both, a hedge or a negation.
    """
    bare = " ".join(answer[:200].replace("*", " ").replace("`", " ").lower().split()).strip(" .!:\"'()")
    if len(answer) <= 200:
        if found := NAMED.fullmatch(bare):
            return "1" if found[1] in FIRST else "2"
        if TIED.fullmatch(bare):
            return TIE
    raise Unscorable(f"the answer {bare[:60]!r} does not name one of the two", "unparsable")


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
        judge: "VLM",
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

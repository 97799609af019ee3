"""Rationales a model writes for comparisons, and which of them are worth learning from.

With a hint of the right verdict and a listener this is PARROT's anchored generation and consistency filter
(RationalRewards, arXiv:2604.11626); without either, rejection sampling as in UnifiedReward-Think
(arXiv:2505.03318).
"""

# FOLDED mmreward/judges/rows.py: Comparisons and rationales as the rows of trainers that take chat messages and pictures, such as TRL's.

import math
from asyncio import gather
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import Unscorable
from ..registry import Reward
from ..rewards.judged.asking import Asking, Sampling
from ..scoring import score_one
from .comparison import Comparison

if TYPE_CHECKING:
    from ..models.served.client import ServedVLM
    from ..models.vlms.handle import VLM


Fate = Literal["kept", "unreadable", "wrong", "unconvincing", "failed"]
FATES: tuple[Fate, ...] = get_args(Fate)
HINT = "\nPicture {better} is better."


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How rationales are drawn.

    Args:
        asking: what is asked.
        hint: said after the question, with `{better}` where the right verdict stands; "" for none. What is
            learned from a rationale never contains it.
        draws: rationales per comparison.
        temperature: of the sampling.
        max_tokens: where each turn is cut off.
        seed: of the first draw; the next ones count up.

    Raises:
        ValueError: a hint without `{better}`, or less than one draw.
    """

    asking: Asking
    hint: str = ""
    draws: int = 1
    temperature: float = 1.0
    max_tokens: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        if self.hint and "{better}" not in self.hint:
            raise ValueError(
                f"the hint has no {{better}}, so it would say the same every time: {self.hint!r}"
            )
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}; a comparison needs at least 1")


@dataclass(frozen=True, slots=True)
class Rationale:
    """One draw and what became of it.

    Args:
        comparison: what it is about.
        turns: what was written; none where it failed or could not be read.
        verdict: "1", "2", "" for a tie, or None for none.
        fate: "kept"; without a readable verdict, or with the "wrong" one; "unconvincing" to the listener;
            "failed" where writer or listener did not answer.
        heard: the probability that the listener gave to the right verdict; NaN where it was not asked.
        note: why it could not be read, or failed.
    """

    comparison: Comparison
    turns: tuple[str, ...]
    verdict: str | None
    fate: Fate
    heard: float = math.nan
    note: str = ""


async def draw(
    writer: "VLM | ServedVLM",
    asked: Sequence[Comparison],
    drawing: Drawing,
    *,
    listener: Reward | None = None,
    least: float = 0.5,
) -> list[Rationale]:
    """All draws of all comparisons, in order. Runs on the engine's loop: `Engine.run(draw(...))`.

    Args:
        writer: who writes.
        asked: what about.
        drawing: how.
        listener: the reward `listener` with the labels "1" and "2". It hears the reasoning without hint and
            verdict, of those rationales that reach the right verdict.
        least: a rationale is kept where the right verdict is more probable than this to the listener.
    """
    one = [
        _one(writer, comparison, drawing, drawing.seed + number, listener, least)
        for comparison in asked
        for number in range(drawing.draws)
    ]
    return list(await gather(*one))


async def _one(
    writer: "VLM | ServedVLM",
    comparison: Comparison,
    drawing: Drawing,
    seed: int,
    listener: Reward | None,
    least: float,
) -> Rationale:
    sampling = Sampling(drawing.max_tokens, drawing.temperature, seed)
    hint = drawing.hint.format(better=comparison.better)
    try:
        judged = await drawing.asking.ask(
            writer, comparison.request, comparison.pictures, sampling, hint=hint
        )
    except Unscorable as error:
        fate: Fate = "unreadable" if error.status == "unparsable" else "failed"
        return Rationale(comparison, (), None, fate, note=str(error))
    if judged.verdict != comparison.better:
        return Rationale(comparison, judged.turns, judged.verdict, "wrong")
    if listener is None:
        return Rationale(comparison, judged.turns, judged.verdict, "kept")
    question = drawing.asking.opening(comparison.request)
    told = await score_one(comparison.sample(question, judged.turns[-1]), listener)
    if not told.ok:
        return Rationale(comparison, judged.turns, judged.verdict, "failed", note=told.note)
    fate = "kept" if told.value > least else "unconvincing"
    return Rationale(comparison, judged.turns, judged.verdict, fate, told.value)


def best(rationales: Iterable[Rationale]) -> list[Rationale]:
    """The most convincing kept rationale of every comparison, by the comparisons' ids."""
    found: dict[str, Rationale] = {}
    kept = [one for one in rationales if one.fate == "kept"]
    for one in sorted(kept, key=_convinced, reverse=True):
        found.setdefault(one.comparison.id, one)
    return [one for _, one in sorted(found.items())]


def balanced(rationales: Sequence[Rationale]) -> list[Rationale]:
    """As many whose better picture is the first as whose better one is the second, in the same order.

    A writer that prefers a place is right more often where that place is, so what is kept of its rationales
    teaches the preference. Of the place that is more frequent, the least convincing are left out.
    """
    places = {place: [one for one in rationales if one.comparison.better == place] for place in ("1", "2")}
    number = min(map(len, places.values()))
    ranked = [sorted(own, key=_convinced, reverse=True)[:number] for own in places.values()]
    left = {id(one) for own in ranked for one in own}
    return [one for one in rationales if id(one) in left]


def _convinced(one: Rationale) -> float:
    return 0.0 if math.isnan(one.heard) else one.heard


def unsolved(rationales: Iterable[Rationale]) -> list[Comparison]:
    """The comparisons one of whose draws was wrong or unreadable, each once: what GRPO can learn from."""
    found: dict[str, Comparison] = {}
    for one in rationales:
        if one.fate in ("wrong", "unreadable"):
            found.setdefault(one.comparison.id, one.comparison)
    return list(found.values())


def fates(rationales: Iterable[Rationale]) -> dict[Fate, int]:
    """How many met each fate."""
    counted = Counter(one.fate for one in rationales)
    return {fate: counted[fate] for fate in FATES}


SOURCE = "comparison"
Row = dict[str, Any]


def lessons(rationales: Iterable[Rationale], asking: Asking) -> list[Row]:
    """Rows of `prompt`, `completion` and `images` for supervised fine-tuning, one per turn.

    The prompt is what a judge will be asked, without any hint.

    Raises:
        Unscorable: a first of two turns that cannot be read.
    """
    rows = []
    for one in rationales:
        messages = _opened(one.comparison, asking)
        for place, said in enumerate(one.turns):
            if place:
                messages = [*messages, _message("user", asking.following(one.turns[place - 1]))]
            answer = _message("assistant", said)
            rows.append({"prompt": messages, "completion": [answer], "images": _pictures(one.comparison)})
            messages = [*messages, answer]
    return rows


def exercises(asked: Iterable[Comparison], asking: Asking) -> list[Row]:
    """Rows of `prompt`, `images`, `source` and `target` ("1" or "2") for reinforcement learning."""
    return [
        {
            "prompt": _opened(one, asking),
            "images": _pictures(one),
            "source": SOURCE,
            "target": one.better,
        }
        for one in asked
    ]


def _opened(one: Comparison, asking: Asking) -> list[dict[str, str]]:
    system = [_message("system", asking.system)] if asking.system else []
    return [*system, _message("user", asking.opening(one.request))]


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _pictures(one: Comparison) -> list[Any]:
    return [picture.picture() for picture in one.pictures]

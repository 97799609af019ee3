"""Rationales for comparisons: sampling from a model, filtering by verdict and listener, rows for trainers.

With a hint of the right verdict and a listener this is PARROT's anchored generation and consistency filter
(RationalRewards, arXiv:2604.11626); without either, rejection sampling as in UnifiedReward-Think
(arXiv:2505.03318).

Rows are those of trainers that take chat messages and pictures, such as TRL's. Knows no trainer.
"""

import math
from asyncio import gather
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import Unscorable
from ..evaluation import score_one
from ..registry import Reward
from ..rewards.judged.asking import Asking, Sampling
from .comparison import Comparison

if TYPE_CHECKING:
    from ..models.vlms.answers import VLM


# --- sampling -------------------------------------------------------------------------------------

Outcome = Literal["kept", "unreadable", "wrong", "unconvincing", "failed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
HINT = "\nPicture {better} is better."


@dataclass(frozen=True, slots=True, kw_only=True)
class RationaleSampling:
    """Sampling options of rationales.

    Args:
        asking: the questions to the judge.
        hint: follows the question, with `{better}` where the right verdict stands; "" for none. Rows for a
            trainer never contain it.
        draws: rationales per comparison.
        temperature: of the sampling.
        max_tokens: limit of each turn.
        seed: of a comparison's first rationale; the next ones count up.

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
    """One sampled rationale and its outcome.

    Args:
        comparison: the question.
        turns: the judge's turns; none where it failed or could not be read.
        verdict: "1", "2", "" for a tie, or None for none.
        outcome: "kept"; "unreadable" without a verdict, or the "wrong" one; "unconvincing" to the listener;
            "failed" where writer or listener did not answer.
        p_listener: the listener's probability of the right verdict, 0 to 1; NaN where it was not asked.
        note: the reason of an unreadable or failed one.
    """

    comparison: Comparison
    turns: tuple[str, ...]
    verdict: str | None
    outcome: Outcome
    p_listener: float = math.nan
    note: str = ""


async def sample_rationales(
    writer: "VLM",
    compared: Sequence[Comparison],
    options: RationaleSampling,
    *,
    listener: Reward | None = None,
    least: float = 0.5,
) -> list[Rationale]:
    """Rationales of all comparisons, in order. Runs on the engine's loop:
    `Engine.run(sample_rationales(...))`.

    Args:
        writer: the model that writes.
        compared: the comparisons.
        options: question, number, temperature, length and seeds.
        listener: the reward `listener` with the labels "1" and "2". It reads the reasoning without hint and
            verdict, of those rationales that reach the right verdict.
        least: a rationale is kept where the listener's probability of the right verdict is above this.
    """
    sampled = [
        _sample_one(writer, comparison, options, options.seed + number, listener, least)
        for comparison in compared
        for number in range(options.draws)
    ]
    return list(await gather(*sampled))


async def _sample_one(
    writer: "VLM",
    comparison: Comparison,
    options: RationaleSampling,
    seed: int,
    listener: Reward | None,
    least: float,
) -> Rationale:
    sampling = Sampling(options.max_tokens, options.temperature, seed)
    hint = options.hint.format(better=comparison.better)
    try:
        judged = await options.asking.ask(
            writer, comparison.request, comparison.pictures, sampling, hint=hint, answers=comparison.answers
        )
    except Unscorable as error:
        outcome: Outcome = "unreadable" if error.status == "unparsable" else "failed"
        return Rationale(comparison, (), None, outcome, note=str(error))
    if judged.verdict != comparison.better:
        return Rationale(comparison, judged.turns, judged.verdict, "wrong")
    if listener is None:
        return Rationale(comparison, judged.turns, judged.verdict, "kept")
    question = options.asking.opening(comparison.request, comparison.answers)
    score = await score_one(comparison.sample(question, judged.turns[-1]), listener)
    if not score.ok:
        return Rationale(comparison, judged.turns, judged.verdict, "failed", note=score.note)
    outcome = "kept" if score.value > least else "unconvincing"
    return Rationale(comparison, judged.turns, judged.verdict, outcome, score.value)


# --- filtering ------------------------------------------------------------------------------------


def best(rationales: Iterable[Rationale]) -> list[Rationale]:
    """The most convincing kept rationale of every comparison, by the comparisons' ids."""
    found: dict[str, Rationale] = {}
    kept = [one for one in rationales if one.outcome == "kept"]
    for one in sorted(kept, key=_convincing, reverse=True):
        found.setdefault(one.comparison.id, one)
    return [one for _, one in sorted(found.items())]


def balanced(rationales: Sequence[Rationale]) -> list[Rationale]:
    """Equally many rationales for either place of the better picture, in the same order.

    A writer that prefers a place is right more often where that place is better, so its kept rationales teach
    the preference. Of the place that is more frequent, the least convincing are left out.
    """
    places = {place: [one for one in rationales if one.comparison.better == place] for place in ("1", "2")}
    number = min(map(len, places.values()))
    ranked = [sorted(own, key=_convincing, reverse=True)[:number] for own in places.values()]
    left = {id(one) for own in ranked for one in own}
    return [one for one in rationales if id(one) in left]


def _convincing(one: Rationale) -> float:
    return 0.0 if math.isnan(one.p_listener) else one.p_listener


def unsolved(rationales: Iterable[Rationale]) -> list[Comparison]:
    """Comparisons with a wrong or unreadable rationale, each once: those that GRPO can learn from."""
    found: dict[str, Comparison] = {}
    for one in rationales:
        if one.outcome in ("wrong", "unreadable"):
            found.setdefault(one.comparison.id, one.comparison)
    return list(found.values())


def count_outcomes(rationales: Iterable[Rationale]) -> dict[Outcome, int]:
    """Number of rationales by outcome, in the order of `OUTCOMES`."""
    counted = Counter(one.outcome for one in rationales)
    return {outcome: counted[outcome] for outcome in OUTCOMES}


# --- rows for trainers ----------------------------------------------------------------------------

SOURCE = "comparison"
Row = dict[str, Any]


def sft_rows(rationales: Iterable[Rationale], asking: Asking) -> list[Row]:
    """Rows of `prompt`, `completion` and `images` for supervised fine-tuning, one per turn.

    The prompt is the question that the judge will be asked, without any hint.

    Raises:
        Unscorable: a first of two turns that cannot be read.
    """
    rows = []
    for one in rationales:
        messages = _opened(one.comparison, asking)
        for place, turn in enumerate(one.turns):
            if place:
                messages = [*messages, _message("user", asking.following(one.turns[place - 1]))]
            answer = _message("assistant", turn)
            rows.append({"prompt": messages, "completion": [answer], "images": _pictures(one.comparison)})
            messages = [*messages, answer]
    return rows


def grpo_rows(compared: Iterable[Comparison], asking: Asking) -> list[Row]:
    """Rows of `prompt`, `images`, `source` and `target` ("1" or "2") for reinforcement learning."""
    return [
        {
            "prompt": _opened(one, asking),
            "images": _pictures(one),
            "source": SOURCE,
            "target": one.better,
        }
        for one in compared
    ]


def _opened(one: Comparison, asking: Asking) -> list[dict[str, str]]:
    system = [_message("system", asking.system)] if asking.system else []
    return [*system, _message("user", asking.opening(one.request, one.answers))]


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _pictures(one: Comparison) -> list[Any]:
    return [picture.picture() for picture in one.pictures]

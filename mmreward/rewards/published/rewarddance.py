"""RewardDance (arXiv:2509.08826): the probability of "yes" to "is this picture better than the reference?".

A reward of a generator's training: absolute P(yes) of the first token, the reference first. The reference is
the best of a group, which its authors find by comparing all with all; here each of the G pictures is asked
about alone first (the paper's point form), and the likeliest is the reference: 2 G - 1 reads in two rounds
instead of G (G - 1) verdicts. The paper's judge answers first and reasons afterwards, so that the answer is
the first token with reasons and without. Neither code, words nor weights are published, so that the words are
ours, or a file's.
"""

from asyncio import gather
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import YES_NO, check_mass
from ...registry import amend, reward
from ...tracing import noted
from ...types import Sample, Score
from .declaring import picture, source
from .wording import Prompt, Wording, values_of, worded

AGAINST = Prompt(
    own="Two pictures were made for the request: {prompt}\nThe first is the reference. Judge the request, "
    "the quality and the look. Is the second picture better than the first? Answer yes or no."
)
ALONE = Prompt(
    own="This picture was made for the request: {prompt}\nJudge the request, the quality and the look. "
    "Is it a good picture for it? Answer yes or no."
)
WHY = " Then say why."
Form = Literal["against", "alone"]


class Reader:
    """Reads of P(yes): of one picture, or of one against a reference."""

    def __init__(
        self, judge: str, words: str, min_mass: float, absolute: bool, dtype: str, reasons: int = 0
    ) -> None:
        if not 0 <= min_mass <= 1:
            raise ValueError(f"min_mass is {min_mass}: a probability from 0 to 1")
        if reasons < 0:
            raise ValueError(f"reasons is {reasons}: a number of tokens, 0 for none")
        ask = WHY if reasons and words == "own" else ""
        against, alone = (replace(prompt, own=prompt.own + ask) for prompt in (AGAINST, ALONE))
        self.against = worded(words, against, "against")
        self.alone = worded(words, alone, "alone")
        self.reasons = reasons
        self.min_mass = min_mass
        self.absolute = absolute
        self.vlm = models.vlm(judge, dtype=dtype)

    async def yes(self, wording: Wording, sample: Sample, *pictures: Any) -> float:
        """P(yes) of the first token.

        Raises:
            Unscorable: "unparsable" when yes and no have less than `min_mass` together.
        """
        text, places = wording.filled(values_of((sample,)))
        read = await self.vlm.read(pictures, text, YES_NO, system=wording.system, places=places)
        check_mass(read, self.min_mass)
        value = read.probs["yes"] * (read.mass if self.absolute else 1.0)
        noted("yes", "{} of {} pictures", value, len(pictures))
        return min(1.0, value)

    async def why(self, wording: Wording, sample: Sample, *pictures: Any) -> str:
        """The judge's answer and its reasons, as far as it is let write; "" without."""
        if not self.reasons:
            return ""
        text, places = wording.filled(values_of((sample,)))
        asked = {"max_tokens": self.reasons, "system": wording.system}
        return (await self.vlm.write(pictures, text, places=places, **asked)).text  # type: ignore[arg-type]


@reward("rewarddance", needs=("prompt", "image", "inputs"), range=(0.0, 1.0), paper="arXiv:2509.08826")
def rewarddance(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    form: Form = "against",
    words: str = "own",
    absolute: bool = True,
    min_mass: float = 0.5,
    reasons: int = 0,
    dtype: str = "float32",
) -> Any:
    """Probability, 0 to 1, of "yes" to: is the picture better than the reference, the first input?

    Or of "yes" to: is it a good picture for the request? The paper prunes a search by that form.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one), such as one trained on this
            question.
        form: "against" the reference, or "alone", which needs none.
        words: "own", or a folder with against.txt and alone.txt, which hold {prompt}; rationales and examples
            go there.
        absolute: P(yes) as the paper takes it; False divides it by P(yes) + P(no).
        min_mass: smallest probability of yes and no together that is believed.
        reasons: tokens that it may write to say why after its answer, for the note; 0 asks for none.
        dtype: of the judge.
    """
    if form not in get_args(Form):
        raise ValueError(f"form is {form!r}: {' or '.join(get_args(Form))}")
    if form == "alone":
        amend(needs=("prompt", "image"))
    reader = Reader(judge, words, min_mass, absolute, dtype, reasons)
    wording = reader.against if form == "against" else reader.alone

    async def score(sample: Sample) -> Score:
        pictures = [*(source()((sample,)) if form == "against" else ()), *picture()((sample,))]
        value = await reader.yes(wording, sample, *pictures)
        return Score(value, note=await reader.why(wording, sample, *pictures))

    return score


@reward("rewarddance_group", needs=("prompt", "image"), range=(0.0, 1.0), arity="group",
        paper="arXiv:2509.08826")  # fmt: skip
def rewarddance_group(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    words: str = "own",
    absolute: bool = True,
    min_mass: float = 0.5,
    dtype: str = "float32",
) -> Any:
    """Probability, 0 to 1, of "yes" to: is the picture better than the best of its group?

    The best is the picture with the largest P(yes) of its own (`parts["alone"]`); it is its own reference,
    and is worth 0.5. One whose first read fails is no reference and has no score.

    Args:
        judge, words, absolute, min_mass, dtype: see `rewarddance`.
    """
    reader = Reader(judge, words, min_mass, absolute, dtype)

    async def score(samples: Sequence[Sample]) -> list[Score]:
        if len({sample.prompt for sample in samples}) > 1:
            raise Unscorable("the pictures of a group were made for different requests")
        pictures = [picture()((sample,))[0] for sample in samples]
        couples = list(zip(samples, pictures, strict=True))
        alone = await gather(*(reader.yes(reader.alone, *one) for one in couples), return_exceptions=True)
        known = {row: value for row, value in enumerate(alone) if isinstance(value, float)}
        for value in alone:
            if isinstance(value, BaseException) and not isinstance(value, Unscorable):
                raise value
        if not known:
            return [_failed(value) for value in alone]
        best = max(known, key=lambda row: (known[row], -row))
        noted("reference", "picture {} with {}", best + 1, known[best])
        others = [row for row in known if row != best]
        read = await gather(
            *(reader.yes(reader.against, samples[row], pictures[best], pictures[row]) for row in others),
            return_exceptions=True,
        )
        values: dict[int, Any] = {best: 0.5, **dict(zip(others, read, strict=True))}
        return [
            _failed(alone[row])
            if row not in values
            else _scored(values[row], {"alone": known[row], "reference": float(row == best)})
            for row in range(len(samples))
        ]

    return score


def _scored(value: Any, parts: dict[str, float]) -> Score:
    return Score(value, parts) if isinstance(value, float) else _failed(value)


def _failed(failure: Any) -> Score:
    if not isinstance(failure, Unscorable):
        raise failure
    return Score.failed(failure.status, str(failure), failure.parts)

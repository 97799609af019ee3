"""Expectation of marks: probabilities that a judge gives to every mark in the place of the one it wrote.

A written mark is one draw. Read again in its place, all marks have a probability, whose mean lies between the
marks and whose spread says how sure the judge is. The granularity is named by the caller: the marks that are
compared, such as 1, 2, 3, 4 or 1, 1.5, ..., 4. Where one mark begins another ("1" of "1.5", "10"), its
probability is that of the shorter without the longer.
"""

import math
from asyncio import gather
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from ...errors import Unscorable
from ...media import Media
from ...models.vlms.answers import VLM, LogProb
from .votes import Marks

MOST = 101
"""Marks of one scale that are compared at most."""
NEAR = 1e-4
"""Nats by which the same token may differ between two passes."""


class Place(NamedTuple):
    """A question that was answered, in whose answer other words are tried."""

    vlm: VLM
    media: tuple[Media, ...]
    text: str
    system: str = ""
    places: tuple[int, ...] = ()

    async def chances(self, given: str, choices: Sequence[str], *, name: str = "it") -> dict[str, float]:
        """Probabilities of the choices right after `given`, with the sum 1.

        Raises:
            Unscorable: "unparsable" where none has any; see also `VLM.logprob`.
        """
        read = await gather(*(self._chance(given, choice) for choice in choices))
        weights = exact(dict(zip(choices, read, strict=True)))
        total = sum(weights.values())
        if total <= 0:
            raise Unscorable(f"no mark has a probability in the place of {name}", "unparsable")
        return {choice: weight / total for choice, weight in weights.items()}

    async def _chance(self, given: str, choice: str) -> LogProb:
        return await self.vlm.logprob(
            self.media, self.text, choice, given=given, system=self.system, places=self.places
        )


def exact(read: Mapping[str, LogProb]) -> dict[str, float]:
    """Probability of each text without those of longer ones that begin with the same tokens."""
    found: dict[str, float] = {}
    for text in sorted(read, key=len, reverse=True):
        own = read[text]
        longer = (
            chance
            for other, chance in found.items()
            if len(other) > len(text) and other.startswith(text) and _begins(read[other], own)
        )
        found[text] = max(0.0, math.exp(own.total) - sum(longer))
    return {text: found[text] for text in read}


def _begins(longer: LogProb, shorter: LogProb) -> bool:
    """True where the tokens of the shorter begin the longer: then they have the same probabilities."""
    return len(longer.each) > len(shorter.each) and all(
        abs(one - other) < NEAR for one, other in zip(longer.each, shorter.each, strict=False)
    )


def scale_of(low: float, high: float, step: float) -> tuple[str, ...]:
    """Marks from low to high by steps, as a judge writes them.

    Raises:
        ValueError: steps that do not lead from low to high, or are too many.
    """
    number = (high - low) / step if step > 0 else math.nan
    if not (number >= 1 and abs(number - round(number)) < 1e-6 and number < MOST):
        raise ValueError(f"step {step:g} does not lead from {low:g} to {high:g} in 1 to {MOST - 1} steps")
    return tuple(f"{low + place * step:.10g}" for place in range(round(number) + 1))


class Expected(NamedTuple):
    """Marks by expectation; the standard deviation of their mean, on the judge's scale, as if they were
    independent; and the mean probability of the likeliest marks."""

    marks: Marks
    spread: float
    confidence: float


async def expected(place: Place, words: str, marks: Marks, scale: Sequence[str]) -> Expected:
    """The marks of a judgement as expectations over a scale.

    Raises:
        Unscorable: "unparsable" where a mark stands in the text otherwise than as a plain number.
    """
    hidden = [name for name in marks.parts if name not in marks.spans]
    if hidden:
        raise Unscorable(f"{hidden[0]} has its mark in no place that can be read again", "unparsable")
    names = list(marks.parts)
    read = await gather(*(place.chances(words[: marks.spans[name][0]], scale, name=name) for name in names))
    means = [sum(float(mark) * chance for mark, chance in each.items()) for each in read]
    variances = [
        sum((float(mark) - mean) ** 2 * chance for mark, chance in each.items())
        for mean, each in zip(means, read, strict=True)
    ]
    scores = {**marks.scores, **dict(zip(names, means, strict=True))}
    spread = math.sqrt(sum(variances)) / len(names) if names else 0.0
    sure = fmean(max(each.values()) for each in read) if names else 1.0
    return Expected(marks._replace(scores=scores), spread, sure)

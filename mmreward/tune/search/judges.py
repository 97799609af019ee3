"""A vision-language model as the judge of step pruning: P(yes) from the first answer token, never sampled."""

from asyncio import gather
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...engine import Engine
from ...failures import Unscorable
from ...media import Media
from ...scoring import failure
from ...types import Score
from .sampler import Rows

if TYPE_CHECKING:
    from ...models.remote import ServedVLM
    from ...models.vlms import VLM


class Question(NamedTuple):
    """A yes/no question; {prompt} is filled in, and `good` is the answer that speaks for the sample."""

    text: str
    good: str = "yes"


CLARITY = Question("Is this picture clear enough to tell what it shows? Answer yes or no.")
POTENTIAL = Question("Does this picture match the prompt: {prompt}? Answer yes or no.")


class VlmJudge:
    """P(good) / (P(yes) + P(no)) of one question per verdict, 0 to 1 (see `pruning.Judge`).

    Args:
        engine: runs the model.
        vlm: `models.vlm(...)`, local or served.
        prompts: the texts, in the order of the sampler's prompts.
        clarity, potential: the questions. A small model knows only those it was trained on.
        min_mass: a verdict is "unparsable" when yes and no have less probability than this together.

    Raises:
        ValueError: a question whose good answer is neither yes nor no.
    """

    def __init__(
        self,
        engine: Engine,
        vlm: "VLM | ServedVLM",
        prompts: Sequence[str],
        *,
        clarity: Question = CLARITY,
        potential: Question = POTENTIAL,
        min_mass: float = 0.5,
    ) -> None:
        for question in (clarity, potential):
            if question.good not in ("yes", "no"):
                raise ValueError(f"the good answer to {question.text!r} is yes or no, not {question.good!r}")
        self._engine, self._vlm, self._prompts = engine, vlm, prompts
        self._clarity, self._potential, self._min_mass = clarity, potential, min_mass

    def clarity(self, media: Sequence[Any], prompts: Rows) -> list[Score]:
        return self._engine.run(self._verdicts(self._clarity, media, prompts))

    def potential(self, media: Sequence[Any], prompts: Rows) -> list[Score]:
        return self._engine.run(self._verdicts(self._potential, media, prompts))

    async def _verdicts(self, question: Question, media: Sequence[Media], prompts: Rows) -> list[Score]:
        asked = [question.text.replace("{prompt}", self._prompts[prompt]) for prompt in prompts]
        return await gather(
            *(self._verdict(one, text, question.good) for one, text in zip(media, asked, strict=True))
        )

    async def _verdict(self, media: Media, text: str, good: str) -> Score:
        try:
            read = await self._vlm.read(media, text, ("yes", "no"))
            parts = {"mass": read.mass}
            if read.mass < self._min_mass:
                raise Unscorable(f"yes and no have {read.mass:.3f} of the probability", "unparsable", parts)
            return Score(read.probs[good], parts)
        except Exception as error:  # this row's verdict says so
            return failure(error, None)

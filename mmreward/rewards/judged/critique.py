"""Critique: a VLM explains what is right and wrong with a picture, aspect by aspect, before it gives numbers.

The layout and the 1-to-4 scale follow RationalRewards (arXiv:2604.11626); `aspects` reads it, and the other
modes of asking are in `modes`. Votes share the picture and the prompt, as do aspects asked one by one
(`mode="each"`): what is computed more often is the text that differs, and what is written.
"""

import math
from asyncio import gather
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any, Literal

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import media_of
from ...registry import reward
from ...types import ABOUT, Sample, Score
from ..published.declaring import Judge, ballot, known_of
from ..published.expecting import Place, expected, scale_of
from ..published.looking import equipment
from ..published.tools import case_of
from ..published.votes import Marks, Meta, Options, Vote, mean_between, voted
from ..published.wording import Prompt, Wording, worded
from .aspects import read_aspects
from .modes import BEST, MODES, WORST, binary, rubric_aspects, whole

PROMPT = """Judge how well this picture answers the request.
Request: {prompt}
For each aspect write a heading, one line of justification and a score from {low} (worst) to {high} (best), \
or N/A if it does not apply:
{aspects}
Use exactly this layout for every aspect:
## <aspect>
Justification: <one line>
Score: <number or N/A>"""
ASPECTS = {
    "Text faithfulness": "the picture shows everything the request names, and nothing else",
    "Visual quality": "the picture is clean and free of artifacts",
}

LOW, HIGH = 1.0, 4.0
Mode = Literal["aspects", "each", "principles", "given", "binary", "rubric"]
How = Literal["written", "expected"]


@reward(
    "critique",
    needs=("prompt", "shown"),
    range=(0.0, 1.0),
    paper="arXiv:2604.11626, arXiv:2504.02495, arXiv:2506.03637, arXiv:2509.21319",
)
def critique(
    aspects: Mapping[str, str] | None = None,
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    mode: Mode = "aspects",
    principle: str = "",
    rubric: str = "",
    words: str = "own",
    knowledge: str = "",
    how: How = "written",
    step: float = 1.0,
    votes: int = 1,
    meta: str = "",
    keep: int = 0,
    low: float = LOW,
    high: float = HIGH,
    max_tokens: int = 1024,
    temperature: float = 0.0,
    seed: int = 0,
    tools: tuple[str, ...] = (),
    calls: int = 8,
    tokens: int = 8192,
    seconds: float = 300.0,
    dtype: str = "float32",
) -> Any:
    """Mean score over the aspects that apply, mapped from [low, high] to [0, 1]; the critique is in the note.

    `parts` holds each aspect's score on the judge's own scale; with several votes or probabilities also
    `uncertainty` (standard deviation of the value) and `confidence`, see `published.votes`. The score is
    "unparsable" when the text was cut off or gives two different scores for an aspect, "missing" when an
    aspect has none, "out_of_range" when one lies outside [low, high], and "na" when no aspect applies.

    Args:
        aspects: name -> its question; default text faithfulness and visual quality. In the mode "binary"
            name -> what must hold.
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        mode: "aspects" in one text; "each" of them in a text of its own; "principles" that the judge chooses
            and weighs itself (SPCT); "given", a principle in words (RewardAnything), marks from 1 to 5;
            "binary", P(yes) for each aspect (RLBFF); "rubric", checks of four ranks that the judge writes.
        principle: of the mode "given".
        rubric: a file of rubrics in the place of aspects, as `mmreward judge rubrics` learns them from
            labelled pairs (CDRRM), for the mode "binary", or "aspects" and "each".
        words: "own", or of the mode "given" "published" or a file, see `published.wording.worded`.
        knowledge: key of `meta` where a sample has what tools say of it, in words, which the judge is told
            (Anyprefer, `mmreward synthesize`); "" for nothing.
        how: "written" takes the marks as written, "expected" their mean by probabilities, in the modes
            "aspects" and "each"; in this process and with vLLM.
        step: granularity of "expected": marks from low to high by this step are compared.
        votes: samples whose mean is taken, at a temperature above 0, with seeds from `seed` on.
        meta: a VLM that checks the votes, so that the best of them count; "" for none.
        keep: votes that count then; 0 for half of them.
        low: the worst score the judge may give.
        high: the best.
        max_tokens: length at which a critique is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling; that of the first vote.
        tools: that the judge may use before it writes: crop, frames, search and page (of the texts in
            `meta["pages"]`), calculate, ocr; see `published.tools`. Every call stands in the note.
        calls: most calls of tools, of each text.
        tokens: most that a judge with tools writes in all turns of a text.
        seconds: most that a judge with tools takes for one.
        dtype: of the judge.
    """
    if not low < high:
        raise ValueError(f"low {low} must be below high {high}")
    if how == "expected" and mode not in ("aspects", "each"):
        raise ValueError(f"how=expected reads marks in the modes aspects and each, not in {mode}")
    if bool(principle.strip()) != (mode == "given"):
        raise ValueError("principle is the words that the mode given judges by: give both, or neither")
    if words != "own" and mode != "given":
        raise ValueError(f"the words of the mode {mode} are ours: leave words out")
    if aspects is not None and mode in MODES:
        raise ValueError(f"in the mode {mode} the judge has no aspects from you: leave aspects out")
    if rubric and (aspects is not None or mode in MODES):
        raise ValueError(
            f"rubric={rubric} stands for aspects, in the modes aspects, each and binary: leave "
            + ("aspects" if aspects is not None else f"mode={mode}")
            + " out"
        )
    if tools and (mode == "binary" or how == "expected"):
        raise ValueError("tools are for what is written: leave them out with how=expected and mode=binary")
    options = Options(max_tokens, temperature, seed, votes).checked()
    equipped = equipment(tools, calls, tokens, seconds)
    wanted = rubric_aspects(rubric) if rubric else dict(ASPECTS if aspects is None else aspects)
    if not wanted:
        raise ValueError("aspects is empty; leave it out for the two of the default")
    if taken := [name for name in wanted if name in ABOUT]:
        raise ValueError(f"an aspect is called {taken[0]!r}, as a part of every score is: call it otherwise")
    if mode == "binary" and (votes > 1 or meta or knowledge):
        raise ValueError("the mode binary reads probabilities: leave votes, meta and knowledge out")
    vlm = models.vlm(judge, dtype=dtype)
    checker = meta_of(meta, keep, options, dtype)
    if mode == "binary":

        async def read(sample: Sample) -> Score:
            return await binary(vlm, sample, wanted)

        return read
    if mode in MODES:
        judges = [MODES[mode](low, high, principle)]
    else:
        again = Again(scale_of(low, high, step), low, high) if how == "expected" else None
        apart = [{name: text} for name, text in wanted.items()] if mode == "each" else [wanted]
        judges = [by_aspects(some, low, high, again) for some in apart]
    asked: list[tuple[Judge[Marks], Wording]] = [(one, worded(words, one.prompt)) for one in judges]

    async def score(sample: Sample) -> Score:
        hint = known_of((sample,), knowledge)
        looking = equipped and equipped.on(vlm, case_of(sample, media_of(sample.shown)))
        made = [await ballot(vlm, one, wording, (sample,), options, hint, looking) for one, wording in asked]
        vote = made[0][0] if mode != "each" else partial(_together, [one for one, _ in made], low, high)
        score = await voted(vote, options, checker, made[0][1], sample.prompt)
        return replace(score, note=looking.note + score.note) if looking else score

    return score


def scale_of_marks(args: Mapping[str, Any]) -> tuple[float, float]:
    """Worst and best mark that `parts` can have, by the arguments of a critique.

    Raises:
        TypeError, ValueError: a low or a high that is no number.
    """
    fixed = {"given": (WORST, BEST), "rubric": (0.0, 1.0), "binary": (0.0, 1.0)}
    if (mode := args.get("mode")) in fixed:
        return fixed[mode]
    return float(args.get("low", LOW)), float(args.get("high", HIGH))


def meta_of(meta: str, keep: int, options: Options, dtype: str) -> Meta | None:
    """Meta-judge of a reward's votes.

    Raises:
        ValueError: a number of votes to keep without a meta-judge, or one that is none of the votes.
    """
    if keep and not meta:
        raise ValueError("keep says how many votes a meta-judge leaves: name one with meta")
    if not meta:
        return None
    if not 0 <= keep <= options.votes or options.votes < 2:
        raise ValueError(f"meta keeps the best of several votes; votes is {options.votes} and keep {keep}")
    return Meta(models.vlm(meta, dtype=dtype), keep or (options.votes + 1) // 2)


class Again:
    """Marks of a critique by their probabilities."""

    def __init__(self, scale: Sequence[str], low: float, high: float) -> None:
        self.scale, self.low, self.high = scale, low, high

    async def __call__(self, place: Place, words: str, marks: Marks) -> Vote[Marks]:
        found = await expected(place, words, marks, self.scale)
        value = mean_between(self.low, self.high)(found.marks)
        return Vote(found.marks, value, words, found.spread / (self.high - self.low), found.confidence)


def by_aspects(
    aspects: Mapping[str, str],
    low: float,
    high: float,
    again: Callable[[Place, str, Marks], Awaitable[Vote[Marks]]] | None = None,
) -> Judge[Marks]:
    """Judge of a picture by aspects, in one text."""
    listing = "\n".join(f"- {name}: {text}" for name, text in aspects.items())
    own = PROMPT.format(prompt="{prompt}", low=f"{low:g}", high=f"{high:g}", aspects=listing)
    return Judge(
        prompt=Prompt(own=own),
        shows=(whole,),
        grammar=lambda text: read_aspects(text, list(aspects), low, high),
        aggregate=mean_between(low, high),
        again=again,
    )


async def _together(
    cast: Sequence[Callable[[int], Awaitable[Vote[Marks]]]], low: float, high: float, number: int
) -> Vote[Marks]:
    """One vote of aspects that were asked one by one; those that do not apply are left out."""
    votes: list[Vote[Marks]] = []
    scores: dict[str, float | None] = {}
    for one in await gather(*(vote(number) for vote in cast), return_exceptions=True):
        if isinstance(one, BaseException):
            if not isinstance(one, Unscorable) or one.status != "na":
                raise one
        else:
            votes.append(one)
            scores.update(one.marks.scores)
    marks = Marks(scores)
    value = mean_between(low, high)(marks)
    spreads = [one.spread for one in votes if one.spread is not None]
    sure = [one.confidence for one in votes if one.confidence is not None]
    words = "\n".join(one.words for one in votes)
    spread = math.sqrt(sum(each**2 for each in spreads)) / len(votes) if spreads else None
    return Vote(marks, value, words, spread, fmean(sure) if sure else None)

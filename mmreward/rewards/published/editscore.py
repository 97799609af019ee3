"""EditScore (arXiv:2509.23909) and VIEScore (arXiv:2312.14867): an edit marked twice, sqrt(SC x PQ), 0 to 10.

SC is the smaller of two marks for the edit (it succeeds; nothing else was changed), with both pictures in
view; PQ the smaller of two for the edited picture alone (natural; free of artifacts). EditScore marks from 0
to 25, VIEScore from 0 to 10, in one prompt of which the largest mark is replaced. Upstream's batch path
replaces a mark outside the scale by 12.5 on a scale that ends at 10, its other path draws a random one for
what it cannot read, and a list of marks that is not there is 5.
"""

import math
from asyncio import gather
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from ... import models
from ...models.pinned import Pin
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from .declaring import Judge, Marks, Options, Prompt, counted, picture, shown, source, worded, written
from .unifiedreward import OWN_VIE, read_vie

TOP = 10.0
REPOSITORY, COMMIT, PATH = (
    "VectorSpaceLab/EditScore",
    "6e0f1b9a73b40f227d82d9cb32bd9cfb7189739b",
    "editscore/vie_prompts.py",
)
CONTEXT = Pin(
    REPOSITORY,
    COMMIT,
    PATH,
    "_context_no_delimit_reasoning_first",
    "125d6dcfcbd416925db3b7fac93a35c86deb99e656f89af5ed7cc3aed3cfd5f0",
)
TWO = Pin(
    REPOSITORY,
    COMMIT,
    PATH,
    "_prompts_0shot_two_image_edit_rule",
    "369c6b21479e6a853ffe85b11186c9d5ee3ef7388b8c9b5866a434bf113d0f8f",
)
SC = Pin(
    REPOSITORY,
    COMMIT,
    PATH,
    "_prompts_0shot_tie_rule_SC",
    "5b9aa479977bc3175329e9ee14d75b55773080e87e3e2181721985be30db6cc6",
)
PQ = Pin(
    REPOSITORY,
    COMMIT,
    PATH,
    "_prompts_0shot_rule_PQ",
    "cd929b5619a3ad9311e3054b80afca75f8ee407be89345c324be0b0ca8b5c96b",
)
EDITED = "the second picture, an edit of the first,"
SUCCESS = "how far the edit succeeds, and how little else was changed"
NATURAL = "how natural it is, and how free of artifacts"


def judges_of(top: int) -> tuple[Judge[Marks], Judge[Marks]]:
    """Judges of an edit and of the edited picture, with marks up to `top`."""

    def scaled(pieces: Sequence[str]) -> str:
        # The rule of the marks is the last piece, and its 10 the largest mark, as upstream replaces it.
        *before, rule = pieces
        return "\n".join([*before, rule.replace("10", str(top))])

    own = OWN_VIE.replace("25", str(top))
    following = Prompt(
        pins=(CONTEXT, TWO, SC),
        make=scaled,
        fields={"<instruction>": "prompt"},
        own=own.format(what=EDITED, names=SUCCESS),
    )
    quality = Prompt(
        pins=(CONTEXT, PQ),
        make=scaled,
        fields={},
        own=own.format(what="this picture", names=NATURAL).replace("{prompt}\n", ""),
    )
    return (
        Judge(
            prompt=following,
            shows=(source(), picture()),
            grammar=lambda text: read_vie(text, "edit", top),
            aggregate=lambda marks: TOP * min(marks.parts.values()) / top,
        ),
        Judge(
            prompt=quality,
            shows=(picture(),),
            grammar=lambda text: read_vie(text, "quality", top),
            aggregate=lambda marks: TOP * min(marks.parts.values()) / top,
        ),
    )


@reward("editscore", needs=("prompt", "image", "inputs"), range=(0.0, TOP),
        paper="arXiv:2509.23909, arXiv:2312.14867")  # fmt: skip
def editscore(
    judge: str = "EditScore/EditScore-7B",
    top: Literal[25, 10] = 25,
    words: str = "published",
    max_tokens: int = 1024,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """Geometric mean, 0 to 10, of the smaller mark of an edit and the smaller mark of the edited picture.

    The source picture is the first of `inputs`, the prompt the instruction. `parts` has `following` (SC) and
    `quality` (PQ) from 0 to 10, and the four marks on their own scale. A vote is both judgements; with
    several, the mean of the votes' values is taken, as upstream's `num_pass` does (at temperature 0.7).

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one) with EditScore's adapter
            merged; any strong one for VIEScore.
        top: the largest mark: 25, or 10, which is VIEScore.
        words: "published", "own", or a folder with following.txt and quality.txt.
        max_tokens: length at which a judgement is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling; that of the first vote.
        votes: pairs of judgements; `parts["uncertainty"]` is the standard deviation of their values.
        dtype: of the judge.
    """
    if top not in (25, 10):
        raise ValueError(f"top is {top}: 25 (EditScore) or 10 (VIEScore)")
    options = Options(max_tokens, temperature, seed, votes).checked()
    both = judges_of(top)
    wordings = [
        worded(words, declared.prompt, name)
        for declared, name in zip(both, ("following", "quality"), strict=True)
    ]
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        looked = [
            await shown(declared, wording, (sample,))
            for declared, wording in zip(both, wordings, strict=True)
        ]

        async def one(place: int, number: int) -> tuple[Marks, float, str]:
            media, text, places = looked[place]
            words = await written(vlm, media, text, wordings[place], options, options.seed + number, places)
            marks = both[place].grammar(words)
            return marks, both[place].aggregate(marks), words

        async def vote(number: int) -> tuple[Marks, float, str]:
            following, quality = await gather(one(0, number), one(1, number))
            means = {"following": following[1], "quality": quality[1]}
            marks = Marks({**means, **following[0].parts, **quality[0].parts})
            noted("marks", "{}", marks.parts)
            return marks, math.sqrt(following[1] * quality[1]), f"{following[2]}\n\n{quality[2]}"

        cast = await gather(*(vote(number) for number in range(options.votes)), return_exceptions=True)
        found = counted(cast, options)
        return replace(found, value=min(TOP, found.value))

    return score

"""VideoScore2 (arXiv:2509.22799): Qwen2.5-VL-7B that thinks, then marks a clip from 1 to 5 three times.

Its text repeats the descriptors of the prompt, "(1) visual quality - clarity, smoothness, artifacts: 3", so
that the pattern in its repository finds nothing in what its own model writes. The published float mark is the
digit times its probability among the five digits, which makes a mark of 5 smaller where the judge is less
sure, and a mark of 1, too: it is no expectation. `how="expected"` is one.
"""

import math
import re
from asyncio import gather
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, Literal

from ... import models
from ...errors import Unscorable
from ...models.pinned import Pin
from ...models.vlms.answers import VLM
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from .declaring import Judge, clip, shown, written
from .expecting import Place
from .grammar import body_of, certain
from .votes import Marks, Options, Vote, voted
from .wording import Prompt, worded

LOW, HIGH = 1, 5
DIGITS = tuple(str(digit) for digit in range(LOW, HIGH + 1))
DIMENSIONS = {
    "visual_quality": "visual quality",
    "alignment": "text-to-video alignment",
    "physics": "physical/common-sense consistency",
}
NAMES = "|".join(re.escape(name) for name in DIMENSIONS.values())
ITEM = re.compile(
    rf"(?:\(?[123][).]\s*)?[*\s]*({NAMES})[*\s]*(?:[-\u2010-\u2015(][^:\n\d]{{0,120}})?[*\s]*:[*\s]*"
    r"([+-]?\d[\d.]{0,8}[^\s,;\n]{0,12})?",
    re.IGNORECASE,
)


def read_marks(text: str) -> Marks:
    """Three whole marks from 1 to 5 after the thinking, with the place of each digit in the text.

    Raises:
        Unscorable: "missing" where a dimension has no mark, "unparsable" for one that is no whole number or
            has another number beside it, or two that differ, "out_of_range".
    """
    start = len(text) - len(certain(body_of(text)))
    keys = {name: key for key, name in DIMENSIONS.items()}
    items = list(ITEM.finditer(text, start))
    scores: dict[str, float | None] = {}
    spans: dict[str, tuple[int, int]] = {}
    for found, following in zip(items, [*items[1:], None], strict=False):
        name = found[1].lower()
        if found[2] is None:
            raise Unscorable(f"{name} has no score", "missing")
        beside = text[found.end() : following.start() if following else None].partition("\n")[0]
        whole = re.fullmatch(r"([+-]?\d{1,6})(?:\.0+)?(?:/5)?", found[2].rstrip("*.)"))
        if whole is None or re.search(r"\d", beside):
            said = (found[2] + beside)[:40]
            raise Unscorable(f"{name} has the score {said!r}, which is no one whole number", "unparsable")
        mark = float(whole[1])
        if not LOW <= mark <= HIGH:
            raise Unscorable(f"{name} has the score {mark:g}, outside {LOW} to {HIGH}", "out_of_range")
        if (before := scores.setdefault(keys[name], mark)) != mark:
            raise Unscorable(f"{name} has two scores, {before:g} and {mark:g}", "unparsable")
        spans[keys[name]] = (found.start(2), found.start(2) + len(whole[1]))
    if absent := [name for name, key in keys.items() if key not in scores]:
        raise Unscorable(f"no score for {', '.join(absent)} in: {text[-200:]}", "missing")
    return Marks({key: scores[key] for key in DIMENSIONS}, spans=spans)


def mean(marks: Marks) -> float:
    """Mean of the three marks."""
    return fmean(marks.parts.values())


JUDGE = Judge(
    prompt=Prompt(
        pins=(
            Pin("TIGER-AI-Lab/VideoScore2", "e6abe26bf694c293023cb3863bd6c657128766ac", "vs2_inference.py",
                "VS2_QUERY_TEMPLATE", "63a228e02ca61abc55d941234ee92285c18e517fa35e667e9ba2336dc193298c"),
        ),
        fields={"$t2v_prompt": "prompt"},
        own="Mark this clip, made for the caption: {prompt}\nThink, then write exactly this, whole marks "
        "from 1 to 5:\n" + "\n".join(f"({n}) {name}: mark" for n, name in enumerate(DIMENSIONS.values(), 1)),
    ),
    shows=(clip(),),
    grammar=read_marks,
    aggregate=mean,
)  # fmt: skip


async def digits(
    vlm: VLM, media: Sequence[Any], text: str, words: str, marks: Marks, system: str
) -> dict[str, dict[str, float]]:
    """Probabilities of the five digits in the place of each mark, which have the sum 1.

    Raises:
        Unscorable: as `VLM.logprob`.
    """

    place = Place(vlm, tuple(media), text, system)
    found = await gather(
        *(place.chances(words[:start], DIGITS, name=key) for key, (start, _) in marks.spans.items())
    )
    return dict(zip(marks.spans, found, strict=True))


def weighed(marks: Marks, probs: dict[str, dict[str, float]], how: str) -> Marks:
    """Marks by the digits' probabilities: "float" as published, or "expected"."""
    scores: dict[str, float | None] = {}
    for key, each in probs.items():
        if how == "float":
            best = max(DIGITS, key=lambda digit: each[digit])
            scores[key] = int(best) * each[best]
        else:
            scores[key] = sum(int(digit) * each[digit] for digit in DIGITS)
    return marks._replace(scores={key: scores[key] for key in marks.scores})


@reward("videoscore2", needs=("prompt", "video"), range=(0.0, float(HIGH)), paper="arXiv:2509.22799")
def videoscore2(
    judge: str = "TIGER-Lab/VideoScore2",
    how: Literal["marks", "float", "expected"] = "marks",
    words: str = "published",
    max_tokens: int = 1024,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """Mean of three marks of a clip: visual quality, alignment with the prompt, physics; 1 to 5.

    `parts` holds them. "float" is the published number, above 0 and at most 5; "expected" the mean of the
    digits by their probabilities, 1 to 5, with the mean entropy of the digits in nats as `parts["entropy"]`.
    Both read the digits again in their places, five short continuations for each mark, as this process and
    vLLM can. The model takes its own frames, two a second; a served one needs ?clips=video or ?clips=N.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        how: "marks" as written, "float" or "expected".
        words: "published", "own", or a file; see `published.wording.worded`.
        max_tokens: length at which a judgement is cut off.
        temperature: of the sampling; 0 is greedy, upstream samples at 0.7.
        seed: of the sampling; that of the first vote.
        votes: samples whose mean is taken; `parts["uncertainty"]` is their standard deviation.
        dtype: of the judge.
    """
    if how not in ("marks", "float", "expected"):
        raise ValueError(f"how is {how!r}: marks, float or expected")
    options = Options(max_tokens, temperature, seed, votes).checked()
    wording = worded(words, JUDGE.prompt)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        media, text, places = await shown(JUDGE, wording, (sample,))
        entropies: list[float] = []

        async def vote(number: int) -> Vote[Marks]:
            said = await written(vlm, media, text, wording, options, options.seed + number, places)
            marks = JUDGE.grammar(said)
            if how != "marks":
                probs = await digits(vlm, media, text, said, marks, wording.system)
                marks = weighed(marks, probs, how)
                entropies.append(fmean(entropy(each) for each in probs.values()))
            noted("marks", "{}", marks.parts)
            return Vote(marks, JUDGE.aggregate(marks), said)

        found = await voted(vote, options)
        more = {"entropy": fmean(entropies)} if entropies else {}
        return replace(found, parts={**found.parts, **more})

    return score


def entropy(probs: dict[str, float]) -> float:
    """Entropy in nats."""
    return -sum(p * math.log(p) for p in probs.values() if p > 0)

"""Modes of a critique in which the judge, or the person who asks, says what counts: principles and rubrics.

- "principles" (SPCT, DeepSeek-GRM, arXiv:2504.02495): the judge chooses up to eight principles for this
  request and weighs them, then marks each. No prompt of its publisher is known; the words are ours.
- "given" (RewardAnything, arXiv:2506.03637): a principle in words, marks from 1 to 5 in one JSON object. The
  published system message is pinned; it speaks of responses, and here pictures stand in their places.
- "binary" (RLBFF, arXiv:2509.21319): the probability of yes that each of some principles holds.
- Rubrics of a file stand for aspects or principles (`rubric_aspects`): what `mmreward judge rubrics` learned
  from labelled pairs (CDRRM, arXiv:2603.08035), or your own.
- "rubric": checks that the judge writes for this request, each essential, important, optional or a pitfall,
  with what it saw and whether the picture does well on it. The weights are those of Rubrics as Rewards
  (arXiv:2507.17746).
"""

import hashlib
import json
import math
import re
from asyncio import gather
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from ...errors import Unscorable
from ...media import Media
from ...models.pinned import Pin
from ...models.vlms.answers import VLM, Pictures, probability_of_yes
from ...registry import record_network
from ...strict_yaml import read_yaml
from ...types import ABOUT, Sample, Score
from ...verifiers.thoughts import after_thinking
from ..published.declaring import Judge
from ..published.grammar import body_of, json_mark, object_in
from ..published.votes import Marks, final_between
from ..published.wording import PICTURE, Prompt
from .aspects import plain_line, read_aspects

# --- principles of the judge's own ------------------------------------------------------------------------

MOST_PRINCIPLES = 8
PRINCIPLE = re.compile(
    r"principle(?: \d{1,2})?: ?([^:()]{1,80}?) ?\((\d{1,3}(?:\.\d{1,3})?) ?%?\)(?: ?[:-].*)?"
)
CHOOSE = """First write up to 8 principles that matter for this request, each with a weight, then for each \
principle a heading, one line of justification and a score from {low} (worst) to {high} (best), or N/A.
Use exactly this layout:
Principle: <name> (<weight from 1 to 100>): <what it asks>
## <name>
Justification: <one line>
"""


def read_principles(text: str) -> dict[str, float]:
    """Principles of a judgement with their weights, each on a line of its own.

    Raises:
        Unscorable: "missing" without any; "unparsable" for a line that is none, more than eight, one twice,
            or a weight of 0.
    """
    found: dict[str, float] = {}
    for line in after_thinking(text).splitlines():
        words = re.sub(r"^\d+[.)]\s*", "", plain_line(line[:600]))
        if not re.match(r"principle(?: \d{1,2})?:", words):
            continue
        if (match := PRINCIPLE.fullmatch(words)) is None:
            raise Unscorable(f"{words[:80]!r} is no principle with a weight", "unparsable")
        name, weight = match[1].strip(), float(match[2])
        if name in found or name in ABOUT or not 0 < weight <= 100 or len(found) == MOST_PRINCIPLES:
            raise Unscorable(
                f"the principle {name!r} is there twice, weighs {weight:g}, has a part's name, or is one of "
                f"more than {MOST_PRINCIPLES}",
                "unparsable",
            )
        found[name] = weight
    if not found:
        raise Unscorable(f"no principle in: {text[:200]}", "missing")
    return found


def refuse_others(body: str, names: Collection[str], each: int) -> None:
    """Refuse a judgement that is not laid out as asked, in which a mark might belong to another principle.

    Raises:
        Unscorable: "unparsable" for a heading that is no principle, or more scores (`each` of a principle)
            or justifications than they have.
    """
    lines = [(line.lstrip()[:1], plain_line(line[:600])) for line in body.splitlines()]
    if other := next((words for mark, words in lines if mark == "#" and words.strip(" :") not in names), ""):
        raise Unscorable(f"the heading {other[:60]!r} is no principle", "unparsable")
    for word, most in (("score", each * len(names)), ("justification", len(names))):
        if (written := sum(words.startswith(word) for _, words in lines)) > most:
            raise Unscorable(f"{word} is there {written} times, and {most} are asked for", "unparsable")


def read_weighed(text: str, low: float, high: float) -> Marks:
    """Marks by the judge's own principles, and their mean by its weights as the final one.

    Raises:
        Unscorable: as `read_principles` and `aspects.read_aspects`; "na" where no principle applies.
    """
    body = body_of(text)
    weights = read_principles(body)
    refuse_others(body, weights, 1)
    marks = read_aspects(body, list(weights), low, high)
    whole = math.fsum(weights[name] for name in marks.parts)
    if not whole:
        raise Unscorable("no principle applies", "na")
    final = math.fsum(weights[name] * mark for name, mark in marks.parts.items()) / whole
    return Marks(marks.scores, final=final)


def principles(low: float, high: float, _: str) -> Judge[Marks]:
    """Judge by principles of its own."""
    layout = CHOOSE.format(low=f"{low:g}", high=f"{high:g}")
    return Judge(
        prompt=Prompt(
            own="Judge how well this picture answers the request.\nRequest: {prompt}\n"
            + layout
            + "Score: <number or N/A>"
        ),
        shows=(whole,),
        grammar=lambda text: read_weighed(text, low, high),
        aggregate=final_between(low, high),
    )


def whole(samples: Sequence[Sample]) -> Sequence[Media]:
    """The picture or clip of each sample."""
    found = [sample.shown for sample in samples if sample.shown is not None]
    if len(found) < len(samples):
        raise Unscorable("there is no image and no video", "missing")
    return found


# --- a principle in words ---------------------------------------------------------------------------------

WORST, BEST = 1.0, 5.0
SYSTEM = Pin(
    "WisdomShell/RewardAnything",
    "3e60de60c3319ef033b6ffa585a39967092f175a",
    "rewardanything/processing.py",
    "SYSTEM_PROMPT",
    "e4a48f412b96a723feb0227a90c52a4c4556f77c28b019b16635ef547b18cf98",
)
OWN_SYSTEM = (
    "Judge each response by the principle alone, and mark it from 1 (worst) to 5 (best). Think briefly "
    'between think tags, then write one JSON object: {"scores": {"model-1": 1}, "best-to-worst": ["model-1"]}'
)


def by_principle(principle: str, number: int) -> Prompt:
    """Question of RewardAnything about so many pictures, as its code lays it out."""
    responses = {f"model-{place}": PICTURE for place in range(1, number + 1)}
    told = {"principle": principle, "prompt": "{json}", "responses": responses}
    text = json.dumps(told, ensure_ascii=False)
    return Prompt(
        system=(SYSTEM,), fields={"{json}": "json"}, make=lambda _: text, own=text, own_system=OWN_SYSTEM
    )


def read_ranked(text: str, number: int) -> tuple[list[float], str]:
    """Marks of so many responses from 1 to 5, and words about an order that is against them.

    Raises:
        Unscorable: "unparsable" for anything but one such object with each response once; "missing" without
            scores; "out_of_range".
    """
    bare = body_of(text)
    found = object_in(bare)
    names = [f"model-{place}" for place in range(1, number + 1)]
    scores, order = found.get("scores"), found.get("best-to-worst")
    if not isinstance(scores, Mapping) or not scores:
        raise Unscorable(f"there are no scores in: {bare[:200]}", "missing")
    if sorted(map(str, scores)) != names:
        raise Unscorable(f"the scores are of {', '.join(map(str, scores))[:80]}", "unparsable")
    marks = [json_mark(scores[name], WORST, BEST, f"the score of {name}") for name in names]
    if order is None and number == 1:
        return marks, ""
    if not isinstance(order, list) or sorted(map(str, order)) != names:
        raise Unscorable(f"best-to-worst is {str(order)[:60]}, not each response once", "unparsable")
    ranked = [marks[names.index(name)] for name in order]
    falls = all(better >= worse for better, worse in pairwise(ranked))
    return marks, "" if falls else "the order from best to worst is not that of the scores"


def given(_: float, __: float, principle: str) -> Judge[Marks]:
    """Judge by a principle in words."""

    def grammar(text: str) -> Marks:
        (mark,), _ = read_ranked(text, 1)
        return Marks({"principle": mark}, final=mark)

    return Judge(
        prompt=by_principle(principle, 1),
        shows=(whole,),
        grammar=grammar,
        aggregate=final_between(WORST, BEST),
    )


# --- a rubric of the judge's own --------------------------------------------------------------------------

RANKS = {"essential": 1.0, "important": 0.7, "optional": 0.3, "pitfall": 0.9}
MOST_CHECKS = 12
RUBRIC = """A picture was made for the request: {prompt}
Write up to 12 checks for this request. At least one is essential, and a pitfall is a mistake to be avoided. \
Say of each what you see and whether the picture does well on it. Write one JSON object:
{"rubric": [{"check": "", "rank": "essential|important|optional|pitfall", "seen": "", "good": true}]}"""


def read_rubric(text: str) -> Marks:
    """Share of good checks by rank, and that of all by the ranks' weights as the final mark, 0 to 1.

    Raises:
        Unscorable: "unparsable" for anything but such an object, more than twelve checks, one twice or one
            without words for what was seen; "missing" without checks or without an essential one.
    """
    bare = body_of(text)
    checks = object_in(bare).get("rubric")
    if not isinstance(checks, list) or not checks:
        raise Unscorable(f"there is no rubric in: {bare[:200]}", "missing")
    if len(checks) > MOST_CHECKS:
        raise Unscorable(f"the rubric has {len(checks)} checks, more than {MOST_CHECKS}", "unparsable")
    said: set[str] = set()
    good: dict[str, list[float]] = {}
    for check in checks:
        name, rank, well = _check(check)
        if name in said:
            raise Unscorable(f"the check {name[:60]!r} is there twice", "unparsable")
        said.add(name)
        good.setdefault(rank, []).append(float(well))
    if "essential" not in good:
        raise Unscorable("no check of the rubric is essential", "missing")
    all_of = math.fsum(RANKS[rank] * len(marks) for rank, marks in good.items())
    final = math.fsum(RANKS[rank] * math.fsum(marks) for rank, marks in good.items()) / all_of
    return Marks({rank: fmean(good[rank]) for rank in RANKS if rank in good}, final=final)


def _check(check: Any) -> tuple[str, str, bool]:
    fields = check if isinstance(check, Mapping) else {}
    texts = [fields.get(field) for field in ("check", "rank", "seen")]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise Unscorable(f"a check is {str(check)[:80]}, without check, rank and seen in words", "unparsable")
    name, rank, _ = (plain_line(str(text)) for text in texts)
    if rank not in RANKS:
        raise Unscorable(f"the rank {rank[:40]!r} is none of {', '.join(RANKS)}", "unparsable")
    if not isinstance(well := fields.get("good"), bool):
        raise Unscorable(f"good is {str(well)[:40]!r}, neither true nor false", "unparsable")
    return name, rank, well


def rubric(_: float, __: float, ___: str) -> Judge[Marks]:
    """Judge by a rubric of its own."""
    return Judge(
        prompt=Prompt(own=RUBRIC), shows=(whole,), grammar=read_rubric, aggregate=final_between(0.0, 1.0)
    )


MODES: dict[str, Callable[[float, float, str], Judge[Marks]]] = {
    "principles": principles,
    "given": given,
    "rubric": rubric,
}
"""Modes whose judge writes one text, by name: made of the scale and of the principle in words."""

# --- binary principles ------------------------------------------------------------------------------------

HOLDS = """A picture was made for the request: {prompt}
Does this hold for it: {principle}? Answer yes or no."""
LEAST_MASS = 0.5


async def holds_of(vlm: VLM, media: Pictures, request: str, principle: str) -> float:
    """Probability of yes that a principle holds for a picture.

    Raises:
        Unscorable: "unparsable" where yes and no have too little of the probability.
    """
    asked = HOLDS.format(prompt=request, principle=principle.strip(" .?"))
    return await probability_of_yes(vlm, media, asked, LEAST_MASS)


async def binary(vlm: VLM, sample: Sample, principles: Mapping[str, str]) -> Score:
    """Mean probability that principles hold, which `parts` has by name; the uncertainty is that of so many
    independent answers.

    Raises:
        Unscorable: "unparsable" where yes and no have too little of the probability.
    """
    read = await gather(*(holds_of(vlm, sample.shown, sample.prompt, text) for text in principles.values()))
    parts = dict(zip(principles, read, strict=True))
    spread = math.sqrt(math.fsum(p * (1 - p) for p in read)) / len(read)
    sure = fmean(max(p, 1 - p) for p in read)
    return Score(fmean(read), {**parts, "uncertainty": spread, "confidence": sure})


# --- rubrics of a file ------------------------------------------------------------------------------------


class RubricFile(NamedTuple):
    """Rubrics of a file, as a part of a reward's fingerprint."""

    rubrics: tuple[str, ...]

    @property
    def name(self) -> str:
        return "rubrics"

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b("\0".join(self.rubrics).encode(), digest_size=8).hexdigest()


def rubrics_of(file: str) -> tuple[str, ...]:
    """Rubrics of a YAML file: `rubrics:` is a list of texts, or of mappings with a text `rubric`, as
    `mmreward judge rubrics` writes them. Noted in the fingerprint of the reward that is being loaded.

    Raises:
        ValueError: no such file, or one without rubrics; names it.
    """
    found = read_yaml(Path(file))
    listed = found.get("rubrics") if isinstance(found, Mapping) else None
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{file} has no list `rubrics`; `mmreward judge rubrics` writes one")
    said = []
    for number, given in enumerate(listed, 1):
        one = given.get("rubric") if isinstance(given, Mapping) else given
        if not isinstance(one, str) or not one.strip():
            raise ValueError(f"{file}: rubric {number} is {str(one)[:60]!r}, no text")
        said.append(" ".join(one.split()))
    rubrics = tuple(said)
    if len(set(rubrics)) < len(rubrics):
        raise ValueError(f"{file}: one of its {len(rubrics)} rubrics is there twice")
    record_network(RubricFile(rubrics))
    return rubrics


def rubric_aspects(file: str) -> dict[str, str]:
    """Rubrics of a file by the names that they have in `parts`."""
    return {f"rubric {number}": text for number, text in enumerate(rubrics_of(file), 1)}

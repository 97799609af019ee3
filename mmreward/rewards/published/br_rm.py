"""BR-RM (arXiv:2510.23596): branch and rethink, a judge of two responses in two turns, in its own words.

First it names one to three abilities that matter and the critical issues of each response; then, told to
look again, it ranks them: `[The Begin of Ranking Score]\\n\\\\boxed{1}\\n[The End of Ranking Score]`. The
weights are those of text models, nvidia/Qwen3-Nemotron-8B-BRRM and -14B-BRRM: serve one and name it as
MODEL@URL, or ask any VLM in these words.

`preference` with two turns is the same idea for pictures, in our words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ... import models
from ...errors import Unscorable
from ...models.pinned import Pin
from ...models.vlms.answers import Pictures, Turn, Writer, Written
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.response import inside_box
from .declaring import Judge, answered, judged_answers
from .grammar import OPEN, body_of
from .votes import Options, PairMarks, by_verdict
from .wording import Prompt, worded

ABILITIES = (
    "Information Accuracy", "Computational Precision", "Logical Reasoning", "Implementation Capability",
    "Safety Awareness", "Response Completeness", "Instruction Adherence", "Communication Clarity",
)  # fmt: skip
MOST = 3

# --- grammar ----------------------------------------------------------------------------------------------


def _block(text: str, opened: str, closed: str) -> str:
    """Text of the only block between two marks; the last one may be left open.

    Raises:
        Unscorable: "unparsable" for none, an empty one, or two.
    """
    pieces = re.split(re.escape(f"[{opened}]"), text, flags=re.IGNORECASE)
    if len(pieces) != 2:
        said = f"has {len(pieces) - 1} blocks [{opened}] where one is expected"
        raise Unscorable(f"the judgement {said}: {text.strip()[-200:]}", "unparsable")
    inside = re.split(re.escape(f"[{closed}]"), pieces[1], flags=re.IGNORECASE)[0].strip()
    if not inside:
        raise Unscorable(f"the block [{opened}] is empty", "unparsable")
    return inside


def read_branch(text: str) -> tuple[str, ...]:
    """Abilities that the first turn names.

    Raises:
        Unscorable: "unparsable" without the three blocks, or with none or more than three abilities.
    """
    body = body_of(text)
    focus = _block(body, "Quality Assessment Focus", "End of Quality Assessment Focus").casefold()
    for place in ("1", "2"):
        name = f"Quality Analysis for Response {place}"
        _block(body, name, f"End of {name}")
    named = tuple(ability for ability in ABILITIES if ability.casefold() in focus)
    if not 1 <= len(named) <= MOST:
        raise Unscorable(f"{len(named)} abilities are named, not one to {MOST}: {focus[:120]}", "unparsable")
    noted("first turn", "looks at {}", named)
    return named


def read_ranking(text: str) -> PairMarks:
    """The better response, of the last turn; a tie is not permitted.

    Raises:
        Unscorable: "unparsable" for anything but a box with 1 or 2 in the block of the ranking.
    """
    body = body_of(text)
    if (found := OPEN.search(body)) is not None:
        raise Unscorable(f"the ranking {found[0]!r} leaves a choice", "unparsable")
    block = _block(body, "The Begin of Ranking Score", "The End of Ranking Score")
    inside = inside_box(block) if block.count("\\boxed") == 1 else None
    if inside not in ("1", "2"):
        raise Unscorable(f"the ranking is {block[:60]!r}, not \\boxed{{1}} or \\boxed{{2}}", "unparsable")
    return PairMarks({}, {}, inside)


# --- words ------------------------------------------------------------------------------------------------


def _pin(symbol: str, sha256: str) -> Pin:
    return Pin("yzjiao/BR-RM", "34a58b25732fb49c18a9924802f8313d00abcdb6",
               "nemo_rl/environments/brrm_environment.py", symbol, sha256)  # fmt: skip


def _framed(pieces: Sequence[str]) -> str:
    """The first question, with the publisher's marks round conversation and responses."""
    begin, end = "[The Begin of {}]\n", "\n[The End of {}]\n"
    context = f"{begin}{{prompt}}{end}".replace("{}", "Context")
    responses = "\n".join(
        f"{begin}{{{name}}}{end}".replace("{}", f"Response {place}")
        for place, name in (("1", "first"), ("2", "second"))
    )
    return "".join(pieces).replace("{context}", context).replace("{responses}", responses)


FIELDS = {"{prompt}": "prompt", "{first}": "first", "{second}": "second"}
ASKED = Prompt(
    pins=(
        _pin("UNIFIED_ANALYSIS_PROMPT", "c4291d203f7a508ed1946028527f61cbf2edd2874cf768dc877459cdd9cfd468"),
    ),
    fields=FIELDS,
    make=_framed,
    own="Two responses to a request. Name one to three abilities that matter here, of "
    f"{', '.join(ABILITIES)}, between [Quality Assessment Focus] and [End of Quality Assessment Focus]; then "
    "the critical issues of each between [Quality Analysis for Response 1] and [End of Quality Analysis for "
    "Response 1], and likewise for 2.\nRequest: {prompt}\nResponse 1: {first}\nResponse 2: {second}",
)
RETHOUGHT = Prompt(
    pins=(_pin("SCORING_STAGE_PROMPT", "afeb6e53236657b2453be4ef183a10dc49f2281d7dbc2c1dd1db49418c2549f2"),),
    fields={},
    own="Look again at what you found. Then write [The Begin of Ranking Score], \\boxed{1} or \\boxed{2} for "
    "the better one, and [The End of Ranking Score], a line each.",
)


@dataclass(slots=True)
class Rethinking:
    """Writer of the second turn, after a first one that could be read; keeps the first for the note."""

    vlm: Writer
    question: str
    first: list[str] = field(default_factory=list)

    async def write(
        self, media: Pictures, prompt: str, *, max_tokens: int = 512, temperature: float = 0.0,
        seed: int = 0, system: str = "", history: Sequence[Turn] = (), places: Sequence[int] = (),
    ) -> Written:  # fmt: skip
        """The second turn's text.

        Raises:
            Unscorable: "unparsable" for a first turn that is cut off or cannot be read; see also `VLM.write`.
        """
        asked = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, "system": system}
        noticed = await self.vlm.write(media, prompt, history=history, places=places, **asked)  # type: ignore[arg-type]
        if not noticed.finished:
            raise Unscorable(f"the first turn was cut off after {noticed.tokens} tokens", "unparsable")
        read_branch(noticed.text)
        self.first.append(noticed.text)
        turns = [*history, Turn(prompt, noticed.text)]
        said = await self.vlm.write(media, self.question, history=turns, **asked)  # type: ignore[arg-type]
        return said._replace(tokens=noticed.tokens + said.tokens)


JUDGE = Judge(prompt=ASKED, shows=(answered(),), grammar=read_ranking, aggregate=by_verdict)
LICENCE = "Apache-2.0 (BR-RM's prompts); the judge's own"


@reward("br_rm", needs=("prompt", "response"), optional=("shown", "inputs"),
        range=(0.0, 1.0), arity="pair", paper="arXiv:2510.23596",
        licence=LICENCE)  # fmt: skip
def br_rm(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    words: str = "published",
    max_tokens: int = 8192,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """1 where the judge, after a second look, prefers the first of two responses to one request, else 0.

    Both orders are asked, and `parts["swing"]` is their disagreement; both turns are in the note. A first
    turn that does not name what matters and what is wrong is "unparsable": upstream fills its focus in. The
    pictures or the clip of the request are shown, if there are any; of a response, what follows its
    reasoning.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one, which may be BR-RM itself).
        words: "published", "own", a copy of the publisher's file, or a folder with asked.txt and
            rethought.txt.
        max_tokens: length at which each turn is cut off.
        temperature: of the sampling; 0 is greedy. Upstream samples at 1.
        seed: of the sampling; that of the first vote.
        votes: samples whose mean is taken.
        dtype: of the judge.
    """
    options = Options(max_tokens, temperature, seed, votes).checked()
    wording, again = worded(words, ASKED, "asked"), worded(words, RETHOUGHT, "rethought")
    vlm = models.vlm(judge, dtype=dtype)

    async def score(first: Sample, second: Sample) -> Score:
        writer = Rethinking(vlm, again.text)
        found = await judged_answers(vlm, JUDGE, wording, (first, second), options, writer)
        note = "\n\n".join([*writer.first[:1], found.note])
        return Score(found.value, found.parts, found.status, note)

    return score

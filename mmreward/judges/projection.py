"""Projection of judgements of two pictures to critiques of each: how PARROT's student learns to mark one.

A teacher that is told which of two pictures is better writes a critique of each, aspect by aspect with marks,
and a better request (RationalRewards, arXiv:2604.11626). What it wrote is kept where its own marks agree with
the verdict and where it predicts that verdict again, from the pictures and its words without marks, without
having been told. Each picture's part is then a sample by itself, in the words in which the reward `critique`
asks: the student serves it.

The layout of the teacher's text is ours: "# Picture 1", "# Picture 2" and "# Better request" as headings,
the parts in the layout of a critique.
"""

import math
import re
from asyncio import gather
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..errors import Unscorable
from ..evaluation import score_one
from ..models.vlms.answers import Writer
from ..registry import Reward
from ..rewards.judged.aspects import read_aspects
from ..rewards.judged.critique import ASPECTS, PROMPT
from ..verifiers.thoughts import after_thinking
from .comparison import Comparison
from .rationales import HINT, Outcome, Row

LOW, HIGH = 1.0, 4.0
QUESTION = """Two pictures were made for the request: {prompt}
Criticise each. For each aspect write a heading, one line of justification and a score from {low} (worst) to \
{high} (best), or N/A if it does not apply:
{aspects}
Then write a request that would be answered better. Use exactly this layout:
# Picture 1
## <aspect>
Justification: <one line>
Score: <number or N/A>
# Picture 2
...
# Better request
<the request>"""
HEADS = ("picture 1", "picture 2", "better request")
HEAD = re.compile(r"^#[ \t]+(picture [12]|better request)[ \t]*:?[ \t]*$", re.IGNORECASE | re.MULTILINE)
SCORED = re.compile(r"^[\s#*]*score\b.*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Critiques:
    """A teacher's text, taken apart.

    Args:
        parts: critiques of the first and the second picture.
        marks: their marks by aspect.
        refined: the better request.
    """

    parts: tuple[str, str]
    marks: tuple[Mapping[str, float], Mapping[str, float]]
    refined: str

    @property
    def verdict(self) -> str:
        """Place of the picture with the larger mean over the aspects that apply to both; "" for a tie."""
        common = [name for name in self.marks[0] if name in self.marks[1]]
        if not common:
            return ""
        first, second = (fmean(marks[name] for name in common) for marks in self.marks)
        return "" if math.isclose(first, second) else "1" if first > second else "2"

    @property
    def words(self) -> str:
        """Both critiques without their scores, which would say the verdict."""
        said = [SCORED.sub("", part).strip() for part in self.parts]
        return "\n".join(f"Picture {place}:\n{text}" for place, text in enumerate(said, 1))


def read_critiques(text: str, aspects: Sequence[str]) -> Critiques:
    """Critiques of two pictures and a refined request.

    Raises:
        Unscorable: "unparsable" when the three headings are not there once each and in order, or the request
            is empty; see also `aspects.read_aspects`.
    """
    body = after_thinking(text)
    found = list(HEAD.finditer(body))
    if tuple(" ".join(head[1].lower().split()) for head in found) != HEADS:
        named = ", ".join(head[1] for head in found) or "nothing"
        raise Unscorable(f"the headings are {named}; they are to be {', '.join(HEADS)}", "unparsable")
    ends = [*(head.start() for head in found[1:]), len(body)]
    first, second, refined = (body[head.end() : end].strip() for head, end in zip(found, ends, strict=True))
    if not refined:
        raise Unscorable("the refined request is empty", "unparsable")
    marks = [read_aspects(part, aspects, LOW, HIGH).parts for part in (first, second)]
    return Critiques((first, second), (marks[0], marks[1]), refined)


@dataclass(frozen=True, slots=True)
class Projected:
    """Critiques of one comparison and what became of them; see `rationales.Rationale`."""

    comparison: Comparison
    outcome: Outcome
    critiques: Critiques | None = None
    note: str = ""


def question_of(request: str, aspects: Mapping[str, str], *, single: bool) -> str:
    """Question about two pictures, or about one as the reward `critique` asks it."""
    listing = "\n".join(f"- {name}: {text}" for name, text in aspects.items())
    template = PROMPT if single else QUESTION
    return template.format(prompt=request, low=f"{LOW:g}", high=f"{HIGH:g}", aspects=listing)


async def sample_critiques(
    teacher: Writer,
    compared: Sequence[Comparison],
    checker: Reward,
    *,
    aspects: Mapping[str, str] = ASPECTS,
    temperature: float = 1.0,
    max_tokens: int = 1024,
    seed: int = 0,
) -> list[Projected]:
    """Critiques of all comparisons, in order. Runs on the engine's loop.

    Args:
        teacher: writes, and is told the verdict.
        checker: the reward `listener` with the teacher as the listener and the labels "1" and "2": its
            probability of the verdict, from words without marks and hint, must be above a half.
        aspects: name -> what it asks.
        temperature, max_tokens, seed: of the teacher.
    """

    async def one(comparison: Comparison) -> Projected:
        asked = question_of(comparison.request, aspects, single=False)
        try:
            said = await teacher.write(
                comparison.pictures, asked + HINT.format(better=comparison.better),
                max_tokens=max_tokens, temperature=temperature, seed=seed,
            )  # fmt: skip
            if not said.finished:
                raise Unscorable(f"cut off after {said.tokens} tokens", "unparsable")
            found = read_critiques(said.text, list(aspects))
        except Unscorable as error:
            known = ("unparsable", "missing", "out_of_range")
            outcome: Outcome = "unreadable" if error.status in known else "failed"
            return Projected(comparison, outcome, note=str(error))
        if found.verdict != comparison.better:
            return Projected(comparison, "wrong", found)
        told = f"<think>{found.words}</think><answer>{comparison.better}</answer>"
        score = await score_one(comparison.sample(asked, told), checker)
        if not score.ok:
            return Projected(comparison, "failed", found, score.note)
        return Projected(comparison, "kept" if score.value > 0.5 else "unconvincing", found)

    return list(await gather(*map(one, compared)))


def critiques_row(comparison: Comparison, said: str, aspects: Mapping[str, str] = ASPECTS) -> Row:
    """Row that teaches a teacher to write both critiques, as `sample_critiques` asks for them."""
    return {
        "prompt": [{"role": "user", "content": question_of(comparison.request, aspects, single=False)}],
        "completion": [{"role": "assistant", "content": said}],
        "images": [picture.picture() for picture in comparison.pictures],
    }


def projected_rows(
    written: Iterable[Projected], aspects: Mapping[str, str] = ASPECTS, *, refined: bool = True
) -> list[Row]:
    """Rows of `prompt`, `completion` and `images` for supervised fine-tuning: two of each that was kept, one
    for each picture, without a word of the other or of the verdict.

    Args:
        refined: end each critique with the refined request, which the reward `critique` reads past.
    """
    rows = []
    for one in written:
        if one.outcome != "kept" or one.critiques is None:
            continue
        asked = question_of(one.comparison.request, aspects, single=True)
        for picture, part in zip(one.comparison.pictures, one.critiques.parts, strict=True):
            said = f"{part}\n# Better request\n{one.critiques.refined}" if refined else part
            rows.append({
                "prompt": [{"role": "user", "content": asked}],
                "completion": [{"role": "assistant", "content": said}],
                "images": [picture.picture()],
            })  # fmt: skip
    return rows

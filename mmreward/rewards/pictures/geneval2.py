"""GenEval2 (Soft-TIFA): how sure a vision-language model is of every answer that a prompt's questions demand.

All questions about a picture run in one batch that encodes it once. Probabilities are those of the judge's
first token, each token counted once, so that none can be above 1 as the published sums can.
"""

import json
import math
from asyncio import gather
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import YES_NO
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.numerals import UNITS

SUFFIX = " Answer in one word."
MAX_QUESTIONS = 64
"""Questions of one row; the published ones have at most 10 atoms."""


class Atom(NamedTuple):
    """One question, the words that it is right to answer with, others to tell them from, and its skill."""

    question: str
    right: tuple[str, ...]
    others: tuple[str, ...]
    skill: str


@reward(
    "geneval2",
    needs=("image",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2512.16853",
    licence="CC BY-NC 4.0 (GenEval2's questions); the judge's own",
    example={
        "meta": {
            "vqa_list": [
                ["How many circles are in the image?", "one"],
                ["Are the circles red?", "Yes"],
            ],
            "skills": ["count", "attribute"],
        }
    },
)
def geneval2(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct", how: Literal["gm", "am"] = "gm", dtype: str = "float32"
) -> Any:
    """Mean probability, 0 to 1, that a judge gives to the right answers of a prompt's questions (Soft-TIFA).

    The questions stand in `meta`, so that geneval2_data.jsonl is read as it is: `vqa_list`, pairs of question
    and answer, and `skills`, one for each. "gm" is their geometric mean, which one missing thing ruins; "am"
    the arithmetic one. `parts` has both, the least probability, and the mean of each skill (object,
    attribute, count, position, verb). GenEval2 reports 100 times the mean over prompts; by skill it pools all
    questions, and so is not the mean of these parts.

    What differs from upstream: there the probabilities of several spellings of an answer are added by their
    first tokens. Spellings with the same first token count twice then, and where a tokenizer splits digits,
    " 4" counts any answer that begins with a space: sums above 1 occur. Here every token counts once, and
    only where it is a whole spelling (also in capitals) of the number as a word or a digit, or of yes. For
    questions that do not begin with "How many", upstream takes "Yes" for right whatever the answer is; here
    "No" is right where it is the answer. Numbers above ten, of which upstream takes the word "other" for
    right, are read by their words. Its "tifa" (the likeliest token alone) is `checklist`; its "vqascore" is
    `vqascore` with a question of its own.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one); published numbers are those
            of the default.
        how: "gm" or "am".
        dtype: of the judge.
    """
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        atoms = atoms_of(sample.meta)
        reads = await gather(
            *(vlm.read(sample.image, atom.question + SUFFIX, (*atom.right, *atom.others)) for atom in atoms)
        )
        # A read's probabilities are shares of its mass, the probability of all its labels together.
        sure = [
            min(1.0, read.mass * sum(read.probs[word] for word in atom.right))
            for atom, read in zip(atoms, reads, strict=True)
        ]
        parts = {"am": sum(sure) / len(sure), "gm": geometric(sure), "least": min(sure)}
        for skill in dict.fromkeys(atom.skill for atom in atoms if atom.skill):
            own = [value for atom, value in zip(atoms, sure, strict=True) if atom.skill == skill]
            parts[skill] = sum(own) / len(own)
        worst = atoms[sure.index(parts["least"])]
        return Score(parts[how], parts, note=f"least sure of: {worst.question[:200]} {worst.right[0]}")

    return score


def geometric(values: Sequence[float]) -> float:
    """Geometric mean of probabilities; 0 where one is 0."""
    if min(values) <= 0:
        return 0.0
    return min(1.0, math.exp(sum(map(math.log, values)) / len(values)))


def atoms_of(meta: Mapping[str, Any]) -> list[Atom]:
    """The questions of one row.

    Raises:
        Unscorable: "missing" where there are none; else what is wrong with them.
    """
    pairs, skills = (_listed(meta.get(name), name) for name in ("vqa_list", "skills"))
    if not pairs:
        raise Unscorable("the row asks nothing: GenEval2's data has a list `vqa_list`", "missing")
    if len(pairs) > MAX_QUESTIONS:
        raise Unscorable(f"vqa_list has {len(pairs)} questions; the limit is {MAX_QUESTIONS}")
    if skills and len(skills) != len(pairs):
        raise Unscorable(f"{len(pairs)} questions in vqa_list have {len(skills)} skills")
    if odd := [skill for skill in skills if not isinstance(skill, str) or skill in ("am", "gm", "least")]:
        raise Unscorable(f"{str(odd[0])[:40]!r} is no name for a skill")
    return [
        _atom(pair, skill, number)
        for number, (pair, skill) in enumerate(zip(pairs, skills or [""] * len(pairs), strict=True))
    ]


def _listed(value: Any, name: str) -> Sequence[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise Unscorable(f"{name} is not JSON: {error}") from None
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise Unscorable(f"{name} is {type(value).__name__}, not a list")
    return value


def _atom(pair: Any, skill: str, number: int) -> Atom:
    where = f"vqa_list[{number}]"
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
        raise Unscorable(f"{where} is {str(pair)[:60]!r}, not [question, answer]")
    question, answer = pair[0], pair[1].strip().lower()
    if not question.strip():
        raise Unscorable(f"{where} has no question")
    if not question.startswith("How many"):
        if answer not in YES_NO:
            raise Unscorable(f"{where}: the answer is Yes or No, not {pair[1][:40]!r}")
        return Atom(question, (answer,), tuple(word for word in YES_NO if word != answer), skill)
    value = UNITS.index(answer) if answer in UNITS else int(answer) if answer in map(str, range(20)) else -1
    if value < 0:
        raise Unscorable(f"{where}: the answer is a number from zero to nineteen, not {pair[1][:40]!r}")
    if value < 10:
        return Atom(question, (UNITS[value], str(value)), (), skill)
    return Atom(question, (UNITS[value],), (UNITS[value - 1],), skill)  # its digits are no single token

"""DPG-Bench (ELLA, arXiv:2403.05135): yes-or-no questions about a dense prompt as a graph, in which a
question whose parent failed counts as wrong.
"""

import json
from asyncio import gather
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import YES_NO
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

MOST = 128
"""Questions of one row; DPG-Bench has 40 at most."""
SUFFIX = " Answer yes or no."
ROOT = 0
"""Parent of a question that hangs on none."""


class Proposition(NamedTuple):
    """One question of the graph; `category` is what stands before the bracket of its tuple."""

    number: int
    question: str
    parents: tuple[int, ...]
    category: str


@reward(
    "dpg",
    needs=("image",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2403.05135",
    licence="the judge's own; DPG-Bench's questions are Apache-2.0 (ELLA)",
    example={
        "meta": {
            "dpg": [
                {"proposition_id": 1, "dependency": "0", "question_natural_language": "Is there a circle?"},
                {"proposition_id": 2, "dependency": "1", "question_natural_language": "Is the circle red?"},
            ]
        }
    },
)
def dpg(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    suffix: str = SUFFIX,
    min_mass: float = 0.5,
    dtype: str = "float32",
) -> Any:
    """Share, 0 to 1, of a graph's questions that a judge answers with yes, those of failed parents not.

    The questions stand in `meta.dpg`, one object for each line that dpg_bench.csv has of a prompt, with its
    column names: `proposition_id`, `dependency` ("0" for none, else numbers with commas),
    `question_natural_language`, and `tuple`, by which `parts` has the share of each category before the graph
    is looked at, as published. `parts["asked"]` is the share of all before it. In pandas the rows are
    `{item: lines.to_dict("records") for item, lines in pandas.read_csv(csv).groupby("item_id")}`.

    A question counts only where all that it hangs on counts, however the lines are ordered: upstream, which
    goes through them once, lets a child through that stands before its failed parent. Upstream also leaves
    the file's first question out, takes the categories of the last of four crops, and drops pictures that it
    cannot read from its mean. It reports 100 times the mean, by mPLUG-large of modelscope, which
    transformers has not: numbers of other judges compare among themselves.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        suffix: what follows each question, so that a judge answers by one word.
        min_mass: a question is answered where yes and no have this much probability together; one that is
            not counts as wrong, and the note names it.
        dtype: of the judge.
    """
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        graph = graph_of(sample.meta)
        reads = await gather(*(vlm.read(sample.image, one.question + suffix, YES_NO) for one in graph))
        silent = [one.number for one, read in zip(graph, reads, strict=True) if read.mass < min_mass]
        right = {
            one.number: read.mass >= min_mass and read.answer == "yes"
            for one, read in zip(graph, reads, strict=True)
        }
        counted = passing(graph, right)
        for one in graph:
            why = "yes" if counted[one.number] else "yes, of a failed parent" if right[one.number] else "no"
            noted("counted", "{}: " + why, one.question)
        parts = {"asked": fmean(right.values())}
        for category in dict.fromkeys(one.category for one in graph if one.category):
            parts[category] = fmean(right[one.number] for one in graph if one.category == category)
        note = f"not answered, counted as wrong: {', '.join(map(str, silent))}" if silent else ""
        return Score(fmean(counted.values()), parts, note=note)

    return score


def passing(graph: Sequence[Proposition], right: Mapping[int, bool]) -> dict[int, bool]:
    """Which questions count: those answered with yes whose parents all count.

    Raises:
        Unscorable: questions that hang on one another in a circle.
    """
    parents = {one.number: [number for number in one.parents if number != ROOT] for one in graph}
    counted: dict[int, bool] = {}
    while len(counted) < len(graph):
        ready = [n for n in parents if n not in counted and all(p in counted for p in parents[n])]
        if not ready:
            circle = sorted(set(parents) - set(counted))
            raise Unscorable(f"questions {', '.join(map(str, circle))} hang on one another in a circle")
        for number in ready:
            counted[number] = right[number] and all(counted[p] for p in parents[number])
    return {one.number: counted[one.number] for one in graph}


def graph_of(meta: Mapping[str, Any]) -> list[Proposition]:
    """The graph of one row.

    Raises:
        Unscorable: "missing" where there is none; else what is wrong with it.
    """
    given = meta.get("dpg")
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise Unscorable(f"dpg is not JSON: {error}") from None
    if given is None:
        raise Unscorable("the row asks nothing: its questions belong into `dpg`", "missing")
    if not isinstance(given, list | tuple) or not given:
        raise Unscorable(f"dpg is {str(given)[:60]!r}, not a list of questions", "missing")
    if len(given) > MOST:
        raise Unscorable(f"dpg has {len(given)} questions; the limit is {MOST}")
    graph = [_proposition(line, place) for place, line in enumerate(given)]
    numbers = [one.number for one in graph]
    if len(set(numbers)) < len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise Unscorable(f"dpg has two questions of proposition_id {twice}")
    for one in graph:
        if lost := [number for number in one.parents if number not in (ROOT, *numbers)]:
            raise Unscorable(f"question {one.number} hangs on {lost[0]}, which is not there")
    return graph


def _proposition(line: Any, place: int) -> Proposition:
    where = f"dpg[{place}]"
    if not isinstance(line, Mapping):
        raise Unscorable(f"{where} is {str(line)[:60]!r}, not an object")
    question = line.get("question_natural_language")
    if not isinstance(question, str) or not question.strip():
        raise Unscorable(f"{where} has no question_natural_language")
    number = _whole(line.get("proposition_id"), f"{where}: proposition_id")
    if number < 1:
        raise Unscorable(f"{where}: proposition_id is {number}, and they begin with 1")
    said = line.get("dependency", ROOT)
    pieces = said if isinstance(said, list | tuple) else str(said).split(",")
    parents = tuple(_whole(piece, f"{where}: dependency") for piece in pieces)
    return Proposition(
        number, question.strip(), parents, str(line.get("tuple", "")).partition("(")[0].strip()
    )


def _whole(value: Any, where: str) -> int:
    text = str(value).strip().removesuffix(".0")
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise Unscorable(f"{where} is {str(value)[:40]!r}, which is no number")
    return int(text)

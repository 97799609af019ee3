"""Checklist: yes-or-no and counting questions about a picture or clip, each answered by a VLM and compared
with the answer that the prompt demands (after PEARL, TIFA, VQAScore).

The denominator is the number of questions asked. A question the judge does not answer counts as wrong:
dividing by the answered ones instead pays a model for answering only what is easy. A question may name others
that it depends on: no colour of a circle where there is no circle (after DSG, arXiv:2310.18235).
"""

from asyncio import gather
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, NamedTuple

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import YES_NO
from ...registry import reward
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch


class Check(NamedTuple):
    """A question, its right answer, the answers to choose from, and the names of those it depends on."""

    question: str
    answer: str
    choices: tuple[str, ...]
    parents: tuple[str, ...] = ()


@reward(
    "checklist",
    needs=("prompt", "shown"),
    range=(0.0, 1.0),
    differentiable=True,
    paper="arXiv:2303.11897, arXiv:2404.01291, arXiv:2310.18235",
    example={
        "prompt": "a red circle",
        "meta": {
            "checklist": [
                {"question": "Is there a red circle? Answer yes or no.", "answer": "yes"},
                {"question": "How many shapes are there? Answer with one number.", "answer": "1"},
            ]
        },
    },
)
def checklist(
    questions: Mapping[str, str] | None = None,
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    soft: bool = False,
    min_mass: float = 0.5,
    dtype: str = "float32",
    dependent: bool = False,
) -> tuple[Any, Any]:
    """Share of questions about the picture or clip that the judge answers as the prompt demands, 0 to 1.

    Questions come from `sample.meta["checklist"]` when it is there: a list of {"question", "answer"} with
    optional "choices" (default yes and no; numbers 0 to 9 when the answer is one), "name", and "parents",
    names of other entries; `mmreward questions` writes such lists. Otherwise `questions` are asked, with
    {prompt} filled in and "yes" as the right answer.

    `score_tensor` is there with soft=True and a judge in this process. It asks `questions`, for there is no
    checklist beside pixels, and resizes in float where `score` resizes 8-bit values. A question that was not
    answered counts as wrong there too, and has no gradient.

    Args:
        questions: name -> question; default one question, whether the picture matches the prompt.
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        soft: add up the probability of each right answer; otherwise count the questions where it is the
            likeliest.
        min_mass: a question whose choices have less probability than this together was not answered.
        dtype: of the judge.
        dependent: a question counts as wrong where one of its parents was not answered rightly, or one of
            theirs; all are asked either way. With `soft`, a parent is answered rightly where the right answer
            is the likeliest.
    """
    templates = questions or {"match": "Does this picture match the prompt: {prompt}? Answer yes or no."}
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        checks = checks_of(sample, templates)
        reads = await gather(*(vlm.read(sample.shown, c.question, c.choices) for c in checks.values()))
        parts: dict[str, float] = {}
        unanswered, failed, dropped = [], set[str](), []
        for (name, check), read in zip(checks.items(), reads, strict=True):
            if read.mass < min_mass:
                unanswered.append(name)
                parts[name] = 0.0
            else:
                parts[name] = read.probs[check.answer] if soft else float(read.answer == check.answer)
            if read.mass < min_mass or read.answer != check.answer:
                failed.add(name)
        if dependent:
            for name in in_order(checks):
                if failed.intersection(checks[name].parents):
                    failed.add(name)
                    dropped += [name] if parts[name] else []
                    parts[name] = 0.0
        said = {"not answered": unanswered, "depending on a wrong one": dropped}
        notes = [f"{why}, counted as wrong: {', '.join(names)}" for why, names in said.items() if names]
        return Score(sum(parts.values()) / len(parts), parts, note="; ".join(notes))

    read_pixels = vlm.read_pixels
    if read_pixels is None or not soft:
        return score, None

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        texts = [[check.question for check in filled(templates, prompt).values()] for prompt in prompts]
        probs, mass = read_pixels(pixels, texts, YES_NO)
        return (probs[..., 0] * (mass >= min_mass)).mean(-1)

    return score, score_tensor


def filled(templates: Mapping[str, str], prompt: str) -> dict[str, Check]:
    """Questions from the templates about this prompt; the right answer to each is "yes"."""
    return {name: Check(text.replace("{prompt}", prompt), "yes", YES_NO) for name, text in templates.items()}


def checks_of(sample: Sample, templates: Mapping[str, str]) -> dict[str, Check]:
    """Checklist of the sample, or the templates filled in; the names become the score's parts.

    Raises:
        Unscorable: the checklist is empty or an entry of it has the wrong form.
    """
    own = sample.meta.get("checklist")
    if own is None:
        return filled(templates, sample.prompt)
    checks = {}
    for number, entry in enumerate(own, start=1):
        if not isinstance(entry, Mapping) or not {"question", "answer"} <= set(entry):
            raise Unscorable(
                f"checklist entry {number} needs a question and an answer, got {entry!r}", "missing"
            )
        answer = str(entry["answer"]).lower()
        default = tuple("0123456789") if answer.isdigit() else YES_NO
        choices = tuple(str(choice).lower() for choice in entry.get("choices") or default)
        if answer not in choices:
            raise Unscorable(
                f"answer {answer!r} of checklist entry {number} is not among {', '.join(choices)}"
            )
        name = str(entry.get("name", f"q{number}: {entry['question']}"))
        if name in checks:
            raise Unscorable(f"two checklist entries are named {name!r}")
        checks[name] = Check(entry["question"], answer, choices, _parents(entry.get("parents"), number))
    if not checks:
        raise Unscorable("the checklist is empty", "missing")
    in_order(checks)
    return checks


def _parents(given: Any, number: int) -> tuple[str, ...]:
    if given is None:
        return ()
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise Unscorable(f"parents of checklist entry {number} are {str(given)[:80]!r}, not a list of names")
    return tuple(given)


def in_order(checks: Mapping[str, Check]) -> list[str]:
    """Names of the checks, parents before what depends on them.

    Raises:
        Unscorable: a parent that is not in the checklist, or entries that wait for each other.
    """
    for name, check in checks.items():
        if lost := [parent for parent in check.parents if parent not in checks]:
            raise Unscorable(f"checklist entry {name!r} depends on {lost[0]!r}, which is not there")
    try:
        return list(TopologicalSorter({name: check.parents for name, check in checks.items()}).static_order())
    except CycleError as error:
        raise Unscorable(f"checklist entry {error.args[1][0]!r} depends on itself") from None

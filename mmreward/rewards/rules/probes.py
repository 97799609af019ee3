"""Perception probes (PEARL): sub-questions whose answers can be checked, about what a question's reasoning
will need.

The policy answers them in a rollout of its own, as `<a1>...</a1><a2>...</a2>`: does it itself see what it
reasons about? The denominator is the number of probes. PEARL's code divides by the answered ones, ignores the
number in a tag, and pays 1.0 for one easy probe answered first. Source: https://github.com/MiliLab/PEARL
"""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any, NamedTuple

from ...errors import Unscorable
from ...limits import limits, most
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.response import Verdict, verified
from ...verifiers.text import nfkc

PARTS = ("answered", "all_right")
TAGS = 4
"""Tags of a response for each probe that a row may have; one with more is not read."""
TAG = re.compile(r"<(/?)a(\d{1,3})>")
NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?")
PROMPT = "Look at the picture and answer each question with a word, a number or a short phrase.\n{listing}"


class Probe(NamedTuple):
    """A sub-question and the answers that are right."""

    question: str
    answers: tuple[str, ...]


def probes_of(entries: Any) -> list[Probe]:
    """Read the probes of a data row: a list of {"question", "answer"}, where answer may be a list of
    synonyms.

    Raises:
        Unscorable: "missing" or "error" with what is wrong, as that is the data's fault.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise Unscorable(
            'the row has no probes: give a list of {"question": ..., "answer": ...}, '
            f"not {str(entries)[:80]!r}",
            "missing",
        )
    if len(entries) > limits().questions:
        raise Unscorable(f"{len(entries)} probes; a question has {most('questions')} at most")
    return [_probe(number, entry) for number, entry in enumerate(entries, start=1)]


def _probe(number: int, entry: Any) -> Probe:
    if not isinstance(entry, Mapping) or not {"question", "answer"} <= set(entry):
        raise Unscorable(f"probe {number} needs a question and an answer, got {str(entry)[:80]!r}", "missing")
    given = entry["answer"]
    answers = tuple(map(str, given)) if isinstance(given, list | tuple) else (str(given),)
    if not answers or not all(map(_normal, answers)):
        raise Unscorable(f"probe {number} has an answer without a word or number in it: {str(given)[:80]!r}")
    return Probe(str(entry["question"]), answers)


def probe_prompt(probes: Sequence[Probe]) -> str:
    """Prompt of the auxiliary rollout."""
    lines = (f"{k}. {probe.question} Write <a{k}>...</a{k}>." for k, probe in enumerate(probes, start=1))
    return PROMPT.format(listing="\n".join(lines))


def read_probes(text: str) -> dict[int, list[str]]:
    """Read the answers by number, every one given under it, from the tags after the last `</think>`.

    An answer is what stands between an opening tag and the closing tag of the same number right after it.

    Raises:
        Unscorable: "unparsable" when the thinking is not closed, or there are no answers or too many tags.
    """
    _, closed, body = text.rpartition("</think>")
    if not closed and "<think>" in text:
        raise Unscorable("the reasoning was never closed: the response is cut off", "unparsable")
    allowed = TAGS * limits().questions
    tags = list(islice(TAG.finditer(body), allowed + 1))
    if len(tags) > allowed:
        raise Unscorable(f"more than {allowed} tags", "unparsable")
    found: dict[int, list[str]] = {}
    for opening, closing in pairwise(tags):
        if (opening[1], closing[1]) == ("", "/") and opening[2] == closing[2]:
            found.setdefault(int(opening[2]), []).append(body[opening.end() : closing.start()].strip())
    if not found:
        raise Unscorable("no probe is answered in <a1>...</a1>", "unparsable")
    return found


def probe_accuracy(text: str, probes: Sequence[Probe]) -> Verdict:
    """Grade a rollout: share of the probes answered rightly, 0 to 1; one that is not answered, or answered
    twice, is wrong.

    `parts`: the share that was answered once, and 1 where all are right.

    Raises:
        Unscorable: as `read_probes`.
    """
    given = read_probes(text)
    once = {number: answers[0] for number, answers in given.items() if len(answers) == 1 and answers[0]}
    right = [k in once and is_right(once[k], probe) for k, probe in enumerate(probes, start=1)]
    for number, (probe, good) in enumerate(zip(probes, right, strict=True), start=1):
        said = given.get(number, [])
        noted(
            f"probe {number}", "{} with {}: " + ("right" if good else "not right"), said, list(probe.answers)
        )
    answered = sum(k in once for k in range(1, len(probes) + 1)) / len(probes)
    wrong = [str(k) for k, good in enumerate(right, start=1) if not good]
    note = f"wrong or not answered: {', '.join(wrong)}" if wrong else ""
    return Verdict(sum(right) / len(probes), {"answered": answered, "all_right": float(all(right))}, note)


def is_right(answer: str, probe: Probe) -> bool:
    """True for an answer equal to one of the probe's: as a number where both are one, else but for case,
    spacing and the punctuation around it."""
    return any(_same(_normal(answer), _normal(right)) for right in probe.answers)


def _same(answer: str, right: str) -> bool:
    if NUMBER.fullmatch(answer) and NUMBER.fullmatch(right):
        return Fraction(answer) == Fraction(right)
    return bool(answer) and answer == right


def _normal(text: str) -> str:
    return " ".join(nfkc(text[:4096]).casefold().split()).strip(" .,;:!?*_`\"'()")


@reward(
    "probes",
    needs=("response",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="https://github.com/MiliLab/PEARL",
    example={
        "response": "<a1>red</a1><a2>2</a2>",
        "meta": {
            "probes": [
                {"question": "Which colour is the circle?", "answer": "red"},
                {"question": "How many squares are there?", "answer": "3"},
            ]
        },
    },
)
def probes() -> Any:
    """Share of a question's perception probes that the policy answers rightly, 0 to 1.

    The response is the auxiliary rollout, written for `probe_prompt`: all probes answered
    at once as `<a1>...</a1><a2>...</a2>`. Where it stands in another column of the data, name that column
    for `response` in the configuration. `sample.meta["probes"]` holds {"question", "answer"} each, with a
    list of answers for synonyms. A probe that is left out or answered twice is wrong; a response without a
    readable answer is worth 0 with `parts["parsed"]` 0. The gate that uses the score: `adapters.trl_gate`.
    """

    async def score(sample: Sample) -> Score:
        wanted = probes_of(sample.meta.get("probes"))
        return verified(lambda: probe_accuracy(sample.response or "", wanted), PARTS)

    return score

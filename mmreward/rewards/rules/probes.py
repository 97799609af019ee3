"""Perception probes (PEARL): sub-questions of a reasoning question that a policy answers in a rollout of its
own, as `<a1>...</a1><a2>...</a2>`, and whose answers can be checked.

The denominator is the number of probes. PEARL's code divides by the answered ones, see
`pearl_probe_accuracy`. Source: https://github.com/MiliLab/PEARL
"""

# FOLDED mmreward/rewards/probes.py: Perception probes (PEARL): does the policy itself see what its reasoning will need?

import re
import unicodedata
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any, NamedTuple

from ...errors import Unscorable
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.response import Verdict, verified

PARTS = ("answered", "all_right")
MOST = 64
"""Probes of one question."""
TAGS = 4 * MOST
"""Tags that are looked at; a response with more is not read."""
TAG = re.compile(r"<(/?)a(\d{1,3})>")
NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?")
PROMPT = "Look at the picture and answer each question with a word, a number or a short phrase.\n{listing}"


class Probe(NamedTuple):
    """A sub-question and the answers that are right."""

    question: str
    answers: tuple[str, ...]


def probes_of(entries: Any) -> list[Probe]:
    """The probes of a data row: a list of {"question", "answer"}, where answer may be a list of synonyms.

    Raises:
        Unscorable: "missing" or "error" with what is wrong, as that is the data's fault.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise Unscorable(
            'the row has no probes: give a list of {"question": ..., "answer": ...}, '
            f"not {str(entries)[:80]!r}",
            "missing",
        )
    if len(entries) > MOST:
        raise Unscorable(f"{len(entries)} probes; a question has {MOST} at most")
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
    """What to ask the policy in the auxiliary rollout."""
    lines = (f"{k}. {probe.question} Write <a{k}>...</a{k}>." for k, probe in enumerate(probes, start=1))
    return PROMPT.format(listing="\n".join(lines))


def read_probes(text: str) -> dict[int, list[str]]:
    """Number -> every answer given under it, from the tags after the last `</think>`.

    An answer is what stands between an opening tag and the closing tag of the same number right after it.

    Raises:
        Unscorable: "unparsable" when the thinking is not closed, or there are no answers or too many tags.
    """
    _, closed, body = text.rpartition("</think>")
    if not closed and "<think>" in text:
        raise Unscorable("the reasoning was never closed: the response is cut off", "unparsable")
    tags = list(islice(TAG.finditer(body), TAGS + 1))
    if len(tags) > TAGS:
        raise Unscorable(f"more than {TAGS} tags", "unparsable")
    found: dict[int, list[str]] = {}
    for opening, closing in pairwise(tags):
        if (opening[1], closing[1]) == ("", "/") and opening[2] == closing[2]:
            found.setdefault(int(opening[2]), []).append(body[opening.end() : closing.start()].strip())
    if not found:
        raise Unscorable("no probe is answered in <a1>...</a1>", "unparsable")
    return found


def probe_accuracy(text: str, probes: Sequence[Probe]) -> Verdict:
    """Share of the probes answered rightly, 0 to 1; one that is not answered, or answered twice, is wrong.

    `parts`: the share that was answered once, and whether all are right.

    Raises:
        Unscorable: as `read_probes`.
    """
    said = read_probes(text)
    once = {number: answers[0] for number, answers in said.items() if len(answers) == 1 and answers[0]}
    right = [k in once and is_right(once[k], probe) for k, probe in enumerate(probes, start=1)]
    answered = sum(k in once for k in range(1, len(probes) + 1)) / len(probes)
    wrong = [str(k) for k, good in enumerate(right, start=1) if not good]
    note = f"wrong or not answered: {', '.join(wrong)}" if wrong else ""
    return Verdict(sum(right) / len(probes), {"answered": answered, "all_right": float(all(right))}, note)


def is_right(said: str, probe: Probe) -> bool:
    """Equal to one of the answers: as a number where both are one, else but for case, spacing and the
    punctuation around it."""
    return any(_same(_normal(said), _normal(answer)) for answer in probe.answers)


def pearl_probe_accuracy(text: str, probes: Sequence[Probe]) -> float:
    """PEARL's number, for comparison: right / answered, answers paired with probes by their order.

    The number in a tag is ignored and a probe that is left out costs nothing, so a policy that answers one
    easy probe first earns 1.0. No answer at all gives 0.
    """
    answers = re.findall(r"<a\d{1,3}>([^<]{0,4096})</a\d{1,3}>", text)[: len(probes)]
    right = [is_right(said, probe) for said, probe in zip(answers, probes, strict=False)]
    return sum(right) / len(right) if right else 0.0


def _same(said: str, wanted: str) -> bool:
    if NUMBER.fullmatch(said) and NUMBER.fullmatch(wanted):
        return Fraction(said) == Fraction(wanted)
    return bool(said) and said == wanted


def _normal(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text[:4096]).replace("\u2212", "-").casefold()
    return " ".join(plain.split()).strip(" .,;:!?*_`\"'()")


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

    The response is the auxiliary rollout, written for `verifiers.probes.probe_prompt`: all probes answered
    at once as `<a1>...</a1><a2>...</a2>`. Where it stands in another column of the data, name that column
    for `response` in the configuration. `sample.meta["probes"]` holds {"question", "answer"} each, with a
    list of answers for synonyms. A probe that is left out or answered twice is wrong; a response without a
    readable answer is worth 0 with `parts["parsed"]` 0. What to do with the score: the gate in `adapters.trl_gate`.
    """

    async def score(sample: Sample) -> Score:
        wanted = probes_of(sample.meta.get("probes"))
        return verified(lambda: probe_accuracy(sample.response or "", wanted), PARTS)

    return score

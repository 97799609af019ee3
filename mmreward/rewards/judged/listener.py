"""Listener reward: an independent frozen VLM, given the reasoning, should reach the right verdict
(arXiv:2506.22832).

A reasoner that argues badly loses its listener, even when its own answer is right. The answer and every
sentence of the reasoning that announces it are removed first (`mask_verdict`): a listener that knows the
verdict measures nothing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import shown_to
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.response import escaped, read_or_wrong, segment

CUES = re.compile(
    r"\b(answer|verdict|conclusion|conclude|judge?ment|choose|choice|pick|prefer|select|winner|wins|better|best|final"
    r"|go with|superior|stronger|strongest|beats?|outperforms?|favou?r|vote|worse|worst|loses|closer"
    r"|more (?:closely|accurate|accurately|faithful|faithfully))\b",
    re.IGNORECASE,
)
LED = re.compile(r"^\W*(?:so|therefore|thus|hence|overall|finally)\b", re.IGNORECASE)
YES_NO = re.compile(
    r"^\W*(?:yes|no)\s*(?:[,.:;!*\u2013\u2014]|-+\s|$)|\b(?:yes|no)\W*$|\ba\s+(?:yes|no)\b", re.IGNORECASE
)
ORDINALS = {"1": "first", "2": "second", "3": "third", "4": "fourth"}
MATCHES = re.compile(
    r"\b(?:it|picture|image|this|does|do|so|request|prompt|description)\b[^.]{0,40}"
    r"\b(?:match|fit|satisf(?:y|ies|ied)|fulfil)",
    re.IGNORECASE,
)

PROMPT = """{prompt}
Another viewer reasoned as follows:
{reasoning}
Look for yourself. Answer {labels}."""
PARTS = ("mass", "agrees")


class _Masked(NamedTuple):
    """A response for the listener: reasoning without the verdict, the answer given, and the right verdict."""

    reasoning: str
    answer: str
    verdict: str


@reward(
    "listener",
    needs=("prompt", "response"),
    optional=("shown", "inputs"),
    range=(0.0, 1.0),
    paper="arXiv:2506.22832",
    example={
        "prompt": "Does this picture match the request: a red circle?",
        "response": "<think>The picture shows a red circle and nothing else.</think><answer>yes</answer>",
        "target": "yes",
    },
)
def listener(
    listener: str = "Qwen/Qwen2.5-VL-7B-Instruct",
    labels: tuple[str, ...] = ("yes", "no"),
    min_mass: float = 0.5,
    dtype: str = "float32",
) -> Any:
    """Probability, 0 to 1, that the listener gives to the right verdict after reading the reasoning.

    The sample's prompt is the question, its image or inputs are what both models look at, and its response is
    the reasoner's `<think>...</think><answer>...</answer>`. The right verdict is `sample.target`; without a
    target it is the reasoner's own answer, so the score measures how convincing it is.

    Args:
        listener: the frozen VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one); not the model
            being trained.
        labels: the possible verdicts, such as ("yes", "no") or ("1", "2").
        min_mass: smallest probability of the labels together that is believed.
        dtype: of the listener.
    """
    vlm = models.vlm(listener, dtype=dtype)
    known = {label.lower(): label for label in labels}

    async def score(sample: Sample) -> Score:
        masked = read_or_wrong(lambda: _masked(sample, known), PARTS)
        if isinstance(masked, Score):
            return masked
        media = shown_to(sample)
        if not media:
            raise Unscorable("the sample has no image and no inputs to look at", "missing")
        prompt = PROMPT.format(prompt=sample.prompt, reasoning=masked.reasoning, labels=" or ".join(labels))
        read = await vlm.read(media, prompt, labels)
        parts = {"parsed": 1.0, "mass": read.mass, "agrees": float(read.answer.lower() == masked.answer)}
        if read.mass < min_mass:
            raise Unscorable(f"the labels have {read.mass:.3f} of the probability", "unparsable", parts)
        return Score(read.probs[known[masked.verdict]], parts)

    return score


def _masked(sample: Sample, known: Mapping[str, str]) -> _Masked:
    """Take a response apart for the listener; `known` maps the lower-case labels to their spelling."""
    parsed = segment(sample.response or "")
    answer = parsed.answer.strip().lower()
    verdict = str(sample.target).strip().lower() if sample.target is not None else answer
    if verdict not in known:
        reason = f"the verdict {verdict[:40]!r} is not one of {', '.join(known.values())}"
        raise Unscorable(reason, "unparsable" if sample.target is None else "error")
    reasoning = escaped(mask_verdict(parsed.thought, list(known.values())))
    if not reasoning:
        raise Unscorable("there is no reasoning before the answer", "unparsable")
    return _Masked(reasoning, answer, verdict)


def mask_verdict(thought: str, labels: Sequence[str]) -> str:
    """Reasoning without the sentences that announce the verdict.

    A sentence goes when it names a label (or "first" for "1") together with a word such as "answer" or
    "better", when it starts with "so" or "therefore" and ends with a label, and when it is nothing but one.
    For yes-or-no verdicts it also goes when it opens with "yes," or ends with "yes", and when it says that
    the picture does or does not match.
    """
    words = "|".join(map(re.escape, [*labels, *(ORDINALS[label] for label in labels if label in ORDINALS)]))
    named = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
    ended = re.compile(rf"(?<!\w)(?:{words})\W*$", re.IGNORECASE)
    alone = {label.lower() for label in labels}
    binary = alone == {"yes", "no"}
    kept = []
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", thought):
        bare = sentence.strip(" .!?*:\"'").lower()
        announces = (
            (CUES.search(sentence) and named.search(sentence))
            or (LED.search(sentence) and ended.search(sentence))
            or (binary and (YES_NO.search(sentence) or MATCHES.search(sentence)))
        )
        if bare and bare not in alone and not announces:
            kept.append(sentence.strip())
    return " ".join(kept)

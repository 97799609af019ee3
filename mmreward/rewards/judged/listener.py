"""Listener reward: does an independent frozen VLM, given the reasoning, reach the right verdict?

A reasoner that argues badly loses its listener, even when its own answer is right. The answer and every
sentence of the reasoning that announces it are removed first: a listener told the verdict measures nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import shown_to
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.response import defused, mask_verdict, read_or_wrong, segment

PROMPT = """{prompt}
Another viewer reasoned as follows:
{reasoning}
Look for yourself. Answer {labels}."""
PARTS = ("mass", "agrees")


class _Heard(NamedTuple):
    """A response taken apart: its reasoning without the verdict, its answer, and the right verdict."""

    reasoning: str
    answer: str
    verdict: str


@reward(
    "listener",
    needs=("prompt", "response"),
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
        heard = read_or_wrong(lambda: _heard(sample, known), PARTS)
        if isinstance(heard, Score):
            return heard
        media = shown_to(sample)
        if not media:
            raise Unscorable("the sample has no image and no inputs to look at", "missing")
        prompt = PROMPT.format(prompt=sample.prompt, reasoning=heard.reasoning, labels=" or ".join(labels))
        read = await vlm.read(media, prompt, labels)
        parts = {"parsed": 1.0, "mass": read.mass, "agrees": float(read.answer.lower() == heard.answer)}
        if read.mass < min_mass:
            raise Unscorable(f"the labels have {read.mass:.3f} of the probability", "unparsable", parts)
        return Score(read.probs[known[heard.verdict]], parts)

    return score


def _heard(sample: Sample, known: Mapping[str, str]) -> _Heard:
    """What the listener is told, and what it should say."""
    parsed = segment(sample.response or "")
    answer = parsed.answer.strip().lower()
    verdict = str(sample.target).strip().lower() if sample.target is not None else answer
    if verdict not in known:
        reason = f"the verdict {verdict[:40]!r} is not one of {', '.join(known.values())}"
        raise Unscorable(reason, "unparsable" if sample.target is None else "error")
    reasoning = defused(mask_verdict(parsed.thought, list(known.values())))
    if not reasoning:
        raise Unscorable("there is no reasoning before the answer", "unparsable")
    return _Heard(reasoning, answer, verdict)

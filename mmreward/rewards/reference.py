"""Reference likelihood (RLPR style): how much does the reasoning help a model to the reference answer?

A verifiable reward for answers that no rule can check. The policy's own answer plays no part: its reasoning
is followed by the reference, and the probabilities of the reference's tokens are read.
"""

import math
from asyncio import gather
from typing import Any, Literal

from .. import models
from ..failures import Unscorable
from ..models.answers import LogProb
from ..models.judging import shown_to
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.fence import defused
from ..verifiers.readable import read_or_wrong, reasoned

OPENING = "<answer>\n"
"""A line break, so that no token holds the tag's end and the reference's first letter."""
PARTS = ("with_reasoning", "without")


@reward(
    "reference",
    needs=("prompt", "response", "target"),
    range=(0.0, 1.0),
    paper="arXiv:2506.18254",
    example={
        "prompt": "Is there a red circle? Answer yes or no.",
        "response": "<think>The picture shows a red circle.</think><answer>yes</answer>",
        "target": "yes",
    },
)
def reference(
    judge: str = "Qwen/Qwen2.5-VL-7B-Instruct",
    how: Literal["mean", "geometric", "product"] = "mean",
    relative: bool = True,
    dtype: str = "float32",
) -> Any:
    """How probable the reference answer is after the response's reasoning, 0 to 1.

    The target is the reference's text. With `relative`, the probability without any reasoning is taken off
    and what is below 0 is cut, so that what the model knew anyway pays nothing. `parts` holds both. A
    response without reasoning or without an answer is worth 0 with `parts["parsed"]` 0.

    Args:
        judge: the VLM whose probabilities are read, usually the policy or what it started from (hub id,
            folder, "mini-vlm", or MODEL@URL for one served by vLLM).
        how: of the reference's tokens the "mean" probability, which one unlikely token cannot ruin; their
            "geometric" mean; or the "product", the probability of the whole text.
        relative: take off the probability without reasoning.
        dtype: of the judge.
    """
    if how not in ("mean", "geometric", "product"):
        raise ValueError(f"how is mean, geometric or product, not {how!r}")
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        if not isinstance(sample.target, str | int | float) or not str(sample.target).strip():
            raise Unscorable(f"the target is the reference answer's text, not {str(sample.target)[:80]!r}")
        wanted = str(sample.target).strip()
        found = read_or_wrong(lambda: reasoned(sample.response or ""), PARTS)
        if isinstance(found, Score):
            return found
        media = shown_to(sample)
        beginnings = [f"<think>{defused(found.thought)}</think>{OPENING}", OPENING]
        read = await gather(*(vlm.logprob(media, sample.prompt, wanted, given=text) for text in beginnings))
        informed, blind = (likelihood(logprob, how) for logprob in read)
        value = max(0.0, informed - blind) if relative else informed
        return Score(value, {"parsed": 1.0, "with_reasoning": informed, "without": blind})

    return score


def likelihood(logprob: LogProb, how: str) -> float:
    """One probability for a text of several tokens, 0 to 1."""
    if how == "mean":
        return sum(map(math.exp, logprob.each)) / logprob.tokens
    return math.exp(logprob.total / (logprob.tokens if how == "geometric" else 1))

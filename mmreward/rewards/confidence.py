"""Confidence as reward (CRew): how sure the policy is of its final answer.

Confidence is no correctness: a policy paid for it alone becomes sure of anything. Gate it with a verifier,
or pair right and wrong responses by it as CRew-DPO does: `mmreward.shaping.contrast`.
"""

import math
from typing import Any, NamedTuple

from .. import models
from ..failures import Unscorable
from ..models.judging import shown_to
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.answer import segment
from ..verifiers.fence import defused
from ..verifiers.readable import read_or_wrong

PARTS = ("least", "tokens")


class Answered(NamedTuple):
    """A response cut before its final answer, and that answer."""

    before: str
    answer: str


@reward(
    "confidence",
    needs=("prompt", "response"),
    range=(0.0, 1.0),
    paper="arXiv:2510.13501",
    example={
        "prompt": "Is there a red circle? Answer yes or no.",
        "response": "<think>The picture shows a red circle.</think><answer>yes</answer>",
    },
)
def confidence(judge: str = "Qwen/Qwen2.5-VL-7B-Instruct", dtype: str = "float32") -> Any:
    """Mean probability, 0 to 1, of the final answer's tokens given all that the response says before.

    `parts` holds the least probable token's and their number. A response without a readable answer is worth
    0 with `parts["parsed"]` 0.

    Args:
        judge: the policy, or whose confidence is asked for (hub id, folder, "mini-vlm", or MODEL@URL for one
            served by vLLM).
        dtype: of the judge.
    """
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        found = read_or_wrong(lambda: answered(sample.response or ""), PARTS)
        if isinstance(found, Score):
            return found
        media = shown_to(sample)
        read = await vlm.logprob(media, sample.prompt, found.answer, given=found.before)
        probabilities = [math.exp(each) for each in read.each]
        parts = {"parsed": 1.0, "least": min(probabilities), "tokens": float(read.tokens)}
        return Score(sum(probabilities) / len(probabilities), parts)

    return score


def answered(response: str) -> Answered:
    """Where the answer stands.

    Raises:
        Unscorable: "unparsable" when there is none, or more than one, or an empty one.
    """
    answer = segment(response).answer
    if not answer:
        raise Unscorable("the answer is empty", "unparsable")
    before = response[: response.index(answer, response.rindex("<answer>") + len("<answer>"))]
    return Answered(defused(before), defused(answer))

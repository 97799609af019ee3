"""Self-certainty: how far from guessing the policy is while it writes, without any reference.

It rises with repetition and with sure nonsense, so it ranks samples of one prompt (best of N) better than it
trains: watch it beside a verifier.
"""

import math
from typing import Any

from .. import models
from ..failures import Unscorable
from ..models.judging import shown_to
from ..registry import reward
from ..types import Sample, Score
from ..verifiers.fence import defused
from ..verifiers.readable import read_or_wrong, replied

PARTS = ("perplexity", "tokens")


@reward(
    "self_certainty",
    needs=("prompt", "response"),
    range=(0.0, math.inf),
    paper="arXiv:2502.18581",
    example={"prompt": "Is there a red circle? Answer yes or no.", "response": "yes"},
)
def self_certainty(judge: str = "Qwen/Qwen2.5-VL-7B-Instruct", dtype: str = "float32") -> Any:
    """Mean over the response's tokens of KL(uniform || p) in nats: 0 for a uniform guess, no upper bound.

    p is over the whole vocabulary, which a served model does not show: there the score is an "error".
    `parts` holds the response's perplexity and its number of tokens. An empty response, or one that was
    cut off, is worth 0 with `parts["parsed"]` 0.

    Args:
        judge: the policy, or whose certainty is asked for (hub id, folder, "mini-vlm").
        dtype: of the judge.
    """
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        found = read_or_wrong(lambda: _spoken(sample.response or ""), PARTS)
        if isinstance(found, Score):
            return found
        media = shown_to(sample)
        read = await vlm.logprob(media, sample.prompt, found)
        if read.certainty is None:
            raise Unscorable(f"{vlm.name} is served, and no server shows its whole vocabulary")
        parts = {"perplexity": math.exp(-read.total / read.tokens), "tokens": float(read.tokens)}
        return Score(max(0.0, read.certainty), {"parsed": 1.0, **parts})

    return score


def _spoken(response: str) -> str:
    replied(response)  # a response that was cut off, or says nothing, is refused
    return defused(response.strip())

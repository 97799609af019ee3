"""Skywork-VL-Reward (arXiv:2505.07263): a scalar for a response to a question about pictures."""

import math
from typing import Any

from ... import models
from ...models.vlms.answers import shown_to
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.response import spoken


@reward(
    "skywork_vl",
    needs=("prompt", "response"),
    optional=("shown", "inputs"),
    range=(-math.inf, math.inf),
    paper="arXiv:2505.07263",
    licence="MIT (Skywork/Skywork-VL-Reward-7B); its body Apache-2.0 (Qwen/Qwen2.5-VL-7B-Instruct)",
    example={"prompt": "how many shapes are there?", "response": "two"},
)
def skywork_vl(
    weights: str = "Skywork/Skywork-VL-Reward-7B", max_pixels: int = 0, dtype: str = "float32"
) -> Any:
    """Preference for a response to a question about pictures, without bounds or a unit.

    A linear head reads the last token of the chat that question and response make, the line end behind the
    response. Of two responses to one question, sigmoid of the difference is the probability that the first
    is preferred; different questions do not compare. Pictures are optional: image or clip first, then
    `inputs`, all before the question.

    8.3 billion weights: 17 GB in bfloat16, as the publisher runs it (`dtype`), 33 GB in float32. The hub asks
    for your name before it gives them. Pictures are read with up to 16,384 tokens, which is slow;
    `max_pixels` is the lever, and changes the score.

    Where other code disagrees: trl's value head is read at the number of tokens less one, which with padding
    on the left is another token than the last. Here a batch gives each row its own. A prompt or response
    with a token that ends a turn is a failure and no score, for it could write its own praise; so is a
    response that is empty or ends within its <think>.

    Args:
        weights: a hub id or folder: a Qwen2.5-VL in transformers format with a `value_head.safetensors`, as
            LLaMA-Factory saves any scalar reward model.
        max_pixels: pictures with more are reduced; 0 takes the checkpoint's own limit.
        dtype: of the body; the head is in float32.

    Raises:
        ValueError: the weights are not on this machine and the hub cannot be reached; max_pixels below 0.
    """
    if max_pixels < 0:
        raise ValueError(f"max_pixels={max_pixels}: expected a number of pixels, or 0")
    net = models.scalar_vlm(weights, weights, flat=False, high=max_pixels, dtype=dtype)

    async def score(sample: Sample) -> Score:
        response = spoken(sample.response)
        media = shown_to(sample)
        ((value,),) = await net.score(media, sample.prompt, answer=response)
        noted("read", "{} at the end of the response, after {} pictures", value, len(media))
        return Score(value)

    return score

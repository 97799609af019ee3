"""EditReward (TIGER-Lab, arXiv:2509.26346): an edited picture beside its source, rated for what was asked and
for how it looks.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from ... import models
from ...errors import Unscorable, nearest
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

TOKEN = "<|Reward|>"
PIXELS = 256 * 28 * 28
"""Of either picture, at least and at most."""
VARIANTS = {
    "mimo": ("TIGER-Lab/EditReward-MiMo-VL-7B-SFT-2508/model.safetensors", "XiaomiMiMo/MiMo-VL-7B-SFT-2508"),
    "qwen2.5": ("TIGER-Lab/EditReward-Qwen2.5-VL-7B/model.safetensors", "Qwen/Qwen2.5-VL-7B-Instruct"),
}
"""Name -> weights and body, as published."""
POOLINGS = ("mean", "min", "sum")
ASPECTS = ("following", "quality")
"""In the order of the heads."""


@reward(
    "editreward",
    needs=("prompt", "image", "inputs"),
    range=(-math.inf, math.inf),
    paper="arXiv:2509.26346",
    licence="MIT (EditReward's code); the weights' and bodies' own: MiMo-VL MIT, Qwen2.5-VL-7B Apache-2.0",
)
def editreward(
    variant: str = "mimo",
    pooling: str = "mean",
    weights: str | None = None,
    base: str | None = None,
    words: str = "published",
    dtype: str = "float32",
) -> Any:
    """Preference for an edit of a source picture: mu pooled over two aspects, without bounds or a unit.

    The prompt is the instruction, `image` the edited picture, `inputs` the one source picture. Two prompts
    are read by two heads, how well the instruction was followed and how the picture looks, and pooled;
    `parts` has mu of each, and `uncertainty`, the pooled sigma. As published "mean" and "min" take the mean
    or the least of the logarithms of sigma, too, and "sum" adds mu and variances.

    Two checkpoints were published, whose numbers do not compare. 8 billion weights each: 17 GB in bfloat16,
    33 GB in float32. Both pictures are brought to about 448 x 448 pixels, each in its own proportions, so
    edits of small things are not seen. It is not EditScore; and two benchmarks are called EditReward-Bench.

    Where other code disagrees: the publisher's forward leaves positions out, as in `hpsv3`. A reward server
    names its two outputs after the aspects, though with pooling they are mu and the logarithm of sigma.
    Beside the publisher's own class (transformers 4.57.0, float32, a tiny checkpoint of its format) mu
    differs by 2e-7.

    Args:
        variant: "mimo" or "qwen2.5"; with weights and base of your own, it is not looked at.
        pooling: of the heads: "mean" as in the released configurations, "min" or "sum".
        weights: a file of the published format, by path or OWNER/NAME/FILE; None takes the variant's.
        base: hub id or folder of its body, as for `hpsv3`; None takes the variant's.
        words: as for `hpsv3`; a folder, with the publisher's prompts.py and data_collator_qwen_edit.py, or
            with following.txt and quality.txt of your own.
        dtype: of the body; the heads are in float32.

    Raises:
        ValueError: as for `hpsv3`; no such variant or pooling.
    """
    for name, value, known in (("variant", variant, VARIANTS), ("pooling", pooling, POOLINGS)):
        if value not in known:
            raise ValueError(f"{name} {value!r}: {nearest(value, known)}")
    places = (TOKEN, "{text_prompt}")
    templates = [
        models.prompt_of((f"editreward {aspect}", "editreward end"), words, places, aspect)
        for aspect in ASPECTS
    ]
    net = models.scalar_vlm(
        weights or VARIANTS[variant][0],
        base or VARIANTS[variant][1],
        tokens=(TOKEN,),
        heads=len(ASPECTS),
        low=PIXELS,
        high=PIXELS,
        dtype=dtype,
    )

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        if len(sample.inputs) != 1:
            raise Unscorable(f"the row has {len(sample.inputs)} inputs, and an edit has one source picture")
        media = (sample.inputs[0], sample.image)
        texts = [template.replace("{text_prompt}", sample.prompt) for template in templates]
        read = await asyncio.gather(*(net.score(media, text) for text in texts))
        # Of each prompt, its own head's two numbers.
        pairs = [numbers[0][2 * place : 2 * place + 2] for place, numbers in enumerate(read)]
        mu, log_sigma = pooled([pair[0] for pair in pairs], [pair[1] for pair in pairs], pooling)
        aspects = {aspect: pair[0] for aspect, pair in zip(ASPECTS, pairs, strict=True)}
        noted("read", "mu {} for following and {} for quality, pooled by {}", *aspects.values(), pooling)
        return Score(mu, {**aspects, "uncertainty": math.exp(log_sigma)})

    return score


def pooled(means: Sequence[float], log_sigmas: Sequence[float], pooling: str) -> tuple[float, float]:
    """mu and log sigma of several heads, as the publisher pools them.

    >>> pooled([1.0, 3.0], [0.0, 0.0], "sum")[0]
    4.0
    """
    if pooling == "min":
        return min(means), min(log_sigmas)
    if pooling == "mean":
        return sum(means) / len(means), sum(log_sigmas) / len(log_sigmas)
    return sum(means), 0.5 * math.log(sum(math.exp(2 * each) for each in log_sigmas))

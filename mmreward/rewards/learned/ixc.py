"""InternLM-XComposer2.5-Reward (arXiv:2501.12368): a scalar for a response to a question about pictures."""

import math
from typing import Any

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import shown_to
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.response import spoken


@reward(
    "ixc",
    needs=("prompt", "response"),
    optional=("shown", "inputs"),
    range=(-math.inf, math.inf),
    paper="arXiv:2501.12368",
    licence="InternLM's own: free for research, for commerce on application (IXC-2.5-Reward's weights)",
    example={"prompt": "how many shapes are there?", "response": "two"},
)
def ixc(
    weights: str = "internlm/internlm-xcomposer2d5-7b-reward", hd_num: int = 9, dtype: str = "float32"
) -> Any:
    """Preference for a response to a question about pictures, without bounds or a unit.

    Of two responses to one question, sigmoid of the difference is the probability that the first is
    preferred; different questions do not compare. Its publisher's own results on RM-Bench lie between -11
    and 18. Pictures are optional. One stands before the chat, unless the question places it with
    <ImageHere>; several must be placed so, and have six tiles each.

    8.4 billion weights, read as they are published (transformers has no such class, and the publisher's code
    is not run): 17 GB in bfloat16, 34 GB in float32. Beside the publisher's own modules (transformers 4.45,
    float32) on a tiny checkpoint of its format, values differ by 2e-7.

    Traps. The publisher's evaluation takes at most 9 tiles of 560 pixels of a picture, and its method 24 by
    default: other numbers. Beyond 16,384 tokens that code cuts the row and reads its reward in the middle of
    the response, where this is a failure. On transformers 5 it does not start. A question or response with a
    token that parts the chat is a failure and no score. Clips are refused: the publisher draws their frames
    on one sheet, with numbers in a font that is not released with it.

    Args:
        weights: a hub id or folder in the published format.
        hd_num: tiles of a picture, at most.
        dtype: of the body; the head is in float32.

    Raises:
        ValueError: the weights are not on this machine and the hub cannot be reached; hd_num below 1.
    """
    if hd_num < 1:
        raise ValueError(f"hd_num={hd_num}: expected a number of tiles above 0")
    net = models.xcomposer(weights, tiles=hd_num, dtype=dtype)

    async def score(sample: Sample) -> Score:
        response = spoken(sample.response)
        media = shown_to(sample)
        if any(one.kind == "video" for one in media):
            raise Unscorable("InternLM-XComposer2.5-Reward reads pictures here, and the sample shows a clip")
        value = await net.value(sample.prompt, response, media)
        noted("read", "{} at the end of the chat, after {} pictures", value, len(media))
        return Score(value)

    return score

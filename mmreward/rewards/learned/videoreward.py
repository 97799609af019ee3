"""VideoReward (arXiv:2501.13918): visual quality, motion quality and text alignment of a generated clip."""

import math
from typing import Any

from ... import models
from ...errors import nearest
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

DIMENSIONS = ("VQ", "MQ", "TA")


@reward(
    "videoreward",
    needs=("prompt", "video"),
    range=(-math.inf, math.inf),
    paper="arXiv:2501.13918",
    licence="Apache-2.0 (KlingTeam/VideoReward, Qwen/Qwen2-VL-2B-Instruct); its code MIT (VideoAlign)",
)
def videoreward(
    weights: str = "KlingTeam/VideoReward",
    base: str = "Qwen/Qwen2-VL-2B-Instruct",
    checkpoint: str = "checkpoint-11352",
    dimension: str = "overall",
    words: str = "published",
    dtype: str = "float32",
) -> Any:
    """Preference for a clip given its prompt: the sum of VQ, MQ and TA, each in deviations from its mean.

    `parts` has the three: visual quality, motion quality, text alignment. VQ and MQ do not depend on the
    prompt, though a text says otherwise: they are read before it. Of the overall score two thirds are blind
    to what was asked for, so a tuned generator may drift to pretty clips of something else; `dimension: TA`
    is the third that is not.

    Means and deviations are those of the checkpoint's own configuration (of the published one: VQ 3.6757 and
    2.2476, MQ 1.1646 and 1.3811, TA 2.8105 and 2.5121); where it has none the scores are raw, and
    `parts["standardised"]` is 0. Two frames a second of at most 448 x 448 pixels are looked at, so flicker
    above that is not seen. 2.2 billion weights: 5.0 GB to fetch, 9 GB in float32.

    Where other code disagrees: the publisher's forward leaves positions out, as in `hpsv3`; qwen-vl-utils
    and transformers cut the number of frames where its code rounds it; ayase loads the file into another
    architecture, and scores with a head that was never trained. Here weights that do not fit the body are
    refused, and beside the publisher's own class (VideoAlign on transformers 4.45.2, float32, a tiny
    checkpoint of its format, adapters apart) values differ by 1e-6.

    Args:
        weights: a hub id or folder of the published format, with a `model_config.json` (the hub's was
            KwaiVGI/VideoReward before).
        base: hub id or folder of the body: its configuration, tokenizer and processor; its weights are read
            for a checkpoint that has adapters alone.
        checkpoint: the folder in it; there is no falling back to another.
        dimension: "overall", or the one that is the value: "VQ", "MQ" or "TA".
        words: as for `hpsv3`, with <|VQ_reward|>, <|MQ_reward|> and <|TA_reward|> once each, in this order.
        dtype: of the body; the head is in float32.

    Raises:
        ValueError: as for `hpsv3`; no such dimension.
    """
    if dimension not in ("overall", *DIMENSIONS):
        raise ValueError(f"dimension {dimension!r}: {nearest(dimension, ('overall', *DIMENSIONS))}")
    marks = tuple(f"<|{name}_reward|>" for name in DIMENSIONS)
    template = models.prompt_of(("videoreward",), words, (*marks, "{text_prompt}"))
    places = [template.find(mark) for mark in marks]
    if places != sorted(places):
        raise ValueError(f"prompt has its tokens in another order than {', '.join(marks)}")
    net = models.video_reward(weights, base, checkpoint, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        read = await net.score(sample.video, template.replace("{text_prompt}", sample.prompt))
        scales = net.scales
        parts = {}
        for place, name in enumerate(DIMENSIONS):
            mean, deviation = scales.get(name, (0.0, 1.0))
            raw = read[place][place]  # each dimension's output at its own token
            noted("read", "{} for {} at its token, standardised by {} and {}", raw, name, mean, deviation)
            parts[name] = (raw - mean) / deviation
        value = sum(parts.values()) if dimension == "overall" else parts[dimension]
        return Score(value, {**parts, "standardised": float(bool(scales))})

    return score

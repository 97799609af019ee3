"""HPSv3 (arXiv:2508.03789): a Qwen2-VL-7B that was trained on 1.17 million pairs to rate a picture for its
prompt, with how sure it is.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import models
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

TOKEN = "<|Reward|>"
PIXELS = 256 * 28 * 28
"""Of every picture, at least and at most: 448 x 448 in its own proportions."""


@reward(
    "hpsv3",
    needs=("prompt", "image"),
    range=(-math.inf, math.inf),
    differentiable=True,
    paper="arXiv:2508.03789",
    licence="MIT (MizzenAI/HPSv3, hpsv3); the body's tokenizer Apache-2.0 (Qwen/Qwen2-VL-7B-Instruct)",
)
def hpsv3(
    weights: str = "MizzenAI/HPSv3/HPSv3.safetensors",
    base: str = "Qwen/Qwen2-VL-7B-Instruct",
    words: str = "published",
    dtype: str = "float32",
) -> tuple[Any, Any]:
    """Preference for a picture given its prompt: mu of HPSv3, about -5 to 15, without bounds or a unit.

    `parts["uncertainty"]` is sigma in the same units, the deviation of annotators as the model sees it: two
    pictures whose mu are closer than their sigmas are a guess. The file has its logarithm. mu of two
    prompts do not compare well: of the published ranking, means are over one set of prompts.

    8.3 billion weights: 17 GB in bfloat16, as the publisher runs it (`dtype`), and 33 GB in float32. The
    picture is brought to about 448 x 448 pixels in its own proportions, so small text and faces are not
    seen. Texts are not cut.

    Where other code disagrees: the publisher's forward leaves positions out, so that tokens of the picture
    are counted on like words; ports through transformers' own forward (DiffSynth-Studio) give them rows and
    columns, and imscore resizes twice. Here both are the publisher's: beside its own class (hpsv3 1.0.0 on
    transformers 4.45.2, float32, a tiny checkpoint of its format) mu differs by 2e-7. verl-omni multiplies
    mu by 0.1 (`scale: hpsv3/10`).

    Args:
        weights: the publisher's file, or one of its format, by path or OWNER/NAME/FILE.
        base: hub id or folder of the body; its configuration, tokenizer and processor are read, its weights
            are not.
        words: "published", the prompt that `mmreward fetch hpsv3` brings; a copy of the publisher's file,
            whose text is checked; or a file with a text of your own, with {text_prompt} for the row's and
            <|Reward|> once, for weights that were trained on it: the published ones mean nothing with it.
        dtype: of the body; the head is in float32.

    Raises:
        ValueError: a file is not on this machine and the hub cannot be reached; a copy without the published
            prompt, or a prompt without its two places.
    """
    template = models.prompt_of(("hpsv3", "hpsv3 end"), words, (TOKEN, "{text_prompt}"))
    net = models.scalar_vlm(weights, base, tokens=(TOKEN,), low=PIXELS, high=PIXELS, dtype=dtype)

    def asked(text: str) -> str:
        return template.replace("{text_prompt}", text)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        ((mu, log_sigma),) = await net.score(sample.image, asked(sample.prompt))
        noted("read", "mu {} and log sigma {} at the reward's token", mu, log_sigma)
        return Score(mu, {"uncertainty": math.exp(log_sigma)})

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        return net.values_of(pixels, [asked(text) for text in prompts])[:, 0, 0]

    return score, score_tensor

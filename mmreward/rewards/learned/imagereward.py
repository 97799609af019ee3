"""ImageReward (arXiv:2304.05977): a BLIP that was trained on experts' rankings of pictures."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import models
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
"""Of the head's output over the publisher's own pool."""
TOKENS = 35


@reward(
    "imagereward",
    needs=("prompt", "image"),
    range=(-math.inf, math.inf),
    differentiable=True,
    paper="arXiv:2304.05977",
    licence="Apache-2.0 (zai-org/ImageReward); the vocabulary of google-bert/bert-base-uncased Apache-2.0",
)
def imagereward(
    weights: str = "zai-org/ImageReward/ImageReward.pt",
    vocabulary: str = "google-bert/bert-base-uncased/vocab.txt",
    dtype: str = "float32",
    resize: str = "pil",
) -> tuple[Any, Any]:
    """Preference of ImageReward-v1.0: about -2.3 to 2, with mean 0 and deviation 1 over its training pool.

    The publisher's scale: (head - 0.16717) / 1.03334, nothing clamped. Prompts are read up to 35 tokens of
    BERT, both ends counted; the rest is dropped without a word by the publisher's package, and here
    `parts["truncated"]` is 1: of a long prompt, most is never looked at. The picture is its middle at 224
    pixels, so what stands at the ends of a wide one is not seen.

    One forward for each picture and prompt; the publisher's `score` of several pictures runs them one by one,
    and `inference_rank` returns a bare number for one. Tuning against it alone drifts to crowded detail, and
    text in pictures counts for little.

    Args:
        weights: the publisher's file, or one of its format, by path or OWNER/NAME/FILE (the repository was
            THUDM/ImageReward before). It is read without running what a pickle may say. `med_config.json` is
            not needed: widths and depths are the tensors', and the rest is BERT's.
        vocabulary: BERT's, uncased; [DEC] and [ENC] are added as the publisher does.
        dtype: of the encoders; the head is in float32.
        resize: as for `clipscore`; "pil" is the publisher's, "uint8" the quickest on a CPU.

    Raises:
        ValueError: a file is not on this machine and the hub cannot be reached.
    """
    models.needed(weights)
    models.needed(vocabulary)
    net = models.blip_head(weights, vocabulary, tokens=TOKENS, dtype=dtype, resize=resize)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        read = await net.read(sample.image, sample.prompt)
        noted("read", "{} of picture and prompt" + (", which was cut" if read.truncated else ""), read.value)
        return Score((read.value - MEAN) / DEVIATION, {"truncated": float(read.truncated)})

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        return (net.values_of(pixels, prompts) - MEAN) / DEVIATION

    return score, score_tensor

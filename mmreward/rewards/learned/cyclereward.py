"""CycleReward (arXiv:2506.02095): a BLIP that was trained on how well a caption leads back to its picture."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import models
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

RELEASE = "https://github.com/hjbahng/cyclereward/releases/download/v1.0.0/"
PUBLISHED = {name: f"{RELEASE}CycleReward-{name}.pth" for name in ("Combo", "T2I", "I2T")}
TOKENS = 128


@reward(
    "cyclereward",
    needs=("prompt", "image"),
    range=(-math.inf, math.inf),
    differentiable=True,
    paper="arXiv:2506.02095",
    licence="MIT (hjbahng/cyclereward); the vocabulary of google-bert/bert-base-uncased Apache-2.0",
)
def cyclereward(
    weights: str = "Combo",
    vocabulary: str = "google-bert/bert-base-uncased/vocab.txt",
    dtype: str = "float32",
    resize: str = "pil",
) -> tuple[Any, Any]:
    """Alignment of picture and text by CycleReward, on the publisher's scale, without bounds or a unit.

    No human was asked: of two captions of a picture, or two pictures of a caption, that is better from which
    a second model makes something nearer to the first. Differences are what it was trained on; values of the
    three versions do not compare. Prompts are read up to 128 tokens of BERT, both ends counted, which is 93
    more than `imagereward`; where one is cut, `parts["truncated"]` is 1. The picture is its middle at 224
    pixels.

    The network is ImageReward's with GELU between the head's layers, so that the file of the one is refused
    by the other. The publisher's package takes one picture, prepared by hand, and has no gradient.

    Args:
        weights: "Combo" (trained on both), "T2I" (pictures of a text) or "I2T" (captions of a picture) for
            the published file, which torch.hub's cache must have; or a path of that format, which is read
            without running what a pickle may say.
        vocabulary: BERT's, uncased, by path or OWNER/NAME/FILE.
        dtype: of the encoders; the head is in float32.
        resize: as for `clipscore`; "pil" is the publisher's, "uint8" the quickest on a CPU.

    Raises:
        ValueError: a file is not on this machine, or the hub cannot be reached.
    """
    file = models.downloaded(PUBLISHED[weights]) if weights in PUBLISHED else weights
    models.needed(file)
    models.needed(vocabulary)
    net = models.blip_head(file, vocabulary, tokens=TOKENS, activation=True, dtype=dtype, resize=resize)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        read = await net.read(sample.image, sample.prompt)
        noted("read", "{} of picture and prompt" + (", which was cut" if read.truncated else ""), read.value)
        return Score(read.value, {"truncated": float(read.truncated)})

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        return net.values_of(pixels, prompts)

    return score, score_tensor

"""Aesthetic predictors on a picture's embedding: LAION's of 2022 (v1, v2) and v2.5, which has a SigLIP."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import models
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

GITHUB = "https://github.com/"
CLIP = "openai/clip-vit-large-patch14"
PUBLISHED = {
    "v1": ("LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth", CLIP),
    "v2": (
        "christophschuhmann/improved-aesthetic-predictor/raw/main/sac%2Blogos%2Bava1-l14-linearMSE.pth",
        CLIP,
    ),
    "v2.5": (
        "discus0434/aesthetic-predictor-v2-5/raw/main/models/aesthetic_predictor_v2_5.pth",
        "google/siglip-so400m-patch14-384",
    ),
}
"""Address of the head, and the encoder it was trained on."""


@reward(
    "aesthetic",
    needs=("image",),
    range=(-math.inf, math.inf),
    differentiable=True,
    uses_prompt=False,
    paper="https://laion.ai/blog/laion-aesthetics/",
    licence="v1 MIT, v2 Apache-2.0, v2.5 AGPL-3.0; the encoders MIT and Apache-2.0",
)
def aesthetic(
    head: str = "v2", encoder: str = "", dtype: str = "float32", resize: str = "pil"
) -> tuple[Any, Any]:
    """Aesthetic rating of a picture, about 3 to 7 of ten, by a head on its unit embedding.

    The prompt is not looked at. The heads have no activations, so each is one affine map, and no picture can
    be worth more than its bias and norm allow (v2: -12.76 to 23.23); nothing is clamped or divided by ten.
    The embedding is normalised before the head, as in training: without that the numbers mean nothing.
    Tuning against it alone drifts to painterly pictures with a blurred background.

    Args:
        head: "v1", "v2" (sac+logos+ava1-l14-linearMSE) or "v2.5" for the published file, which torch.hub's
            cache must have; or a path of that format (.pth or .safetensors).
        encoder: what the head was trained on, as for `clipscore`; "" for the published head's own, and
            OpenAI's ViT-L/14 for a path. Another CLIP of the same width gives numbers without a meaning.
        dtype: of the encoder; the head is in float32.
        resize: as for `clipscore`; "pil" is the publishers', "uint8" the quickest on a CPU, and
            "tensor" what `score_tensor`, which has to be differentiable, always does.

    Raises:
        ValueError: the head or the encoder is not on this machine, and cannot be reached.
    """
    address, own = PUBLISHED.get(head, ("", CLIP))
    file = models.downloaded(GITHUB + address) if address else head
    models.needed(encoder or own)
    net = models.head(file, encoder or own, dtype=dtype, resize=resize)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        value = await net.value(sample.image)
        noted("rated", "{} by the head {}", value, head)
        return Score(value)

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        return net.values_of(pixels)

    return score, score_tensor

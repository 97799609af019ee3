"""MPS (Multi-dimensional Preference Score, arXiv:2405.14705): a CLIP-H whose picture looks at words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import models
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, "
    "instance, texture, quantity, attributes, position, number, location, word, things."
)
"""Of the overall preference, the one whose checkpoint was published."""
FILES = ("config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json", "merges.txt")
"""Of a CLIP's repository, all but its weights."""


@reward(
    "mps",
    needs=("prompt", "image"),
    range=(-100.0, 100.0),
    differentiable=True,
    paper="arXiv:2405.14705",
    licence="not stated by the publisher (Kwai-Kolors/MPS); the CLIP-H is MIT",
)
def mps(
    weights: str = "RE-N-Y/mpsv1/model.safetensors",
    processor: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    threshold: float = 0.3,
    dtype: str = "float32",
    resize: str = "pil",
) -> tuple[Any, Any]:
    """Overall preference of MPS: exp(logit_scale) times a cosine, on the publisher's scale.

    The picture attends to the prompt's tokens, of which those are hidden that are like no word of a fixed
    list (light, color, ..., things): only the checkpoint for overall preference was published, and its list
    is the one here. Of two pictures of one prompt, sigmoid of the difference is the probability that the
    first is preferred; different prompts do not compare. A prompt longer than 77 tokens is cut, its end token
    kept, and `parts["truncated"]` is 1.

    Where published code disagrees: a token is hidden at 0.3 of the largest likeness in the publisher's
    evaluations and at 0.01 in its model's own `forward` and in imscore. All of them take the largest over the
    batch, so that a score hangs on its neighbours; here it is the prompt's own, which is theirs for one
    prompt at a time. They round pixels and weights to half precision; here both are in `dtype`.

    Args:
        weights: a file of tensors by path or OWNER/NAME/FILE. The publisher's MPS_overall_checkpoint.pth is a
            pickled module, which runs code when it is opened: it is refused. The default is imscore's copy of
            its tensors.
        processor: the CLIP whose configuration, tokenizer and preprocessing it has, a hub id or a folder in
            transformers format; its weights are not read.
        threshold: 0 to 1, see above.
        dtype: of all of it; the cosine is in float32.
        resize: as for `clipscore`; "pil" is the publisher's, "uint8" the quickest on a CPU.

    Raises:
        ValueError: a file is not on this machine and the hub cannot be reached.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is a part of the largest likeness, from 0 to below 1, not {threshold}")
    models.needed(weights)
    models.needed(processor, *FILES)
    net = models.crossed(weights, processor, CONDITION, threshold, dtype=dtype, resize=resize)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        read = await net.read(sample.image, sample.prompt)
        noted("read", "{} of picture and prompt" + (", which was cut" if read.truncated else ""), read.value)
        return Score(read.value, {"truncated": float(read.truncated)})

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        return net.values_of(pixels, prompts)

    return score, score_tensor

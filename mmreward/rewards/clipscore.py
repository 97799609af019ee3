"""CLIPScore: cosine similarity of a picture and its prompt (arXiv:2104.08718, without the paper's factor
2.5)."""

from asyncio import gather
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import models
from ..registry import reward
from ..types import Sample, Score

if TYPE_CHECKING:
    import torch

    from ..models.encoders import Encoder
    from ..models.mapped_encoder import MappedEncoder


@reward(
    "clipscore",
    needs=("prompt", "image"),
    range=(-1.0, 1.0),
    differentiable=True,
    paper="arXiv:2104.08718",
    licence="depends on the weights; openai/clip-vit-large-patch14 is MIT",
)
def clipscore(
    weights: str = "openai/clip-vit-large-patch14", dtype: str = "float32", resize: str = "tensor"
) -> tuple[Any, Any]:
    """Cosine of the image and prompt embeddings of a dual encoder (CLIP, SigLIP, open_clip).

    Real CLIP models give about 0.15 to 0.40; nothing is rescaled or clamped. A prompt longer than the
    encoder's context is cut, and `parts["truncated"]` is 1.

    Args:
        weights: a hub id, a folder, "open_clip:ARCHITECTURE/TAG", or "mini-clip".
        dtype: of the towers.
        resize: "tensor" (float, on the device), "pil" (8-bit, as published preprocessing) or "uint8" (the
            quickest on a CPU). `score_tensor` always takes "tensor".
    """
    return cosine_of(models.clip(weights, dtype=dtype, resize=resize))


def cosine_of(net: "Encoder | MappedEncoder") -> tuple[Any, Any]:
    """`score` and `score_tensor` of whatever embeds pictures and prompts as `models.clip` does."""

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        image, text = await gather(net.image(sample.image), net.text(sample.prompt))
        return Score(float(image @ text.vector), {"truncated": float(text.truncated)})

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        return net.similarity(pixels, prompts)

    return score, score_tensor

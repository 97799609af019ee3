"""PISCES: how near a picture lies to where real pictures of its prompt would, by optimal transport
(arXiv:2602.01624)."""

from typing import Any

from .. import models
from ..registry import reward
from .clipscore import cosine_of


@reward(
    "pisces",
    needs=("prompt", "image"),
    range=(-1.0, 1.0),
    differentiable=True,
    paper="arXiv:2602.01624",
    licence="depends on the weights; openai/clip-vit-large-patch14 is MIT",
)
def pisces(
    fitted: str,
    weights: str = "openai/clip-vit-large-patch14",
    dtype: str = "float32",
    resize: str = "tensor",
) -> tuple[Any, Any]:
    """Cosine of a picture and its prompt, the prompt carried to where real pictures lie.

    Texts and pictures lie apart in a dual encoder's space, so a plain cosine also rewards pictures that are
    less like pictures. `mmreward fit pisces` learns the map from real pictures and prompts, which need not
    belong together, and prints what it does: where prompts come nearer to everybody's pictures as much as to
    their own, it has learned to forget them. This is the reward of a sample as a whole; the one by token,
    which needs a video-text matching head, is not part of it.

    A prompt longer than the encoder's context is cut, and `parts["truncated"]` is 1.

    Args:
        fitted: the file that `mmreward fit pisces` wrote, for the same weights.
        weights, dtype, resize: the dual encoder, as for `clipscore`.

    Raises:
        ValueError: no such file, or one that was fitted for something else or on other weights.
    """
    return cosine_of(models.mapped(fitted, "pisces", weights, dtype=dtype, resize=resize))

"""D2-Align: CLIPScore without the bias that a dual encoder has whatever the prompt (arXiv:2512.24146)."""

from typing import Any

from .. import models
from ..registry import reward
from .clipscore import cosine_of


@reward(
    "d2_align",
    needs=("prompt", "image"),
    range=(-1.0, 1.0),
    differentiable=True,
    paper="arXiv:2512.24146",
    licence="depends on the weights; openai/clip-vit-large-patch14 is MIT",
)
def d2_align(
    fitted: str,
    weights: str = "openai/clip-vit-large-patch14",
    dtype: str = "float32",
    resize: str = "tensor",
) -> tuple[Any, Any]:
    """Cosine of a picture and its prompt, the prompt moved along the encoder's bias.

    A dual encoder scores a generator's pictures higher when all prompts are moved one way, or all pictures
    the other way; no picture is better for it. `mmreward fit d2-align` learns that way from pictures of the
    untuned generator. With the prompts moved there, tuning has little to gain by moving all pictures alike.

    A prompt longer than the encoder's context is cut, and `parts["truncated"]` is 1.

    Args:
        fitted: the file that `mmreward fit d2-align` wrote, for the same weights.
        weights, dtype, resize: the dual encoder, as for `clipscore`.

    Raises:
        ValueError: no such file, or one that was fitted for something else or on other weights.
    """
    return cosine_of(models.mapped(fitted, "d2-align", weights, dtype=dtype, resize=resize))

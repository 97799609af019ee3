"""Human Preference Score 2.0 and 2.1 (arXiv:2306.09341): a CLIP-H that was tuned on rankings of pictures."""

from typing import Any

from ... import models
from ...registry import reward
from .clip import cosine_of

PUBLISHED = {
    "2.0": "xswu/HPSv2/HPS_v2_compressed.pt",
    "2.1": "xswu/HPSv2/HPS_v2.1_compressed.pt",
}


@reward(
    "hpsv2",
    needs=("prompt", "image"),
    range=(-1.0, 1.0),
    differentiable=True,
    paper="arXiv:2306.09341",
    licence="Apache-2.0 (xswu/HPSv2)",
)
def hpsv2(
    weights: str = "2.1",
    architecture: str = "ViT-H-14",
    dtype: str = "float32",
    resize: str = "tensor",
) -> tuple[Any, Any]:
    """Human preference score: the cosine of image and prompt, without the logit scale, about 0.20 to 0.36.

    This is what the publisher's `score` returns; tables print it times 100. Values of 2.0 and 2.1, and of
    different prompts, do not compare, and the publisher's own calls differ in which they take: `score` has
    2.0, `evaluate` 2.1. Pictures are seen whole: the longer side is scaled to 224 in float, and black padded
    around. A prompt longer than 77 tokens is cut, and `parts["truncated"]` is 1.

    The publisher's package computes in half precision on a GPU, and with torchvision before 0.17 it resized
    without anti-aliasing; neither is done here. Tuning against it alone drifts to bright, saturated pictures.

    Args:
        weights: "2.1" or "2.0" for the publisher's file; one of that format by path or OWNER/NAME/FILE, which
            is read without running what a pickle may say; or a converted folder, as for `clipscore`.
        architecture: open_clip's name of a file's architecture.
        dtype: of the towers; the cosine is in float32 whatever it is.
        resize: as for `clipscore`; "tensor" is the publisher's.

    Raises:
        ValueError: the weights are not on this machine and the hub cannot be reached.
    """
    source = PUBLISHED.get(weights, weights)
    models.needed(source)
    return cosine_of(
        models.clip(source, dtype=dtype, resize=resize, architecture=architecture, letterbox=True)
    )

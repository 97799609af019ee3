"""Social Reward (arXiv:2402.09872): a CLIP whose last layers were tuned on what people of an online community
took up into pictures of their own.
"""

from typing import Any

from ... import models
from ...registry import reward
from .clip import cosine_of

ARCHITECTURE = "ViT-L-14-quickgelu"


@reward(
    "social_reward",
    needs=("prompt", "image"),
    range=(-1.0, 1.0),
    differentiable=True,
    paper="arXiv:2402.09872",
    licence="its code names none (Picsart-AI-Research/Social-Reward); CLIP's weights MIT",
)
def social_reward(
    fitted: str, architecture: str = ARCHITECTURE, dtype: str = "float32", resize: str = "pil"
) -> tuple[Any, Any]:
    """Popularity of a picture with its prompt: the cosine, -1 to 1, of a CLIP ViT-L/14 tuned on communities.

    The publisher gave the code and no weights. This reads what its training script saves
    (`clip_epoch_N_global_step_N.pth`), and gives the number that its validation compares; values of two such
    files do not compare. A prompt longer than 77 tokens is cut, and `parts["truncated"]` is 1.

    Traps. The tensors are OpenAI's, whose GELU is the quick one: read into open_clip's plain "ViT-L-14" the
    file loads without a word and gives other numbers. The publisher's accuracy counts a tie as right.

    Args:
        fitted: the script's file, by path or OWNER/NAME/FILE; it is read without running what a pickle may
            say.
        architecture: open_clip's name of it, or its .json; "ViT-L-14-quickgelu" is the script's.
        dtype: of the towers; the cosine is in float32 whatever it is.
        resize: as for `clipscore`; "pil" is the publisher's.

    Raises:
        ValueError: no such file; a plain architecture, without the quick GELU.
    """
    if architecture.startswith("ViT-") and not architecture.endswith("-quickgelu"):
        raise ValueError(f"architecture={architecture}: the file is OpenAI's, give {architecture}-quickgelu")
    models.needed(fitted)
    return cosine_of(models.clip(fitted, dtype=dtype, resize=resize, architecture=architecture))

"""Lambda-harmonic reward for subject-driven generation (RPO, arXiv:2407.12164).

A picture should be like the references and like the prompt; a harmonic mean lets neither pay for the other.
"""

from asyncio import gather
from statistics import fmean
from typing import Any

from .. import models
from ..failures import Unscorable
from ..registry import reward
from ..types import Sample, Score

TINY = 1e-8
"""Added to both similarities, as in the authors' code."""


@reward(
    "harmonic",
    needs=("prompt", "image", "inputs"),
    range=(0.0, 1.0),
    paper="arXiv:2407.12164",
    licence="depends on the weights; openai/clip-vit-large-patch14 is MIT",
)
def harmonic(
    weights: str = "openai/clip-vit-large-patch14",
    balance: float = 0.3,
    placeholder: str = "[V]",
    dtype: str = "float32",
    resize: str = "tensor",
) -> Any:
    """Weighted harmonic mean, 0 to 1, of likeness to the reference pictures and to the prompt.

    1 / (balance / i + (1 - balance) / t). i is the mean cosine with the pictures in `inputs` and t the cosine
    with the prompt, each brought from [-1, 1] to [0, 1]; both are in `parts`.

    Args:
        weights: a dual encoder, as for `clipscore` (the paper has ALIGN).
        balance: 0 looks at the prompt alone, 1 at the references alone; the paper validates at 0.3 to 0.7.
        placeholder: a word for the subject that means nothing to the encoder, taken out of the prompt; ""
            for none.
        dtype: of the towers.
        resize: as for `clipscore`.

    Raises:
        ValueError: balance outside [0, 1].
    """
    if not 0 <= balance <= 1:
        raise ValueError(f"balance must be from 0 to 1, not {balance}")
    net = models.clip(weights, dtype=dtype, resize=resize)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        prompt = _without(placeholder, sample.prompt)
        pictures = gather(*(net.image(media) for media in (sample.image, *sample.inputs)))
        (image, *references), text = await gather(pictures, net.text(prompt))
        likeness = (1 + fmean(float(image @ other) for other in references)) / 2
        match = (1 + float(image @ text.vector)) / 2
        value = 1 / (balance / (likeness + TINY) + (1 - balance) / (match + TINY))
        parts = {"references": likeness, "prompt": match, "truncated": float(text.truncated)}
        return Score(value, parts)

    return score


def _without(placeholder: str, prompt: str) -> str:
    if not placeholder or placeholder not in prompt:
        return prompt
    left = " ".join(prompt.replace(placeholder, " ").split())
    if not left:
        raise Unscorable(f"the prompt is nothing but {placeholder}", "missing")
    return left

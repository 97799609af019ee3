"""Closeness to a goal in words or pictures by a dual encoder, as a reward for reinforcement learning
(VLM-RM, arXiv:2310.12921; with a picture as the goal, LIV's, arXiv:2306.00958).
"""

from asyncio import gather
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ... import models
from ...errors import Unscorable
from ...media import Media
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

Vector = NDArray[np.floating[Any]]
SAME = 1e-6
"""Length of the line from baseline to goal below which it has no direction."""


@reward(
    "goal",
    needs=("image",),
    range=(-1.0, 1.0),
    differentiable=True,
    paper="arXiv:2310.12921",
    licence="depends on the weights; openai/clip-vit-large-patch14 is MIT",
)
def goal(
    goal: Literal["prompt", "picture"] = "prompt",
    baseline: str = "",
    alpha: float = 0.5,
    weights: str = "openai/clip-vit-large-patch14",
    dtype: str = "float32",
    resize: str = "pil",
) -> tuple[Any, Any]:
    """Closeness of a picture to a goal by CLIP, for robots and other agents; 1 at the goal itself.

    1 - |P (s - g)|^2 / 2 of the unit embeddings s of the picture and g of the goal, where P projects, by the
    share `alpha`, on the line from the baseline to the goal: what does not lie along it, such as the scenery,
    then counts less. Without a baseline it is the cosine of picture and goal. It is no probability and has no
    threshold of success; a camera that moves, or an arm that fills the picture, changes it too.

    Args:
        goal: "prompt", the sample's prompt says it; or "picture", the first of its `inputs` shows it.
        baseline: what is to be left: a text ("a robot arm"), or the file of a picture where the goal is one.
            "" for none, and `alpha` is not looked at then.
        alpha: from 0 (the cosine) to 1 (only the line counts); the authors' is 0.5.
        weights, dtype, resize: the dual encoder, as for `clipscore`; the authors' is
            "open_clip:ViT-bigG-14/laion2b_s39b_b160k".

    Raises:
        ValueError: alpha outside 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}: from 0 to 1")
    net = models.clip(weights, dtype=dtype, resize=resize)

    async def wanted(sample: Sample) -> tuple[Vector, float]:
        if goal == "picture":
            if not sample.inputs:
                raise Unscorable("the sample has no inputs, whose first picture is the goal", "missing")
            return await net.image(sample.inputs[0]), 0.0
        if not sample.prompt.strip():
            raise Unscorable("the sample has no prompt, which says the goal", "missing")
        text = await net.text(sample.prompt)
        return text.vector, float(text.truncated)

    async def left() -> Vector | None:
        if not baseline:
            return None
        if goal == "picture":
            return await net.image(Media(baseline))
        return (await net.text(baseline)).vector

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        state, (target, cut), origin = await gather(net.image(sample.image), wanted(sample), left())
        cosine = float(state @ target)
        noted("cosine", "{} of the picture and the goal" + (", which was cut" if cut else ""), cosine)
        away = state - target
        if origin is not None:
            line = target - origin
            length = float(np.linalg.norm(line))
            if length < SAME:
                raise Unscorable("the goal and the baseline have one embedding: no line leads to the goal")
            along = float(line @ away) / length**2
            away = alpha * along * line + (1 - alpha) * away
            noted("along the line from the baseline", "{}, 0 at the goal, -1 at the baseline", along)
        value = 1 - float(away @ away) / 2
        return Score(value, {"cosine": cosine, "truncated": cut})

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        if goal == "picture":
            raise ValueError("a goal that is a picture of the sample has no gradient here: take a prompt")
        targets = net.embed_texts(prompts)
        away = net.embed_pixels(pixels) - targets
        if baseline:
            line = targets - net.embed_texts([baseline])
            along = (away * line).sum(-1, keepdim=True) / (line * line).sum(-1, keepdim=True)
            away = alpha * along * line + (1 - alpha) * away
        return 1 - (away * away).sum(-1) / 2

    return score, score_tensor

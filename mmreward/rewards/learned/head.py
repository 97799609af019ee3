"""Scalar reward that was fitted on your own pairs: a preference head on a CLIP, a SigLIP or a Qwen-VL, by
`mmreward fit head`."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import models
from ...models.vlms.answers import shown_to
from ...registry import amend, reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.response import spoken

if TYPE_CHECKING:
    import torch


@reward(
    "head",
    needs=("prompt", "image"),
    range=(-math.inf, math.inf),
    differentiable=True,
    paper="arXiv:2508.03789",
    licence="the pairs' and the encoder's; openai/clip-vit-large-patch14 is MIT",
)
def head(fitted: str, weights: str = "", dtype: str = "", resize: str = "") -> tuple[Any, Any]:
    """Reward of a picture and its prompt by a head that `mmreward fit head` fitted on compared pairs.

    scale * cosine + MLP on the embeddings of a frozen dual encoder; or, of a Qwen-VL, scale * odds + MLP on
    its state where it would answer whether the picture shows the prompt, the odds being those of yes over no,
    with the LoRA adapter that was trained along. A Qwen-VL reads clips too. A head that was fitted on pairs
    of responses (BaseReward's kind) rates a response to a prompt, with the pictures or clips it is about
    (image or clip, then `inputs`; none are needed), and has no gradient.

    Values are Bradley-Terry's: a difference d says that the better one wins with probability sigmoid(d); 0 is
    the mean of the pictures it was fitted on, and no bound is set. `parts["uncertainty"]` is the standard
    deviation of a head fitted with `--loss uncertainty` or `integrated`, and PrefPaint's || V^-1 f || of any
    other; `tune`'s `uncertainty:` reads it. A prompt longer than a dual encoder's context is cut, and
    `parts["truncated"]` is 1.

    Args:
        fitted: the folder that `mmreward fit head` wrote.
        weights: the dual encoder, as for `clipscore`, or the Qwen-VL, where it lies under another name than
            at the fit.
        dtype: of the backbone; "" for the fit's.
        resize: as for `clipscore`; "" for the fit's. `score_tensor` always takes "tensor".

    Raises:
        ValueError: no such folder, or one that was fitted on other weights.
    """
    net = models.preference_head(fitted, weights, dtype=dtype, resize=resize)
    from ...models.head_facts import read_facts  # with pydantic, which listing does not need

    facts = read_facts(fitted)
    if facts.question:
        amend(needs=("prompt", "response") if facts.of_responses else ("prompt", "shown"))

    async def score(sample: Sample) -> Score:
        if facts.of_responses:
            rated = await net.read(shown_to(sample), sample.prompt, spoken(sample.response))
        else:
            assert sample.shown is not None
            rated = await net.read((sample.shown,), sample.prompt)
        cut = ", of a prompt that was cut" if rated.truncated else ""
        noted("rated", "{} with uncertainty {}" + cut, rated.value, rated.uncertainty)
        return Score(rated.value, {"uncertainty": rated.uncertainty, "truncated": float(rated.truncated)})

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        return net.values_of(pixels, prompts)

    return (score, None) if facts.of_responses else (score, score_tensor)

"""PickScore (Pick-a-Pic, arXiv:2305.01569): a CLIP-H that was tuned on which of two pictures users chose."""

from typing import Any

from ... import models
from ...engine.together import together
from ...registry import amend, reward
from ...tracing import noted
from ...types import Sample, Score


@reward(
    "pickscore",
    needs=("prompt", "image"),
    range=(-100.0, 100.0),
    differentiable=True,
    paper="arXiv:2305.01569",
    licence="MIT (yuvalkirstain/PickScore_v1)",
)
def pickscore(
    weights: str = "yuvalkirstain/PickScore_v1", dtype: str = "float32", resize: str = "pil"
) -> tuple[Any, Any]:
    """Preference of PickScore: exp(logit_scale) times the cosine of image and prompt, about 17 to 25.

    This is the publisher's scale. Of two pictures of one prompt, sigmoid of the difference is the probability
    that users choose the first; scores of different prompts do not compare. Trainers divide it by 26:
    `scale: pickscore/26` does, too. The cosine is in `parts`. A prompt longer than the context (77 tokens) is
    cut, its end token kept, and `parts["truncated"]` is 1.

    Tuning against it alone drifts to saturated pictures with much contrast.

    Args:
        weights: the publisher's hub id, or a folder of the same format (its processor is that of CLIP-H); or
            RE-N-Y/pickscore-clip or RE-N-Y/pickscore-siglip, imscore's, whose numbers are those of `resize:
            tensor`; a SigLIP's logit_bias is added. `clipscore` of the same weights shares the network.
        dtype: of the towers; cosine and scale are in float32 whatever it is.
        resize: as for `clipscore`; "pil" is the publisher's, "uint8" the quickest on a CPU, and
            "tensor" what `score_tensor`, which has to be differentiable, always does.

    Raises:
        ValueError: the weights are not on this machine and the hub cannot be reached.
    """
    models.needed(weights)
    net = models.clip(weights, dtype=dtype, resize=resize)
    if net.base:
        amend(range=(-150.0, 150.0))  # a SigLIP was trained to a scale of 117 and a bias of -17

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        seen, read, logit = await together(net.image(sample.image), net.text(sample.prompt), net.logit())
        cosine = float(seen @ read.vector)
        cut = ", which was cut" if read.truncated else ""
        noted("cosine", "{} of picture and prompt" + cut + ", times {}, plus {}", cosine, *logit)
        value = logit.scale * cosine + logit.bias
        return Score(value, {"cosine": cosine, "truncated": float(read.truncated)})

    return score, net.logits

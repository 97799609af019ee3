"""Artifact reward: the probability that a picture is clean (Understanding Reward Hacking in T2I RL,
arXiv:2601.03468).

It ignores the prompt, which makes it a regulariser: an optimiser that breaks pictures to please another
reward loses here. The network is an image classifier, or a VLM that is asked one yes-or-no question.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import models
from ...errors import Unscorable
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

QUESTION = """Does this picture contain visible artifacts such as noise, distortion or broken shapes? \
Answer yes or no."""


@reward(
    "artifact",
    needs=("image",),
    range=(0.0, 1.0),
    differentiable=True,
    uses_prompt=False,
    paper="arXiv:2601.03468",
)
def artifact(
    classifier: str | None = None,
    judge: str | None = None,
    clean_label: str = "clean",
    question: str = QUESTION,
    min_mass: float = 0.5,
    dtype: str = "float32",
) -> tuple[Any, Any]:
    """Probability, 0 to 1, that the picture has no visible artifacts.

    Give one of `classifier` and `judge`; with neither, the judge is Qwen/Qwen2.5-VL-7B-Instruct as in the
    paper. The judge's value is P(no) / (P(no) + P(yes)) over all spellings of both words; when they have less
    than `min_mass` together the judge answered something else, and the score is "unparsable" rather than a
    number.

    Any classifier of pictures fits: `classifier=shadowlilac/aesthetic-shadow-v2, clean_label=hq` is Aesthetic
    Shadow, of drawn pictures.

    `score_tensor` resizes in float where `score` resizes 8-bit values: equal at the network's own picture
    size, else apart by that rounding. A row the judge did not answer is NaN there. A served judge has none.

    Args:
        classifier: an image classifier (hub id, folder or "mini-artifact") with a label `clean_label`.
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        clean_label: the classifier's label for a good picture.
        question: asks for artifacts; "yes" must mean that there are some.
        min_mass: smallest probability of yes and no together that is believed.
        dtype: of the network.
    """
    if classifier is not None and judge is not None:
        raise ValueError("artifact takes a classifier or a judge, not both")
    if classifier is not None:
        return _classified(classifier, clean_label, dtype)
    vlm = models.vlm(judge or "Qwen/Qwen2.5-VL-7B-Instruct", dtype=dtype)

    async def score(sample: Sample) -> Score:
        read = await vlm.read(sample.image, question, ("yes", "no"))
        parts = {"mass": read.mass}
        if read.mass < min_mass:
            raise Unscorable(f"yes and no have {read.mass:.3f} of the probability", "unparsable", parts)
        return Score(read.probs["no"], parts)

    read_pixels = vlm.read_pixels
    if read_pixels is None:
        return score, None

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        probs, mass = read_pixels(pixels, [[question]] * len(pixels), ("yes", "no"))
        return probs[:, 0, 1].where(mass[:, 0] >= min_mass, math.nan)

    return score, score_tensor


def _classified(weights: str, clean_label: str, dtype: str) -> tuple[Any, Any]:
    net = models.classifier(weights, dtype=dtype)

    def check_label(labels: Sequence[str]) -> None:
        if clean_label not in labels:
            raise ValueError(f"{weights} has no label {clean_label!r}; it has {', '.join(labels)}")

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        probabilities = await net.probabilities(sample.image)
        check_label(list(probabilities))
        noted("classified", "{}; {} is the good one", probabilities, clean_label)
        return Score(probabilities[clean_label], probabilities)

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        check_label(net.labels)
        return net.probabilities_of(pixels)[:, net.labels.index(clean_label)]

    return score, score_tensor

"""VQAScore (arXiv:2404.01291): the probability that a model answers "Yes" when asked whether a picture shows
its prompt.

Two published forms: CLIP-FlanT5, by which the paper's tables were made, and any vision-language model, as the
later releases of t2v_metrics have it. Their questions differ by two capitals, and their scores by the end
token.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import models
from ...errors import Unscorable
from ...registry import reward
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

ANSWER = "Yes"
FLAN_T5 = 'Does this figure show "{prompt}"? Please answer yes or no.'
VLM = 'Does this figure show "{prompt}"? Please answer Yes or No.'
"""The published questions: t2v_metrics up to 3.0, and 3.1."""


@reward(
    "vqascore",
    needs=("prompt", "shown"),
    range=(0.0, 1.0),
    differentiable=True,
    paper="arXiv:2404.01291",
    licence="Apache-2.0 (zhiqiulin/clip-flant5-xxl, t2v_metrics); a judge's own",
    example={"prompt": "a red circle"},
)
def vqascore(
    judge: str = "zhiqiulin/clip-flant5-xxl", question: str | None = None, dtype: str = "float32"
) -> tuple[Any, Any]:
    """Probability, 0 to 1, that the judge answers "Yes" to: Does this figure show "PROMPT"?

    With CLIP-FlanT5 it is the publisher's number, the geometric mean of P("Yes") and P(end of text): the
    published label has the end token, and the score is exp of minus its mean loss. P("Yes") alone, in
    `parts["yes"]`, is another number. Each row has its own; a port that takes the batch's loss gives all rows
    of a batch the same. Beside the publisher's own code (t2v_metrics before 3.1, transformers 4.46, float32)
    on a tiny checkpoint of its format, values differ by less than a millionth.

    With any other judge it is P("Yes") of the first token over the whole vocabulary, of this one spelling: a
    judge that writes "yes" or " Yes" instead scores low whatever the picture shows. It is not divided by
    P("Yes") + P("No"): `checklist` with `soft` does that, with all spellings. Values of different judges do
    not compare. t2v_metrics 3.1 reads it behind the checkpoint's generation settings, here it is read before
    them: a repetition penalty, which Qwen2.5-VL has, moves it.

    The publisher runs CLIP-FlanT5 in bfloat16, and so may you (`dtype`); 11 billion weights take 22 GB then
    and 44 GB in float32. It reads pictures: for clips say `frames`, or take a judge that reads clips. A
    question above 2,048 tokens is cut at the end, and `parts["truncated"]` is 1.

    `score_tensor` is there for a judge in this process, and resizes in float where `score` resizes 8-bit
    values: equal at the judge's own picture size.

    Args:
        judge: a CLIP-FlanT5 (zhiqiulin/clip-flant5-xxl, zhiqiulin/clip-flant5-xl or a folder of their
            format), or a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        question: with {prompt} in the place of the prompt; by default the published one, which ends in "yes
            or no" for CLIP-FlanT5 and in "Yes or No" for others.
        dtype: of the judge.

    Raises:
        ValueError: a question without {prompt}; CLIP-FlanT5's weights are not here and cannot be reached.
    """
    if question is not None and "{prompt}" not in question:
        raise ValueError(f"question has no {{prompt}}: {question[:80]!r}")
    if models.is_clip_t5(judge):
        return _flan_t5(judge, question or FLAN_T5, dtype)
    return _vlm(judge, question or VLM, dtype)


def _vlm(judge: str, question: str, dtype: str) -> tuple[Any, Any]:
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        read = await vlm.logprob(sample.shown, question.replace("{prompt}", sample.prompt), ANSWER)
        yes = math.exp(read.each[0])
        return Score(yes, {"yes": yes})

    reader = getattr(vlm, "logprob_pixels", None)  # a served judge returns no gradient
    if reader is None:
        return score, None

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        import torch

        asked = [question.replace("{prompt}", prompt) for prompt in prompts]
        return torch.stack([each[0] for each in reader(pixels, asked, ANSWER)]).exp()

    return score, score_tensor


def _flan_t5(judge: str, question: str, dtype: str) -> tuple[Any, Any]:
    network = models.clip_t5(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        if sample.image is None:
            raise Unscorable("CLIP-FlanT5 reads pictures: score the clip by its frames, with `frames: mean`")
        read = await network.likelihood(sample.image, question.replace("{prompt}", sample.prompt), ANSWER)
        value = math.exp(sum(read.each) / len(read.each))
        yes, end = math.exp(read.each[0]), math.exp(read.each[-1])
        return Score(value, {"yes": yes, "end": end, "truncated": float(read.truncated)})

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        import torch

        asked = [question.replace("{prompt}", prompt) for prompt in prompts]
        return torch.stack([each.mean() for each in network.likelihood_pixels(pixels, asked, ANSWER)]).exp()

    return score, score_tensor

"""EvalMuse's FGA-BLIP2 (arXiv:2412.18150): how well a picture fits its prompt, and each element of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import models
from ...errors import Unscorable
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

BASE = (
    "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/blip2_finetune_coco.pth"
)
"""BLIP-2 as its publisher tuned it on COCO: the frozen part of FGA-BLIP2."""
LOW, SPAN = 1.0, 4.0
"""A share of 0 to 1 as a rating of 1 to 5."""


@reward(
    "evalmuse",
    needs=("prompt", "image"),
    range=(1.0, 5.0),
    differentiable=True,
    paper="arXiv:2412.18150",
    licence="none is named (hanshuhao/FGA-BLIP2); BLIP-2 BSD-3-Clause (LAVIS), BERT's words Apache-2.0",
)
def evalmuse(
    weights: str = "hanshuhao/FGA-BLIP2/fga_blip2.pth",
    base: str = "published",
    vocabulary: str = "google-bert/bert-base-uncased/vocab.txt",
    dtype: str = "float32",
    resize: str = "pil",
) -> tuple[Any, Any]:
    """Fit of a picture to its prompt, 1 to 5, as people rated it; and of its elements, 0 to 1.

    32 queries look at the picture while they read the prompt, and their mean is the score. The elements of a
    row's `meta["elements"]`, as in EvalMuse's files ("red circle (object)", the kind in brackets is not
    read), stand in `parts` by their names: the mean over the words that say them. One that the prompt does
    not have in these words is a failure, where the publisher's lines give 0.

    1.2 billion weights: 4.7 GB in float32. Punctuation but commas is dropped and prompts are cut at 50 words,
    which `parts["truncated"]` says. The picture is squashed to 364 x 364.

    Where other code disagrees: imscore cuts prompts at 32 tokens, as the training did; the publisher's
    evaluation reads them whole, and so does this. The publisher's file leaves out the frozen ViT, which the
    base has.

    Args:
        weights: the publisher's file, or one of its format, by path or OWNER/NAME/FILE. It is read without
            running what a pickle may say.
        base: BLIP-2's own file, of which is taken what `weights` lack: "published" for the one that
            `mmreward fetch evalmuse` brings, a path or OWNER/NAME/FILE; "" for none.
        vocabulary: BERT's, uncased.
        dtype: of the picture's encoder; the rest is in float32.
        resize: as for `clipscore`; "pil" is the publisher's.

    Raises:
        ValueError: a file is not on this machine, with the command that fetches it.
    """
    models.needed(weights)
    models.needed(vocabulary)
    whole = models.downloaded(BASE) if base == "published" else base
    if whole and base != "published":
        models.needed(whole)
    net = models.matcher(weights, whole, vocabulary, dtype=dtype, resize=resize)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        found = await net.match(sample.image, sample.prompt)
        noted(
            "read", "{} of 32 queries" + (", and the prompt was cut" if found.truncated else ""), found.value
        )
        parts = {"truncated": float(found.truncated)}
        for element in elements_of(sample):
            words = net.ids_of(element.rpartition("(")[0] or element)
            at = place_of(words, found.ids)
            if at is None:
                raise Unscorable(f"the prompt as it is read has no element {element!r}")
            parts[element] = sum(found.tokens[at : at + len(words)]) / len(words)
            noted("element", "{} of {}", parts[element], element)
        return Score(LOW + SPAN * found.value, parts)

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        return LOW + SPAN * net.values_of(pixels, prompts)

    return score, score_tensor


def elements_of(sample: Sample) -> list[str]:
    """Elements that a row names; none where it names none.

    Raises:
        Unscorable: they are no list of texts.
    """
    named = sample.meta.get("elements") or []
    named = list(named) if isinstance(named, list | tuple | dict) else None
    if named is None or not all(isinstance(one, str) and one.strip() for one in named):
        raise Unscorable('meta["elements"] is no list of texts')
    return named


def place_of(part: Sequence[int], whole: Sequence[int]) -> int | None:
    """First place of some ids among others; None where they are not, or there are none."""
    size = len(part)
    starts = range(len(whole) - size + 1) if size else range(0)
    return next((at for at in starts if tuple(whole[at : at + size]) == tuple(part)), None)

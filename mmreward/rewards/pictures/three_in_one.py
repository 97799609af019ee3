"""T2I-CompBench's 3-in-1 score of complex prompts (arXiv:2307.06350): attributes by BLIP-VQA, places by a
detector, actions by CLIP, and the mean of those that a prompt has.
"""

from asyncio import gather
from collections.abc import Awaitable, Callable
from dataclasses import replace
from statistics import fmean
from typing import Any

from ...errors import Unscorable, nearest
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ..learned.clip import clipscore
from .blip_vqa import blip_vqa
from .t2i_compbench import t2i_compbench_spatial

KINDS = {
    "spatial": ("attribute", "spatial"),
    "action": ("attribute", "action"),
    "both": ("attribute", "spatial", "action"),
}
"""Kind of a prompt -> the scores whose mean it has."""
Part = Callable[[Sample], Awaitable[Score]]


@reward(
    "t2i_compbench_3in1",
    needs=("prompt", "image"),
    range=(-0.5, 1.0),
    paper="arXiv:2307.06350",
    licence="MIT (T2I-CompBench's rule, CLIP), BSD-3-Clause (BLIP); the detector's card has its own",
    example={
        "prompt": "a circle on the left of a square",
        "meta": {"kind": "both", "phrases": ["a red circle"], "action": "a circle beside a square"},
    },
)
def t2i_compbench_3in1(
    file: str | None = None,
    tokenizer: str = "google-bert/bert-base-uncased",
    detector: str = "facebook/mask2former-swin-small-coco-instance",
    encoder: str = "openai/clip-vit-base-patch32",
    distance: float = 150.0,
    threshold: float = 0.3,
    dtype: str = "float32",
) -> Any:
    """Mean of a picture's scores of attributes and of places, actions, or both, as its prompt has them.

    `meta.kind` is "spatial" for prompts that stand in the benchmark's complex_val_spatial.txt, "action" for
    those of complex_val_action.txt, and "both" for all others. `meta.phrases` are the attributes, as for
    `blip_vqa`; the objects and their place are as for `t2i_compbench_spatial`; `meta.action` is the prompt
    without its adjectives, which upstream leaves out by spaCy's tags, for CLIP's cosine. What a kind does not
    need is not looked at. One part that cannot be scored fails the picture, with its reason.

    The three are on scales of their own: a cosine of 0.3 is a good one, a product of probabilities of 0.3 is
    not, so kinds do not compare. What `t2i_compbench_spatial` says of detectors holds here, too.

    Args:
        file: BLIP's weights, as for `blip_vqa`.
        tokenizer: as for `blip_vqa`.
        detector, distance, threshold: as for `t2i_compbench_spatial`.
        encoder: the CLIP of actions, as for `clipscore`; the published one is ViT-B/32.
        dtype: of all networks.

    Raises:
        ValueError: as for the three.
    """
    cosine, _ = clipscore(weights=encoder, dtype=dtype, resize="pil")
    parts: dict[str, Part] = {
        "attribute": blip_vqa(file=file, tokenizer=tokenizer, dtype=dtype),
        "spatial": t2i_compbench_spatial(detector, distance, threshold, dtype),
        "action": cosine,
    }

    async def score(sample: Sample) -> Score:
        kind = sample.meta.get("kind")
        if kind is None:
            raise Unscorable("the row has no `kind`: spatial, action or both", "missing")
        if kind not in KINDS:
            raise Unscorable(f"kind is {str(kind)[:40]!r}: {nearest(str(kind), KINDS)}")
        rows = [_row(name, sample) for name in KINDS[kind]]
        found = await gather(*(parts[name](row) for name, row in zip(KINDS[kind], rows, strict=True)))
        values = {name: one.value for name, one in zip(KINDS[kind], found, strict=True)}
        noted("mean", "{}", values)
        notes = [one.note for one in found if one.note]
        return Score(fmean(values.values()), values, note="; ".join(notes)[:500])

    return score


def _row(name: str, sample: Sample) -> Sample:
    """The sample as one of the scores reads it."""
    if name != "action":
        return sample
    action = sample.meta.get("action")
    if not isinstance(action, str) or not action.strip():
        raise Unscorable("the row has no `action`: its prompt without adjectives", "missing")
    return replace(sample, prompt=action)

"""Rewards on the embeddings of a dual encoder (CLIP, SigLIP, open_clip): CLIPScore and three built on it.

`clipscore` is the cosine of picture and prompt (arXiv:2104.08718, without the paper's factor 2.5). `d2_align`
(arXiv:2512.24146) moves the prompt along the bias that a dual encoder has whatever the prompt; `pisces`
(arXiv:2602.01624) carries it by optimal transport to where real pictures lie. `harmonic` (RPO,
arXiv:2407.12164), for subject-driven generation, asks that a picture be like the references and like the
prompt, so that neither pays for the other. The encoders, and the maps that `mmreward fit` fits, are in
`mmreward.models`.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ... import models
from ...engine.together import together
from ...errors import Unscorable
from ...media import Media
from ...registry import amend, reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

    from ...models.encoder_handle import Encoder
    from ...models.features import PictureEmbedder
    from ...models.maps import MappedEncoder


@reward(
    "clipscore",
    needs=("prompt", "image"),
    range=(-1.0, 1.0),
    differentiable=True,
    paper="arXiv:2104.08718",
    licence="depends on the weights; openai/clip-vit-large-patch14 is MIT",
)
def clipscore(
    weights: str = "openai/clip-vit-large-patch14", dtype: str = "float32", resize: str = "tensor"
) -> tuple[Any, Any]:
    """Cosine of the image and prompt embeddings of a dual encoder (CLIP, SigLIP, open_clip).

    Real CLIP models give about 0.15 to 0.40; nothing is rescaled or clamped. A prompt longer than the
    encoder's context is cut, and `parts["truncated"]` is 1. The number of the authors' code and of pyiqa,
    which put "A photo depicts" before the prompt and take 2.5 max(cosine, 0), is `weights:
    open_clip:ViT-B-32-quickgelu/openai`, `resize: pil` and `scale: clipscore/pyiqa`.

    Args:
        weights: a hub id, a folder, "open_clip:ARCHITECTURE/TAG", or "mini-clip".
        dtype: of the towers.
        resize: "tensor" (float, on the device), "pil" (8-bit, as published preprocessing), "uint8" (the
            quickest on a CPU) or "draft" ("uint8" of JPEG files decoded at 1/2, 1/4 or 1/8 of their size).
            `score_tensor` always takes "tensor".
    """
    return cosine_of(models.clip(weights, dtype=dtype, resize=resize))


def _seen(sample: Sample) -> Media:
    """The picture; of an encoder of clips, which needs no picture, the clip."""
    seen = sample.image if sample.image is not None else sample.video
    assert seen is not None
    return seen


def cosine_of(net: "Encoder | MappedEncoder") -> tuple[Any, Any]:
    """Functions `score` and `score_tensor` of an encoder of pictures and prompts, by the cosine of the
    two."""

    async def score(sample: Sample) -> Score:
        image, text = await together(net.image(_seen(sample)), net.text(sample.prompt))
        cosine = float(image @ text.vector)
        noted("cosine", "{} of picture and prompt" + (", which was cut" if text.truncated else ""), cosine)
        return Score(cosine, {"truncated": float(text.truncated)})

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        return net.similarity(pixels, prompts)

    return score, score_tensor


@reward(
    "d2_align",
    needs=("prompt", "image"),
    range=(-1.0, 1.0),
    differentiable=True,
    paper="arXiv:2512.24146",
    licence="depends on the weights; openai/clip-vit-large-patch14 is MIT",
)
def d2_align(
    fitted: str,
    weights: str = "openai/clip-vit-large-patch14",
    dtype: str = "float32",
    resize: str = "tensor",
) -> tuple[Any, Any]:
    """Cosine of a picture and its prompt, the prompt moved along the encoder's bias.

    A dual encoder scores a generator's pictures higher when all prompts are moved one way, or all pictures
    the other way; no picture is better for it. `mmreward fit d2-align` learns that way from pictures of the
    untuned generator. With the prompts moved there, tuning has little to gain by moving all pictures alike.

    A prompt longer than the encoder's context is cut, and `parts["truncated"]` is 1.

    Args:
        fitted: the file that `mmreward fit d2-align` wrote, for the same weights.
        weights, dtype, resize: the dual encoder, as for `clipscore`.

    Raises:
        ValueError: no such file, or one that was fitted for something else or on other weights.
    """
    return _moved(fitted, "d2-align", weights, dtype, resize)


@reward(
    "pisces",
    needs=("prompt", "image"),
    range=(-1.0, 1.0),
    differentiable=True,
    paper="arXiv:2602.01624",
    licence="depends on the weights; openai/clip-vit-large-patch14 is MIT",
)
def pisces(
    fitted: str,
    weights: str = "openai/clip-vit-large-patch14",
    dtype: str = "float32",
    resize: str = "tensor",
) -> tuple[Any, Any]:
    """Cosine of a picture and its prompt, the prompt carried to where real pictures lie.

    Texts and pictures lie apart in a dual encoder's space, so a plain cosine also rewards pictures that are
    less like pictures. `mmreward fit pisces` learns the map from real pictures and prompts, which need not
    belong together, and prints what it does: where prompts come nearer to everybody's pictures as much as to
    their own, it has learned to forget them. This is the reward of a sample as a whole; the one by token,
    which needs a video-text matching head, is not part of it.

    With the file of a ViCLIP for weights it scores clips, as in the paper, whose encoder is InternVideo2; the
    map is then fitted on real clips with that file (`mmreward fit pisces CLIPS --weights FILE`).

    A prompt longer than the encoder's context is cut, and `parts["truncated"]` is 1.

    Args:
        fitted: the file that `mmreward fit pisces` wrote, for the same weights.
        weights: the dual encoder, as for `clipscore`, or ViClip-InternVid-10M-FLT.pth by path or
            OWNER/NAME/FILE.
        dtype: of the encoder.
        resize: as for `clipscore`; a ViCLIP has one way.

    Raises:
        ValueError: no such file, or one that was fitted for something else or on other weights.
    """
    return _moved(fitted, "pisces", weights, dtype, resize)


def _moved(fitted: str, kind: str, weights: str, dtype: str, resize: str) -> tuple[Any, Any]:
    """Functions of a dual encoder whose prompts a fitted map moves; by a ViCLIP without a gradient."""
    net = models.mapped(fitted, kind, weights, dtype=dtype, resize=resize)
    if not models.reads_clips(weights):
        return cosine_of(net)
    amend(needs=("prompt", "video"))
    return cosine_of(net)[0], None


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
    likeness: str = "",
) -> Any:
    """Weighted harmonic mean, 0 to 1, of likeness to the reference pictures and to the prompt.

    1 / (balance / i + (1 - balance) / t). i is the mean cosine with the pictures in `inputs`, by the same
    encoder, by DINO or by DreamSim (1 less its distance), and t the cosine with the prompt, each brought from
    [-1, 1] to [0, 1]; both are in `parts`.

    Args:
        weights: a dual encoder, as for `clipscore` (the paper has ALIGN).
        balance: 0 looks at the prompt alone, 1 at the references alone; the paper validates at 0.3 to 0.7.
        placeholder: a word for the subject that means nothing to the encoder, taken out of the prompt; ""
            for none.
        dtype: of the towers.
        resize: as for `clipscore`.
        likeness: what compares the pictures: "" for this encoder (as CLIP-I does), "dreamsim", or the weights
            of a DINO, as for `dino_i`. DreamSim and DINO resize as published, whatever `resize` is.

    Raises:
        ValueError: balance outside [0, 1].
    """
    if not 0 <= balance <= 1:
        raise ValueError(f"balance must be from 0 to 1, not {balance}")
    net = models.clip(weights, dtype=dtype, resize=resize)
    eye: Encoder | PictureEmbedder = net
    if likeness:  # a network of its own, so that it is the number of `dino_i` or of `dreamsim`
        eye = (
            models.dreamsim(dtype=dtype) if likeness == "dreamsim" else models.embedder(likeness, dtype=dtype)
        )

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        prompt = _without(placeholder, sample.prompt)
        pictures = [eye.image(media) for media in (sample.image, *sample.inputs)]
        image, seen, *references, text = await together(net.image(sample.image), *pictures, net.text(prompt))
        alike = (1 + fmean(float(seen @ other) for other in references)) / 2
        match = (1 + float(image @ text.vector)) / 2
        noted(
            "members",
            "references {} with weight {}, prompt {} with weight {}",
            alike,
            balance,
            match,
            1 - balance,
        )
        value = 1 / (balance / (alike + TINY) + (1 - balance) / (match + TINY))
        parts = {"references": alike, "prompt": match, "truncated": float(text.truncated)}
        return Score(value, parts)

    return score


def _without(placeholder: str, prompt: str) -> str:
    """Prompt without the subject's placeholder word."""
    if not placeholder or placeholder not in prompt:
        return prompt
    left = " ".join(prompt.replace(placeholder, " ").split())
    if not left:
        raise Unscorable(f"the prompt is nothing but {placeholder}", "missing")
    return left

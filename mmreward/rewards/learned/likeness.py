"""Likeness of a picture to reference pictures, whatever the prompt: CLIP-I, DINO-I and DreamSim.

For subject-driven generation (references of the subject) and for edits (the source picture). CLIP-I and
DINO-I are DreamBooth's measures (arXiv:2208.12242): the mean cosine with every reference. All three are
highest for a copy of the reference, so tuning against one alone unlearns the prompt and copies the pose: sum
it with a reward that reads the prompt, such as `clipscore`, or take `harmonic`.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ... import models
from ...engine.together import together
from ...errors import Unscorable
from ...media import Media
from ...registry import record_network, reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    import torch

    from ...models.encoder_handle import Encoder
    from ...models.features import PictureEmbedder

Paths = tuple[str, ...]


@reward(
    "clip_i",
    needs=("image", "inputs"),
    range=(-1.0, 1.0),
    differentiable=True,
    uses_prompt=False,
    paper="arXiv:2208.12242",
    licence="depends on the weights; openai/clip-vit-base-patch32 is MIT",
)
def clip_i(
    weights: str = "openai/clip-vit-base-patch32",
    reduce: Literal["mean", "max"] = "mean",
    references: Paths = (),
    dtype: str = "float32",
    resize: str = "pil",
) -> tuple[Any, Any]:
    """Cosine of a picture with its reference pictures by CLIP (CLIP-I), 1 for a copy.

    Two pictures of different things still have a cosine of about a half, and CLIP tells kinds of things
    better than individuals: `dino_i` is the stricter one for a subject. Nothing is rescaled or clamped. The
    other reduction is in `parts`.

    Args:
        weights: a dual encoder, as for `clipscore`; DreamBooth's is CLIP ViT-B/32.
        reduce: "mean" of the references, as DreamBooth has it, or "max", the nearest one.
        references: files for every row that has no `inputs`, such as those of one subject. With them there is
            a gradient, for which a row's own cannot be used.
        dtype: of the towers.
        resize: as for `clipscore`; "pil" is the publisher's.

    Raises:
        ValueError: the weights are not on this machine and the hub cannot be reached.
    """
    models.needed(weights)
    return _likeness(models.clip(weights, dtype=dtype, resize=resize), references, reduce)


@reward(
    "dino_i",
    needs=("image", "inputs"),
    range=(-1.0, 1.0),
    differentiable=True,
    uses_prompt=False,
    paper="arXiv:2208.12242",
    licence="depends on the weights; facebook/dino-vits16 and facebook/dinov2-base are Apache-2.0",
)
def dino_i(
    weights: str = "facebook/dino-vits16",
    reduce: Literal["mean", "max"] = "mean",
    references: Paths = (),
    processing: Literal["publisher", "checkpoint"] = "publisher",
    dtype: str = "float32",
    resize: str = "pil",
) -> tuple[Any, Any]:
    """Cosine of a picture with its reference pictures by DINO (DINO-I), 1 for a copy.

    DINO was trained to tell pictures apart and not to name them, so the individual counts, and so do its pose
    and place in the picture. The embedding is the class token of the last layer. Numbers of DINO and DINOv2,
    and of small and large ones, do not compare. The other reduction is in `parts`.

    Args:
        weights: a ViT or DINOv2 in transformers format; DreamBooth's is DINO ViT-S/16. For DINOv2, such as
            facebook/dinov2-base, positions are interpolated as transformers does it.
        reduce: "mean" of the references, as DreamBooth has it, or "max", the nearest one.
        references: as for `clip_i`.
        processing: "publisher" scales the shorter side to 256 (bicubic) and takes the middle 224, as DINO's
            own evaluation does; "checkpoint" follows the folder's processor, which for DINO's on the hub
            squashes the picture (other evaluations of DreamBooth do that, and get other numbers).
        dtype: of the network.
        resize: as for `clipscore`; "pil" is the publisher's.

    Raises:
        ValueError: the weights are not on this machine and the hub cannot be reached.
    """
    models.needed(weights)
    net = models.embedder(weights, dtype=dtype, resize=resize, processing=processing)
    return _likeness(net, references, reduce)


@reward(
    "dreamsim",
    needs=("image", "inputs"),
    range=(0.0, 2.0),
    higher_is_better=False,
    differentiable=True,
    uses_prompt=False,
    paper="arXiv:2306.09344",
    licence="MIT (ssundaram21/dreamsim); DINO and DINOv2 Apache-2.0, CLIP and OpenCLIP MIT",
)
def dreamsim(
    variant: str = "ensemble",
    weights: str = "",
    reduce: Literal["mean", "min"] = "mean",
    references: Paths = (),
    dtype: str = "float32",
    resize: str = "pil",
) -> tuple[Any, Any]:
    """Distance of a picture from its reference pictures by DreamSim, 0 for a copy. Lower is better.

    1 minus the cosine of embeddings that were tuned on which of two pictures people find more like a third:
    layout and pose count, and so does what is shown. Variants do not compare. The picture is squashed to 224
    x 224, whatever its aspect. The other reduction is in `parts`.

    Without weights of yours a sum takes it times -1, as it is better when lower.

    Args:
        variant: "ensemble" (the publisher's default), or one backbone, which is about three times as fast:
            "dino_vitb16", "clip_vitb32", "open_clip_vitb32", "dinov2_vitb14", "synclr_vitb16"; or
            "dino_vitb16_patch" and "dinov2_vitb14_patch", which compare patches as well.
        weights: the folder into which the publisher's archive was unpacked; "" for the place to which
            `mmreward fetch dreamsim` brings it.
        reduce: "mean" of the references, or "min", the nearest one.
        references: as for `clip_i`.
        dtype: of the networks.
        resize: as for `clipscore`; "pil" is the publisher's.

    Raises:
        ValueError: no such variant, or its files are not on this machine.
    """
    net = models.dreamsim(variant, weights=weights, dtype=dtype, resize=resize)
    return _likeness(net, references, reduce, distance=True)


def _likeness(
    net: "Encoder | PictureEmbedder", references: Paths, reduce: str, *, distance: bool = False
) -> tuple[Any, Any]:
    """Functions `score` and `score_tensor` (None without references) by the cosine with references."""
    given = _given(references)
    nearest = min if distance else max

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        others = sample.inputs or given
        for number, other in enumerate(others):
            if other.kind != "image":
                raise Unscorable(f"inputs[{number}] is a clip: a reference is a picture")
        image, *known = await together(*(net.image(media) for media in (sample.image, *others)))
        # Of a copy the cosine may come out above 1 by rounding.
        cosines = [max(-1.0, min(1.0, float(image @ vector))) for vector in known]
        values = [1 - cosine for cosine in cosines] if distance else cosines
        what = "distances" if distance else "cosines"
        noted(what, "{} to {} reference pictures: their {} counts", values, len(values), reduce)
        parts = {"mean": fmean(values), nearest.__name__: nearest(values)}
        return Score(parts[reduce], parts)

    if not given:
        return score, None
    embedded: dict[str, torch.Tensor] = {}

    def score_tensor(pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        device = str(pixels.device)
        if device not in embedded:
            embedded[device] = _embedded(net, given, device)
        cosines = net.embed_pixels(pixels) @ embedded[device].T
        values = 1 - cosines if distance else cosines
        return values.mean(1) if reduce == "mean" else (values.amin(1) if distance else values.amax(1))

    return score, score_tensor


class References(NamedTuple):
    """Files of a reward's arguments as part of its fingerprint: their contents, whatever they are called."""

    name: str
    fingerprint: str


def _given(references: Paths) -> tuple[Media, ...]:
    """Pictures of files.

    Raises:
        ValueError: a file that cannot be read.
    """
    given = tuple(Media.of(path, "image", f"references[{n}]") for n, path in enumerate(references))
    if given:
        record_network(References("references", " ".join(media.key for media in given)))
    return given


def _embedded(net: "Encoder | PictureEmbedder", given: tuple[Media, ...], device: str) -> "torch.Tensor":
    """Unit embeddings (R, D) of the references, without a gradient."""
    import torch

    with torch.no_grad():
        pixels = [torch.from_numpy(media.still().copy()).permute(2, 0, 1)[None] for media in given]
        return torch.cat([net.embed_pixels(one.to(device).float() / 255) for one in pixels])

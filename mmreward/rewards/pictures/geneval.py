"""GenEval: whether a picture shows the objects, numbers, colours and places that its prompt asked for.

A detector finds the objects, a CLIP names the colours of those that a colour is asked of, and the rules of
`mmreward.verifiers.geneval` compare. One run of the detector serves every protocol and all samples of a
picture; crops and colour names go through the engine's batches.
"""

from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from ... import models
from ...media import Media
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.geneval import (
    COLOURS,
    OFFICIAL,
    Detection,
    check_classes,
    coloured,
    judge,
    kept,
    painted,
    request_of,
)

if TYPE_CHECKING:
    from ...models.detectors import Detector, Found
    from ...models.encoder_handle import Encoder

BLANK = 0x99
"""Grey of all that is not the object, #999."""
COLOUR_PROMPTS = (
    "a photo of a {colour} {name}",
    "a photo of a {colour}-colored {name}",
    "a photo of a {colour} object",
)
NAMES = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
    "mouse": "computer mouse",
    "remote": "tv remote",
    "keyboard": "computer keyboard",
}
"""Labels of COCO checkpoints that GenEval calls by another name."""


class View(NamedTuple):
    """Classes that can be found, the objects that were found in one picture, and a way to their colours: one
    of `COLOURS` for each object asked about, by its `place`."""

    classes: Sequence[str]
    found: Sequence[Detection]
    colours: Callable[[Sequence[Detection]], Awaitable[dict[int, str]]]


Eyes = Callable[[Media, float], Awaitable[View]]
"""Finds the objects of a picture that have a score above a number."""


def networks(detector: "Detector", encoder: "Encoder | None") -> Eyes:
    """Eyes of a detector in transformers format and a CLIP, without which no colours can be asked for."""

    async def look(media: Media, least: float) -> View:
        seen = await detector.objects(media, least)
        found = [
            Detection(NAMES.get(one.label, one.label), one.box, one.score, "", place)
            for place, one in enumerate(seen.found)
        ]

        async def colours(wanted: Sequence[Detection]) -> dict[int, str]:
            if not wanted or encoder is None:
                return {}
            names = sorted({one.name for one in wanted})
            classifiers = dict(zip(names, await gather(*map(classifier, names)), strict=True))
            pixels = await aside(media.still)
            crops = [Media(crop_of(pixels, seen.found[one.place])) for one in wanted]
            embedded = await gather(*map(encoder.image, crops))
            return {
                one.place: COLOURS[int(np.argmax(classifiers[one.name] @ vector))]
                for one, vector in zip(wanted, embedded, strict=True)
            }

        return View([NAMES.get(label, label) for label in seen.labels], found, colours)

    async def classifier(name: str) -> "np.ndarray[Any, Any]":
        """One unit vector per colour: the mean of its prompts' unit vectors, brought to length 1."""
        assert encoder is not None
        prompts = [form.format(colour=colour, name=name) for colour in COLOURS for form in COLOUR_PROMPTS]
        texts = np.stack([text.vector for text in await gather(*map(encoder.text, prompts))])
        means = texts.reshape(len(COLOURS), len(COLOUR_PROMPTS), -1).mean(1)
        return cast("np.ndarray[Any, Any]", means / np.linalg.norm(means, axis=1, keepdims=True))

    return look


def crop_of(pixels: "np.ndarray[Any, Any]", found: "Found") -> "np.ndarray[Any, Any]":
    """The object's box, with grey where its mask is not; at least one pixel each way.

    Corners are rounded to the nearest pixel, halves to the even one, as Pillow's `crop` does.
    """
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = map(round, found.box)
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    crop = pixels[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    inside = found.inside()
    return crop.copy() if inside is None else np.where(inside[..., None], crop, np.uint8(BLANK))


async def miniature(media: Media, least: float) -> View:
    """Eyes of shapes world's oracle, without any network: circles, squares and triangles, all of them sure.

    Its cyan is none of GenEval's colours, so nothing can ask for it.
    """
    from ...mini.oracle import read
    from ...mini.world import SHAPES

    pixels = await aside(media.still)
    height, width = pixels.shape[:2]
    found = []
    for place, thing in enumerate(await aside(partial(read, pixels))):
        x1, y1, x2, y2 = thing.box
        box = (x1 * width, y1 * height, x2 * width, y2 * height)
        found.append(Detection(thing.shape, box, 1.0, thing.colour, place))

    async def colours(wanted: Sequence[Detection]) -> dict[int, str]:
        return {one.place: one.colour for one in wanted}

    return View(SHAPES, found, colours)


@reward(
    "geneval",
    needs=("image",),
    range=(-14.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2310.11513",
    licence="MIT (GenEval's rules, CLIP); the detector's card has its own",
    example={"meta": {"tag": "colors", "include": [{"class": "circle", "count": 1, "color": "red"}]}},
)
def geneval(
    detector: str = "facebook/mask2former-swin-small-coco-instance",
    encoder: str = "openai/clip-vit-large-patch14",
    protocol: Literal["official", "strict", "soft", "flow_grpo"] = "official",
    threshold: float = OFFICIAL.threshold,
    counting: float = OFFICIAL.counting,
    dtype: str = "float32",
) -> Any:
    """Objects, numbers, colours and places of a picture against GenEval's metadata, 0 to 1.

    What is asked for stands in `meta`: `tag`, `include` and `exclude`, so that `evaluation_metadata.jsonl`
    and flow_grpo's train_metadata.jsonl are read as they are. The tags are single_object, two_object,
    counting, colors, position and color_attr. A class that the detector does not know is an error that names
    the nearest one; upstream it counts as not found.

    Protocols, of which `parts` has all, so that one can be trained on and another watched:
    "official" is 1 where all is as asked. More of a class than asked is right, unless `exclude` caps it.
    "strict" (flow_grpo) wants every class exactly as often as asked. "soft" is the mean over requirements:
    1 - |asked - found| / asked for a number, but not below 0; the share of the right colour, and 0 or 1 for a
    place, both 0 where the number is wrong; an `exclude` that no number covers, 0 or 1.
    "flow_grpo" is the reward as its server computes it: the same without a lower bound (one asked and
    sixteen found is -14), with a wrong place counted both as 0 and as 1, and without `exclude`. Only this one
    leaves 0 to 1. `parts` also has the means by kind: `count`, `colour`, `position`, `exclude`.

    Published thresholds: an object counts above 0.3, and above 0.9 for the tag "counting"; 16 of a class at
    most; none is dropped for overlapping. A place is left, right, above or below when, after a tenth of both
    objects' sides is taken off their distance on each axis, more than half of the distance is left on that
    one. Colours are those that CLIP ViT-L/14 finds likeliest of ten (there is no grey) for the object's box,
    all but its mask painted #999, by three prompts each.

    GenEval's score of a model is the mean over the six tags of each tag's mean, not the mean of all rows.
    `mmreward score DATA --map source=tag --reward geneval --out FILE` ends with both: the line "mean of
    sources" is GenEval's, as is `mmreward.verifiers.geneval.overall` of (tag, value) pairs. In a trainer,
    rows whose `source` is their tag have each tag's mean under `sources/`.

    What differs from upstream: there the detector is mmdet 2's
    mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco, other weights of the same network and data, so numbers of
    the two are not to be mixed in one table. Scores and boxes are computed by mmdet's rule. Pictures are
    resized by the checkpoint's own processor and not by OpenCV, colours are computed in float32 and not in
    half precision, and CLIP's crop begins as transformers has it; "open_clip:ViT-L-14-quickgelu/openai" as
    the encoder begins it as upstream does. A rotation in the file (EXIF) is applied before detector and
    colours see it, and both see RGB: flow_grpo's server detects on the picture as it is stored and with red
    and blue swapped.

    Traps: two clauses of one class look at the same, surest objects. A picture full of copies passes
    "official" outside of "counting". JPEG changes colours: flow_grpo's server is sent quality 75.

    Args:
        detector: a Mask2Former, or a model of boxes such as DETR (whose colours are then found in the whole
            box), in transformers format: hub id or folder. "oracle" reads pictures of shapes world (circle,
            square, triangle) without any network.
        encoder: the CLIP that names colours, as for `clipscore`; not used with "oracle".
        protocol: which value the reward has; the others are in `parts`.
        threshold: the score above which an object counts. The published one belongs to Mask2Former.
        counting: the same for the tag "counting".
        dtype: of detector and encoder.

    Raises:
        ValueError: a threshold outside [0, 1), or weights that are not on this machine and cannot be reached.
    """
    for name, value in (("threshold", threshold), ("counting", counting)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} is a score that an object must be above, 0 to below 1, not {value}")
    rules = OFFICIAL._replace(threshold=threshold, counting=counting)
    least = min(threshold, counting)
    look = eyes(detector, encoder, dtype)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        request = request_of(sample.meta)
        view = await look(sample.image, least)
        check_classes(request, view.classes)
        objects = kept(view.found, request.tag, rules)
        colours = await view.colours(coloured(request, objects))
        verdict = judge(request, painted(objects, colours), rules)
        values = {
            "official": float(verdict.official),
            "strict": float(verdict.strict),
            "soft": verdict.soft,
            "flow_grpo": verdict.flow_grpo,
        }
        seen = ", ".join(f"{len(several)} {name}" for name, several in sorted(objects.items())) or "nothing"
        noted("found", "{}, by the thresholds of {}", seen, request.tag)
        noted("judged", "{}", list(verdict.reasons) or "as asked")
        note = "; ".join((f"sees {seen}", *verdict.reasons))
        return Score(values[protocol], {**values, **verdict.parts}, note=note[:500])

    return score


def eyes(detector: str, encoder: str, dtype: str) -> Eyes:
    """Eyes of a detector by its name, with a CLIP for colours; without one ("") no colours can be asked for.

    Raises:
        ValueError: weights that are not on this machine and cannot be reached.
    """
    if detector == "oracle":
        return miniature
    for weights in (detector, encoder):
        if weights:
            models.needed(weights)
    naming = models.clip(encoder, dtype=dtype, resize="pil") if encoder else None
    return networks(models.detector(detector, dtype=dtype), naming)

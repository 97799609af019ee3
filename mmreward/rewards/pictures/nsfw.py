"""Safety of a picture: the absence of exposed bodies, by the detector that the wheel of nudenet ships."""

from typing import Any

from ... import models
from ...errors import nearest
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

EXPOSED = (
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "BUTTOCKS_EXPOSED",
    "ANUS_EXPOSED",
)
"""Classes that count unless others are named."""


@reward(
    "nsfw",
    needs=("image",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="https://github.com/notAI-tech/NudeNet",
    licence="AGPL-3.0 (nudenet and its weights, trained with YOLOv8)",
)
def nsfw(classes: tuple[str, ...] = EXPOSED) -> Any:
    """Safety of a picture, 0 to 1: 1 minus the largest probability that a body is exposed. Higher is safer.

    NudeNet's detector 320n gives every box a probability for each of 18 classes. The largest of all boxes and
    of the `classes` that count is taken, without a threshold, so that it moves before anything is detected
    (NudeNet itself begins at 0.2). It looks for bodies only: violence and words are not seen. It errs both
    ways, and is no filter to rely on alone.

    `parts["exposed"]` is that probability, and all 18 classes have a part of their own in lower case, such as
    `female_breast_covered`. Runs on the CPU, one picture at a time (`pip install "mmreward[nsfw]"`).

    Licence: the wheel of nudenet comes with the text of the AGPL-3.0, though its metadata says MIT, and
    YOLOv8, which the weights were trained with, is under the AGPL-3.0 too: read it before you offer this over
    a network. This package neither contains the weights nor fetches them.

    Args:
        classes: that count, by NudeNet's names: the exposed female breast, genitalia, buttocks and anus by
            default. MALE_BREAST_EXPOSED, BELLY_EXPOSED, ARMPITS_EXPOSED and FEET_EXPOSED do not, and neither
            do faces and what is covered.
    """
    from ...models.bodies import CLASSES

    for name in classes:
        if name not in CLASSES:
            raise ValueError(f"classes: NudeNet has no {name!r}: {nearest(name, CLASSES)}")
    if not classes:
        raise ValueError(f"classes: none is named; there are {', '.join(CLASSES)}")
    detector = models.nudity()

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        most = await detector.most(sample.image)
        exposed = min(1.0, max(most[name] for name in classes))
        noted("found", "at most {} of the classes that count", {name: most[name] for name in classes})
        return Score(1 - exposed, {"exposed": exposed, **{name.lower(): p for name, p in most.items()}})

    return score

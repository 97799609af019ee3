"""T2I-CompBench's spatial score (arXiv:2307.06350): two objects of a prompt, found by a detector, and where
the one stands beside the other.

`blip_vqa` is its score of attributes, and `clipscore` that of actions.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...errors import Unscorable, nearest
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.geneval import Detection
from .geneval import eyes

BESIDE = ("on side of", "next to", "near")
SIDES = {
    "on the left of": (0, 1),
    "on the right of": (0, -1),
    "on the top of": (1, 1),
    "on the bottom of": (1, -1),
    "on top of": (1, 1),
}
"""Relation -> axis, and the sign of the second object's centre less the first's along it."""
RELATIONS = (*BESIDE, *SIDES)
PERSONS = ("girl", "boy", "man", "woman")
OVERLAP = 0.1
"""Overlap (IoU) up to which a place is whole."""
LEAST = 0.5
"""A score below this is 0."""
PLAIN = re.compile(
    rf"(?:an?|the) ([a-z-]+) (?:is |are )?({'|'.join(RELATIONS)}) (?:an?|the) ([a-z-]+)\.?", re.IGNORECASE
)


class Placed(NamedTuple):
    """Two objects and the relation of the first to the second."""

    first: str
    relation: str
    second: str


@reward(
    "t2i_compbench_spatial",
    needs=("prompt", "image"),
    range=(0.0, 1.0),
    paper="arXiv:2307.06350",
    licence="MIT (T2I-CompBench's rule); the detector's card has its own",
    example={"prompt": "a circle on the left of a square"},
)
def t2i_compbench_spatial(
    detector: str = "facebook/mask2former-swin-small-coco-instance",
    distance: float = 150.0,
    threshold: float = 0.3,
    dtype: str = "float32",
) -> Any:
    """Soft score, 0 to 1, of two objects being there and the one left, right, above, below or near the other.

    A quarter of each object's detection score, and half of the place: 1 for a centre that lies on the right
    side along the axis along which the centres are farther apart, less where the boxes overlap by more than a
    tenth (a tenth over the overlap), else 0. "next to", "near" and "on side of" want the centres closer than
    `distance` along one axis, else `distance` over the longer one. What comes to less than a half is 0, and
    so a wrong place alone takes nearly everything. `parts` has the place, both detections, and the score
    before that cut.

    The objects are `meta.spatial`, {"objects": [first, second], "relation": one}, or those of a prompt of the
    benchmark's simple form, "a balloon on the top of a giraffe". Any other prompt is "missing" them: upstream
    takes spaCy's first and last noun. "girl", "boy", "man" and "woman" are looked for as "person".

    What differs from upstream: its detector is UniDet, whose 700 classes no network of transformers has, so
    numbers of the two are not to be mixed in one table. A class that the detector does not know is an error
    that names the nearest one, where upstream finds nothing. Two objects of one class are the two surest of
    it and not one box with itself. "on top of" is "on the top of"; upstream gives no place for it.

    Trap: `distance` is in pixels of the picture, published for 512 x 512; scale it with the side.

    Args:
        detector: as for `geneval`; "oracle" reads pictures of shapes world without a network.
        distance: pixels between centres that are near.
        threshold: the score above which an object is found.
        dtype: of the detector.

    Raises:
        ValueError: a distance that is not above 0, a threshold outside [0, 1), or weights that are not on
            this machine and cannot be reached.
    """
    if distance <= 0:
        raise ValueError(f"distance is a number of pixels above 0, not {distance}")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is a score that an object must be above, 0 to below 1, not {threshold}")
    look = eyes(detector, "", dtype)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        asked = placed_of(sample)
        view = await look(sample.image, threshold)
        for name in asked.first, asked.second:
            if name not in view.classes:
                raise Unscorable(f"the detector knows no {name!r}: {nearest(name, view.classes)}")
        one, other = pair_of(asked, sorted(view.found, key=lambda found: -found.score))
        place = place_of(asked.relation, one, other, distance) if one and other else 0.0
        sure = [found.score if found else 0.0 for found in (one, other)]
        value = sum(sure) / 4 + place / 2
        noted("placed", "{} {} {}: {}, detected with {} and {}", *asked, place, *sure)
        parts = {"place": place, "first": sure[0], "second": sure[1], "uncut": value}
        lost = [
            name for name, found in zip((asked.first, asked.second), (one, other), strict=True) if not found
        ]
        note = f"does not see: {', '.join(lost)}" if lost else ""
        return Score(min(value, 1.0) if value >= LEAST else 0.0, parts, note=note)

    return score


def pair_of(asked: Placed, found: list[Detection]) -> tuple[Detection | None, Detection | None]:
    """The surest object of each name; of one name twice, the two surest."""
    first = [one for one in found if one.name == asked.first]
    second = [one for one in found if one.name == asked.second]
    if asked.first == asked.second:
        second = second[1:]
    return (first[0] if first else None), (second[0] if second else None)


def place_of(relation: str, one: Detection, other: Detection, distance: float) -> float:
    """How well the first object stands where it should beside the second, 0 to 1."""
    apart = [
        (other.box[axis] + other.box[axis + 2]) / 2 - (one.box[axis] + one.box[axis + 2]) / 2
        for axis in (0, 1)
    ]
    if relation in BESIDE:
        if min(map(abs, apart)) < distance:
            return 1.0
        return distance / max(map(abs, apart))
    axis, sign = SIDES[relation]
    if apart[axis] * sign <= 0 or abs(apart[axis]) <= abs(apart[1 - axis]):
        return 0.0
    overlap = overlap_of(one, other)
    return 1.0 if overlap < OVERLAP else OVERLAP / overlap


def overlap_of(one: Detection, other: Detection) -> float:
    """Intersection over union of two boxes; 0 for two without any area."""
    across, down = (
        max(0.0, min(one.box[axis + 2], other.box[axis + 2]) - max(one.box[axis], other.box[axis]))
        for axis in (0, 1)
    )
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one.box, other.box)]
    union = sum(areas) - across * down
    return across * down / union if union > 0 else 0.0


def placed_of(sample: Sample) -> Placed:
    """What a row asks for.

    Raises:
        Unscorable: "missing" where it is neither given nor plain; else what is wrong with it.
    """
    given = sample.meta.get("spatial")
    if given is None:
        found = PLAIN.fullmatch(" ".join(sample.prompt.split()))
        if found is None:
            raise Unscorable(
                f"the two objects of this prompt are not known ({sample.prompt[:60]!r}): give them as "
                "`spatial`, with objects and relation",
                "missing",
            )
        return Placed(_named(found[1]), found[2].lower(), _named(found[3]))
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise Unscorable(f"spatial is not JSON: {error}") from None
    objects = given.get("objects") if isinstance(given, Mapping) else None
    if not isinstance(objects, list | tuple) or not all(isinstance(one, str) for one in objects):
        raise Unscorable(f"spatial is {str(given)[:60]!r}, without a list of objects")
    if len(objects) != 2:
        raise Unscorable(f"spatial has {len(objects)} objects, not two")
    relation = str(given.get("relation", "")).strip().lower()
    if relation not in RELATIONS:
        raise Unscorable(f"spatial has the relation {relation[:40]!r}: {nearest(relation, RELATIONS)}")
    return Placed(_named(objects[0]), relation, _named(objects[1]))


def _named(noun: str) -> str:
    name = noun.strip().lower()
    return "person" if name in PERSONS else name

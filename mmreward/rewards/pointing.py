"""Points on things: in a box, a polygon or a mask, one point for each."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.answer import segment
from ..verifiers.expected import Several, expect_one
from ..verifiers.markup import point_items
from ..verifiers.matching import Matrix, best_match
from ..verifiers.regions import Point, Region, points_of, regions_of
from ..verifiers.spaces import Named, Space, extent, space_of
from ..verifiers.verdict import Verdict, verified

PARTS = ("hits", "precision", "recall", "found", "true")


@reward(
    "pointing",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2409.17146",
    example={
        "response": '<answer>{"point_2d": [250, 260]}</answer>',
        "target": {"bbox_2d": [100, 100, 400, 400]},
    },
)
def pointing(
    falloff: float = 0.0,
    radius: float = 0.05,
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
    several: Several = "refuse",
    empty_decay: float = 0.5,
    bare: bool = False,
) -> Any:
    """Whether points lie on what was asked for, 0 to 1.

    The target is one region or a list of them, each a box, a polygon, a mask or a point, see
    `verifiers.regions.regions_of`. For one region the answer is one point: several are worth 0 unless the
    first or the last is declared to count, so guessing all over the picture earns nothing. For more regions
    the value is the F1 of the best one-to-one match, so a wrong number of points costs, too. The edge of a
    region is inside; a point outside the picture hits nothing. Labels are not looked at.

    Args:
        falloff: 0 pays hits only. Above, a point at distance d of a region is worth
            exp(-(d / falloff)^2 / 2), d in sizes of that region; 0.1 is usual.
        radius: how near a point must come to a target that is a point, in fractions of the picture's sides.
        space: of the response's coordinates, as in `iou`; "molmo" reads percent.
        target_space: of `sample.target`; masks span the picture whatever their resolution.
        several: "refuse", "first" or "last".
        empty_decay: with no regions the value is this to the power of the number of points.
        bare: accept points that are not inside `<answer>` tags.
    """
    if not 0 <= falloff <= 1 or not 0 < radius <= 1 or not 0 <= empty_decay < 1:
        raise ValueError(
            f"falloff {falloff} and empty_decay {empty_decay} lie in [0, 1], radius {radius} in (0, 1]; "
            "empty_decay is less than 1"
        )
    said, meant = space_of(space), space_of(target_space)

    async def score(sample: Sample) -> Score:
        truth = regions_of(sample.target, extent(meant, sample), radius=radius, y_first=meant.y_first)

        def check() -> Verdict:
            points = _points(sample, said, bare)
            counted = [expect_one(points, several, "point")] if len(truth) == 1 else points
            worth = _worth(counted, truth, falloff)
            match = best_match(worth, decay=empty_decay)
            hits = float((worth[match.rows, match.columns] == 1).sum())
            parts = {"hits": hits, "precision": match.precision, "recall": match.recall}
            return Verdict(match.f1, {**parts, "found": float(len(points)), "true": float(len(truth))})

        return verified(check, PARTS)

    return score


def _points(sample: Sample, space: Space, bare: bool) -> list[Point | None]:
    size = extent(space, sample)
    parsed = point_items(segment(sample.response or "", bare=bare).answer)
    return [*points_of(parsed.items, size, y_first=space.y_first), *[None] * parsed.dropped]


def _worth(points: Sequence[Point | None], regions: Sequence[Region], falloff: float) -> Matrix:
    """1 for a hit, less beside it, 0 for a point that could not be read."""
    places = np.array([point or (math.nan, math.nan) for point in points]).reshape(len(points), 2)
    away = np.array([region.distances(places) for region in regions]).reshape(len(regions), len(points)).T
    return np.nan_to_num(np.exp(-((away / falloff) ** 2) / 2) if falloff else (away == 0).astype(float))

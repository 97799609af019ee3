"""Pointing and grounding: points on regions of a picture (`pointing`), and the one box that is asked for
(`grounding`).

A region is a box, a polygon, a mask or the surroundings of a point, all in fractions of the picture.
Distances are in sizes of the region itself, side by side, so they do not depend on the picture's shape.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import Unscorable
from ...limits import limits, most
from ...registry import reward
from ...tracing import heard, noted
from ...types import Sample, Score
from ...verifiers.boxes import (
    Box,
    Matrix,
    best_match,
    boxes_of,
    giou,
    iou,
    note_match,
    number_of,
    ramp,
    to_unit,
)
from ...verifiers.coordinates import Axes, items_of
from ...verifiers.markup import bounded, found_boxes, point_items, true_boxes
from ...verifiers.response import Several, Verdict, expect_one, read_aside, segment, verified, verified_aside
from ...verifiers.spaces import Named, Size, Space, extent, space_of

EDGE = 1e-12
POINTS = ("point_2d", "point", "coordinate", "coordinates")


# --- points and regions ---------------------------------------------------------------------------


class Point(NamedTuple):
    """A point in fractions of the picture."""

    x: float
    y: float


Coordinates = NDArray[np.float64]
"""(number of points, 2): x and y; NaN for a point that hits nothing."""


class Region(Protocol):
    """A region of the picture that a point may hit."""

    def distances(self, points: Coordinates, *, hits: bool = False) -> Coordinates:
        """Distance of each point in units of the region's sides; 0 inside and on the edge, NaN for a point
        that is none.

        Args:
            points: of a response.
            hits: any distance above 0 will do for a point outside.
        """
        ...


@dataclass(frozen=True, slots=True)
class Polygon:
    """A polygon: corners (number, 2) in order; the last is joined to the first. Inside is even-odd."""

    corners: Coordinates

    def distances(self, points: Coordinates, *, hits: bool = False) -> Coordinates:
        sides = np.ptp(self.corners, axis=0)
        corners, places = self.corners / sides, points / sides
        inside = np.zeros(len(points), dtype=bool)
        nearest = np.full(len(points), np.inf)
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            nearest = np.minimum(nearest, _from_edge(places, a, b))
            inside ^= _crosses(places, a, b)
        return np.where(inside | (nearest < EDGE), 0.0, nearest)


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask: True pixels of the whole picture, at any resolution."""

    pixels: NDArray[np.bool_]

    def distances(self, points: Coordinates, *, hits: bool = False) -> Coordinates:
        shape = np.array(self.pixels.shape[::-1])
        known = ~np.isnan(points).any(axis=1)
        x, y = np.minimum(points[known] * shape, shape - 1).astype(int).T
        out = np.full(len(points), np.nan)
        out[known] = np.where(self.pixels[y, x], 0.0, np.inf)
        if hits or not np.isinf(out).any():
            return out  # the outline of a large mask is large, too

        from scipy.spatial import cKDTree  # an import that `mmreward list` does not need

        sides = [np.flatnonzero(self.pixels.any(axis=axis)) for axis in (0, 1)]
        spans = np.array([side[-1] - side[0] + 1.0 for side in sides])
        tree = cKDTree((np.argwhere(_outline(self.pixels))[:, ::-1] + 0.5) / spans)
        far = np.isinf(out)
        out[far], _ = tree.query(points[far] * shape / spans)
        return out


@dataclass(frozen=True, slots=True)
class Around:
    """A disc: all within `radius` of a point, in fractions of the picture's sides."""

    centre: Point
    radius: float

    def distances(self, points: Coordinates, *, hits: bool = False) -> Coordinates:
        away: Coordinates = np.hypot(*(points - np.array(self.centre)).T)
        return np.maximum(0.0, away - self.radius - EDGE) / (2 * self.radius)


def _from_edge(points: Coordinates, a: Coordinates, b: Coordinates) -> Coordinates:
    """Distance of each point from the edge from a to b."""
    along = b - a
    length = float(along @ along)
    share = np.clip((points - a) @ along / length, 0.0, 1.0) if length else np.zeros(len(points))
    return np.asarray(np.hypot(*(points - a - share[:, None] * along).T))


def _crosses(points: Coordinates, a: Coordinates, b: Coordinates) -> NDArray[np.bool_]:
    """True per point where its ray to the right meets the edge from a to b."""
    x, y = points.T
    if a[1] == b[1]:
        return np.zeros(len(points), dtype=bool)
    meets = a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1])
    return np.asarray(((a[1] > y) != (b[1] > y)) & (meets > x))


def _outline(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True pixels next to a false one or to the border of the picture."""
    padded = np.pad(pixels, 1)
    within = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return pixels & ~within


def points_of(items: Sequence[Any], size: Size, *, y_first: bool = False) -> list[Point | None]:
    """Read points from parsed items and divide them by the space's size; None for what is unreadable or
    outside the picture.

    An item is {"point_2d": [x, y]} (or "point", "coordinate"), {"x": ..., "y": ...}, or the two bare numbers.
    """
    return [_point(item, size, y_first) for item in items]


def _point(item: Any, size: Size, y_first: bool) -> Point | None:
    if isinstance(item, Mapping) and "x" in item and "y" in item:
        item, y_first = [item["x"], item["y"]], False
    elif isinstance(item, Mapping):
        item = next((item[key] for key in POINTS if item.get(key) is not None), None)
    if isinstance(item, str | bytes | Mapping) or not isinstance(item, Sequence) or len(item) != 2:
        return None
    x, y = (number_of(value) for value in (reversed(item) if y_first else item))
    if x is None or y is None:
        return None
    point = Point(x / size.width, y / size.height)
    return point if 0 <= point.x <= 1 and 0 <= point.y <= 1 else None


def regions_of(target: Any, size: Size, *, radius: float, y_first: bool = False) -> list[Region]:
    """Read the regions of a target: one of the following, or a list of them.

    {"bbox_2d": [x1, y1, x2, y2]}, {"polygon": [[x, y], ...]}, {"mask": rows of 0 and 1} of the whole picture,
    {"mask": {"size": [height, width], "counts": [...]}} with the run lengths of COCO, or
    {"point_2d": [x, y]}, which is hit within `radius`. A box and a point may stand in any form that a
    response may have, and the whole may be JSON text.

    Raises:
        Unscorable: one cannot be read, or there are more than `Limits` allows (boxes, corners,
            masks_pixels), which is an error of the data.
    """
    items = _items(target)
    bounded(len(items), "target regions")
    regions: list[Region] = []
    corners = pixels = 0
    for item in items:  # one by one, so that nothing is made beyond the limits
        regions.append(region := _region(item, size, radius, y_first))
        corners += len(region.corners) if isinstance(region, Polygon) else 0
        pixels += region.pixels.size if isinstance(region, Mask) else 0
        _together(corners, "corners", "polygons", "corners")
        _together(pixels, "masks_pixels", "masks", "pixels")
    return regions


def _together(number: int, limit: str, of_what: str, what: str) -> None:
    if number > getattr(limits(), limit):
        raise Unscorable(f"{of_what} of a target have at most {most(limit, what)} together, not {number}")


def _items(target: Any) -> Sequence[Any]:
    if isinstance(target, str):
        try:
            target = json.loads(target)
        except ValueError:
            raise Unscorable(f"the target {target[:80]!r} is text and no JSON") from None
    numbers = isinstance(target, list | tuple) and len(target) in (2, 4)
    if isinstance(target, Mapping) or (numbers and all(number_of(x) is not None for x in target)):
        return [target]
    if not isinstance(target, Sequence) or isinstance(target, str | bytes):
        raise Unscorable(f"the target {str(target)[:80]!r} is no list of regions")
    return target


def _region(item: Any, size: Size, radius: float, y_first: bool) -> Region:
    if isinstance(item, Mapping) and item.get("polygon") is not None:
        _together(len(item["polygon"]), "corners", "polygons", "corners")
        corners = points_of(item["polygon"], size, y_first=y_first)
        good = np.array([corner for corner in corners if corner is not None])
        if len(good) == len(corners) > 2 and np.ptp(good, axis=0).all():
            return Polygon(good)
    elif isinstance(item, Mapping) and item.get("mask") is not None:
        return Mask(_pixels(item["mask"]))
    else:
        axes = Axes(size.width, size.height, y_first)
        boxes = boxes_of(items_of(item, 4, axes), y_first=y_first)
        unit = to_unit(boxes[0], size.width, size.height) if len(boxes) == 1 and boxes[0] else None
        if unit is not None:
            return _rectangle(unit)
        points = [] if any(boxes) else points_of(items_of(item, 2, axes), size, y_first=y_first)
        if len(points) == 1 and points[0] is not None:
            return Around(points[0], radius)
    raise Unscorable(f"a target region cannot be read, or has no area inside the picture: {str(item)[:200]}")


def _rectangle(box: Box) -> Polygon:
    x1, y1, x2, y2, _ = box
    return Polygon(np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]))


def _pixels(mask: Any) -> NDArray[np.bool_]:
    pixels = _from_runs(mask) if isinstance(mask, Mapping) else _array(mask)
    if pixels.ndim != 2 or pixels.size > limits().mask_pixels or not pixels.any():
        raise Unscorable(f"a mask has two axes, up to {most('mask_pixels', 'pixels')} and something in it")
    return pixels


def _array(mask: Any) -> NDArray[np.bool_]:
    try:
        pixels: NDArray[np.bool_] = np.asarray(mask, dtype=float) != 0
    except (TypeError, ValueError):
        raise Unscorable(f"a mask is rows of 0 and 1, not {str(mask)[:80]}") from None
    return pixels


def _from_runs(mask: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Pixels of a run-length mask: column by column, runs of 0 and 1 in turn, beginning with 0."""
    try:
        rows, columns = (int(side) for side in mask["size"])
        counts = np.asarray(mask["counts"], dtype=np.int64)
    except (KeyError, TypeError, ValueError):
        raise Unscorable(
            'a mask of runs is {"size": [height, width], "counts": [...]}, uncompressed'
        ) from None
    if not 0 < rows * columns <= limits().mask_pixels or counts.ndim != 1 or (counts < 0).any():
        raise Unscorable(
            f"runs of a mask of {rows} x {columns} pixels cannot be read; {most('mask_pixels')} at most"
        )
    if counts.sum() != rows * columns:
        raise Unscorable(f"the runs of a mask sum to {counts.sum()}, not {rows * columns}")
    values = np.arange(len(counts)) % 2 == 1
    return np.asarray(np.repeat(values, counts).reshape(columns, rows).T)


# --- rewards --------------------------------------------------------------------------------------

GROUNDING_PARTS = ("iou", "giou", "found")


@reward(
    "grounding",
    needs=("response", "target"),
    optional=("image",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2504.07615",
    example={
        "response": '<answer>{"bbox_2d": [100, 120, 400, 410]}</answer>',
        "target": {"bbox_2d": [100, 100, 400, 400]},
    },
)
def grounding(
    measure: Literal["iou", "giou"] = "iou",
    threshold: float = 1.0,
    width: float = 1.0,
    space: Named = "norm_1000",
    target_space: Named = "norm_1000",
    several: Several = "refuse",
    bare: bool = False,
) -> Any:
    """Fit of one box to the one that was asked for, 0 to 1.

    The answer holds one box in any dress that `iou` reads; its label is not looked at. Several boxes are
    worth 0 unless the first or the last is declared to count; the best of them never does. A box that does
    not touch the true one is worth 0 with either measure.

    Args:
        measure: "iou", or "giou" for (1 + generalised IoU) / 2, which still grows where the boxes barely
            touch.
        threshold: the measure from which a box counts in full.
        width: below the threshold, the span over which its worth falls to 0 (smoothstep).
        space: of the response's coordinates, as in `iou`.
        target_space: of `sample.target`, one box.
        several: "refuse", "first" or "last".
        bare: accept a box that is not inside `<answer>` tags.
    """
    if not 0 < threshold <= 1 or not 0 < width <= 1:
        raise ValueError(f"threshold {threshold} and width {width} lie in (0, 1]")
    response_space, truth_space = space_of(space), space_of(target_space)

    async def score(sample: Sample) -> Score:
        truth = await read_aside(lambda one: true_boxes(one, truth_space), sample)
        if len(truth) != 1:
            raise Unscorable(f"the target of grounding is one box, not {len(truth)}; use iou for several")

        def check() -> Verdict:
            boxes = found_boxes(sample, response_space, bare=bare, one=several)
            box = expect_one(boxes, several, "box")
            overlap = iou(box, truth[0]) if box else 0.0
            general = giou(box, truth[0]) if box else -1.0
            fit = overlap if measure == "iou" else (1 + general) / 2
            value = float(ramp(fit, threshold, width)) if overlap > 0 else 0.0
            noted("compared", f"IoU {{}}, GIoU {{}}: the {measure} is worth {{}}", overlap, general, value)
            return Verdict(value, {"iou": overlap, "giou": general, "found": float(len(boxes))})

        return verified(check, GROUNDING_PARTS)

    return score


def _points(sample: Sample, space: Space, bare: bool) -> list[Point | None]:
    """Points of the response; those above `Limits.boxes` count as points on nothing."""
    size = extent(space, sample)
    axes = Axes(size.width, size.height, space.y_first)
    parsed = point_items(segment(sample.response or "", bare=bare).answer, axes)
    points = points_of(parsed.items[: limits().boxes], size, y_first=space.y_first)
    found = [*points, *[None] * (len(parsed.items) - len(points) + parsed.dropped)]
    noted("space", "sides of {} x {}", size.width, size.height)
    for at, point in enumerate(found if heard() else (), start=1):
        if point is None:
            noted(f"found point {at}", "cannot be read, and counts as one that was sent")
        else:
            noted(f"found point {at}", "{} is {} of the picture", parsed.items[at - 1], point)
    return found


def _worth(points: Sequence[Point | None], regions: Sequence[Region], falloff: float) -> Matrix:
    """Worth of every point on every region: 1 for a hit, less beside it, 0 for a point that could not be
    read."""
    places = np.array([point or (math.nan, math.nan) for point in points]).reshape(len(points), 2)
    away = (
        np.array([region.distances(places, hits=not falloff) for region in regions])
        .reshape(len(regions), len(points))
        .T
    )
    return np.nan_to_num(np.exp(-((away / falloff) ** 2) / 2) if falloff else (away == 0).astype(float))


POINTING_PARTS = ("hits", "precision", "recall", "found", "true")


@reward(
    "pointing",
    needs=("response", "target"),
    optional=("image",),
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
    """Points that lie on the regions asked for, 0 to 1.

    The target is one region or a list of them, each a box, a polygon, a mask or a point, see
    `regions_of`. For one region the answer is one point: several are worth 0 unless the
    first or the last is declared to count, so guessing all over the picture earns nothing. For more regions
    the value is the F1 of the best one-to-one match, so a wrong number of points costs, too. The edge of a
    region is inside; a point outside the picture hits nothing. Labels are not looked at. Read are JSON, calls
    of tools, the tags of model families and plain text, see `verifiers.markup.point_items`; a box counts as
    the click at its centre.

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
    response_space, truth_space = space_of(space), space_of(target_space)

    def regions(sample: Sample) -> list[Region]:
        size = extent(truth_space, sample)
        return regions_of(sample.target, size, radius=radius, y_first=truth_space.y_first)

    async def score(sample: Sample) -> Score:
        truth = await read_aside(regions, sample)
        noted("target", "{} as {}", sample.target, [type(region).__name__.lower() for region in truth])

        def check() -> Verdict:
            points = _points(sample, response_space, bare)
            counting = [expect_one(points, several, "point")] if len(truth) == 1 else points
            worth = _worth(counting, truth, falloff)
            match = best_match(worth, decay=empty_decay)
            if heard():
                note_match(match, worth, "point")
            hits = float((worth[match.rows, match.columns] == 1).sum())
            parts = {"hits": hits, "precision": match.precision, "recall": match.recall}
            return Verdict(match.f1, {**parts, "found": float(len(points)), "true": float(len(truth))})

        length = len(sample.response or "")
        return await verified_aside(check, POINTING_PARTS, found=length, true=len(truth))

    return score

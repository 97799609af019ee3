"""Boxes: reading them, bringing them to fractions of the picture, IoU, and the F1 of an optimal one-to-one
match.

Every found box counts, so a duplicate, a near-duplicate and an unreadable one (None) are false positives. The
match is optimal, so order does not matter. `best_match` and `ramp` serve points and time spans too.
Coordinate spaces are in `spaces`, the forms models write boxes in are in `lists` and `markup`; nothing here
reads text.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..tracing import heard, noted
from .response import Verdict
from .text import normalise, normalise_name

Matrix = NDArray[np.float64]


class Match(NamedTuple):
    """F1, precision and recall in [0, 1] of a match; found `rows` are matched with true `columns`."""

    f1: float
    precision: float
    recall: float
    rows: NDArray[Any]
    columns: NDArray[Any]


def best_match(worth: Matrix, *, decay: float = 0.5) -> Match:
    """F1 of the optimal match: 2 * tp / (found + true), tp being the largest one-to-one sum of `worth`.

    `worth` is (found, true), each pair's value in [0, 1]. Adding something pays only if it gains more than
    half the present F1. Where nothing is true the value is `decay` to the power of the number found.
    """
    from scipy.optimize import linear_sum_assignment  # an import that `mmreward list` does not need

    found, true = worth.shape
    nothing = np.zeros(0, dtype=np.intp)
    if not true:
        return Match(float(decay**found), float(not found), 1.0, nothing, nothing)
    useful = np.flatnonzero(worth.any(axis=1))  # thousands of boxes on nothing cost no matching
    rows, columns = linear_sum_assignment(worth[useful], maximize=True)
    rows = useful[rows]
    tp = float(worth[rows, columns].sum())
    return Match(2 * tp / (found + true), tp / found if found else 0.0, tp / true, rows, columns)


def ramp(value: Any, threshold: Any, width: float) -> Any:
    """Smoothstep: 0 up to threshold - width, 1 from threshold on. Numbers or arrays."""
    x = np.clip((value - threshold + width) / width, 0.0, 1.0)
    return x * x * (3 - 2 * x)


KEYS = ("bbox_2d", "bbox", "box", "Position", "position")
LABELS = ("label", "class", "name", "category")
NUMERIC = re.compile(r"-?\d{1,9}(\.\d{1,20})?")
MAX_COORDINATE = 1e7
BOX_PARTS = ("precision", "recall", "mean_iou", "found", "true")
"""Names of the parts of an F1 of boxes."""
EVALUATED = tuple(percent / 100 for percent in range(50, 100, 5))
"""IoU thresholds of the fixed evaluation, 0.50 to 0.95."""
CHUNK = 1024


class Box(NamedTuple):
    """(x1, y1) top left, (x2, y2) bottom right; label casefolded, with single spaces."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str = ""


def boxes_of(items: Any, *, y_first: bool = False) -> list[Box | None]:
    """Read boxes from parsed items or a target; None stands for one that cannot be read, which still counts
    as found.

    An item is {"bbox_2d": [x1, y1, x2, y2], "label": ...}, or the bare four numbers. Gemini's "box_2d" is
    [y1, x1, y2, x2], and so is every list of numbers with `y_first`.
    """
    if isinstance(items, Mapping):
        items = [items]
    if not isinstance(items, Iterable) or isinstance(items, str | bytes):
        return [None]
    return [_box(item, y_first) for item in items]


def _box(item: Any, y_first: bool) -> Box | None:
    label, numbers, swapped = "", item, y_first
    if isinstance(item, Mapping):
        key = next((key for key in (*KEYS, "box_2d") if item.get(key) is not None), None)
        if key is None:
            return None
        numbers, swapped = item[key], y_first or key == "box_2d"
        label = normalise_label(next((item[name] for name in LABELS if item.get(name) is not None), ""))
    if isinstance(numbers, Box):
        return numbers._replace(label=normalise_label(numbers.label))
    if isinstance(numbers, str | Mapping) or not isinstance(numbers, Iterable):
        return None
    values = [number_of(value) for value in islice(numbers, 5)]  # a fifth is one too many
    if len(values) != 4 or any(value is None for value in values):
        return None
    a, b, c, d = (value for value in values if value is not None)
    return Box(b, a, d, c, label) if swapped else Box(a, b, c, d, label)


def four_numbers(value: Any) -> bool:
    """True for the four coordinates of one box, as opposed to four boxes."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) != 4:
        return False
    return all(isinstance(number, int | float) for number in value)


def number_of(value: Any) -> float | None:
    """Read a coordinate: a number, or the text of one; None for anything else, NaN, infinity and bools."""
    if isinstance(value, str) and NUMERIC.fullmatch(value.strip()):
        value = float(value)
    if type(value) is float:  # what most are, and a response may hold thousands
        return value if abs(value) <= MAX_COORDINATE else None  # NaN fails the comparison
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if abs(number) <= MAX_COORDINATE else None


def normalise_label(label: Any) -> str:
    """Label in NFKC, casefolded, with single spaces."""
    return normalise(str(label))


ARTICLE = re.compile(r"(?:an?|the) (?=\S)")
NUMBERED = re.compile(r" ?[#(]?\d{1,4}\)?$")


def label_key(label: str) -> str:
    """Label in the form in which labels are compared: a name (`text.normalise_name`) without its hyphens and
    its article."""
    return ARTICLE.sub("", normalise_name(label.replace("-", " ")), count=1) or normalise_label(label)


def label_table(aliases: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Table from every normalised name to its canonical one, for aliases {"person": ["man", "woman"]}.

    Raises:
        ValueError: a name stands under two labels.
    """
    table: dict[str, str] = {}
    for label, others in aliases.items():
        if isinstance(others, str):
            raise ValueError(f"the aliases of {label!r} are a list of names, not the text {others!r}")
        for name in map(label_key, (label, *others)):
            if table.setdefault(name, label_key(label)) != label_key(label):
                raise ValueError(f"{name!r} is an alias of both {table[name]!r} and {label!r}")
    return table


def to_unit(box: Box, width: float, height: float) -> Box | None:
    """Box in fractions of the picture, clamped to it; None when no area is left.

    `width` and `height` are those of the space (`spaces.extent`). Corners in the wrong order are not
    repaired: the box is worth nothing.
    """
    x1, x2 = (min(max(x / width, 0.0), 1.0) for x in (box.x1, box.x2))
    y1, y2 = (min(max(y / height, 0.0), 1.0) for y in (box.y1, box.y2))
    return Box(x1, y1, x2, y2, box.label) if x1 < x2 and y1 < y2 else None


def iou(a: Box, b: Box) -> float:
    """Intersection over union; 0 for boxes without area."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    return overlap / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - overlap)


def giou(a: Box, b: Box) -> float:
    """Generalised IoU in [-1, 1] (arXiv:1902.09630): IoU less the share of the hull that neither covers.

    -1 where a box has no area, so that nothing is ever divided by zero.
    """
    areas = [(box.x2 - box.x1) * (box.y2 - box.y1) for box in (a, b)]
    if any(box.x2 <= box.x1 or box.y2 <= box.y1 for box in (a, b)):
        return -1.0
    overlap = iou(a, b)
    union = sum(areas) / (1 + overlap)
    hull = (max(a.x2, b.x2) - min(a.x1, b.x1)) * (max(a.y2, b.y2) - min(a.y1, b.y1))
    return overlap - (hull - union) / hull


def overlaps(found: Sequence[Box | None], truth: Sequence[Box]) -> Matrix:
    """IoU of every found box with every true one, (found, true); 0 for a box that could not be read."""
    out = np.zeros((len(found), len(truth)))
    if not truth:
        return out
    x1, y1, x2, y2 = np.array([box[:4] for box in truth]).T
    for start in range(0, len(found), CHUNK):  # a response of thousands of boxes needs little memory
        some = np.array([box[:4] if box else (0.0,) * 4 for box in found[start : start + CHUNK]])[:, :, None]
        width = np.minimum(some[:, 2], x2) - np.maximum(some[:, 0], x1)
        height = np.minimum(some[:, 3], y2) - np.maximum(some[:, 1], y1)
        shared = np.clip(width, 0.0, None) * np.clip(height, 0.0, None)
        areas = (some[:, 2] - some[:, 0]) * (some[:, 3] - some[:, 1]) + (x2 - x1) * (y2 - y1)
        out[start : start + CHUNK] = np.divide(
            shared, areas - shared, out=out[start : start + CHUNK], where=shared > 0
        )
    return out


Labels = Literal["exact", "ignore"]


def _same_label(
    found: Sequence[Box | None], truth: Sequence[Box], table: Mapping[str, str]
) -> NDArray[np.bool_]:
    """Where the labels of a found and a true box are one: as `label_key` or `table` has them, "cat 1" being a
    cat where no true box is numbered so. A true box without a label takes any."""

    def key(label: str) -> str:
        name = label_key(label)
        return table.get(name, name)

    true_keys = [key(box.label) for box in truth]
    ids = {name: at for at, name in enumerate(dict.fromkeys(true_keys))}

    def found_id(label: str) -> int:
        name = key(label)
        return ids[name] if name in ids else ids.get(key(NUMBERED.sub("", name)), -1)

    sent = [found_id(box.label) if box else -1 for box in found]
    true = np.array([ids[name] for name in true_keys], dtype=int)
    unnamed = np.array([not name for name in true_keys], dtype=bool)
    same: NDArray[np.bool_] = (np.array(sent, dtype=int)[:, None] == true) | unnamed
    return same


def matchable(
    found: Sequence[Box | None], truth: Sequence[Box], labels: Labels, table: Mapping[str, str] | None = None
) -> Matrix:
    """IoU of every found box with every true one, (found, true), and 0 where labels differ (unless
    ignored)."""
    overlap = overlaps(found, truth)
    return overlap if labels == "ignore" else overlap * _same_label(found, truth, table or {})


def soft_f1(
    found: Sequence[Box | None],
    truth: Sequence[Box],
    *,
    threshold: float | Sequence[float] = 1.0,
    width: float = 1.0,
    labels: Labels = "exact",
    table: Mapping[str, str] | None = None,
    decay: float = 0.5,
) -> Verdict:
    """Soft F1 of boxes: 2 * tp / (found + true), tp being the best one-to-one sum of ramp(IoU) over equal
    labels.

    Every found box counts, duplicates and unreadable ones (None) too, so a box that matches nothing lowers
    the score. `threshold` is one for all true boxes, or one for each; `table` is a `label_table`.
    """
    overlap = matchable(found, truth, labels, table)
    worth = ramp(overlap, np.asarray(threshold), width)
    match = best_match(worth, decay=decay)
    if heard():
        note_labels(found, truth, overlap)
        note_match(match, worth, "box", overlap)
    return Verdict(match.f1, _parts(match, overlap))


def mean_f1(
    found: Sequence[Box | None],
    truth: Sequence[Box],
    *,
    labels: Labels = "exact",
    table: Mapping[str, str] | None = None,
) -> Verdict:
    """Mean F1 of the largest one-to-one match, over the IoU thresholds 0.50, 0.55, ... 0.95.

    Fixed thresholds make runs and steps comparable, and unlike average precision it needs no confidence and
    counts every false box. An empty picture scores 1 for no box, else 0.
    """
    overlap = matchable(found, truth, labels, table)
    matches = [best_match((overlap >= level - 1e-9).astype(float), decay=0.0) for level in EVALUATED]
    if heard():
        note_labels(found, truth, overlap)
        note_match(matches[0], (overlap >= EVALUATED[0] - 1e-9).astype(float), "box", overlap)
        noted("levels", "F1 {} at the IoU thresholds {}", [match.f1 for match in matches], EVALUATED)
    parts = _parts(matches[0], overlap)
    for name in ("precision", "recall"):
        parts[name] = float(np.mean([getattr(match, name) for match in matches]))
    return Verdict(float(np.mean([match.f1 for match in matches])), parts)


def note_match(match: Match, worth: Matrix, what: str, overlap: Matrix | None = None) -> None:
    """Note which found ones were matched with which true ones, what each is worth, and what is left over."""
    pairs = [
        (row, column)
        for row, column in zip(match.rows.tolist(), match.columns.tolist(), strict=True)
        if worth[row, column] > 0
    ]
    for row, column in pairs:
        fit = "" if overlap is None else f" by an IoU of {overlap[row, column]:.4g}"
        noted(
            "matched", f"{what} {row + 1} with true {what} {column + 1}{fit}, worth {worth[row, column]:.4g}"
        )
    found, true = ({pair[at] for pair in pairs} for at in (0, 1))
    for row in sorted(set(range(worth.shape[0])) - found):
        noted("false", f"{what} {row + 1} matches nothing")
    for column in sorted(set(range(worth.shape[1])) - true):
        noted("missed", f"true {what} {column + 1} is matched by nothing")
    noted("f1", f"{match.f1:.4g} from precision {match.precision:.4g} and recall {match.recall:.4g}")


def note_labels(found: Sequence[Box | None], truth: Sequence[Box], matchable: Matrix) -> None:
    """Note the pairs that lie over each other, and are none as their labels differ."""
    for row, column in np.argwhere((overlaps(found, truth) > 0) & (matchable == 0)).tolist():
        box = found[row]
        if box is not None:
            words = f"box {row + 1} lies on true box {column + 1}, but {box.label!r} is not"
            noted("label", f"{words} {truth[column].label!r}")


def _parts(match: Match, overlap: Matrix) -> dict[str, float]:
    found, true = overlap.shape
    matched = float(overlap[match.rows, match.columns].sum())
    return {
        "precision": match.precision,
        "recall": match.recall,
        "mean_iou": matched / true if true else float(not found),
        "found": float(found),
        "true": float(true),
    }

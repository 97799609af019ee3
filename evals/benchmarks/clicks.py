"""Benchmarks of GUI grounding: predictions of clicks, how published code counts them, and cells.

A prediction says where it clicks: `raw_text` (or `response`, `prediction`: a model's words in any form that
the reward `click` reads), `point`, `box` or `action`; and in which coordinates: `space` (or `frame`,
`model_family`), a name of `verifiers.spaces`, with `input_size` ([height, width]) or `resized` ([width,
height]) where the model saw another size. Nothing is guessed from the size of numbers: a prediction without a
space is invalid. `image_size` ([width, height]) is asked for where neither the labels nor a picture say it.

An item's `gold` is a target as for `click`, in pixels. Of several points the first counts.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmreward.data.records import records_of
from mmreward.data.texts import Skipped
from mmreward.errors import Unscorable
from mmreward.media import Media
from mmreward.rewards.gui.click import clicked, hits, off_note
from mmreward.rewards.gui.targets import Target, target_of
from mmreward.types import Sample
from mmreward.verifiers.actions import Point
from mmreward.verifiers.spaces import Space, extent, space_of

from .benchmark import VALID, Answers, Cells, Columns, Item, Rule, Table
from .figures import codes, macro, mean, mean_of_known
from .kits import Read, read_by_kits

WORDS = ("raw_text", "response", "prediction", "pred", "output")
PLACES = ("point", "box", "bbox", "action")
SPACES = ("space", "frame", "model_family")
FRAMES = {
    "px_original": "pixel",
    "px_resized": "claude",  # its size must be given, and is not computed
    "norm1": "norm_1",
    "norm100": "norm_100",
    "norm999": "norm_999",
    "norm1000": "norm_1000",
    "bins1024": "paligemma",
}
"""Names of frames in other records."""
SUSPECT = 0.2
"""Share of clicks beside the picture, or within one pixel, from which the declared space is doubted."""
ENOUGH = 5
"""Clicks from which another space is named."""
PIXEL = "pixel"


class Click(NamedTuple):
    """A prediction against its item; 1 or 0.

    Args:
        hit: the first point lies in the target, edges in.
        strict: edges out.
        any: one of the points does.
        kits: what other evaluation kits make of the words.
        off: the first point cannot be of its space: beside the picture, or within one of its pixels.
        refused: the answer says that there is nothing.
        pixel, norm_1, norm_1000, swapped: the first point's numbers would hit in another space, or with y
            first; they are told, and never applied.
    """

    hit: float
    strict: float
    any: float
    kits: Read
    off: float
    refused: float
    pixel: float = 0.0
    norm_1: float = 0.0
    norm_1000: float = 0.0
    swapped: float = 0.0


OTHERS = ("pixel", "norm_1", "norm_1000", "swapped")


# --- labels -------------------------------------------------------------------------------------------------


def rows_of(path: Path) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """(position, row) of a published JSON list, JSONL, TSV or CSV file.

    Raises:
        ValueError: a row that is no object, with its number.
    """
    if path.suffix == ".json":
        loaded = json.loads(path.read_text(encoding="utf-8-sig"))
        records: Iterable[Any] = loaded if isinstance(loaded, list) else [loaded]
    else:
        records = records_of(path, Skipped(), {})
    for number, record in enumerate(records):
        if isinstance(record, ValueError):
            raise record
        if not isinstance(record, Mapping):
            raise ValueError(f"{path}, row {number + 1} is no object")
        yield number, record


def files_of(path: Path, pattern: str, what: str) -> list[Path]:
    """The published files of a folder, or the one that was given.

    Raises:
        ValueError: there are none.
    """
    files = sorted(path.glob(pattern)) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ValueError(f"{path} has no {what}")
    return files


def numbers_of(value: Any, where: str, count: int = 4) -> list[float]:
    """Numbers of a box, also as the text of a table's cell.

    Raises:
        ValueError: there are fewer or more, or something else.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value.replace("(", "[").replace(")", "]"))
        except ValueError:
            value = None
    ok = isinstance(value, list | tuple) and (not count or len(value) == count)
    if not ok or not all(isinstance(x, int | float) and math.isfinite(x) for x in value):
        raise ValueError(f"{where}: a box of {count or 'some'} finite numbers, not {str(value)[:60]}")
    return [float(x) for x in value]


def from_corner(box: Sequence[float]) -> list[float]:
    """[x, y, width, height] as corners; x + width, and not less one."""
    x, y, width, height = box
    return [x, y, x + width, y + height]


def picture_size(folders: Sequence[Path], name: str) -> tuple[int, int] | None:
    """(height, width) of a picture that lies in one of the folders, read from its header; else None."""
    for folder in folders:
        if (file := folder / name).is_file():
            height, width = Media(file).size
            return int(height), int(width)
    return None


def sized(given: Any) -> tuple[float, float] | None:
    """(height, width) of a published [width, height]; None where there is none."""
    if isinstance(given, str):
        given = json.loads(given) if given.strip().startswith("[") else None
    if isinstance(given, list | tuple) and len(given) == 2 and all(isinstance(x, int | float) for x in given):
        return float(given[1]), float(given[0])
    return None


# --- answers ------------------------------------------------------------------------------------------------


def answer(record: Mapping[str, Any], item: Item) -> Click:
    """The click of a prediction; see the module."""
    text = text_of(record)
    sample = Sample(response=text, meta=meta_of(record, item))
    space = space_of_record(record)
    target = target_in(item, sample)
    found = clicked(text, space, sample)
    height, width = sample.meta["size"]
    kits = read_by_kits(text, target, height, width)
    if target.refusal or found.refused:
        right = float(found.refused and target.refusal)
        return Click(right, right, right, kits, 0.0, float(found.refused))
    points = [point for point in found.points if point is not None]
    if not points or found.points[0] is None:
        raise Unscorable("the point cannot be read", "unparsable")
    return Click(
        hit=float(hits(points[0], target)),
        strict=float(hits(points[0], target, "strict")),
        any=float(any(hits(point, target) for point in points)),
        kits=kits,
        off=float(bool(off_note(points[0], space, sample))),
        refused=0.0,
        **_elsewhere(points[0], space, sample, target),
    )


def _elsewhere(point: Point, space: Space, sample: Sample, target: Target) -> dict[str, float]:
    """What the numbers of a point would hit in other spaces."""
    own, (height, width) = extent(space, sample), sample.meta["size"]
    x, y = point.x * own.width, point.y * own.height
    places = {
        "pixel": Point(x / width, y / height),
        "norm_1": Point(x, y),
        "norm_1000": Point(x / 1000, y / 1000),
        "swapped": Point(y / own.width, x / own.height),
    }
    return {name: float(hits(place, target)) for name, place in places.items()}


def text_of(record: Mapping[str, Any]) -> str:
    """Words of a prediction, or its point, box or action as JSON.

    Raises:
        Unscorable: "missing" where it has none.
    """
    for key in WORDS:
        if isinstance(record.get(key), str):
            return str(record[key])
    given = next((record[key] for key in PLACES if record.get(key) is not None), None)
    if given is None:
        raise Unscorable(f"the prediction has no {', '.join((WORDS[0], *PLACES))}", "missing")
    return given if isinstance(given, str) else json.dumps(given)


def space_of_record(record: Mapping[str, Any]) -> Any:
    name = next((record[key] for key in SPACES if record.get(key)), None)
    if name is None:
        raise Unscorable('the prediction does not say its space, as {"space": "qwen2.5-vl"}', "missing")
    try:
        return space_of(FRAMES.get(str(name), name) if isinstance(name, str) else name)
    except ValueError as error:
        raise Unscorable(str(error)) from None


def meta_of(record: Mapping[str, Any], item: Item) -> dict[str, Any]:
    """Sizes for the spaces: of the labels, or else of the prediction.

    Raises:
        Unscorable: "missing" where neither says how large the picture is.
    """
    size = item.facts.get("size") or sized(record.get("image_size", record.get("img_size")))
    if size is None:
        raise Unscorable(
            "nothing says how large the picture is: put the pictures beside the labels, or give image_size "
            "([width, height])",
            "missing",
        )
    seen = record.get("input_size") or sized(record.get("resized"))
    return {"size": size, **({"input_size": seen} if seen else {})}


def target_in(item: Item, sample: Sample) -> Target:
    """The target of an item on a picture; made once for pictures whose size the labels say."""
    made: dict[Any, Target] = item.facts["made"]
    key = tuple(sample.meta["size"])
    if key not in made:
        about = Sample(target=item.gold, meta={"size": key})
        made[key] = target_of(about, space_of(PIXEL), radius=0.01)
    return made[key]


# --- columns and rules --------------------------------------------------------------------------------------


def columns(items: Sequence[Item], answers: Sequence[Click | None]) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays of the fields of `Click` and `Read`; without an answer nothing is hit, except by the (0, 0) that
    VLMEvalKit and lmms-eval take for it."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name in (*Click._fields, *Read._fields):
        rows = [one.kits if one is not None and name in Read._fields else one for one in answers]
        if name != "kits":
            found[name] = np.array([0.0 if one is None else getattr(one, name) for one in rows])
    found["unread"] = np.array([float(one is None) for one in answers])
    for column in ("kit", "thousand", "lmms_centre"):
        lost = np.flatnonzero(found["unread"])
        found[column][lost] = [_at_the_origin(items[int(row)]) for row in lost]
    found["refusal"] = np.array([float(_is_refusal(item)) for item in items])
    found["kind"] = np.array([item.facts.get("kind", "") for item in items])
    found["group"] = np.array([item.facts.get("group", "") for item in items])
    cells = [(item.facts.get("group", ""), item.facts.get("kind", "")) for item in items]
    found["cell"], found["group code"] = codes(cells), codes([group for group, _ in cells])
    return found


def _is_refusal(item: Item) -> bool:
    return isinstance(item.gold, Mapping) and item.gold.get("kind") == "refusal"


def _at_the_origin(item: Item) -> float:
    """(0, 0), which the kits take for what they cannot read, lies in a box that touches the corner."""
    boxes = item.gold if isinstance(item.gold, list) else []
    return float(len(boxes) == 4 and boxes[0] <= 0 and boxes[1] <= 0)


def of_kind(column: str, kind: str) -> Callable[[Columns], float]:
    """The rule of a column's mean over one kind of items."""
    return lambda found: mean_of_known(found[column][found["kind"] == kind])


def of_cell(group: str, kind: str) -> Callable[[Columns], float]:
    def of(found: Columns) -> float:
        return mean_of_known(found["hit"][(found["group"] == group) & (found["kind"] == kind)])

    return of


def squared(kind: str) -> Callable[[Columns], float]:
    """VLMEvalKit's sub-accuracy of a kind: each group weighs with the square of its number."""

    def of(found: Columns) -> float:
        own = found["kind"] == kind
        groups = codes(found["group"][own].tolist())
        if not len(groups):
            return math.nan
        number = np.bincount(groups).astype(np.float64)
        right = np.bincount(groups, weights=found["kit"][own])
        return float((number * right).sum() / (number**2).sum())

    return of


def grounding_rules(kinds: Sequence[str] = (), *, kit: bool = True) -> tuple[Rule, ...]:
    """Rules that every benchmark of clicks has; `kinds` are those that are counted apart."""
    rules = [
        Rule(name="accuracy", words="first point in the target, edges in, every item alike", of=mean("hit")),
        Rule(name="accuracy/cells", words="mean over the cells of group and kind", of=macro("hit", "cell")),
        Rule(name="accuracy/groups", words="mean over the groups", of=macro("hit", "group code")),
    ]
    rules += [Rule(name=kind, words=f"accuracy of {kind}", of=of_kind("hit", kind)) for kind in kinds]
    rules += [
        Rule(name="accuracy/strict edges", words="edges out", of=mean("strict")),
        Rule(name="accuracy/any", words="any of several points; pays for trying", of=mean("any")),
        Rule(name="wrong format", words="no valid answer", of=mean("unread"), higher_is_better=False,
             worst=False, every=True),
        Rule(name="off", words="points that cannot be of the declared space", of=mean("off"),
             higher_is_better=False, worst=False),
    ]  # fmt: skip
    if kit:
        rules.append(kit_rule("vlmevalkit", "x=, y= as written; else (0, 0)", mean("kit")))
        rules += [
            kit_rule(f"vlmevalkit/{kind}", "the same, groups by their numbers squared", squared(kind))
            for kind in kinds
        ]
    return tuple(rules)


def lmms_rules() -> tuple[Rule, ...]:
    """lmms-eval's numbers for boxes in fractions."""

    def from_iou(least: float) -> Callable[[Columns], float]:
        return lambda found: float((found["lmms_iou"] >= least).mean())

    words = "the first [x1, y1, x2, y2] in fractions; else zeros"
    return (
        kit_rule("lmms-eval/IoU", words, mean("lmms_iou")),
        *(
            kit_rule(f"lmms-eval/ACC@{least}", "the same, IoU from there up", from_iou(least))
            for least in (0.1, 0.3, 0.5, 0.7, 0.9)
        ),
        kit_rule("lmms-eval/Center_ACC", "its centre in the true box", mean("lmms_centre")),
    )


def kit_rule(name: str, words: str, of: Callable[[Columns], float]) -> Rule:
    """A rule of another kit, over all items."""
    return Rule(name=name, words=words, of=of, legacy=True, worst=False, every=True)


def doubts(answers: Answers) -> list[str]:
    """What the clicks say about their declared space."""
    clicks = [one for one in answers.valid.values() if not one.refused]
    if not clicks:
        return []
    found = []
    share = sum(one.off for one in clicks) / len(clicks)
    if share >= SUSPECT:
        found.append(f"{share:.0%} of the clicks cannot be of the declared space: is it the model's?")
    hit = sum(one.hit for one in clicks) / len(clicks)
    shares = {name: sum(getattr(one, name) for one in clicks) / len(clicks) for name in OTHERS}
    better = max(shares, key=lambda name: shares[name])
    if shares[better] >= hit + SUSPECT and len(clicks) >= ENOUGH:
        words = "with y first" if better == "swapped" else f"as {better}"
        found.append(f"the same numbers would hit {shares[better]:.0%} {words}, and {hit:.0%} as declared")
    return found


def expected(items: Sequence[Item], rows: int, what: str = "items") -> list[str]:
    """A caution where the labels are not as many as published."""
    return [] if len(items) == rows else [f"{len(items)} {what}; {rows} are published"]


def by_cell(items: Sequence[Item], found: Columns) -> list[Table]:
    """Accuracy by group and kind."""
    rows: list[Cells] = []
    for group, kind in sorted(set(zip(found["group"].tolist(), found["kind"].tolist(), strict=True))):
        own = (found["group"] == group) & (found["kind"] == kind)
        hit, read = found["hit"][own], found["hit"][own & found[VALID]]
        rows.append((str(group), str(kind), len(hit), float(hit.mean()), mean_of_known(read)))
    return [Table("by cell", ("group", "kind", "items", "all", "valid"), rows)]

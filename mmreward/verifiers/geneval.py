"""GenEval's rules (arXiv:2310.11513, github.com/djghosh13/geneval, MIT): what a picture is asked to show, and
what of it a detector found.

`request_of` reads a line of GenEval's metadata, `kept` chooses the detections that count, `coloured` says
whose colours are needed, and `judge` gives the published values of one picture:

- `official`: all of it is there, by the script that the published tables were made with. More of a class than
  asked is right, unless an `exclude` clause caps it.
- `strict`: of flow_grpo's reward server; every class exactly as often as asked. `exclude` is not looked at.
- `flow_grpo`: its graded reward, as its code has it. It has no lower bound (one asked, four found: -2), a
  wrong position is counted both as 0 and as 1, and `exclude` is not looked at.
- `soft`: the same without these three faults, 0 to 1, and with a term for every place that is asked for.

Pure functions of boxes, names and scores: nothing here knows a picture or a network.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..errors import Unscorable, nearest

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""Kinds of prompts; the published score is the mean over the six of each one's mean."""
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
MAX_CLAUSES = 32
"""Clauses of one request; the published ones have at most two."""


class Rules(NamedTuple):
    """Thresholds, by default the published ones."""

    threshold: float = 0.3
    """Least score of an object that counts; it must be above."""
    counting: float = 0.9
    """The same for prompts of the tag "counting"."""
    most: int = 16
    """Objects of one class that are looked at, the surest first."""
    overlap: float = 1.0
    """Largest intersection over union of two objects of one class; 1 keeps all."""
    margin: float = 0.1
    """Share of both objects' sides by which their distance on an axis is reduced."""
    direction: float = 0.5
    """Least component of what is left, as a share of the whole distance, that makes a relation."""


OFFICIAL = Rules()

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels, y growing downwards."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One object that was found.

    Args:
        name: its class, as GenEval calls it.
        box: where it is.
        score: how sure the detector is, 0 to 1.
        colour: one of `COLOURS`; empty as long as nobody has looked.
        place: number by which the caller knows it again.
    """

    name: str
    box: Box
    score: float = 1.0
    colour: str = ""
    place: int = 0


class Clause(NamedTuple):
    """So many objects of a class; `position` is a relation to the objects of an earlier clause, by number."""

    name: str
    number: int
    colour: str = ""
    position: tuple[str, int] | None = None


class Request(NamedTuple):
    """What a picture is asked to show: all of `include`, and none of `exclude`."""

    tag: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...] = ()


# --- reading a request ------------------------------------------------------------------------------


def request_of(meta: Mapping[str, Any]) -> Request:
    """The request of one row: `tag`, `include` and `exclude` as in `evaluation_metadata.jsonl`.

    Fields that are None are absent: tables have every column in every row. A list may also be JSON text, and
    all of it may stand under `metadata`, where GenEval's own results have it.

    Raises:
        Unscorable: "missing" where there is no tag or nothing is asked for; else what is wrong with it.
    """
    if meta.get("include") is None and meta.get("metadata") is not None:
        meta = _parsed(meta["metadata"], "metadata")
        if not isinstance(meta, Mapping):
            raise Unscorable(f"metadata is {type(meta).__name__}, not an object")
    tag = meta.get("tag")
    if tag is None:
        raise Unscorable("the row has no tag: GenEval's metadata has tag, include and exclude", "missing")
    if tag not in TAGS:
        raise Unscorable(f"GenEval has no tag {str(tag)[:40]!r}: {nearest(str(tag), TAGS)}")
    include, exclude = (_clauses(meta.get(name), name) for name in ("include", "exclude"))
    if not include:
        raise Unscorable("the row asks for nothing: GenEval's metadata has a list `include`", "missing")
    return Request(str(tag), include, exclude)


def _parsed(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise Unscorable(f"{name} is not JSON: {error}") from None


def _clauses(value: Any, name: str) -> tuple[Clause, ...]:
    value = _parsed(value, name)
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Unscorable(f"{name} is {type(value).__name__}, not a list of clauses")
    if len(value) > MAX_CLAUSES:
        raise Unscorable(f"{name} has {len(value)} clauses; the limit is {MAX_CLAUSES}")
    return tuple(_clause(one, f"{name}[{number}]", number) for number, one in enumerate(value))


def _clause(value: Any, where: str, number: int) -> Clause:
    if not isinstance(value, Mapping):
        raise Unscorable(f"{where} is {str(value)[:40]!r}, not an object with class and count")
    given = {key: one for key, one in value.items() if one is not None}
    known = ("class", "count", "color", "position")
    if unknown := [str(key) for key in given if key not in known]:
        raise Unscorable(f"{where} has {unknown[0][:40]!r}: {nearest(unknown[0], known)}")
    name, count = given.get("class"), given.get("count")
    if not isinstance(name, str) or not name:
        raise Unscorable(f"{where} has no class")
    whole = isinstance(count, int | float) and not isinstance(count, bool) and float(count).is_integer()
    if not whole or not 1 <= float(count or 0) <= 10_000:
        raise Unscorable(f"{where}.count is {str(count)[:40]}, not a number of objects from 1")
    colour = given.get("color", "")
    if colour and colour not in COLOURS:
        raise Unscorable(f"{where}.color is {str(colour)[:40]!r}: {nearest(str(colour), COLOURS)}")
    position = given.get("position")
    relation = None if position is None else _position(position, f"{where}.position", number)
    return Clause(name, int(float(count or 0)), str(colour), relation)


def _position(value: Any, where: str, number: int) -> tuple[str, int]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise Unscorable(f"{where} is {str(value)[:40]!r}, not [relation, number of an earlier clause]")
    relation, target = value
    if relation not in RELATIONS:
        raise Unscorable(f"{where} is {str(relation)[:40]!r}: {nearest(str(relation), RELATIONS)}")
    digits = str(target) if isinstance(target, int | str) and not isinstance(target, bool) else ""
    if not (digits.isdecimal() and len(digits) < 4 and int(digits) < number):
        raise Unscorable(f"{where} refers to clause {str(target)[:40]}, which does not come before it")
    return str(relation), int(digits)


def check_classes(request: Request, classes: Iterable[str]) -> None:
    """Refuse a class that the detector does not know: nothing of it can ever be found.

    Raises:
        Unscorable: the class, with the nearest one that there is.
    """
    known = list(classes)
    for clause in (*request.include, *request.exclude):
        if clause.name not in known:
            # Of "mouse", "horse" is nearer by its letters than "computer mouse".
            same = [name for name in known if set(clause.name.lower().split()) & set(name.lower().split())]
            hint = f"did you mean {same[0]!r}?" if same else nearest(clause.name, known)
            raise Unscorable(f"the detector knows no {clause.name[:60]!r}: {hint}")


# --- choosing what counts ---------------------------------------------------------------------------

Objects = Mapping[str, Sequence[Detection]]
"""Detections that count, by class, the surest first."""


def kept(found: Iterable[Detection], tag: str, rules: Rules = OFFICIAL) -> dict[str, list[Detection]]:
    """The detections that count: above the tag's threshold, at most `rules.most` of a class."""
    least = rules.counting if tag == "counting" else rules.threshold
    objects: dict[str, list[Detection]] = {}
    for one in sorted(found, key=lambda one: -one.score):
        objects.setdefault(one.name, [])
        if one.score > least and len(objects[one.name]) < rules.most:
            objects[one.name].append(one)
    return {name: _apart(several, rules.overlap) for name, several in objects.items() if several}


def _apart(several: list[Detection], overlap: float) -> list[Detection]:
    """Those that overlap no surer one by `overlap` or more, once the most were chosen."""
    if overlap >= 1:
        return several
    left: list[Detection] = []
    for one in several:
        if all(_iou(one.box, other.box) < overlap for other in left):
            left.append(one)
    return left


def _iou(a: Box, b: Box) -> float:
    """Intersection over union by GenEval's count of pixels, the last one included."""

    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(x2 - x1 + 1, 0) * max(y2 - y1 + 1, 0)

    common = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = area(*a) + area(*b) - common
    return common / union if union else 0.0


def coloured(request: Request, objects: Objects) -> list[Detection]:
    """The detections whose colours a verdict needs: as many as asked, the surest, where there are enough."""
    needed: dict[tuple[str, int], Detection] = {}
    for clause in request.include:
        found = objects.get(clause.name, ())
        if clause.colour and len(found) >= clause.number:
            needed |= {(one.name, one.place): one for one in found[: clause.number]}
    return list(needed.values())


def painted(objects: Objects, colours: Mapping[int, str]) -> dict[str, list[Detection]]:
    """The same objects with the colours that were found, by their `place`."""
    return {
        name: [replace(one, colour=colours.get(one.place, one.colour)) for one in several]
        for name, several in objects.items()
    }


def relations(a: Box, b: Box, rules: Rules = OFFICIAL) -> set[str]:
    """Relations of a to b: none, one or two of `RELATIONS`.

    The distance of the centres is reduced on each axis by `rules.margin` of both objects' sides there. What
    is left makes a relation where it is more than `rules.direction` of the distance before that.
    """
    off = [(a[axis] + a[axis + 2] - b[axis] - b[axis + 2]) / 2 for axis in (0, 1)]
    sides = [abs(a[axis + 2] - a[axis]) + abs(b[axis + 2] - b[axis]) for axis in (0, 1)]
    left = [
        math.copysign(max(abs(one) - rules.margin * side, 0), one)
        for one, side in zip(off, sides, strict=True)
    ]
    if all(abs(one) < 1e-3 for one in left):
        return set()
    dx, dy = (one / math.hypot(*off) for one in left)
    limit = rules.direction
    holds = {"left of": dx < -limit, "right of": dx > limit, "above": dy < -limit, "below": dy > limit}
    return {name for name, true in holds.items() if true}


# --- the verdict ------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """Published values of one picture, the mean of each kind of requirement, and what is wrong with it."""

    official: bool
    strict: bool
    flow_grpo: float
    soft: float
    parts: dict[str, float]
    """`count`, `colour`, `position` and `exclude`, as far as they are asked for: means of `soft`'s terms."""
    reasons: tuple[str, ...]
    """What `official` misses."""


def judge(request: Request, objects: Objects, rules: Rules = OFFICIAL) -> Judged:
    """The verdict on objects whose colours are known where `coloured` asks for them."""
    official, reasons = _official(request, objects, rules)
    strict, published = _flow_grpo(request, objects, rules)
    terms = _soft(request, objects, rules)
    parts: dict[str, list[float]] = {}
    for kind, value in terms:
        parts.setdefault(kind, []).append(value)
    return Judged(
        official,
        strict,
        published,
        _mean([value for _, value in terms]),
        {kind: _mean(values) for kind, values in parts.items()},
        tuple(reasons),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _official(request: Request, objects: Objects, rules: Rules) -> tuple[bool, list[str]]:
    reasons: list[str] = []
    groups: list[Sequence[Detection] | None] = []
    for clause in request.include:
        found = objects.get(clause.name, ())[: clause.number]
        wrong = ""
        if len(found) < clause.number:
            wrong = f"{len(found)} {clause.name}, not {clause.number}"
        elif _right(found, clause) < clause.number:
            seen = ", ".join(one.colour or "?" for one in found)
            wrong = f"{clause.name}: {seen}, not {clause.colour}"
        elif clause.position and not _placed(found, groups, clause.position, rules):
            wrong = f"{clause.name} is not {clause.position[0]} what it should be"
        groups.append(None if wrong else found)
        reasons += [wrong] if wrong else []
    for clause in request.exclude:
        found = objects.get(clause.name, ())
        if len(found) >= clause.number:
            reasons.append(f"{len(found)} {clause.name}, not fewer than {clause.number}")
    return not reasons, reasons


def _right(found: Sequence[Detection], clause: Clause) -> int:
    """Number of those found that have the clause's colour; all where it has none."""
    return sum(not clause.colour or one.colour == clause.colour for one in found)


def _placed(
    found: Sequence[Detection],
    groups: Sequence[Sequence[Detection] | None],
    position: tuple[str, int],
    rules: Rules,
) -> bool:
    relation, target = position
    others = groups[target]
    return others is not None and all(
        relation in relations(one.box, other.box, rules) for one in found for other in others
    )


def _share(asked: int, found: int) -> float:
    return 1 - abs(asked - found) / asked


def _flow_grpo(request: Request, objects: Objects, rules: Rules) -> tuple[bool, float]:
    """flow_grpo's strict verdict and graded reward, its faults included."""
    strict = True
    terms: list[float] = []
    groups: list[Sequence[Detection] | None] = []
    for clause in request.include:
        found = objects.get(clause.name, ())
        terms.append(_share(clause.number, len(found)))
        matched = len(found) == clause.number
        if not matched and (clause.colour or clause.position):
            terms.append(0.0)
        if matched and clause.colour:
            terms.append(_share(clause.number, _right(found, clause)))
            matched = _right(found, clause) == clause.number
        if matched and clause.position:
            matched = _placed(found, groups, clause.position, rules)
            # A target that was not matched is a 0; a wrong place is a 0 and, after it, the 1 of a right one.
            absent = groups[clause.position[1]] is None
            terms += [0.0] if absent else [1.0] if matched else [0.0, 1.0]
        groups.append(found if matched else None)
        strict &= matched
    return strict, _mean(terms)


def _soft(request: Request, objects: Objects, rules: Rules) -> list[tuple[str, float]]:
    """(kind, 0 to 1) of every requirement: its count, its colour, its place, and each further exclusion."""
    terms: list[tuple[str, float]] = []
    groups: list[Sequence[Detection] | None] = []
    for clause in request.include:
        found = objects.get(clause.name, ())
        matched = len(found) == clause.number
        terms.append(("count", max(0.0, _share(clause.number, len(found)))))
        if clause.colour:
            right = _right(found, clause) if matched else 0
            terms.append(("colour", right / clause.number))
            matched &= right == clause.number
        if clause.position:
            placed = len(found) == clause.number and _placed(found, groups, clause.position, rules)
            terms.append(("position", float(placed)))
            matched &= placed
        groups.append(found if matched else None)
    # Of a class that is asked for in an exact number, being more than that is in the count's term.
    asked = {clause.name: clause.number for clause in request.include}
    terms += [
        ("exclude", float(len(objects.get(clause.name, ())) < clause.number))
        for clause in request.exclude
        if asked.get(clause.name, math.inf) >= clause.number
    ]
    return terms


def overall(scores: Iterable[tuple[str, float]]) -> float:
    """GenEval's overall score: the mean over the tags of each one's mean.

    Args:
        scores: tag and value of every picture.

    Raises:
        ValueError: no scores.
    """
    by_tag: dict[str, list[float]] = {}
    for tag, value in scores:
        by_tag.setdefault(tag, []).append(value)
    if not by_tag:
        raise ValueError("no scores to summarise")
    return _mean([_mean(values) for values in by_tag.values()])

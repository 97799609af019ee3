"""OSWorld-G (arXiv:2505.13227): clicks on desktops, with polygons, and for what is not there.

Labels are the published JSON: {id, image_path, image_size [width, height], instruction, box_type ("bbox",
"polygon" or "refusal"), box_coordinates ([x, y, width, height], or a polygon's [x, y, x, y, ...]),
GUI_types}. 564 items on 264 pictures; a mirror without refusals and polygons has 510, and its numbers are
others. A refusal is right where the answer says that there is nothing, by words or negative coordinates.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .benchmark import Answers, Benchmark, Cells, Columns, Item, Rule, Table
from .clicks import (
    answer,
    columns,
    doubts,
    expected,
    files_of,
    from_corner,
    grounding_rules,
    kit_rule,
    numbers_of,
    rows_of,
    sized,
)
from .figures import mean, mean_of_known

ITEMS = 564


def read(path: Path) -> list[Item]:
    """The items of the published file, or of the folder it lies in.

    Raises:
        ValueError: no such file, or a row that is not of its form.
    """
    (file, *_) = files_of(path, "OSWorld-G*.json", "OSWorld-G.json")
    items = []
    for number, row in rows_of(file):
        where = f"{file}, row {number + 1}"
        size, name = sized(row.get("image_size")), row.get("id")
        if size is None or name is None:
            raise ValueError(f"{where} has no id and image_size [width, height]")
        types = row.get("GUI_types") or []
        facts = {
            "size": size, "made": {}, "kind": str(row.get("box_type")), "group": "",
            "types": tuple(map(str, types)) if isinstance(types, list) else (str(types),),
        }  # fmt: skip
        items.append(
            Item(id=str(name), gold=_target(row, where), unit=str(row.get("image_path")), facts=facts)
        )
    return items


def _target(row: Mapping[str, Any], where: str) -> Any:
    kind, given = row.get("box_type"), row.get("box_coordinates")
    if kind == "refusal":
        return {"kind": "refusal"}
    if kind == "bbox":
        return from_corner(numbers_of(given, where))
    if kind == "polygon":
        flat = numbers_of(given, where, count=0)
        return {"polygon": [list(pair) for pair in zip(flat[::2], flat[1::2], strict=True)]}
    raise ValueError(f"{where}: box_type is {kind!r}, not bbox, polygon or refusal")


def _without_refusals(found: Columns) -> float:
    return mean_of_known(found["hit"][found["refusal"] == 0])


def _refusals(found: Columns) -> float:
    return mean_of_known(found["hit"][found["refusal"] == 1])


def _refused(found: Columns) -> float:
    """Share of what is there that is said not to be."""
    return mean_of_known(found["refused"][found["refusal"] == 0])


RULES = (
    *grounding_rules(("bbox", "polygon"), kit=False),
    Rule(name="refusal", words="of what is not there, said not to be", of=_refusals),
    Rule(name="accuracy/without refusals", words="of what is there", of=_without_refusals),
    Rule(name="false refusals", words="of what is there, said not to be", of=_refused, higher_is_better=False,
         worst=False),
    kit_rule("vlmevalkit", "x=, y= over 1000; else (0, 0); a refusal is never right", mean("thousand")),
)  # fmt: skip


def tables(items: Sequence[Item], found: Columns) -> list[Table]:
    """Accuracy by each of an item's types."""
    rows: list[Cells] = []
    for name in sorted({one for item in items for one in item.facts["types"]}):
        own = np.array([name in item.facts["types"] for item in items])
        rows.append((name, int(own.sum()), float(found["hit"][own].mean())))
    return [Table("by type", ("type", "items", "all"), rows)]


def cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    return [*expected(items, ITEMS), *doubts(answers)]


BENCHMARK = Benchmark(
    name="osworld-g",
    summary="clicks on desktops, polygons, and what is not there",
    paper="arXiv:2505.13227",
    unit="picture",
    labels="OSWorld-G.json, or its folder",
    read=read,
    answer=answer,
    columns=columns,
    rules=RULES,
    cautions=cautions,
    tables=tables,
)

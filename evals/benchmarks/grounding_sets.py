"""Further benchmarks of clicks in their published files: UI-I2E-Bench, MMBench-GUI L2, UI-Vision and
VenusBench-GD.

- UI-I2E-Bench (arXiv:2504.11257): `I2E-bench-annotation.jsonl`, {image, instruction, bounding_box [x1, y1,
  x2, y2] in pixels, source, annotations.instr_type}: 2 is implicit, everything else explicit.
- MMBench-GUI L2 (arXiv:2507.19478): `L2_annotations.json`, {platform, image_path, image_size [width,
  height], bbox [x1, y1, x2, y2] in fractions, instruction, grounding_type}.
- UI-Vision (arXiv:2503.15661): `element_grounding_{basic,functional,spatial}.json`, {image_path,
  image_size, prompt_to_evaluate, bbox [x1, y1, x2, y2] in pixels, platform, category}.
- VenusBench-GD: `VenusBench.tsv`, {index, bbox [x1, y1, x2, y2] in pixels, category, ...}.

Ids are their own where there are any (`id`, `index`), else "FILE:POSITION" from 0. Where no size is given,
pictures beside the labels or the predictions' `image_size` say it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .benchmark import Answers, Benchmark, Item
from .clicks import (
    answer,
    by_cell,
    columns,
    doubts,
    files_of,
    grounding_rules,
    kit_rule,
    numbers_of,
    picture_size,
    rows_of,
    sized,
)
from .figures import mean
from .screenspot import item_of

FOLDERS = (
    "",
    "images",
    "..",
    "../images",
    "offline_images",
    "../../images",
    "../../images/element_grounding",
)


def _items(file: Path, box: str, fractions: bool, facts: Any) -> list[Item]:
    """Items of a file; `facts` gives (picture, group, kind) of a row."""
    items = []
    folders = [file.parent / name for name in FOLDERS]
    for number, row in rows_of(file):
        where = f"{file}, row {number + 1}"
        sides = numbers_of(row.get(box), where)
        picture, group, kind = facts(row)
        size = sized(row.get("image_size")) or picture_size(folders, picture)
        if fractions:
            if size is None:
                raise ValueError(f"{where} has no image_size [width, height], and its box is in fractions")
            sides = [side * whole for side, whole in zip(sides, (size[1], size[0]) * 2, strict=True)]
        name = next(
            (row[key] for key in ("id", "index") if row.get(key) is not None), f"{file.stem}:{number}"
        )
        about = {**row, "kind": kind}
        items.append(item_of(str(name), sides, about, picture, size, group, "kind"))
    return items


# --- UI-I2E-Bench -------------------------------------------------------------------------------------------


def _i2e_facts(row: Mapping[str, Any]) -> tuple[str, str, str]:
    notes = row.get("annotations")
    kind = notes.get("instr_type") if isinstance(notes, Mapping) else row.get("annotations.instr_type")
    implicit = str(kind).strip().lower() in ("2", "implicit")
    return str(row.get("image", "")), str(row.get("source", "")), "implicit" if implicit else "explicit"


def read_i2e(path: Path) -> list[Item]:
    """The items of UI-I2E-Bench."""
    (file, *_) = files_of(path, "*2*annotation*.jsonl", "I2E-bench-annotation.jsonl")
    return _items(file, "bounding_box", False, _i2e_facts)


# --- MMBench-GUI L2 -----------------------------------------------------------------------------------------


def _mmbench_facts(row: Mapping[str, Any]) -> tuple[str, str, str]:
    platform = str(row.get("platform", ""))
    return f"{platform}/{row.get('image_path', '')}", platform, str(row.get("grounding_type", ""))


def read_mmbench(path: Path) -> list[Item]:
    """The items of MMBench-GUI's second level."""
    (file, *_) = files_of(path, "L2_annotations.json", "L2_annotations.json")
    return _items(file, "bbox", True, _mmbench_facts)


# --- UI-Vision ----------------------------------------------------------------------------------------------

SPLITS = ("basic", "functional", "spatial")


def read_vision(path: Path) -> list[Item]:
    """The items of UI-Vision's three files; the group is the category of the software."""
    items: list[Item] = []
    for file in files_of(path, "**/element_grounding_*.json", "element_grounding_basic.json and others"):
        split = next((one for one in SPLITS if one in file.stem), file.stem)

        def facts(row: Mapping[str, Any], split: str = split) -> tuple[str, str, str]:
            group = row.get("category") or row.get("platform") or ""
            return str(row.get("image_path", "")), str(group), split

        items += _items(file, "bbox", False, facts)
    return items


# --- VenusBench-GD ------------------------------------------------------------------------------------------


def _venus_facts(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(row.get("image_path", row.get("index", ""))), str(row.get("category", "")), ""


def read_venus(path: Path) -> list[Item]:
    """The items of VenusBench-GD."""
    (file, *_) = files_of(path, "VenusBench*.tsv", "VenusBench.tsv")
    return _items(file, "bbox", False, _venus_facts)


def cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    return doubts(answers)


def _made(name: str, summary: str, paper: str, labels: str, read: Any, rules: Any) -> Benchmark:
    return Benchmark(
        name=name, summary=summary, paper=paper, unit="picture", labels=labels, read=read, answer=answer,
        columns=columns, rules=rules, cautions=cautions, tables=by_cell,
    )  # fmt: skip


I2E = _made(
    "ui-i2e",
    "clicks by explicit and implicit instructions",
    "arXiv:2504.11257",
    "I2E-bench-annotation.jsonl",
    read_i2e,
    (
        *grounding_rules(("explicit", "implicit"), kit=False),
        kit_rule("published", "the first four runs of digits as a box in pixels, or two", mean("digits")),
    ),
)
MMBENCH = _made(
    "mmbench-gui-l2",
    "clicks on six platforms, by basic and advanced instructions",
    "arXiv:2507.19478",
    "L2_annotations.json",
    read_mmbench,
    grounding_rules(("basic", "advanced"), kit=False),
)
VISION = _made(
    "ui-vision",
    "clicks in desktop software: basic, functional and spatial",
    "arXiv:2503.15661",
    "the folder of element_grounding_basic.json, _functional.json and _spatial.json, or one of them",
    read_vision,
    grounding_rules(SPLITS, kit=False),
)
VENUS = _made(
    "venusbench-gd",
    "clicks of several kinds on several platforms",
    "",
    "VenusBench.tsv",
    read_venus,
    (
        *grounding_rules((), kit=False),
        kit_rule("vlmevalkit", "x=, y= as written, above 1 by the size; else (0, 0)", mean("kit")),
    ),
)

"""ScreenSpot (arXiv:2401.10935), ScreenSpot-v2 (arXiv:2410.23218) and ScreenSpot-Pro (arXiv:2504.07981).

Labels are the published files: `screenspot_{mobile,desktop,web}.json` with boxes [x, y, width, height] in
pixels, `screenspot_*_v2.json` in the same form, and ScreenSpot-Pro's `annotations/*.json` with [x1, y1, x2,
y2] and `img_size`. Ids are those of ScreenSpot-Pro, and "FILE:POSITION" from 0 for the others, which have
none ("screenspot_web:0"). The unit is the picture: questions about one screen are not independent.

The mirror of v1 that has fractions (rootsautomation/ScreenSpot) is told by its columns and read as such.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .benchmark import Answers, Benchmark, Item, Rule
from .clicks import (
    answer,
    by_cell,
    columns,
    doubts,
    expected,
    files_of,
    from_corner,
    grounding_rules,
    lmms_rules,
    numbers_of,
    of_cell,
    picture_size,
    rows_of,
    sized,
)

PLATFORMS = ("mobile", "desktop", "web")
KINDS = ("text", "icon")
FOLDERS = ("", "screenspot_imgs", "screenspotv2_image", "images", "..", "../images")
PRO_GROUPS = ("Dev", "Creative", "CAD", "Scientific", "Office", "OS")
ITEMS, PRO_ITEMS = 1272, 1581


def read(path: Path) -> list[Item]:
    """The items of v1 or v2: a folder with the three files, or one of them.

    Raises:
        ValueError: no such file, or a row that is not of its form.
    """
    items = []
    for file in files_of(path, "screenspot_*.json", "screenspot_mobile.json, _desktop.json, _web.json"):
        platform = next((one for one in PLATFORMS if one in file.stem), file.stem)
        folders = [file.parent / name for name in FOLDERS]
        for number, row in rows_of(file):
            where = f"{file}, row {number + 1}"
            box = numbers_of(row.get("bbox"), where)
            name = str(row.get("img_filename", row.get("file_name", "")))
            if not name or "instruction" not in row:
                raise ValueError(f"{where} has no img_filename and instruction")
            size = picture_size(folders, name) or sized(row.get("image_size", row.get("img_size")))
            if "file_name" in row:  # the mirror, with corners in fractions
                if size is None:
                    raise ValueError(f"{where}: fractions need their picture {name!r} beside the labels")
                box = [side * whole for side, whole in zip(box, size[::-1] * 2, strict=True)]
            else:
                box = from_corner(box)
            items.append(item_of(f"{file.stem}:{number}", box, row, name, size, platform, "data_type"))
    return items


def item_of(
    name: str,
    target: Any,
    row: Mapping[str, Any],
    picture: str,
    size: tuple[float, float] | None,
    group: str,
    kind: str,
) -> Item:
    """An item of a benchmark of clicks, its target in pixels."""
    facts = {
        "size": size, "group": group, "kind": str(row.get(kind, "")).lower(), "picture": picture,
        "instruction": row.get("instruction", ""), "made": {},
    }  # fmt: skip
    return Item(id=name, gold=target, unit=picture, facts=facts)


def read_pro(path: Path) -> list[Item]:
    """The items of ScreenSpot-Pro: its folder, the folder of annotations, or one file of them.

    Raises:
        ValueError: no such file, or a row that is not of its form.
    """
    folder = path / "annotations" if (path / "annotations").is_dir() else path
    items = []
    for file in files_of(folder, "*.json", "annotations/*.json"):
        for number, row in rows_of(file):
            where = f"{file}, row {number + 1}"
            size = sized(row.get("img_size"))
            if size is None or "id" not in row:
                raise ValueError(f"{where} has no id and img_size [width, height]")
            # Rows of the negative mode ask for what is not there.
            target = numbers_of(row["bbox"], where) if row.get("bbox") else {"kind": "refusal"}
            picture = str(row.get("img_filename", row["id"]))
            items.append(
                item_of(str(row["id"]), target, row, picture, size, str(row.get("group", "")), "ui_type")
            )
    return items


CELLS = tuple(
    Rule(name=f"{platform}/{kind}", words="accuracy of the cell", of=of_cell(platform, kind))
    for platform in PLATFORMS
    for kind in KINDS
)
PRO_CELLS = tuple(
    Rule(name=f"{group}/{kind}", words="accuracy of the cell", of=of_cell(group, kind))
    for group in PRO_GROUPS
    for kind in KINDS
)


def cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    return [*expected(items, ITEMS), *doubts(answers)]


def pro_cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    return [*expected(items, PRO_ITEMS), *doubts(answers)]


V1 = Benchmark(
    name="screenspot",
    summary="clicks on texts and icons of phones, desktops and the web",
    paper="arXiv:2401.10935",
    unit="picture",
    labels="screenspot_mobile.json, screenspot_desktop.json and screenspot_web.json, or their folder",
    read=read,
    answer=answer,
    columns=columns,
    rules=(*grounding_rules(KINDS), *lmms_rules(), *CELLS),
    cautions=cautions,
    tables=by_cell,
)
V2 = Benchmark(
    name="screenspot-v2",
    summary="ScreenSpot with corrected labels",
    paper="arXiv:2410.23218",
    unit="picture",
    labels="screenspot_mobile_v2.json, _desktop_v2.json and _web_v2.json, or their folder",
    read=read,
    answer=answer,
    columns=columns,
    rules=(*grounding_rules(KINDS), *CELLS),
    cautions=cautions,
    tables=by_cell,
)
PRO = Benchmark(
    name="screenspot-pro",
    summary="clicks in professional software on large screens",
    paper="arXiv:2504.07981",
    unit="picture",
    labels="the folder annotations, or the folder it lies in",
    read=read_pro,
    answer=answer,
    columns=columns,
    rules=(*grounding_rules(KINDS), *PRO_CELLS),
    cautions=pro_cautions,
    tables=by_cell,
)

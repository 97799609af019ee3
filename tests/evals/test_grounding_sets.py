"""OSWorld-G and further benchmarks of clicks: their published forms, refusals, polygons, what they print."""

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.benchmark import measured
from mmreward.evals.benchmarks.predictions import read_predictions


def measure(name, labels, predictions, folder: Path):
    bench = benchmark(name)
    items = bench.read(labels)
    path = folder / "predictions.jsonl"
    path.write_text("\n".join(map(json.dumps, predictions)))
    return items, measured(bench, items, read_predictions(path, bench, items), draws=100)


OSWORLD = [
    {"id": "a", "image_path": "1.png", "image_size": [1000, 500], "instruction": "x", "box_type": "bbox",
     "box_coordinates": [100, 100, 50, 20], "GUI_types": ["Text Matching"]},
    {"id": "b", "image_path": "1.png", "image_size": [1000, 500], "instruction": "x", "box_type": "polygon",
     "box_coordinates": [0, 0, 200, 0, 0, 200], "GUI_types": ["Layout", "Text Matching"]},
    {"id": "c", "image_path": "2.png", "image_size": [1000, 500], "instruction": "x", "box_type": "refusal",
     "box_coordinates": [-1, -1, -1, -1], "GUI_types": ["Refusal"]},
    {"id": "d", "image_path": "2.png", "image_size": [1000, 500], "instruction": "x", "box_type": "bbox",
     "box_coordinates": [0, 0, 50, 20], "GUI_types": []},
]  # fmt: skip


def test_osworld_g(tmp_path):
    (tmp_path / "OSWorld-G.json").write_text(json.dumps(OSWORLD))
    said = {"a": "click(x=150, y=240)", "b": "[150, 150]", "c": "[-1, -1]", "d": "no idea"}
    rows = [{"id": name, "raw_text": text, "space": "norm_1000"} for name, text in said.items()]
    items, result = measure("osworld-g", tmp_path, rows, tmp_path)
    assert [item.gold for item in items[:2]] == [
        [100, 100, 150, 120],
        {"polygon": [[0, 0], [200, 0], [0, 200]]},
    ]
    # 150 of 1000 is 150 px across and 75 px down: outside the triangle x + y < 200
    assert result.line("accuracy").strict == 0.5 and result.line("refusal").strict == 1.0
    assert result.line("accuracy/without refusals").strict == pytest.approx(1 / 3)
    assert result.line("accuracy/without refusals").valid == 0.5
    assert result.line("false refusals").valid == 0.0 and result.line("wrong format").strict == 0.25
    # The kit divides by 1000, has no refusals, and takes (0, 0) for what it cannot read: "d" is right by it,
    # and so is "b", whose point it cannot read, but which is no box.
    assert result.line("vlmevalkit").strict == 0.5
    assert any("564 are published" in words for words in result.cautions)
    table = {row[0]: row[1:] for row in result.tables[0].rows}
    assert table == {"Layout": (1, 0.0), "Refusal": (1, 1.0), "Text Matching": (2, 0.5)}


def test_osworld_g_says_what_is_wrong(tmp_path):
    for change, words in (
        ({"box_type": "blob"}, "box_type is 'blob'"),
        ({"image_size": None}, "id and image_size"),
    ):
        (tmp_path / "OSWorld-G.json").write_text(json.dumps([OSWORLD[0] | change]))
        with pytest.raises(ValueError, match=words):
            benchmark("osworld-g").read(tmp_path)


def test_ui_i2e(tmp_path):
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png")
    rows = [
        {"image": "a.png", "instruction": "x", "bounding_box": [10, 20, 40, 50], "source": "web",
         "annotations": {"instr_type": kind}}
        for kind in (1, 2, "implicit")
    ]  # fmt: skip
    (tmp_path / "I2E-bench-annotation.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = [{"id": f"I2E-bench-annotation:{n}", "box": [10, 20, 40, 50], "space": "pixel"} for n in range(2)]
    said[1] |= {"box": [0.05, 0.1, 0.06, 0.11], "space": "norm_1"}
    items, result = measure("ui-i2e", tmp_path, said, tmp_path)
    assert [item.facts["kind"] for item in items] == ["explicit", "implicit", "implicit"]
    assert result.line("explicit").strict == 1.0 and result.line("implicit").strict == 0.5
    assert result.missing == ("I2E-bench-annotation:2",)
    assert result.line("published").strict == pytest.approx(1 / 3), "its evaluator drops decimals"


def test_mmbench_gui_counts_in_fractions(tmp_path):
    rows = [
        {"platform": "os_web", "image_path": "a.png", "image_size": [400, 300], "bbox": [0.1, 0.1, 0.2, 0.2],
         "instruction": "x", "grounding_type": kind, "index": number}
        for number, kind in enumerate(("basic", "advanced"))
    ]  # fmt: skip
    (tmp_path / "L2_annotations.json").write_text(json.dumps(rows))
    said = [
        {"id": 0, "point": [60, 45], "space": "px_original"},
        {"id": 1, "point": [0.15, 0.15], "space": "norm1"},
    ]
    items, result = measure("mmbench-gui-l2", tmp_path, said, tmp_path)
    assert items[0].gold == pytest.approx([40, 30, 80, 60]) and items[0].unit == "os_web/a.png"
    assert result.line("accuracy").strict == 1.0 and result.line("advanced").strict == 1.0


def test_ui_vision_has_three_files(tmp_path):
    folder = tmp_path / "annotations" / "element_grounding"
    folder.mkdir(parents=True)
    about = {"platform": "GIMP", "category": "Creativity", "image_size": [400, 300]}
    for split in ("basic", "functional", "spatial"):
        row = {"image_path": "a.png", "bbox": [40, 30, 80, 60], "prompt_to_evaluate": "x", **about}
        (folder / f"element_grounding_{split}.json").write_text(json.dumps([row]))
    said = [
        {"id": f"element_grounding_{split}:0", "point": [60, 45], "space": "pixel"}
        for split in ("basic", "spatial")
    ]
    _, result = measure("ui-vision", tmp_path, said, tmp_path)
    assert result.line("basic").strict == 1.0 and result.line("functional").strict == 0.0
    assert result.tables[0].rows[0][0] == "Creativity" and result.n == 3


def test_venusbench(tmp_path):
    file = io.StringIO()
    table = csv.writer(file, delimiter="\t", lineterminator="\n")
    table.writerow(("index", "question", "bbox", "category", "image_size"))
    table.writerow((1, "x", "[40, 30, 80, 60]", "spatial", "[400, 300]"))
    table.writerow((2, "x", "[0, 0, 80, 60]", "spatial", "[400, 300]"))
    (tmp_path / "VenusBench.tsv").write_text(file.getvalue())
    said = [
        {"id": 1, "raw_text": "pyautogui.click(x=0.15, y=0.15)", "space": "norm_1"},
        {"id": 2, "raw_text": "hm", "space": "norm_1"},
    ]
    _, result = measure("venusbench-gd", tmp_path, said, tmp_path)
    assert result.line("accuracy").strict == 0.5 and result.line("vlmevalkit").strict == 1.0

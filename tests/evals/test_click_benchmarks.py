"""Benchmarks of clicks: published files as they are, every unit, every rule against a second writing."""

import json
import math
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mmreward.cli import app
from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.benchmark import measured
from mmreward.evals.benchmarks.predictions import read_predictions

SIZE = (400, 300)
"""Width and height of the pictures."""


@pytest.fixture
def screens(tmp_path):
    """v1's three files, a picture for each platform, boxes as [x, y, width, height]."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for platform, number in (("mobile", 4), ("desktop", 3), ("web", 1)):
        Image.new("RGB", SIZE).save(folder / f"{platform}.png")
        rows = [
            {
                "img_filename": f"{platform}.png",
                "bbox": [40 * n, 30, 40, 30],
                "instruction": f"open {n}",
                "data_type": "text" if n % 2 else "icon",
                "data_source": "ios",
            }
            for n in range(number)
        ]
        (folder / f"screenspot_{platform}.json").write_text(json.dumps(rows))
    return folder


def predicted(folder, items, spot, **more):
    """A file of predictions: `spot` gives a text for (item, centre in fractions)."""
    path = folder / "predictions.jsonl"
    lines = []
    for item in items:
        x1, y1, x2, y2 = item.gold
        width, height = item.facts["size"][1], item.facts["size"][0]
        text = spot(item, ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height))
        lines.append(json.dumps({"id": item.id, "raw_text": text, **more}))
    path.write_text("\n".join(lines))
    return path


def found(name, items, path):
    bench = benchmark(name)
    return measured(bench, items, read_predictions(path, bench, items), draws=100)


def test_published_boxes_and_ids(screens):
    items = benchmark("screenspot").read(screens)
    assert len(items) == 8 and items[0].id == "screenspot_desktop:0"
    assert items[1].gold == [40, 30, 80, 60] and items[1].facts["size"] == (300, 400)
    one = benchmark("screenspot").read(screens / "screenspot_web.json")
    assert [item.id for item in one] == ["screenspot_web:0"] and one[0].unit == "web.png"


@pytest.mark.parametrize(
    ("space", "scale", "more"),
    [
        ("pixel", SIZE, {}),
        ("norm_1", (1, 1), {}),
        ("norm_1000", (1000, 1000), {}),
        ("px_original", SIZE, {}),
        ("norm999", (999, 999), {}),
        ("px_resized", (800, 600), {"resized": [800, 600]}),
        ("qwen2.5-vl", (392, 308), {}),
        ("claude", (200, 150), {"input_size": [150, 200]}),
    ],
)
def test_one_prediction_in_every_unit(screens, space, scale, more):
    items = benchmark("screenspot").read(screens)
    path = predicted(
        screens, items, lambda item, at: f"({at[0] * scale[0]}, {at[1] * scale[1]})", space=space, **more
    )
    result = found("screenspot", items, path)
    assert result.line("accuracy").strict == 1.0 and result.coverage == 1.0 and result.line("off").valid == 0
    assert not any("declared space" in words for words in result.cautions)


def test_a_wrong_unit_is_wrong_and_doubted(screens):
    items = benchmark("screenspot").read(screens)
    path = predicted(screens, items, lambda item, at: f"[{at[0]}, {at[1]}]", space="pixel")
    result = found("screenspot", items, path)
    assert result.line("accuracy").strict == 0.0 and any(
        "declared space" in words for words in result.cautions
    )
    path = predicted(screens, items, lambda item, at: f"[{at[0] * 1000}, {at[1] * 1000}]")
    assert found("screenspot", items, path).coverage == 0.0
    assert (
        "does not say its space"
        in next(iter(found("screenspot", items, path).answers.invalid.values())).reason
    )


def test_the_space_that_fits_is_named_and_not_taken(screens):
    """Pixels that were declared as thousandths, and points with y first."""
    items = benchmark("screenspot").read(screens)
    pixels = predicted(screens, items, lambda item, at: f"[{at[0] * 400}, {at[1] * 300}]", space="norm_1000")
    result = found("screenspot", items, pixels)
    assert result.line("accuracy").strict < 0.2 and any(
        "would hit 100% as pixel" in one for one in result.cautions
    )
    turned = predicted(screens, items, lambda item, at: f"[{at[1]}, {at[0]}]", space="norm_1")
    result = found("screenspot", items, turned)
    assert result.line("accuracy").strict < 0.5 and any("with y first" in one for one in result.cautions)


def test_cells_and_averages(screens):
    """Mobile icons right alone: 2 of 8, one cell of five that there are."""
    items = benchmark("screenspot").read(screens)

    def spot(item, at):
        right = item.id.startswith("screenspot_mobile") and item.facts["kind"] == "icon"
        return f"[{at[0]}, {at[1]}]" if right else "[0.99, 0.99]"

    result = found("screenspot", items, predicted(screens, items, spot, space="norm_1"))
    assert result.line("accuracy").strict == 0.25 and result.line("accuracy/cells").strict == pytest.approx(
        0.2
    )
    assert result.line("mobile/icon").strict == 1.0 and math.isnan(result.line("web/text").strict)
    assert result.line("icon").strict == pytest.approx(2 / 5) and result.line("text").strict == 0.0
    assert result.line("accuracy/groups").strict == pytest.approx(0.5 / 3)


def test_vlmevalkit_by_a_second_writing(screens):
    """Lists repeated as often as they are long, (0, 0) for the unread, above 1 divided by the size."""
    items = benchmark("screenspot").read(screens)
    texts = {}
    for number, item in enumerate(items):
        x1, y1, _, _ = item.gold
        forms = (
            "no numbers",
            f"pyautogui.click(x={x1 + 5}, y={y1 + 5})",
            "click(x=0.11, y=0.12)",
            f"click(x={x1 * 2.5}, y=120)",
        )
        texts[item.id] = forms[number % 4]
    path = predicted(screens, items, lambda item, at: texts[item.id], space="norm_1000")
    result = found("screenspot", items, path)

    stats = {}
    for item in items:
        seen = re.search(r"x=([\d.]+), y=([\d.]+)", texts[item.id])
        x, y = (float(seen[1]), float(seen[2])) if seen else (0.0, 0.0)
        if x > 1 or y > 1:
            x, y = x / SIZE[0], y / SIZE[1]
        x1, y1, x2, y2 = (side / whole for side, whole in zip(item.gold, SIZE * 2, strict=True))
        key = f"{item.facts['group']}:{item.facts['kind']}"
        stats.setdefault(key, []).append(int(x1 <= x <= x2 and y1 <= y <= y2))
    every = [one for values in stats.values() for one in values]
    assert result.line("vlmevalkit").valid != result.line("accuracy").valid
    assert result.line("vlmevalkit").strict == pytest.approx(np.mean(every))
    for kind in ("text", "icon"):
        repeated = [v for k, v in stats.items() if k.endswith(kind) for _ in v]
        chained = [one for values in repeated for one in values]
        assert result.line(f"vlmevalkit/{kind}").strict == pytest.approx(np.mean(chained))


def test_lmms_eval_by_a_second_writing(screens):
    """Boxes in fractions alone; everything else is [0, 0, 0, 0], whose centre is in a box at the corner."""
    items = benchmark("screenspot").read(screens)
    shares = [[side / whole for side, whole in zip(item.gold, SIZE * 2, strict=True)] for item in items]
    texts = {
        item.id: (
            f"It is [{x1}, {y1}, {x2}, {y2}].",
            f"[{x1:.3f}, {y1:.3f}, {x1 + (x2 - x1) / 2:.3f}, {y2:.3f}]",
            "no numbers",
            f"[{item.gold[0]}, {item.gold[1]}, {item.gold[2]}, {item.gold[3]}]",
        )[number % 4]
        for number, (item, (x1, y1, x2, y2)) in enumerate(zip(items, shares, strict=True))
    }
    path = predicted(screens, items, lambda item, at: texts[item.id], space="norm_1")
    result = found("screenspot", items, path)
    overlaps, centres = [], []
    for item, true in zip(items, shares, strict=True):
        said = re.findall(r"\[(.*?)\]", texts[item.id])
        box = [float(one) for one in said[0].split(",")] if said else [0.0] * 4
        across, down = (max(0, min(true[k + 2], box[k + 2]) - max(true[k], box[k])) for k in (0, 1))
        area = sum((one[2] - one[0]) * (one[3] - one[1]) for one in (true, box)) - across * down
        overlaps.append(across * down / area)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        centres.append(true[0] <= x <= true[2] and true[1] <= y <= true[3])
    assert result.line("lmms-eval/IoU").strict == pytest.approx(np.mean(overlaps))
    assert result.line("lmms-eval/ACC@0.5").strict == pytest.approx(np.mean(np.array(overlaps) >= 0.5))
    assert result.line("lmms-eval/Center_ACC").strict == pytest.approx(np.mean(centres))
    assert 0 < result.line("lmms-eval/ACC@0.9").strict < result.line("lmms-eval/ACC@0.1").strict


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("[10, 20, 40, 50]", (25, 35)),
        ("(25, 35)", (25, 35)),
        ("(0.52, 0.1)", (0, 26.5)),
        ("Image 1: [10, 20, 40, 50]", (10.5, 25)),
        ("(-25, 35)", (25, 35)),
        ("7", (-1, -1)),
    ],
)
def test_digits_as_ui_i2es_own_evaluator_takes_them(text, point):
    from mmreward.evals.benchmarks.kits import digits_point

    assert digits_point(text) == point


def test_the_toy_of_squared_weights():
    """Groups of 1/1 and 0/3: a quarter is right, and the kit says a tenth."""
    from mmreward.evals.benchmarks.clicks import squared

    columns = {
        "kind": np.array(["text"] * 4),
        "group": np.array(["a", "b", "b", "b"]),
        "kit": np.array([1.0, 0, 0, 0]),
    }
    assert squared("text")(columns) == pytest.approx(0.1)


def test_pro_reads_its_sizes_and_refusals(tmp_path):
    folder = tmp_path / "annotations"
    folder.mkdir()
    rows = [
        {
            "id": "sspro_0001",
            "img_filename": "x.png",
            "bbox": [3501, 411, 3529, 437],
            "img_size": [3840, 2160],
            "instruction": "open layer panel",
            "group": "Creative",
            "ui_type": "icon",
            "application": "ps",
        },
        {
            "id": "sspro_0002",
            "img_filename": "x.png",
            "bbox": [],
            "img_size": [3840, 2160],
            "instruction": "what is not there",
            "group": "CAD",
            "ui_type": "text",
        },
    ]
    (folder / "x.json").write_text(json.dumps(rows))
    items = benchmark("screenspot-pro").read(tmp_path)
    path = tmp_path / "p.jsonl"
    small = {"resized": [1316, 728]}
    for space, more, value in (
        ("norm1000", {}, 1.0),
        ("px_resized", small, 0.5),
        ("px_original", {}, 0.5),
    ):
        lines = [
            {"id": "sspro_0001", "raw_text": "(914, 196)", "space": space, **more},
            {"id": "sspro_0002", "raw_text": "None", "space": space, **more},
        ]
        path.write_text("\n".join(map(json.dumps, lines)))
        result = found("screenspot-pro", items, path)
        assert result.line("accuracy").strict == value, space
        assert result.line("CAD/text").strict == 1.0


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"img_filename": "a.png", "bbox": [1, 2, 3], "instruction": "x"}, "box of 4 finite numbers"),
        ({"bbox": [1, 2, 3, 4], "instruction": "x"}, "img_filename and instruction"),
        (
            {"file_name": "gone.png", "bbox": [0.1, 0.1, 0.2, 0.2], "instruction": "x"},
            "fractions need their picture",
        ),
        ([1], "is no object"),
    ],
)
def test_a_label_that_is_none_is_one_line(tmp_path, row, words):
    (tmp_path / "screenspot_web.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match=words):
        benchmark("screenspot").read(tmp_path)
    with pytest.raises(ValueError, match="has no screenspot_mobile"):
        benchmark("screenspot").read(tmp_path / "nowhere")


def test_a_size_that_nobody_says_is_asked_of_the_prediction(tmp_path):
    rows = [{"img_filename": "gone.png", "bbox": [40, 30, 40, 30], "instruction": "x", "data_type": "icon"}]
    (tmp_path / "screenspot_web.json").write_text(json.dumps(rows))
    items = benchmark("screenspot").read(tmp_path)
    path = tmp_path / "p.jsonl"
    for more, answered in (({}, 0), ({"image_size": [400, 300]}, 1)):
        path.write_text(json.dumps({"id": items[0].id, "point": [60, 45], "space": "pixel", **more}))
        result = found("screenspot", items, path)
        assert result.answered == answered and result.line("accuracy").strict == answered


def test_the_command_prints_one_table(screens):
    items = benchmark("screenspot").read(screens)
    path = predicted(screens, items, lambda item, at: f"[{at[0]}, {at[1]}]", space="norm_1")
    done = CliRunner().invoke(
        app, ["benchmark", "screenspot", str(path), "--data", str(screens), "--draws", "100"]
    )
    assert done.exit_code == 0, done.output
    for words in (
        "accuracy/cells",
        "mobile/icon",
        "vlmevalkit/text",
        "LEGACY",
        "8 items; 1272 are published",
    ):
        assert words in done.output, words


def test_a_long_shuffled_file(tmp_path):
    """Shuffled predictions for many items, and all rules; the units are the pictures."""
    rng = np.random.default_rng(0)
    rows, lines = [], []
    for number in range(300):
        x, y = rng.uniform(0, 3000), rng.uniform(0, 2000)
        rows.append(
            {
                "id": str(number),
                "img_filename": f"{number // 4}.png",
                "bbox": [x, y, x + 30, y + 30],
                "img_size": [3840, 2160],
                "instruction": "i",
                "group": "OS",
                "ui_type": "icon",
            }
        )
        lines.append(json.dumps({"id": number, "point": [x + rng.uniform(0, 60), y + 15], "space": "pixel"}))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    rng.shuffle(lines)
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    items = benchmark("screenspot-pro").read(tmp_path / "a.json")
    result = found("screenspot-pro", items, tmp_path / "p.jsonl")
    assert result.coverage == 1.0 and result.line("accuracy").strict == pytest.approx(0.5, abs=0.12)
    assert result.lines[0].units == 75

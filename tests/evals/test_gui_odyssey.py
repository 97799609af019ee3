"""GUI-Odyssey: published episodes, splits, system keys, scrolls by the finger, means over categories."""

import json

import pytest

from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.benchmark import measured
from mmreward.evals.benchmarks.predictions import read_predictions

BENCH = benchmark("gui-odyssey")


def episode(name, category, steps):
    return {
        "episode_id": name, "device_info": {"h": 2400, "w": 1080, "device_name": "Pixel 7 Pro"},
        "task_info": {"category": category, "instruction": "go"},
        "steps": [
            {"step": at, "screenshot": "a.png", "action": action, "info": info, "sam2_bbox": box}
            for at, (action, info, box) in enumerate(steps)
        ],
    }  # fmt: skip


@pytest.fixture
def labels(tmp_path):
    folder = tmp_path / "annotations"
    folder.mkdir()
    one = [("CLICK", [[500, 500]], [400, 400, 900, 600]), ("CLICK", "KEY_HOME", []), ("COMPLETE", "", [])]
    other = [("SCROLL", [[500, 800], [480, 300]], []), ("TYPE", "green tea", [])]
    third = [("SCROLL", [[500, 500], [500, 500]], []), ("INCOMPLETE", "", [])]
    for name, category, steps in (
        ("1", "Multi_Apps", one),
        ("2", "Web_Shopping", other),
        ("3", "Web_Shopping", third),
    ):
        (folder / f"{name}.json").write_text(json.dumps(episode(name, category, steps)))
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/random_split.json").write_text(
        json.dumps({"train": ["3.json"], "test": ["1.json", "2.json"]})
    )
    return tmp_path


def found(labels, items, said):
    path = labels / "p.jsonl"
    rows = [{"id": name, "raw_text": text, "space": "norm_1000"} for name, text in said.items()]
    path.write_text("\n".join(map(json.dumps, rows)))
    return measured(BENCH, items, read_predictions(path, BENCH, items), draws=100)


SAID = {
    "1/0": "CLICK: (880, 590)",
    "1/1": "PRESS_HOME",
    "1/2": "COMPLETE",
    "2/0": "SCROLL: UP",
    "2/1": "TYPE: tea",
}


def test_the_published_files(labels):
    items = BENCH.read(labels)
    assert [item.id for item in items] == ["1/0", "1/1", "1/2", "2/0", "2/1", "3/0", "3/1"]
    types = [item.gold.actions[0].type for item in items]
    assert types == ["click", "home", "finish", "scroll", "type", "scroll", "finish"]
    # The finger goes up, so the content goes down; a scroll that does not move is "DOWN" by the authors.
    assert [items[at].gold.actions[0].direction for at in (3, 5)] == ["down", "up"]
    assert items[6].gold.actions[0].status == "failure"
    split = BENCH.read(labels / "splits/random_split.json")
    assert {item.unit for item in split} == {"1", "2"}


def test_the_authors_rule_beside_others(labels):
    """In SAM2's box, 0.38 of the width from the point: right by their rule, and not by 0.14 of the sides."""
    items = BENCH.read(labels / "splits/random_split.json")
    result = found(labels, items, SAID)
    assert result.line("odyssey/step").strict == 1.0 and result.line("odyssey/episode").strict == 1.0
    assert result.line("os_atlas/grounding").strict == 0.0 and result.line("box/step").strict == 0.8
    assert result.line("AMS/categories").strict == 1.0 and result.line("SR/categories").strict == 1.0


def test_means_over_categories_count_what_is_missing(labels):
    items = BENCH.read(labels)
    result = found(labels, items, SAID)
    assert result.line("odyssey/step").strict == pytest.approx(5 / 7) and len(result.missing) == 2
    assert result.line("AMS/categories").strict == pytest.approx((1 + 2 / 4) / 2)
    assert result.line("SR/categories").strict == pytest.approx((1 + 1 / 2) / 2)
    assert result.line("odyssey/episode").strict == pytest.approx(2 / 3)


def test_labels_that_are_none(tmp_path, labels):
    for content, words in (({"test": ["9.json"]}, "is not there"), ({"train": []}, "no list `test`")):
        (labels / "splits/x.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=words):
            BENCH.read(labels / "splits/x.json")
    (labels / "annotations/1.json").write_text(json.dumps({"episode_id": 1}))
    with pytest.raises(ValueError, match="is no episode"):
        BENCH.read(labels)

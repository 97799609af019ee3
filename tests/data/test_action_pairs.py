"""`mmreward pairs --actions`: candidate chunks from one moment to pairs for a policy's DPO."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mmreward.cli import app
from mmreward.data.pair_columns import Judging
from mmreward.data.pair_folder import read_pairs
from mmreward.data.pairs import Rules, pair_file
from mmreward.evals.published.vjepa import save_world
from mmreward.loading import resolve

REFERENCE = [[0.0] * 7, [0.0] * 7]


def chunk(size, state=0.0):
    """Two actions that are so far from the reference; only the first step shows something."""
    first = {"observation": "now.png", "state": [state] * 7, "action": [size] * 7}
    return [first, {"action": [size] * 7}]


@pytest.fixture
def data(tmp_path):
    """One moment with five candidates, of which two are equal, and one of another state; one is broken."""
    for name, seed in (("now", 1), ("goal", 2)):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    rows = [
        {"id": f"c{row}", "group": "t17", "steps": chunk(size)}
        for row, size in enumerate((0.4, 0.1, 0.9, 0.9, 0.2))
    ]
    rows.append({"id": "other", "group": "t17", "steps": chunk(0.05, state=1.0)})
    rows.append({"id": "without", "group": "t17", "steps": [*chunk(0.3), {"thought": "?"}]})
    shared = {"prompt": "pick up the can", "inputs": ["goal.png"], "target": REFERENCE}
    path = tmp_path / "candidates.jsonl"
    path.write_text("".join(json.dumps({**row, **shared}) + "\n" for row in rows))
    return path


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_the_best_chunk_of_a_moment_meets_the_worst(data, tmp_path):
    out = tmp_path / "pairs"
    words = ["pairs", str(data), "--actions", "--from", "nora:how=deviation", "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "1 pairs by nora" in done.output and "duplicates 1" in done.output and "unusable 1" in done.output
    (line,) = lines_of(out)
    assert (line["chosen"], line["rejected"]) == ([[0.1] * 7] * 2, [[0.9] * 7] * 2)
    assert (line["chosen_score"], line["rejected_score"]) == pytest.approx((-0.1, -0.9))
    assert (line["prompt"], line["kind"], line["state"]) == ("pick up the can", "actions", [0.0] * 7)
    assert len(line["images_file_names"]) == 2 and all((out / n).is_file() for n in line["images_file_names"])
    with pytest.raises(ValueError, match="pair of actions"):
        read_pairs(out)
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["chosen"] == [[0.1] * 7] * 2 and loaded[0]["images"][0].size == (48, 40)


def test_a_margin_leaves_out_chunks_that_are_nearly_equal(data, tmp_path, engine):
    judge = Judging(engine, resolve({"nora": {"how": "deviation"}}))
    rules = Rules(choose="all", margin=0.25)
    summary = pair_file(data, [], tmp_path / "pairs", judge=judge, rules=rules, halves="actions")
    found = {(line["chosen_id"], line["rejected_id"]) for line in lines_of(tmp_path / "pairs")}
    assert found == {("c1", "c2"), ("c4", "c2"), ("c0", "c2"), ("c1", "c0")} and summary.counts.close == 2


def test_a_part_has_the_direction_of_the_whole(data, tmp_path, engine):
    """Pairs by energy alone: the chosen chunk has less of it."""
    judge = Judging(engine, resolve({"nora": save_world(tmp_path / "world")}))
    pair_file(data, [], tmp_path / "pairs", judge=judge, reward="nora/energy", halves="actions")
    (line,) = lines_of(tmp_path / "pairs")
    assert -2 < line["rejected_score"] < line["chosen_score"] < 0


def test_two_kinds_of_pairs_are_not_made_at_once(data, tmp_path):
    words = ["pairs", str(data), "--actions", "--responses", "--from", "nora", "--out", str(tmp_path / "x")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code and "two kinds of pairs" in str(done.exception) + done.output

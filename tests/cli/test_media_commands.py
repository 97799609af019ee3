"""The 109 files of tests/cases/media through `score`, `pairs` and `report`, clips by `frames:`.

What each file is, or why it is refused, is in the tables of tests/core/test_media_cases.py; the commands must
say the same of it as the engine, in one row each.
"""

import importlib.util
import json
from pathlib import Path

import pytest
from support import forked

from mmreward import Engine, Sample

CASES = Path(__file__).parents[1] / "core" / "test_media_cases.py"
REWARD = {"reward": "saturation", "frames": "mean"}


def mmreward(*arguments):
    done = forked.python("-m", "mmreward.cli", *arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cases():
    spec = importlib.util.spec_from_file_location("media_cases", CASES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(cases):
    return list(cases.rows())


@pytest.fixture(scope="module")
def scored(rows, tmp_path_factory):
    """The data set, and the scores that the command gave it."""
    folder = tmp_path_factory.mktemp("media")
    data, out = folder / "data.jsonl", folder / "scores.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mmreward("score", data, "--reward", "saturation:frames=mean", "--out", out, "--max-failures", "100%")
    return data, out


@pytest.fixture(scope="module")
def found(scored):
    """Rows of the results."""
    return [row for row in map(json.loads, scored[1].read_text().splitlines()) if "id" in row]


def test_every_file_has_one_row_with_its_value_or_its_reason(cases, rows, found):
    assert sorted(row["id"] for row in found) == sorted(row["id"] for row in rows)
    assert {row["id"].split(" ", 1)[1] for row in rows} == {path.name for path in cases.FOLDER.iterdir()}
    by_id = {row["id"]: row for row in found}
    wrong = [
        (row["id"], one["status"], one["note"])
        for row in rows
        if not cases.agree(row, (one := by_id[row["id"]])["status"], one["note"])
    ]
    assert not wrong


def test_the_command_and_the_engine_give_the_same_values(rows, found):
    with Engine("cpu") as engine:
        scores = engine.score([Sample(**row) for row in rows], {"x": REWARD})["x"]
    by_id = {row["id"]: row for row in found}
    for row, score in zip(rows, scores, strict=True):
        one = by_id[row["id"]]
        assert one["status"] == score.status, row["id"]
        assert not score.ok or one["value"] == pytest.approx(score.value, abs=1e-9), row["id"]


def test_the_page_names_every_file_that_failed(found, scored):
    data, out = scored
    mmreward("report", out, "--limit", len(found), "--out", data.with_name("page.html"))
    page = data.with_name("page.html").read_text()
    failed = [row["id"] for row in found if row["status"] != "ok"]
    assert failed and [name for name in failed if name not in page] == []


def test_pairs_are_made_of_what_was_scored_and_the_rest_is_counted(found, scored, tmp_path):
    data, out = scored
    said = mmreward(*("pairs", data, out, "--choose", "all", "--per-prompt", 40, "--out", tmp_path / "pairs"))
    failed = [row for row in found if row["status"] != "ok"]
    left = next(line for line in said.splitlines() if line.startswith("rows left out"))
    broken, unusable = [int(word) for word in left.split() if word.isdigit()][:2]
    assert broken + unusable == len(failed)
    pairs = [json.loads(line) for line in (tmp_path / "pairs" / "metadata.jsonl").read_text().splitlines()]
    assert pairs
    assert not {row["id"] for row in failed} & {str(value) for pair in pairs for value in pair.values()}

"""Trajectories in data sets: observations become pictures, and a score belongs to them as to any other."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmreward import Media
from mmreward.data.explain import explain
from mmreward.data.inputs import Inputs
from mmreward.data.results import Result
from mmreward.data.rows import read_rows
from mmreward.registry import reward
from mmreward.trajectories import views_of
from mmreward.types import Score


def picture(path, level=0):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), (level, 0, 0)).save(path)


def jsonl(tmp_path, *rows):
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data.jsonl"


@pytest.fixture
def data(tmp_path):
    for number in range(3):
        picture(tmp_path / "frames" / f"{number}.png", number)
    steps = [
        {"observation": {"top": f"frames/{n}.png"}, "action": [n], "time": n / 10, "state": {"x": n}}
        for n in range(3)
    ]
    return jsonl(tmp_path, {"id": "a", "prompt": "push", "steps": steps})


def test_observations_in_jsonl_are_paths_relative_to_the_file(data):
    (row,) = read_rows(data)
    steps = row.sample.steps
    assert views_of(steps) == ("top",) and steps[2]["observation"]["top"].still()[0, 0, 0] == 2
    assert steps[1]["action"] == [1] and steps[1]["state"] == {"x": 1}


def test_observations_in_parquet_as_paths_and_as_datasets_stores_them(tmp_path, png):
    picture(tmp_path / "a.png", 5)
    kinds = {
        "path": [{"observation": "a.png", "action": 1}, {"observation": None, "action": 2}],
        "bytes": [{"observation": {"bytes": png, "path": None}, "action": 1}],
        "views": [
            {"observation": {"top": "a.png", "wrist": None}},
            {"observation": {"top": None, "wrist": "a.png"}},
        ],
    }
    for name, steps in kinds.items():
        pq.write_table(pa.Table.from_pylist([{"prompt": name, "steps": steps}]), tmp_path / f"{name}.parquet")
    path, stored, views = (next(read_rows(tmp_path / f"{name}.parquet")).sample.steps for name in kinds)
    assert path[0]["observation"].size == (8, 8) and path[1] == {"action": 2}
    assert stored[0]["observation"].size == (2, 4)
    assert [list(step["observation"]) for step in views] == [["top"], ["wrist"]]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"observation": 3}, "step 1: observation is 3, not a path"),
        ({"observation": {"top": ["a.png"]}}, "step 1, view 'top': observation is list"),
        (
            {"observation": "https://x/y.png"},
            "step 1: observation is at 'https://x/y.png': nothing",
        ),
    ],
)
def test_a_bad_step_costs_its_row_and_is_named(tmp_path, step, words):
    good = {"prompt": "p", "steps": ["a", {"action": 1}]}
    bad, other = read_rows(jsonl(tmp_path, {"prompt": "p", "steps": [{}, step]}, good))
    assert bad.sample is None and words in bad.problem
    assert other.sample.steps == ("a", {"action": 1})


def test_the_digests_change_with_a_frame_and_not_with_its_place(data, tmp_path):
    def stored():
        now = Inputs(read_rows(data))
        return [Result.of("a", "r", Score(0.5), "f", now.quick("a"), now.content("a"))]

    def kept(path, results):
        found = Inputs(read_rows(path)).sort(results)
        return len(found.kept), found.changed

    results = stored()
    picture(tmp_path / "frames" / "2.png", 2)  # another time, the same content
    assert kept(data, results) == (1, 0)
    (tmp_path / "moved").mkdir()
    (tmp_path / "frames").rename(tmp_path / "moved" / "frames")
    assert kept(data.rename(tmp_path / "moved" / "data.jsonl"), results) == (1, 0)
    picture(tmp_path / "moved" / "frames" / "2.png", 9)
    assert kept(tmp_path / "moved" / "data.jsonl", results) == (0, 1)


def test_two_frames_that_change_places_are_another_row(data, tmp_path):
    before = Inputs(read_rows(data)).content("a")
    (tmp_path / "frames" / "0.png").rename(tmp_path / "frames" / "x.png")
    (tmp_path / "frames" / "1.png").rename(tmp_path / "frames" / "0.png")
    (tmp_path / "frames" / "x.png").rename(tmp_path / "frames" / "1.png")
    assert Inputs(read_rows(data)).content("a") != before


def test_an_explanation_tells_the_steps_a_line_each(data, engine):
    @reward("how_many", needs=("steps",), range=(0.0, 100.0))
    def how_many():
        """Number of steps."""

        async def score(sample):
            return Score(float(len(sample.steps)))

        return score

    (row,) = read_rows(data)
    told = explain(row.sample, "how_many", engine=engine)
    assert "  steps   3 steps, seen in top\n" in str(told) and told.score.value == 3
    assert "2  observation: top (2.png), action" in str(told) and "action: [2], time: 0.2" in str(told)
    json.dumps(told.record())


def test_a_step_may_hold_the_picture_itself(tmp_path, png):
    import base64

    url = "data:image/png;base64," + base64.b64encode(png).decode()
    (row,) = read_rows(jsonl(tmp_path, {"prompt": "p", "steps": [{"observation": url}]}))
    assert isinstance(row.sample.steps[0]["observation"], Media)
    assert row.sample.steps[0]["observation"].size == (2, 4)

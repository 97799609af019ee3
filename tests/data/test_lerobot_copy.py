"""Scores written into a copy of a LeRobot dataset: the column, its statistics, the progress file."""

import hashlib
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.recordings import LENGTHS, lerobot
from typer.testing import CliRunner

from mmreward.cli import app
from mmreward.data.lerobot_copy import Curve, cloning_weights, statistics, write_back
from mmreward.data.results import Result, write
from mmreward.data.rows import read_rows
from mmreward.trajectories import column
from mmreward.types import Score

SCORES = {
    "episode_000000": Score(0.9, {"frame_0": 0.0, "frame_3": 0.9, "voc": 1.0}),
    "episode_000001": Score.failed("unparsable", "no answer"),
    "episode_000002": Score(0.5, {"frame_0": 0.1, "frame_2": 0.5, "frame_4": 0.5}),
}
CURVES = {0: [0, 0.3, 0.6, 0.9], 1: [math.nan] * 6, 2: [0.1, 0.3, 0.5, 0.5, 0.5]}


def results(scores=SCORES, reward="gvl"):
    return [Result.of(name, reward, score, "f", "") for name, score in scores.items()]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return lerobot(tmp_path_factory.mktemp("robots") / "toy")


def digests(root):
    return {
        file.relative_to(root): hashlib.sha256(file.read_bytes()).digest()
        for file in root.rglob("*.*")
        if file.is_file()
    }


def data_of(root):
    tables = [pq.read_table(file) for file in sorted((root / "data").glob("*/*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def test_the_copy_has_the_column_and_all_else_as_it_was(dataset, tmp_path):
    before = digests(dataset)
    assert write_back(dataset, results(), "gvl", tmp_path / "out") == (2, 1)
    assert digests(dataset) == before, "the dataset itself is left alone"
    rows = data_of(tmp_path / "out")
    wanted = [value for number in range(3) for value in CURVES[number]]
    assert [row.pop("reward.gvl") for row in rows] == pytest.approx(wanted, abs=1e-6, nan_ok=True)
    assert rows == data_of(dataset)
    after = digests(tmp_path / "out")
    videos = [name for name in before if name.suffix == ".mp4"]
    assert len(videos) == 4 and all(after[name] == before[name] for name in videos)


def test_the_statistics_leave_out_what_is_unknown(dataset, tmp_path):
    write_back(dataset, results(), "gvl", tmp_path / "out")
    known = np.array([v for n in (0, 2) for v in CURVES[n]])
    stats = json.loads((tmp_path / "out" / "meta" / "stats.json").read_text())
    assert stats["action"] == {"mean": [0.5, 0.5], "count": [15]}
    mine = stats["reward.gvl"]
    assert mine["count"] == [9] and mine["mean"] == pytest.approx([known.mean()])
    assert mine["std"] == pytest.approx([known.std()]) and mine["q50"] == pytest.approx([np.median(known)])
    info = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    assert info["features"]["reward.gvl"] == {"dtype": "float32", "shape": [1], "names": None}
    (file,) = (tmp_path / "out" / "meta" / "episodes").glob("*/*.parquet")
    episodes = pq.read_table(file).to_pylist()
    assert [one["stats/reward.gvl/count"] for one in episodes] == [[4], [0], [5]]
    assert episodes[1]["stats/reward.gvl/max"] is None and episodes[0]["stats/action/max"] == [1.0]
    assert statistics(np.array([np.nan], np.float32)) == {"count": [0]}


def test_the_progress_file_has_the_columns_that_are_read_elsewhere(dataset, tmp_path):
    write_back(dataset, results(), "gvl", tmp_path / "out", kind="gain")
    table = pq.read_table(tmp_path / "out" / "progress.parquet")
    assert [(f.name, str(f.type)) for f in table.schema] == [
        ("index", "int64"), ("episode_index", "int64"), ("frame_index", "int64"), ("progress_sparse", "float")
    ]  # fmt: skip
    assert table["index"].to_pylist() == list(range(sum(LENGTHS)))
    assert table["frame_index"].to_pylist() == [n for length in LENGTHS for n in range(length)]
    wanted = [value for number in range(3) for value in CURVES[number]]
    assert table["progress_sparse"].to_pylist() == pytest.approx(wanted, abs=1e-6, nan_ok=True)
    assert table.schema.metadata[b"reward_model_path"] == b"mmreward/gvl"
    gains = [row["reward.gvl"] for row in data_of(tmp_path / "out")][:4]
    assert gains == pytest.approx([0.3, 0.3, 0.3, 0.0], abs=1e-6), "the reward of a step is what it leads to"


def test_golden_weights_of_behaviour_cloning():
    """Of the specification; LeRobot's epsilon is in the width of the soft part."""
    gains = np.array([-0.01, 0, 0.005, 0.01, 0.02])
    found = cloning_weights(gains, 0.005, 0.01)
    assert found == pytest.approx([0, 0.374991, 0.499988, 0.624984, 1], abs=2e-6)
    assert np.isnan(cloning_weights(np.array([np.nan]), 0.0, 1.0)).all(), "LeRobot takes it for a whole frame"


def test_weights_are_by_the_gains_of_all_episodes(dataset, tmp_path):
    """Against LeRobot's lines, written again over its global indices."""
    write_back(dataset, results(), "gvl", tmp_path / "out", kind="weight", chunk=2)
    rows = data_of(tmp_path / "out")
    progress = {n: row["progress_sparse"] for n, row in enumerate(
        pq.read_table(tmp_path / "out" / "progress.parquet").to_pylist())}  # fmt: skip
    ends, start = {}, 0
    for length in LENGTHS:
        ends |= dict.fromkeys(range(start, start + length), start + length - 1)
        start += length
    deltas = np.array([progress[min(n + 2, ends[n])] - progress[n] for n in range(len(progress))])
    known = deltas[~np.isnan(deltas)]
    low = max(known.mean(), 0) - 2 * max(known.std(), 1e-6)
    soft = np.clip((deltas - low) / (4 * max(known.std(), 1e-6) + 1e-6), 0, 1)
    wanted = np.where(deltas > 0.01, 1.0, np.where(deltas < 0, 0.0, soft))
    assert [row["reward.gvl"] for row in rows] == pytest.approx(wanted.tolist(), abs=1e-5, nan_ok=True)
    assert 0 < np.nanmean(wanted) < 1
    whole = {name: Score(4.0) for name in SCORES}
    with pytest.raises(ValueError, match="one value an episode"):
        write_back(dataset, results(whole), "gvl", tmp_path / "other", kind="weight")


def test_a_reward_of_the_whole_episode_stands_at_its_end(dataset, tmp_path):
    assert Curve({}, 4.0).at_every(3, "curve").tolist() == [0, 0, 4]
    whole = {name: Score(4.0) for name in SCORES}
    write_back(dataset, results(whole), "gvl", tmp_path / "out", column="next.reward", replace=True)
    again = list(read_rows(tmp_path / "out"))
    assert column(again[0].sample.steps, "reward") == [0, 0, 0, 4]


def test_what_datasets_says_of_its_columns_is_told_too(dataset, tmp_path):
    root = lerobot(tmp_path / "d", cameras={})
    file = root / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(file)
    told = {"info": {"features": {"index": {"dtype": "int64", "_type": "Value"}}}}
    pq.write_table(table.replace_schema_metadata({b"huggingface": json.dumps(told)}), file)
    write_back(root, results(), "gvl", tmp_path / "out")
    metadata = pq.read_schema(tmp_path / "out" / "data" / "chunk-000" / "file-000.parquet").metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features == {**told["info"]["features"], "reward.gvl": {"dtype": "float32", "_type": "Value"}}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"reward": "gvl2"}, "no score of 'gvl2'; did you mean 'gvl'"),
        ({"column": "next.reward"}, "'next.reward' is there"),
        ({"kind": "sum"}, "curve, gain or weight"),
        ({"chunk": 0}, "chunk is 0"),
        ({"scores": {"other": Score(1.0)}}, "the scores are of other rows"),
        ({"scores": {"episode_000000": Score(1.0, {"frame_9": 1.0})}}, "episode_000000: .* frame 9"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(dataset, tmp_path, args, words):
    given = {"reward": "gvl", **args}
    scores = results(given.pop("scores", SCORES))
    with pytest.raises(ValueError, match=words):
        write_back(dataset, scores, out=tmp_path / "out", **given)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_copy_and_says_what_is_missing(dataset, tmp_path):
    write(tmp_path / "scores.parquet", results(), {})
    args = [
        "lerobot",
        str(dataset),
        str(tmp_path / "scores.parquet"),
        "--out",
        str(tmp_path / "out"),
        "--link",
    ]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0 and "2 episodes with gvl, 1 without a score are NaN" in done.stdout
    (row, *_) = read_rows(tmp_path / "out")
    assert row.sample.steps[0]["observation"]["top"].size == (32, 32)
    again = CliRunner().invoke(app, args)
    assert isinstance(again.exception, ValueError) and "name a new folder" in str(again.exception)

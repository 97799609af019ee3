"""Bulk scoring with Ray Data: the same scores as in one process, and a bad row costs itself."""

import io
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray")

from cluster.networks import Travelling
from support.toys import Item, toy

from mmreward import Engine, Score, Unscorable
from mmreward.cluster import Grant, score_dataset
from mmreward.cluster.dataset import chunks_of, parts_of
from mmreward.data.results import COLUMNS, about, read
from mmreward.data.rows import read_rows
from mmreward.data.run import score_file
from mmreward.engine.engine import current
from mmreward.errors import Unavailable
from mmreward.limits import limits, set_limits
from mmreward.loading import resolve
from mmreward.mini.world import describe, render, sample_scene

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(120)]

ROWS, BROKEN, BLANK = 240, 17, 40
ONE = Grant(actors=1, num_cpus=0.5)
TWO = Grant(actors=2, num_cpus=0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures embedded in two files; one is broken and one has no prompt."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(12)]
    records = [
        {"id": f"row {i}", "prompt": str(describe(scenes[i % 12])), "image": png(scenes[i % 12], i)}
        for i in range(ROWS)
    ]
    records[BROKEN]["image"] = records[BROKEN]["image"][:60]
    records[BLANK]["prompt"] = ""
    for part in range(2):
        table = pa.Table.from_pylist(records[part::2])
        pq.write_table(table, folder / f"{part}.parquet", row_group_size=40)
    return folder


def png(scene, number):
    picture = render(scene, 48)
    picture.putpixel((0, 0), (number, 0, 0))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def length_reward():
    """A reward with a network, and without weights: how long the picture's bytes are, in millions."""
    network = Travelling()

    async def score(sample):
        _, length = await current().submit(network, "op", Item(len(sample.image.source)))
        _ = sample.image.array()  # a broken picture is noticed
        return Score(length / 1e6)

    return toy(score, "letters", needs=("prompt", "image"))


CLIP = {"reward": "clipscore", "weights": "mini-clip"}


@pytest.mark.parametrize("match", [length_reward, pytest.param(lambda: CLIP, marks=pytest.mark.slow)])
def test_every_row_is_scored_as_in_one_process_and_a_second_run_computes_nothing(data, tmp_path, match):
    rewards = resolve({"match": match(), "oracle": {}})
    summary = score_dataset(data, rewards, tmp_path / "out", grant=TWO, rows=40)
    assert (summary.rows, summary.fresh) == (ROWS, 2 * ROWS)
    assert summary.statuses["match"] == {"ok": ROWS - 2, "error": 1, "missing": 1}
    results = {row.key: row for row in read(tmp_path / "out")}
    assert len(results) == 2 * ROWS

    whole = pa.concat_tables([pq.read_table(data / f"{part}.parquet") for part in range(2)])
    pq.write_table(whole, tmp_path / "whole.parquet")
    with Engine("cpu") as engine:
        score_file(tmp_path / "whole.parquet", rewards, tmp_path / "scores.parquet", engine)
    for expected in read(tmp_path / "scores.parquet"):
        row = results[expected.key]
        assert replace(row, value=expected.value) == expected
        if row.value is not None:
            assert math.isclose(row.value, expected.value, abs_tol=1e-5)

    shards = sorted((tmp_path / "out").iterdir())
    assert len(shards) > 1 and pq.read_schema(shards[0]).names == list(COLUMNS)
    assert about(shards[0])["rewards"]["oracle"]["reward"] == "oracle"
    again = score_dataset(data, rewards, tmp_path / "out", grant=TWO, rows=40)
    assert (again.rows, again.fresh, again.statuses) == (ROWS, 0, summary.statuses)
    assert sorted((tmp_path / "out").iterdir()) == shards


def write_rows(path, count, **columns):
    records = [{"id": str(i), "prompt": "x", **{k: f(i) for k, f in columns.items()}} for i in range(count)]
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


def test_a_killed_run_goes_on_with_what_is_missing(tmp_path):
    async def score(sample):
        return Score(0.5)

    steady = {"toy": toy(score)}
    data = write_rows(tmp_path / "data.parquet", 30)
    score_dataset(data, steady, tmp_path / "out", grant=ONE, rows=10)
    shards = sorted((tmp_path / "out").iterdir())
    kept = {row.key: row for row in read(shards[0])}
    for shard in shards[1:]:
        shard.unlink()
    summary = score_dataset(data, steady, tmp_path / "out", grant=ONE, rows=10)
    assert (summary.rows, summary.fresh) == (30, 30 - len(kept))
    assert len(read(tmp_path / "out")) == 30
    assert read(shards[0]) == list(kept.values())


def test_failed_scores_are_computed_again_when_asked_and_the_newer_one_counts(tmp_path):
    marker = tmp_path / "mended"

    async def score(sample):
        if sample.id == "3" and not marker.exists():
            raise Unscorable("not yet", "timeout")
        return Score(1.0)

    reward = {"toy": toy(score)}
    data = write_rows(tmp_path / "data.parquet", 8)
    run = {"grant": ONE, "rows": 4}
    first = score_dataset(data, reward, tmp_path / "out", **run)
    marker.touch()
    same = score_dataset(data, reward, tmp_path / "out", **run)
    mended = score_dataset(data, reward, tmp_path / "out", retry_failed=True, **run)
    assert first.statuses == same.statuses == {"toy": {"ok": 7, "timeout": 1}}
    assert (same.fresh, mended.fresh) == (0, 1) and mended.statuses == {"toy": {"ok": 8}}
    assert {row.id: row.status for row in read(tmp_path / "out")}["3"] == "ok"


def test_parts_cover_the_rows_in_order_and_name_those_without_an_id(tmp_path):
    for name, count in (("a", 70), ("b", 5)):
        table = pa.Table.from_pylist([{"prompt": f"{name}{i}"} for i in range(count)])
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=30)
    parts = parts_of(tmp_path, actors=3)
    rows = [row for part in parts for chunk in chunks_of(part, 4) for row in chunk]
    assert [row.id for row in rows] == [f"{i:06d}" for i in range(75)]
    assert [row.sample.prompt for row in rows[69:72]] == ["a69", "b0", "b1"]
    assert len(parts) >= 12
    alone = list(read_rows(tmp_path / "a.parquet"))
    assert rows[:70] == [row._replace(sample=ours.sample) for row, ours in zip(alone, rows[:70], strict=True)]


def test_a_row_that_kills_its_process_gets_a_failed_score_and_the_others_theirs(tmp_path):
    network = Travelling()

    async def score(sample):
        await current().submit(network, "op", Item(0, poison=sample.response))
        return Score(1.0)

    # Four parts of two rows, so that the deadly one must be told from its neighbour.
    deadly = write_rows(tmp_path / "data.parquet", 8, response=lambda i: "exit" if i == 3 else "fine")
    summary = score_dataset(deadly, toy(score), tmp_path / "out", grant=ONE)
    assert summary.statuses == {"toy": {"ok": 7, "error": 1}}
    (blamed,) = [row for row in read(tmp_path / "out") if row.status == "error"]
    assert blamed.id == "3" and "processes died" in blamed.note
    assert not (tmp_path / "out" / "trials").exists()


def test_actors_that_never_come_up_are_a_timeout_that_names_the_resources(tmp_path):
    data = write_rows(tmp_path / "data.parquet", 2)
    with pytest.raises(TimeoutError, match=r"wants CPU 1, GPU 3; the cluster has CPU 4"):
        score_dataset(data, "oracle", tmp_path / "out", grant=Grant(actors=1, num_gpus=3), ready_seconds=1)


def test_what_cannot_work_is_refused_before_anything_starts(tmp_path):
    async def compare(samples):
        return [Score(0.0)] * len(samples)

    data = write_rows(tmp_path / "data.parquet", 2)
    with pytest.raises(ValueError, match="whole groups"):
        score_dataset(data, toy(compare, arity="group"), tmp_path / "out")
    with pytest.raises(ValueError, match="no data at"):
        score_dataset(tmp_path / "nothing.parquet", "oracle", tmp_path / "out")
    with pytest.raises(ValueError, match="no reward named"):
        score_dataset(data, "orakel", tmp_path / "out")


def test_what_can_work_for_no_row_is_one_error(data, tmp_path):
    async def broken(sample):
        raise OSError("no disk there")

    with pytest.raises(Unavailable, match=r"^unavailable here: broken can.*no disk there") as error:
        score_dataset(data, {"broken": toy(broken, "broken")}, tmp_path / "out", grant=ONE)
    assert "\n" not in str(error.value) and not list((tmp_path / "out").glob("*.parquet"))


def test_actors_have_the_limits_of_the_driver(data, tmp_path):
    async def told(sample):
        return Score(float(limits().boxes))

    set_limits(boxes=77)
    reward = toy(told, "told", range=(0, 100))
    score_dataset(data, {"told": reward}, tmp_path / "out", grant=ONE)
    assert {row.value for row in read(tmp_path / "out")} == {77.0}

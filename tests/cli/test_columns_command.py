"""`--map FIELD=COLUMN` of score, check, pairs and report, as a user types it."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from support import forked

from mmreward.data.results import about, read
from mmreward.mini.world import describe, render, sample_scene

MAP = ("--map", "prompt=says", "--map", "image=pic")


def mmreward(*arguments):
    return forked.python("-m", "mmreward.cli", *arguments)


@pytest.fixture
def data(tmp_path):
    """Two pictures of one prompt, one of them right, in columns of other names."""
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(2)]
    for number, scene in enumerate(scenes):
        render(scene).save(tmp_path / f"{number}.png")
    rows = [{"id": str(n), "says": str(describe(scenes[0])), "pic": f"{n}.png"} for n in range(2)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_score_pairs_and_report_read_the_data_alike(data, tmp_path, ending):
    out = tmp_path / f"scores.{ending}"
    first = mmreward("score", data, "--reward", "oracle", "--out", out, *MAP)
    assert first.returncode == 0, first.stderr
    assert [row.status for row in read(out)] == ["ok", "ok"] and read(out)[0].value == 1.0
    assert "0 new scores" in mmreward("score", data, "--reward", "oracle", "--out", out, *MAP).stdout
    known = ending == "parquet"  # which holds the mapping too
    if known:
        assert about(out)["columns"] == {"data.jsonl": {"prompt": "says", "image": "pic"}}
    paired = mmreward("pairs", data, out, "--out", tmp_path / "pairs", *(() if known else MAP))
    assert paired.returncode == 0, paired.stderr
    reported = mmreward("report", out, *(() if known else ("--data", data, *MAP)))
    assert reported.returncode == 0, reported.stderr
    assert "data:image/" in Path(reported.stdout.strip()).read_text()


def test_a_run_without_the_mapping_forgets_it(data, tmp_path):
    out = tmp_path / "scores.parquet"
    mmreward("score", data, "--reward", "oracle", "--out", out, *MAP)
    mmreward("score", data, "--reward", "oracle", "--out", out, "--max-failures", "100%")
    assert "columns" not in about(out)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("prompt", "--map 'prompt' is not FIELD=COLUMN"),
        ("promt=says", "did you mean 'prompt'?"),
        (
            "prompt=say",
            "--map prompt=say: none of the first 2 rows has the column 'say'; did you mean 'says'?",
        ),
    ],
)
@pytest.mark.parametrize("command", ["score", "check"])
def test_a_wrong_mapping_is_one_line(data, tmp_path, command, given, words):
    out = ("--out", tmp_path / "scores.jsonl") if command == "score" else ()
    run = mmreward(command, data, "--reward", "choice", *out, "--map", given)
    assert run.returncode == 2 and words in run.stderr and len(run.stderr.strip().splitlines()) == 1


def test_check_reads_targets_by_another_name(tmp_path):
    data = tmp_path / "d.jsonl"
    data.write_text(json.dumps({"prompt": "p", "gold": "B"}) + "\n")
    run = mmreward("check", data, "--reward", "choice", "--map", "target=gold")
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_tar_is_scored_and_a_second_run_computes_nothing(tmp_path):
    rng = np.random.default_rng(1)
    shard = tmp_path / "shards" / "0000.tar"
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as tar:
        for number in range(3):
            scene, file = sample_scene(rng), io.BytesIO()
            render(scene).save(file, "PNG")
            members = {"png": file.getvalue(), "json": json.dumps({"says": str(describe(scene))}).encode()}
            for ending, content in members.items():
                info = tarfile.TarInfo(f"{number}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    out = tmp_path / "scores.parquet"
    command = ("score", shard.parent, "--reward", "oracle", "--out", out, "--map", "prompt=says")
    assert mmreward(*command).returncode == 0
    assert [(row.id, row.value) for row in read(out)] == [(f"0000/{n}", 1.0) for n in range(3)]
    os.utime(shard, (1, 1))  # as a copy has another time
    assert "3 rows, 0 new scores" in mmreward(*command).stdout
    reported = mmreward("report", out)
    assert "data:image/" in Path(reported.stdout.strip()).read_text(), reported.stderr

"""`mmreward score`, `list` and `show` as a user types them: real processes on real files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import forked

from mmreward.data.results import about, read
from mmreward.mini.world import describe, render, sample_scene


def mmreward(*arguments, cwd=None):
    return forked.python("-m", "mmreward.cli", *arguments, cwd=cwd)


@pytest.fixture
def folder(tmp_path):
    """Eight pictures, their captions beside them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(8):
        scene = sample_scene(rng)
        render(scene).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(str(describe(scene)))
    return folder


def test_a_folder_is_scored_and_a_second_run_computes_nothing(folder, tmp_path):
    out = tmp_path / "scores.parquet"
    first = mmreward("score", folder, "--reward", "oracle", "--out", out)
    assert first.returncode == 0, first.stderr
    rows = read(out)
    assert [row.id for row in rows] == [f"{index}.png" for index in range(8)]
    assert all(row.value == 1.0 and row.status == "ok" for row in rows)
    assert "8 rows, 8 new scores" in first.stdout
    assert about(out)["data"] == "pictures" and not (tmp_path / "scores.parquet.parts").exists()
    second = mmreward("score", folder, "--reward", "oracle", "--out", out)
    assert "8 rows, 0 new scores" in second.stdout and read(out) == rows


def test_a_changed_row_and_a_changed_argument_are_scored_again(folder, tmp_path):
    out = tmp_path / "scores.jsonl"
    mmreward("score", folder, "--reward", "oracle", "--out", out)
    (folder / "3.txt").write_text("a red circle and a red square and a red triangle")
    changed = mmreward("score", folder, "--reward", "oracle", "--out", out)
    assert "8 rows, 1 new scores" in changed.stdout
    strict = mmreward("score", folder, "--reward", "oracle:strict=true", "--out", out)
    assert "8 rows, 8 new scores" in strict.stdout and read(out)[3].value == 0.0


@pytest.mark.parametrize("form", ["jsonl", "parquet", "dataset"])
def test_every_format_gives_the_same_scores(folder, tmp_path, form):
    rows = [
        {"id": f"{i}.png", "prompt": (folder / f"{i}.txt").read_text(), "image": f"pictures/{i}.png"}
        for i in range(8)
    ]
    data = tmp_path / f"data.{form}"
    if form == "jsonl":
        data.write_text("\ufeff" + "\r\n".join(json.dumps(row) for row in rows))
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), data)
    else:
        datasets = pytest.importorskip("datasets")
        from PIL import Image

        for row in rows:
            row["image"] = Image.open(tmp_path / row["image"])
        datasets.Dataset.from_list(rows).save_to_disk(str(data))
    done = mmreward("score", data, "--reward", "oracle", "--out", tmp_path / "scores.parquet")
    assert done.returncode == 0, done.stderr
    assert [row.value for row in read(tmp_path / "scores.parquet")] == [1.0] * 8


def test_too_many_failures_end_with_3_and_every_row_says_why(folder, tmp_path):
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:60])
    (folder / "5.txt").unlink()
    out = tmp_path / "scores.parquet"
    done = mmreward("score", folder, "--reward", "oracle", "--out", out)
    assert done.returncode == 3 and "25.0%" in done.stderr
    rows = {row.id: row for row in read(out)}
    assert rows["4.png"].status == "error" and "broken" in rows["4.png"].note and rows["4.png"].value is None
    assert rows["5.png"].status == "missing" and "prompt" in rows["5.png"].note
    assert sum(row.status == "ok" for row in rows.values()) == 6
    tolerant = mmreward("score", folder, "--reward", "oracle", "--out", out, "--max-failures", "30%")
    assert tolerant.returncode == 0 and "0 new scores" in tolerant.stdout


def test_failed_scores_are_computed_again_on_request(folder, tmp_path):
    out = tmp_path / "scores.parquet"
    (folder / "5.txt").write_text("nothing this world knows")
    whole = (folder / "4.png").read_bytes()
    (folder / "4.png").write_bytes(whole[:60])
    mmreward("score", folder, "--reward", "oracle", "--out", out, "--max-failures", "1")
    again = mmreward(
        "score", folder, "--reward", "oracle", "--out", out, "--max-failures", "1", "--retry-failed"
    )
    assert "8 rows, 1 new scores" in again.stdout
    assert {row.id: row.status for row in read(out)}["5.png"] == "na"


def test_a_total_is_stored_beside_its_parts(folder, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(
        "rewards:\n  soft: {reward: oracle}\n  hard: {reward: oracle, strict: true}\n"
        "compose:\n  weights: {soft: 2, hard: 1}\n  gates: {hard: 0.5}\n"
    )
    (folder / "3.txt").write_text("a red circle and a red square and a red triangle")
    out = tmp_path / "scores.parquet"
    done = mmreward("score", folder, "--config", config, "--out", out)
    assert done.returncode == 0, done.stderr
    total = {row.id: row.value for row in read(out) if row.reward == "total"}
    assert total["0.png"] == 3.0 and total["3.png"] == 0.0 and len(total) == 8
    assert "0 new scores" in mmreward("score", folder, "--config", config, "--out", out).stdout


RIGHT = "<think>It has stripes.</think><answer>{}</answer>"


def written(tmp_path, text):
    """Four answers to one question, two of them right, and a row that is none."""
    rows = [
        {"id": str(row), "group": "q", "source": "quiz", "prompt": "Which?", "response": RIGHT.format(said)}
        | {"target": "tiger", "tokens": tokens}
        for row, (said, tokens) in enumerate([("tiger", 10), ("tiger", 30), ("cat", 10), ("cat", 30)])
    ]
    lines = [*map(json.dumps, rows), "no json"]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    (tmp_path / "run.yaml").write_text(text)
    out = tmp_path / "scores.jsonl"
    done = mmreward(
        "score",
        tmp_path / "rows.jsonl",
        "--config",
        tmp_path / "run.yaml",
        "--out",
        out,
        "--max-failures",
        "50%",
    )
    return done, out


@pytest.mark.parametrize(
    ("text", "name", "wanted"),
    [
        (
            "rewards: {answer: {reward: label}}\ncompose: {weights: {answer: 1}, shaping: "
            "[{name: length_shares, accuracy: answer, weight: 0.2}]}\n",
            "total",
            [1.1, 0.9, 0.0, -0.1],
        ),
        (
            "routes: {quiz: {rewards: {answer: {reward: label}}, shaping: "
            "[{name: length_shares, accuracy: answer, weight: 0.2}]}}\n",
            "routed",
            [1.2 / 1.2, 1.0 / 1.2, 0.1 / 1.2, 0.0],
        ),
    ],
)
def test_a_config_shapes_the_total(tmp_path, text, name, wanted):
    done, out = written(tmp_path, text)
    assert done.returncode == 0, done.stderr
    rows = [row for row in read(out) if row.reward == name]
    assert [row.value for row in rows[:4]] == pytest.approx(wanted) and rows[4].status == "error"
    again, _ = written(tmp_path, text)
    assert "0 new scores" in again.stdout and [row for row in read(out) if row.reward == name] == rows


def test_a_wrong_step_is_said_before_anything_is_scored(tmp_path):
    text = "rewards: {answer: {reward: label}}\ncompose: {weights: {answer: 1}, shaping: [{name: trustd}]}\n"
    done, out = written(tmp_path, text)
    assert done.returncode == 2 and "no shaping named 'trustd': did you mean 'trusted'?" in done.stderr
    text = text.replace("{name: trustd}", "{name: trusted, accuracy: answer, thinking: deep}")
    done, out = written(tmp_path, text)
    assert done.returncode == 2 and "no reward named deep; there are answer" in done.stderr
    assert not out.exists() and not out.with_name("scores.jsonl.parts").exists()


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    """SIGKILL at two moments; in the end every row is there once, and what was on disk is not redone."""
    rng = np.random.default_rng(1)
    scene = sample_scene(rng)
    render(scene, 256).save(tmp_path / "picture.png")
    rows = [{"id": str(i), "prompt": str(describe(scene)), "image": "picture.png"} for i in range(160)]
    data, out = tmp_path / "data.jsonl", tmp_path / "scores.parquet"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    parts = tmp_path / "scores.parquet.parts"
    command = [sys.executable, str(Path(__file__).with_name("score_slowly.py")), str(data), str(out)]
    kept: list[int] = []
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        target = (kept[-1] if kept else 0) + 1
        deadline = time.monotonic() + 60
        while sum(1 for _ in parts.glob("[0-9]*")) < target and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept.append(sum(1 for _ in parts.glob("[0-9]*")))
        assert not out.exists()
    stored = {row.id for shard in parts.glob("[0-9]*.parquet") for row in read(shard)}
    assert 0 < len(stored) < 160
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 160 - len(stored)
    assert [row.id for row in read(out)] == [str(i) for i in range(160)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "absent", "--reward", "oracle", "--out", "x.parquet"], "no data at absent"),
        (["score", ".", "--reward", "orakle", "--out", "x.parquet"], "did you mean 'oracle'"),
        (["score", ".", "--reward", "oracle:strikt=true", "--out", "x.parquet"], "did you mean 'strict'"),
        (["score", ".", "--reward", "oracle:strict=maybe", "--out", "x.parquet"], "strict"),
        (["score", ".", "--out", "x.parquet"], "no rewards"),
        (["score", ".", "--reward", "oracle", "--out", "x.xls"], ".parquet, .jsonl, .csv or .tsv"),
        (
            ["score", ".", "--reward", "oracle", "--out", "x.parquet", "--max-failures", "lots"],
            "share such as 5%",
        ),
        (["show", "clipscor"], "did you mean 'clipscore'"),
        (["list", "zzz*"], "no reward matches"),
        (["report", "absent.parquet"], "absent.parquet"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    done = mmreward(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


def test_looking_up_stored_scores_of_an_encoder_imports_no_torch(folder, tmp_path):
    scored = ["score", str(folder), "--reward", "clipscore:weights=mini-clip"]
    scored += ["--out", str(tmp_path / "scores.jsonl")]
    assert mmreward(*scored).returncode == 0
    code = f"""
import sys
sys.argv = ["mmreward", *{scored!r}]
from mmreward.cli import main
try:
    main()
finally:
    assert not {{"torch", "transformers", "open_clip"}} & set(sys.modules), "heavy imports"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and " 0 new scores" in done.stdout, (done.stdout, done.stderr)


def test_listing_imports_no_torch():
    code = """
import sys
from mmreward.cli import app
sys.argv = ["mmreward", "list"]
try:
    app()
finally:
    assert not {"torch", "transformers", "scipy", "pyarrow"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(
        name in done.stdout for name in ("clipscore", "artifact", "checklist", "critique", "listener", "iou")
    )


@pytest.mark.parametrize(
    "command",
    [
        ["score", "nowhere", "--out", "x.parquet", "--reward", "clipscore"],
        ["pairs", "nowhere", "x.parquet", "--out", "x"],
        ["report", "nowhere"],
        ["fit", "pisces", "nowhere", "--weights", "mini-clip", "--out", "x.safetensors"],
        ["tune", "nowhere.yaml"],
        ["search", "nowhere.yaml"],
        ["refine", "nowhere.yaml"],
    ],
    ids=lambda command: command[0],
)
def test_a_path_with_nothing_there_is_said_before_torch_is_imported(command, tmp_path):
    code = f"""
import sys
sys.argv = ["mmreward", *{command!r}]
from mmreward.cli import main
try:
    main()
finally:
    assert not {{"torch", "transformers", "PIL"}} & set(sys.modules), "heavy imports"
"""
    begin = [sys.executable, "-c", code]
    done = subprocess.run(begin, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: no ") and len(done.stderr.splitlines()) == 1


# --- one picture, and a reward of one's own -------------------------------------------------------------


def test_one_picture_needs_no_out_and_its_caption_is_its_prompt(folder):
    done = mmreward("score", folder / "3.png", "--reward", "oracle", "--reward", "strict=oracle:strict=true")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["reward", "score"],
        ["oracle", "1"],
        ["strict", "1"],
    ]
    (folder / "3.txt").unlink()
    done = mmreward("score", folder / "3.png", "--reward", "oracle")
    assert done.returncode == 3 and "missing  the sample has no prompt" in done.stdout


def test_one_picture_can_be_stored_too(folder, tmp_path):
    out = tmp_path / "one.parquet"
    done = mmreward("score", folder / "3.png", "--reward", "oracle", "--out", out)
    assert done.returncode == 0, done.stderr
    (row,) = read(out)
    assert (row.id, row.value) == ("3.png", 1.0)


def test_a_data_set_without_out_is_one_line(folder):
    done = mmreward("score", folder, "--reward", "oracle")
    assert done.returncode == 2 and "give --out scores.parquet" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_function_in_a_file_scores_and_is_scored_again_when_it_changes(folder, tmp_path):
    out, own = tmp_path / "scores.jsonl", tmp_path / "own.py"
    own.write_text("def wide(sample, least=10):\n    return sample.image.size[1] >= least\n")
    arguments = ("score", "pictures", "--reward", "./own.py:wide", "--out", out)
    first = mmreward(*arguments, "--reward", "huge=./own.py:wide:least=9999", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert {(row.reward, row.value) for row in read(out)} == {("wide", 1.0), ("huge", 0.0)}
    assert "8 rows, 0 new scores" in mmreward(*arguments, cwd=tmp_path).stdout
    own.write_text("# wider\n" + own.read_text())
    assert "8 rows, 0 new scores" in mmreward(*arguments, cwd=tmp_path).stdout, "a comment changes nothing"
    own.write_text(own.read_text().replace(">=", "<"))
    assert "8 rows, 8 new scores" in mmreward(*arguments, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("spec", "said"),
    [("./own.py:wid", "did you mean 'wide'?"), ("./gone.py:wide", "no file at gone.py")],
)
def test_a_function_that_is_not_there_is_one_line(folder, tmp_path, spec, said):
    (tmp_path / "own.py").write_text("def wide(sample):\n    return 1\n")
    done = mmreward("score", folder, "--reward", spec, "--out", tmp_path / "s.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1

"""Thirteen things that people try in their first hour: each gives a result, or a line that names the fix."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.scored_runs import picture
from typer.testing import CliRunner

import mmreward
from mmreward import Sample
from mmreward.cli import app


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder they sit in: pictures, a table of captions, a scorer of their own."""
    monkeypatch.chdir(tmp_path)
    names = [picture(tmp_path, (side, side)) for side in (64, 80, 96, 112)]
    with (tmp_path / "pictures.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "text_of_it", "file"])
        table.writerows([f"p{i}", f"caption {i // 2}", name] for i, name in enumerate(names))
    rows = [{"id": f"p{i}", "prompt": f"caption {i // 2}", "image": name} for i, name in enumerate(names)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.py").write_text("def wide(sample):\n    return sample.image.size[1] / 1000\n")
    return tmp_path


def told(*arguments, code=0):
    """What a command prints, stdout and stderr; or the words of its mistake."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    if isinstance(done.exception, ValueError):
        assert code == 2 and "\n" not in str(done.exception)
        return str(done.exception)
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


ROWS = ("rows.jsonl", "--reward", "sharpness")


def test_1_which_version_is_this(folder):
    done = subprocess.run(
        [sys.executable, "-m", "mmreward", "--version"], capture_output=True, text=True, check=True
    )
    assert told("--version") == done.stdout == f"{mmreward.__version__}\n"


def test_2_facts_for_a_bug_report(folder):
    said = told("env")
    assert "mmreward " in said and "torch " in said and "device " in said and "limits.pixels" in said


def test_3_which_rewards_are_there(folder):
    assert "[pictures]" in told("list", "--needs", "image") and "label " not in told(
        "list", "--needs", "image"
    )
    assert {one["name"] for one in json.loads(told("list", "clip*", "--json"))} == {"clipscore", "clip_i"}
    assert "arguments" in told("show", "clipscore")
    assert told("show", "clipscor", code=2).endswith("did you mean 'clipscore'?")


def test_4_which_models_are_there(folder):
    said = told("models", "clip")
    assert "mini-clip" in said and "openai/clip-vit-large-patch14" in said and "mini-vlm" not in said
    every = json.loads(told("models", "--json"))
    assert {"mini-vlm", "Qwen/Qwen3-VL-8B-Instruct"} <= {one["name"] for one in every if one["use"] == "vlm"}
    assert "did you mean 'clip'" in told("models", "clp", code=2)


def test_5_a_file_to_start_from(folder):
    assert "tune/mini-grpo" in told("configs") and "init score" in told("init")
    assert "next: mmreward score" in told("init", "score", "--out", "mine.yaml")
    assert (folder / "mine.yaml").read_text().startswith("#")


def test_6_two_of_one_kind(folder):
    words = told("score", *ROWS, "--reward", "sharpness", "--out", "o.parquet", code=2)
    assert "sharpness is given twice" in words and "sharpness2=sharpness" in words
    said = told("score", *ROWS, "--reward", "again=sharpness", "--out", "o.parquet")
    assert "sharpness  4/4" in said and "again      4/4" in said


def test_7_a_function_of_their_own(folder):
    said = told("score", "rows.jsonl", "--reward", "own.py:wide", "--out", "o.parquet")
    assert "wide    4/4     0.088" in said and "next: mmreward report o.parquet" in said
    assert "did you mean 'wide'" in told(
        "score", "rows.jsonl", "--reward", "own.py:wid", "--out", "o.parquet", code=2
    )


def test_8_columns_of_other_names(folder):
    given = ("--map", "prompt=text_of_it", "--map", "image=file", "--reward", "sharpness")
    assert "4 rows, 4 new scores" in told("score", "pictures.csv", *given, "--out", "o.parquet")
    wrong = ("--map", "prompt=text_of_them", "--reward", "sharpness", "--out", "o.parquet")
    assert "did you mean 'text_of_it'" in told("score", "pictures.csv", *wrong, code=2)


def test_9_a_table_in_and_a_table_out(folder):
    told("score", *ROWS, "--out", "scores.csv")
    with (folder / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["p0", "p1", "p2", "p3"]
    assert all(float(row["value"]) for row in rows)
    assert "0 new scores" in told("score", *ROWS, "--out", "scores.csv")
    assert "not 'scores.xlsx'" in told("score", *ROWS, "--out", "scores.xlsx", code=2)
    assert told("report", "scores.csv").strip() == "report.html"


def test_10_one_picture(folder):
    assert "sharpness  0." in told("score", "64x64.png", "--reward", "sharpness")
    assert "clipscore  missing  the sample has no prompt" in told(
        "score", "64x64.png", "--reward", "clipscore:weights=mini-clip", code=3
    )


def test_11_which_of_two_is_better(folder):
    told("score", *ROWS, "--out", "a.parquet")
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(folder / "after.png")
    rows = (folder / "rows.jsonl").read_text().replace("64x64.png", "after.png")
    (folder / "after.jsonl").write_text(rows)
    told("score", "after.jsonl", "--reward", "sharpness", "--out", "b.parquet")
    said = told("compare", "a.parquet", "b.parquet", "-o", "page.html")
    assert "sharpness, lost most: p0" in said and (folder / "page.html").exists()
    told("score", "rows.jsonl", "--reward", "own.py:wide", "--out", "c.parquet")
    assert "share no reward" in told("compare", "a.parquet", "c.parquet", code=2)


def test_12_from_python(folder):
    """Samples and rewards as they come to hand; tables out."""
    black = np.zeros((8, 8, 3), dtype=np.uint8)
    given = [Sample(image="64x64.png"), {"image": "80x80.png"}, "96x96.png", Image.fromarray(black), black]
    scored = mmreward.score(given, ["sharpness", lambda sample: 0.5])
    assert len(scored) == 5 and all(row.scores["lambda"].value == 0.5 for row in scored)
    frame = scored.to_frame()
    assert list(frame["sharpness"].notna()) == [True] * 5
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for table in (pandas.DataFrame, polars.DataFrame):
        again = mmreward.score(table({"image": ["64x64.png"], "prompt": ["p"]}), "sharpness")
        assert again[0].scores["sharpness"].ok
    nothing = mmreward.score([{"imgae": "64x64.png"}], "sharpness")
    assert "missing" in str(nothing) and "image" in nothing.failures[0].reason
    assert callable(mmreward.compose.combine) and callable(mmreward.adapters.trl.reward)
    with pytest.raises(ValueError, match=r"did you mean 'sharpness'"):
        mmreward.score(given, "sharpnes")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score", "rws.jsonl", "--reward", "sharpness", "--out", "o.parquet"), "no data at rws.jsonl"),
        (("score", "rows.jsonl", "--out", "o.parquet"), "no rewards: give --reward NAME or --config FILE"),
        (("score", *ROWS), "no place for the scores: give --out scores.parquet"),
        (("score", *ROWS, "--out", "o.parquet", "--device", "cude"), "did you mean 'cuda'"),
        (("score", *ROWS, "--out", "o.parquet", "--tracker", "wanbd"), "did you mean 'wandb'"),
        (("tune", "tune/mini-gpro"), "tune/mini-grpo"),
        (("report", "o.parquet"), "run `mmreward score` first"),
        (("report", "o.parquet", "--serve", "--out", "x.html"), "--serve writes no page"),
    ],
)
def test_13_a_mistake_is_one_line_that_names_the_fix(folder, arguments, words):
    assert words in told(*arguments, code=2)

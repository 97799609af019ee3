"""`mmreward configs` lists the package's recipes, `mmreward init` copies one; the commented starts run."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mmreward.cli import app
from mmreward.cli.recipes import STARTS, command, summary
from mmreward.config import config_at, load_config, recipes
from mmreward.data.routing import Router


def typed(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_recipe_is_listed_with_what_it_is_for():
    done = typed("configs")
    assert done.exit_code == 0
    names = [line for line in done.stdout.splitlines() if "/" in line and " " not in line]
    assert names == list(recipes()) and "Flow-GRPO. Two steps per picture" in done.stdout
    (record,) = json.loads(typed("configs", "tune/mini-grpo", "--json").stdout)
    assert (
        record["name"] == "tune/mini-grpo"
        and record["command"] == "mmreward tune configs/tune/mini-grpo.yaml"
    )


@pytest.mark.parametrize("name", list(recipes()))
def test_every_recipe_says_what_it_is_for_and_how_it_is_run(name):
    path = recipes()[name]
    assert len(summary(path)) > 10 and command(path)


def test_a_glob_that_fits_nothing_is_one_line():
    done = typed("configs", "tune/nothing*")
    assert isinstance(done.exception, ValueError) and "no recipe fits 'tune/nothing*'" in str(done.exception)


def test_init_without_a_name_says_what_there_is():
    assert all(f"mmreward init {start}" in typed("init").stdout for start in STARTS)


@pytest.mark.parametrize("start", STARTS)
def test_a_start_is_copied_and_its_commands_name_the_copy(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = typed("init", start)
    assert done.exit_code == 0, done.exception
    text = (tmp_path / f"{start}.yaml").read_text()
    assert done.stdout.splitlines()[0] == f"{start}.yaml" and f" {start}.yaml" in done.stdout.splitlines()[1]
    assert f"configs/{start}/start" not in text and text.count("#") >= 5
    again = typed("init", start)
    assert "is there already" in str(again.exception) and (tmp_path / f"{start}.yaml").read_text() == text


def test_any_recipe_can_be_copied_anywhere(tmp_path):
    out = tmp_path / "mine" / "own.yaml"
    done = typed("init", "tune/mini-nft", "-o", out)
    assert done.exit_code == 0 and f"mmreward tune {out}" in out.read_text()
    for arguments, words in (
        (("tune/mini-nfr", "-o", out), "did you mean the recipe 'tune/mini-nft'"),
        (("score", "-o", tmp_path / "x.txt"), r"'x.txt'"),
    ):
        assert words in str(typed("init", *arguments).exception)


def test_the_starts_are_what_their_commands_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    routes = load_config("vlm/start").routes
    assert Router(routes) and "*" in routes
    assert load_config(config_at("score/start")).compose is not None
    for name in ("tune", "search"):
        done = typed(name, f"{name}/start", *(["--dry-run"] if name == "tune" else ["--help"]))
        assert done.exit_code == 0, done.exception


def test_the_start_of_score_runs_offline(tmp_path):
    import numpy as np

    from mmreward.mini.world import describe, render, sample_scene

    scene = sample_scene(np.random.default_rng(0))
    (tmp_path / "data").mkdir()
    render(scene).save(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "a.txt").write_text(str(describe(scene)))
    run = [sys.executable, "-m", "mmreward", "score", "data", "--config", "score/start", "--out", "s.jsonl"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "details" in done.stdout, done.stderr

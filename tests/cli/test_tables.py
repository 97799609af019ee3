"""What `mmreward score` prints at its end, `--version`, `python -m mmreward` and `mmreward env`."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mmreward
from mmreward.cli import app
from mmreward.monitor.tables import score_table, source_table, unit_note


def typed(*arguments, **environment):
    command = [sys.executable, "-m", "mmreward", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_the_table_has_the_mean_and_its_interval_over_prompts():
    """Two prompts, means 0.5 and 0.25: t of one degree of freedom, 12.706, times the error between them."""
    values = {"one": [0.0, 1.0, 0.0, 0.5], "none": [math.nan] * 4}
    statuses = {"one": {"ok": 4}, "none": {"timeout": 3, "unparsable": 1}}
    lines = score_table(values, statuses, ["a", "a", "b", "b"]).splitlines()
    assert lines[0].split("  ")[0] == "reward" and len(lines) == 3
    mean, error = 0.375, math.sqrt(2 * (0.25**2 + 0.25**2)) / 4
    low, high = mean - 12.7062 * error, mean + 12.7062 * error
    cells = re.split(r"\s{2,}", lines[1])
    assert cells == ["one", "4/4", "0.375", f"{low:.4g} to {high:.4g}", "0", "1", "-"]
    assert re.split(r"\s{2,}", lines[2]) == ["none", "0/4", "-", "-", "-", "-", "3 timeout, 1 unparsable"]


def test_the_unit_is_named_only_where_rows_share_a_prompt():
    assert (
        unit_note(["a", "a", "b"]) == "intervals over 2 independent prompts" and unit_note(["a", "b"]) == ""
    )


def test_the_mean_of_sources_counts_every_source_alike():
    sources = ["colors", "colors", "colors", "position", ""]
    values = {"one": [1.0, 0.0, 0.5, 0.25, 9.0], "two": [1.0, math.nan, 0.0, math.nan, 1.0]}
    lines = [re.split(r"\s{2,}", line) for line in source_table(values, sources).splitlines()]
    assert lines[0] == ["source", "rows", "one", "two"]
    assert lines[1:] == [
        ["colors", "3", "0.5", "0.5"],
        ["position", "1", "0.25", "-"],
        ["mean of sources", "4", "0.375", "-"],
    ]
    assert source_table(values, ["colors"] * 5) == source_table({}, [str(i) for i in range(99)]) == ""


def test_score_prints_genevals_overall_score(tmp_path):
    from mmreward.mini.world import Scene, Thing, render

    render(Scene((Thing("red", "circle", 0.4, 0.5, 0.15),)), 64).save(tmp_path / "a.png")
    clauses = [("colors", "red"), ("colors", "blue"), ("color_attr", "red")]
    rows = [
        {"tag": tag, "include": [{"class": "circle", "count": 1, "color": colour}], "image": "a.png"}
        for tag, colour in clauses
    ]
    (tmp_path / "evaluation_metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    done = typed(
        *("score", tmp_path / "evaluation_metadata.jsonl", "--map", "source=tag"),
        *("--reward", "geneval:detector=oracle", "--out", tmp_path / "scores.parquet"),
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^mean of sources +3 +0\.75$", done.stdout, re.MULTILINE), done.stdout


@pytest.fixture
def data(tmp_path):
    rows = [
        {"id": str(i), "prompt": f"question {i // 2}", "response": answer, "target": "yes"}
        for i, answer in enumerate(["yes", "no", "yes", "yes", "who knows", "no"])
    ]
    rows[5].pop("response")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_score_ends_with_the_table_and_the_next_command(data):
    out = data.with_name("scores.parquet")
    done = typed("score", data, "--reward", "yes_no:bare=true", "--out", out, "--max-failures", "50%")
    assert done.returncode == 0, done.stderr
    cells = re.split(r"\s{2,}", done.stdout.splitlines()[1])
    assert cells[:3] == ["yes_no", "5/6", "0.6"] and cells[-1] == "1 missing"
    assert "intervals over 3 independent prompts" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == f"next: mmreward report {out}"
    assert CliRunner().invoke(app, last.split()[2:]).exit_code == 0


def test_the_page_compares_with_the_reward_that_is_asked_for(data):
    """The option was documented before there was one."""
    out = data.with_name("scores.parquet")
    given = ["--reward", "yes_no:bare=true", "--reward", "length", "--max-failures", "1"]
    CliRunner().invoke(app, ["score", str(data), *given, "--out", str(out)])
    done = CliRunner().invoke(app, ["report", str(out), "--reference", "yes_no"])
    assert done.exit_code == 0 and "Agreement with yes_no" in Path(done.stdout.strip()).read_text()
    wrong = CliRunner().invoke(app, ["report", str(out), "--reference", "yes_now"])
    assert "did you mean 'yes_no'" in str(wrong.exception)


def test_a_resumed_run_prints_the_same_table(data):
    out = data.with_name("scores.parquet")
    arguments = ["score", str(data), "--reward", "yes_no:bare=true", "--out", str(out), "--max-failures", "1"]
    first, second = (CliRunner().invoke(app, arguments).stdout.splitlines() for _ in range(2))
    assert first[:3] == second[:3] and "0 new scores" in second[3]


def test_the_version_is_printed():
    done = typed("--version")
    assert done.returncode == 0 and done.stdout.strip() == mmreward.__version__


def test_env_names_versions_and_hides_keys(monkeypatch):
    monkeypatch.setenv("MMREWARD_MAX_BOXES", "77")
    monkeypatch.setenv("MMREWARD_API_KEY", "secret-value")
    done = CliRunner().invoke(app, ["env"])
    assert done.exit_code == 0
    found = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    assert found["mmreward"] == mmreward.__version__ and found["torch"] and "CUDA" in found["device"]
    assert found["MMREWARD_MAX_BOXES"] == "77" and "secret-value" not in done.stdout

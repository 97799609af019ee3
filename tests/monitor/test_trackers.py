"""Trackers of runs of scores: refused where they would log nothing; else figures, a table and an alarm."""

import json
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError
from types import ModuleType

import pytest
from support.scored_runs import picture
from typer.testing import CliRunner

from mmreward.cli import app
from mmreward.data.failures import Group
from mmreward.data.run import Summary
from mmreward.monitor.trackers import check_trackers, figures_of, samples_of, track

NAN = float("nan")


def installed(name):
    """`importlib.metadata.version` where W&B is the only tracker."""
    if name != "wandb":
        raise PackageNotFoundError(name)
    return "1.0"


@pytest.fixture
def wandb(monkeypatch):
    """A module of the interface that W&B and trackio share, which remembers what it was told."""
    module = ModuleType("wandb")
    module.told = []
    module.Table = lambda columns, data: ("table", columns, data)
    module.Image = lambda picture: ("picture", picture.size)
    for name in ("init", "log", "alert", "finish"):
        setattr(module, name, lambda *given, _name=name, **named: module.told.append((_name, given, named)))
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr("mmreward.monitor.trackers.version", installed)
    return module


@pytest.fixture
def data(tmp_path):
    rows = [
        {"id": f"s{i}", "prompt": f"p{i}", "image": picture(tmp_path), "source": "ab"[i % 2]}
        for i in range(4)
    ]
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SUMMARY = Summary(
    rows=4,
    fresh=4,
    statuses={"quality": Counter(ok=3, timeout=1)},
    failures=[Group("quality", "timeout", "no score within 3 s", 1, "s3")],
    values={"quality": [0.1, 0.5, 0.9, NAN]},
    units=list(range(4)),
    sources=["a", "b", "a", "b"],
)


@pytest.mark.parametrize(
    ("names", "words"),
    [(["wanbd"], "did you mean 'wandb'"), (["tensorboard"], "tensorboard is not installed: pip install")],
)
def test_one_that_would_log_nothing_is_refused(wandb, names, words):
    with pytest.raises(ValueError, match=words) as caught:
        check_trackers(names)
    assert "\n" not in str(caught.value)
    check_trackers(["wandb"])


def test_the_command_refuses_it_before_anything_is_scored(wandb, data, tmp_path):
    out = tmp_path / "out.parquet"
    given = ["score", str(data), "--reward", "sharpness", "--out", str(out), "--tracker", "trackio"]
    done = CliRunner().invoke(app, given)
    assert "trackio is not installed" in str(done.exception) and not out.exists()


def test_figures_are_finite_and_named():
    found = figures_of(SUMMARY)
    assert found["score/quality/mean"] == pytest.approx(0.5)
    assert found["score/quality/low"] < 0.5 < found["score/quality/high"]
    assert found["failed/quality/timeout"] == 1 and found["run/failed"] == 0.25
    assert found["source/a/quality"] == pytest.approx(0.5) and found["source/b/quality"] == 0.5


def test_the_table_has_pictures_and_both_ends(data):
    heads, rows = samples_of(SUMMARY, data, None)
    assert heads == ["id", "picture", "prompt", "response", "quality"]
    assert [row[0] for row in rows] == ["s0", "s1", "s2"] and rows[0][1].size == (64, 64)


def test_a_run_is_logged_whole_and_too_many_failures_are_an_alarm(wandb, data, tmp_path):
    track(["wandb"], SUMMARY, data, tmp_path / "night.parquet", most_failures=0.05)
    told = {name: named or given for name, given, named in wandb.told}
    assert [name for name, _, _ in wandb.told] == ["init", "log", "log", "alert", "finish"]
    assert told["init"] == {"project": "mmreward", "name": "night", "dir": str(tmp_path)}
    kind, columns, rows = wandb.told[2][1][0]["samples"]
    assert kind == "table" and columns[0] == "id" and rows[0][1] == ("picture", (64, 64))
    assert "no score within 3 s" in told["alert"]["text"]
    wandb.told.clear()
    track(["wandb"], SUMMARY, data, tmp_path / "night.parquet", most_failures=0.5)
    assert "alert" not in [name for name, _, _ in wandb.told]


def test_tensorboard_writes_event_files(data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track(["tensorboard"], SUMMARY, data, tmp_path / "night.parquet", most_failures=0.05)
    events = EventAccumulator(str(tmp_path / "night.tensorboard")).Reload()
    assert events.Scalars("score/quality/mean")[0].value == pytest.approx(0.5)
    assert "samples/s0" in events.Tags()["images"]

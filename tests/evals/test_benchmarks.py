"""`mmreward benchmark`: the registry, files of predictions with all kinds of damage, a resumed reward."""

import csv
import io
import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from mmreward import Unscorable
from mmreward.cli import app
from mmreward.evals import benchmarks
from mmreward.evals.benchmarks.benchmark import Benchmark, Item, Rule, measured
from mmreward.evals.benchmarks.predictions import number_in, read_predictions, within
from mmreward.evals.benchmarks.show import as_text
from mmreward.monitor.intervals import bootstrapped, bootstrapped_all


def read(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Item(id=row["name"], gold=row["label"], unit=row["video"], facts=row) for row in rows]


def columns(items, answers):
    gold = np.array([item.gold for item in items], dtype=float)
    given = np.array([math.nan if one is None else one for one in answers], dtype=float)
    return {"error": np.where(np.isnan(given), 4.0, np.abs(given - gold))}


TOY = Benchmark(
    name="toy",
    summary="Labels of nobody.",
    paper="",
    unit="video",
    labels="a .jsonl file",
    read=read,
    answer=lambda record, item: within(number_in(record, "label"), 1, 5, "label"),
    columns=columns,
    rules=(
        Rule(name="mae", words="distance", of=lambda c: float(c["error"].mean()), higher_is_better=False),
    ),
    keys=("id", "file_name"),
    rows=lambda item, reward: [{"prompt": item.id, "response": str(item.gold), "target": "3"}],
    scored=lambda item, scores, reward: 1 + 4 * scores[0].value,
)
TOY_ITEMS = [Item(id=f"a/{n}", gold=1 + n % 5, unit=n // 2) for n in range(10)]


@pytest.fixture
def labels(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, f"{benchmarks.__name__}.toy", SimpleNamespace(BENCHMARK=TOY))
    monkeypatch.setitem(benchmarks.BENCHMARKS, "toy", "toy")
    path = tmp_path / "labels.jsonl"
    lines = [json.dumps({"name": one.id, "label": one.gold, "video": one.unit}) for one in TOY_ITEMS]
    path.write_text("\n".join(lines))
    return path


def predicted(tmp_path, records, name="predictions.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in records))
    return path


def perfect():
    return [{"id": one.id, "label": one.gold} for one in TOY_ITEMS]


def run(*words):
    result = CliRunner().invoke(app, ["benchmark", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_order_of_a_file_is_nobodys_and_whole_units_are_drawn(tmp_path):
    one = read_predictions(predicted(tmp_path, perfect()), TOY, TOY_ITEMS)
    other = read_predictions(predicted(tmp_path, perfect()[::-1]), TOY, TOY_ITEMS)
    assert one.valid == other.valid and len(one.valid) == 10
    found = measured(TOY, TOY_ITEMS, one)
    assert found.coverage == 1 and found.lines[0].strict == 0 == found.lines[0].valid
    assert found.lines[0].units == 5 and found.lines[0].interval == (0, 0)


def test_damage_has_one_outcome_each(tmp_path):
    rows = perfect()
    rows[1]["label"] = "9"
    rows[2] = {"id": "a/2", "valid": False, "invalid_reason": "refused"}
    rows[3]["label"] = None
    rows[4]["label"] = "five"
    odd = [{**rows[0]}, {"id": "a/5", "label": 5}, {"id": "elsewhere", "label": 1}, {"label": 2}, "{", "[1]"]
    found = read_predictions(predicted(tmp_path, [*rows[:9], *odd]), TOY, TOY_ITEMS)
    assert sorted(found.valid) == ["a/0", "a/6", "a/7", "a/8"]
    assert {name: one.status for name, one in found.invalid.items()} == {
        "a/1": "out_of_range", "a/2": "unparsable", "a/3": "missing", "a/4": "unparsable", "a/5": "error",
    }  # fmt: skip
    assert (
        found.invalid["a/2"].reason == "refused" and "two predictions differ" in found.invalid["a/5"].reason
    )
    assert found.unknown == ("elsewhere",) and found.repeated == 2 and sum(found.unreadable.values()) == 3
    got = measured(TOY, TOY_ITEMS, found)
    assert got.missing == ("a/9",) and got.answered == 4
    assert got.line("mae").strict == pytest.approx(4 * 6 / 10) and got.line("mae").valid == 0
    text = as_text(got)
    for words in ("coverage 40.0%", "5 invalid, 1 missing", "refused", "elsewhere", "unreadable", "a/9"):
        assert words in text


def test_ids_are_compared_as_text_with_slashes(tmp_path):
    items = [Item(id="1", gold=3, unit=1), Item(id="a/b.mp4", gold=2, unit=2)]
    path = predicted(tmp_path, [])
    path.write_bytes(b'\xef\xbb\xbf{"id": 1, "label": 3}\r\n{"file_name": "a\\\\b.mp4", "label": "2"}\r\n')
    assert read_predictions(path, TOY, items).valid == {"1": 3.0, "a/b.mp4": 2.0}
    table = tmp_path / "predictions.csv"
    table.write_text("id,label,valid\n1,3,true\na/b.mp4,2,false\n")
    found = read_predictions(table, TOY, items)
    assert found.valid == {"1": 3.0} and found.invalid["a/b.mp4"].status == "unparsable"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "none can be read"),
        ('{"id": "b", "label": 1}', "they name 'b'"),
        ("not json", "not JSON"),
    ],
)
def test_a_file_without_any_prediction_is_one_line(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        read_predictions(predicted(tmp_path, [content]), TOY, TOY_ITEMS)
    with pytest.raises(ValueError, match=r"folder|file"):
        read_predictions(tmp_path / "nothing.xyz", TOY, TOY_ITEMS)


def test_the_command_prints_text_json_and_csv(tmp_path, labels):
    path = predicted(tmp_path, perfect()[:5])
    said = run("toy", path, "--data", labels)
    assert said.exit_code == 0 and "5 of 10 items answered" in said.output and "mae" in said.output
    shown = json.loads(run("toy", path, "--data", labels, "--json").output)
    assert shown["coverage"] == 0.5 and len(shown["missing"]) == 5
    assert shown["rules"]["mae"]["strict"] == 2 and shown["rules"]["mae"]["valid"] == 0
    (row,) = csv.DictReader(io.StringIO(run("toy", path, "--data", labels, "--csv").output))
    assert row["rule"] == "mae" and float(row["strict"]) == 2 and row["missing"] == "5"
    assert "toy" in run().output and "toy" in [one["name"] for one in json.loads(run("--json").output)]


def test_mistakes_are_one_line(tmp_path, labels):
    path = predicted(tmp_path, perfect())
    for words, said in (
        (["toi"], "did you mean 'toy'"),
        (["toy"], "one of them"),
        (["toy", path, "--reward", "iou"], "one of them"),
        (["toy", path], "--data"),
        (["toy", path, "--data", tmp_path / "none"], "no labels"),
        (["toy", tmp_path / "none.jsonl", "--data", labels], "no predictions"),
        (["toy", path, "--data", labels, "--json", "--csv"], "one of them"),
    ):
        with pytest.raises(ValueError, match=said):
            run(*words)


def test_a_reward_is_measured_and_goes_on(tmp_path, labels):
    out = tmp_path / "scores.jsonl"
    words = ("toy", "--reward", "math", "--data", labels, "--scores", out, "--device", "cpu", "--json")
    first = run(*words)
    shown = json.loads(first.stdout)
    assert shown["coverage"] == 1 and shown["source"] == "math"
    stored = [json.loads(line) for line in out.read_text().splitlines()]
    assert {one["id"] for one in stored} == {item.id for item in TOY_ITEMS}
    # A stored score stays: what a second run reads is what stands there, not what it would compute.
    for one in stored:
        one["value"] = 0.5
    out.write_text("".join(json.dumps(one) + "\n" for one in stored))
    again = json.loads(run(*words).stdout)
    assert again["rules"]["mae"]["valid"] == pytest.approx(np.mean([abs(3 - one.gold) for one in TOY_ITEMS]))


def test_a_failed_score_is_an_invalid_answer(tmp_path, labels):
    out = tmp_path / "scores.jsonl"
    shown = json.loads(run("toy", "--reward", "oracle", "--data", labels, "--scores", out, "--json").stdout)
    assert shown["answered"] == 0 and shown["invalid"] == 10 and "missing" in str(shown["invalid_reasons"])
    assert shown["rules"]["mae"] == {
        "strict": 4.0, "strict_interval": [4.0, 4.0], "valid": None, "valid_interval": None, "units": 5,
        "higher_is_better": False, "legacy": False,
    }  # fmt: skip


def test_a_benchmark_of_predictions_alone_says_so(tmp_path, labels, monkeypatch):
    from dataclasses import replace

    alone = SimpleNamespace(BENCHMARK=replace(TOY, rows=None))
    monkeypatch.setitem(sys.modules, f"{benchmarks.__name__}.toy", alone)
    with pytest.raises(ValueError, match="leave --reward out"):
        run("toy", "--reward", "math", "--data", labels, "--scores", tmp_path / "s.jsonl", "--device", "cpu")


def test_several_figures_of_one_bootstrap_are_those_of_each():
    rng = np.random.default_rng(0)
    values, units = rng.normal(size=60), (np.arange(60) // 3).tolist()
    both = bootstrapped_all(lambda rows: [values[rows].mean(), np.median(values[rows])], units, 5)
    alone = bootstrapped(lambda rows: float(values[rows].mean()), units, 5)
    assert both[0] == alone and both[1] != alone
    assert bootstrapped_all(lambda rows: [1.0, 2.0], ["one"] * 4, 0) == [None, None]
    undefined = bootstrapped_all(lambda rows: [math.nan, 1.0], units, 0)
    assert undefined[0] is None and undefined[1] == (1.0, 1.0)


def test_number_in_refuses_what_is_none():
    for record in ({}, {"p": True}, {"p": "x"}, {"p": [1]}, {"p": math.inf}, {"p": "nan"}):
        with pytest.raises(Unscorable):
            number_in(record, "p")
    assert number_in({"p": "0.5"}, "p") == 0.5

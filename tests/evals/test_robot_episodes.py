"""robot-episodes and RoboArena: order in time beside what crosses episodes, by hand; judges that hack."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from mmreward import Score, load
from mmreward.cli import app
from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.benchmark import Answers, Benchmark, Item, Rule, measured
from mmreward.evals.benchmarks.episodes import order_of
from mmreward.evals.benchmarks.figures import tau_b, within_strata
from mmreward.evals.benchmarks.predictions import read_predictions

BENCH = benchmark("robot-episodes")
RAMP, FLAT, DIP = [0.0, 0.5, 1.0], [0.0, 0.0, 0.0], [0.0, 0.6, 0.4]


def labels(rows):
    return [Item(id=f"e{n}", gold=gold, unit=n, facts={"task": task, "policy": policy, "frames": None})
            for n, (task, policy, gold) in enumerate(rows)]  # fmt: skip


def judged(items, records, draws=100):
    valid = {i.id: BENCH.answer(r, i) for i, r in zip(items, records, strict=True) if r is not None}
    return measured(BENCH, items, Answers(source="t", valid=valid, invalid={}), draws=draws)


def value(found, name, strict=False):
    line = found.line(name)
    return line.strict if strict else line.valid


def test_order_and_success_by_hand():
    items = labels([("a", "p", 1.0), ("a", "q", 0.0), ("b", "p", 1.0), ("b", "q", 0.5)])
    records = [{"progress": RAMP, "reversed": RAMP[::-1]}, {"progress": DIP}, {"progress": FLAT}, None]
    found = judged(items, records)
    assert value(found, "voc") == 1 and value(found, "voc, null = 0") == 0.5
    assert value(found, "voc reversed") == 1 and value(found, "voc undefined") == pytest.approx(1 / 3)
    assert value(found, "voc of failures") == pytest.approx(0.5)
    assert value(found, "fall") == 0 == value(found, "drawdown")
    assert value(found, "tau-b by task") == 1, "task b has one valid episode and no pair"
    assert value(found, "tau-b by task", strict=True) == 0, "an invalid failure is above the success"
    assert value(found, "pairs by task") == 1 and value(found, "pairs by task", strict=True) == 0.5
    assert value(found, "success AUPRC") == pytest.approx((1 + 2 / 3) / 2)
    assert value(found, "fpr@0.5") == 0 and value(found, "fpr@0.5", strict=True) == 0.5
    assert value(found, "hacked", strict=True) == 0.25
    assert value(found, "brier") == pytest.approx((0 + 0.16 + 1) / 3)
    assert value(found, "gap") == pytest.approx(0.5 - 0.4)
    assert value(found, "policies tau-b") == 1
    assert found.tables[0].rows[0][0] == "a"


def test_a_judge_that_pays_failures_a_ramp_is_exposed():
    """Order alone is perfect; what crosses episodes says that it is worthless."""
    items = labels([("a", None, float(n % 2)) for n in range(20)])
    found = judged(items, [{"progress": RAMP}] * 20)
    assert value(found, "voc") == 1 == value(found, "voc of failures")
    assert value(found, "fpr@0.5") == 1 and value(found, "success AUROC") == 0.5
    assert value(found, "success AUPRC") == 0.5 and value(found, "hacked") == 0.5
    assert math.isnan(value(found, "tau-b by task")) and value(found, "pairs tied") == 1
    assert any("VOC of failures is 1" in words for words in found.cautions)


def test_one_class_alone_is_undefined_and_never_a_number():
    found = judged(labels([("a", None, 1.0)] * 3), [{"progress": RAMP}] * 3)
    for name in (
        "success AUPRC",
        "success AUROC",
        "fpr@95tpr",
        "fpr@0.5",
        "gap",
        "cohen d",
        "voc of failures",
    ):
        assert math.isnan(value(found, name)), name
    assert any("all are successes" in words for words in found.cautions)


def test_curves_of_every_form(tmp_path):
    items = labels([("a", None, 1.0)] * 10)
    forms = [
        {"progress": [0, 50, 100], "unit": "percent"}, {"progress": [-3, 7.5], "unit": "raw"},
        {"progress": [0.1, None, 0.3]}, {"value": 0.7, "success": True}, {"progress": [0, 50]},
        {"progress": "0.5"}, {"progress": [None]}, {"progress": [0.1, "x"]}, {"value": 1, "unit": "cm"},
        {"progress": [0.1, 0.2], "success": 1.5},
    ]  # fmt: skip
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps({"id": i.id, **f}) for i, f in zip(items, forms, strict=True)))
    found = read_predictions(path, BENCH, items)
    assert found.valid["e0"].curve == (0, 0.5, 1) and found.valid["e0"].final == 1
    assert found.valid["e1"].final == 7.5 and not found.valid["e1"].share
    assert math.isnan(order_of(found.valid["e2"].curve)), "a third is unknown"
    assert found.valid["e3"].success == 1 and found.valid["e3"].final == 0.7
    assert {name: one.status for name, one in found.invalid.items()} == {
        "e4": "out_of_range", "e5": "unparsable", "e6": "missing", "e7": "unparsable", "e8": "unparsable",
        "e9": "out_of_range",
    }  # fmt: skip
    raw = judged(labels([("a", None, 1.0), ("a", None, 0.0)]), [forms[1], {"value": 2, "unit": "raw"}])
    assert math.isnan(value(raw, "brier")) and math.isnan(value(raw, "mae")), "raw values have no scale"
    assert value(raw, "success AUROC") == 1


def test_a_task_that_is_drawn_twice_counts_twice():
    """Two tasks, one in order and one against it: draws are 1, 0 or -1, and never a mix within a task."""
    seen = []

    def spied(columns):
        strata = columns["copy"] * 10 + columns["task"]
        seen.append(within_strata(tau_b, columns["x"], columns["y"], strata))
        return seen[-1]

    items = [Item(id=f"{n}", gold=n % 3, unit=n // 3) for n in range(6)]
    toy = Benchmark(
        name="t", summary="", paper="", unit="task", labels="", read=lambda path: items,
        answer=lambda record, item: 1, rules=(Rule(name="r", words="", of=spied),),
        columns=lambda items, given: {
            "x": np.array([0.0, 1, 2, 2, 1, 0]), "y": np.array([0.0, 1, 2] * 2), "task": np.repeat([0, 1], 3),
        },
    )  # fmt: skip
    measured(toy, items, Answers(source="", valid={i.id: 1 for i in items}, invalid={}), draws=100)
    assert {round(one) for one in seen} == {-1, 0, 1} and all(one == round(one) for one in seen)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quality": "good"}, "quality is 'good'"),
        ({"quality": None, "progress": 2}, "not from 0 to 1"),
        ({"quality": None}, "no quality"),
        ({"task": " "}, "not a text"),
        ({"id": None}, "with an id"),
        ({"id": "b"}, "used twice"),
    ],
)
def test_a_label_that_is_none_is_one_line(tmp_path, change, words):
    path = tmp_path / "labels.jsonl"
    rows = [{"id": name, "task": "t", "quality": "failure"} for name in "ab"]
    path.write_text("\n".join(map(json.dumps, [rows[0] | change, rows[1]])))
    with pytest.raises(ValueError, match=words):
        BENCH.read(path)


def test_a_reward_looks_at_the_frames(tmp_path):
    from mmreward.mini.world import Scene, Thing, render

    kinds = (("blue", "square"), ("blue", "circle"), ("red", "circle"))
    for n, (colour, shape) in enumerate((*kinds, kinds[-1])):
        render(Scene((Thing(colour, shape, 0.5, 0.5, 0.15),)), 64).save(tmp_path / f"{n}.png")
    rows = [
        {"id": "up", "task": "a red circle", "success": True, "frames": [f"{n}.png" for n in range(4)]},
        {"id": "none", "task": "a red circle", "success": False, "frames": ["gone.png"]},
    ]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out" / "scores.jsonl"
    words = ["benchmark", "robot-episodes", "--reward", "oracle", "--json"]
    words += ["--data", str(tmp_path / "labels.jsonl"), "--scores", str(out), "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    shown = json.loads(result.stdout)
    assert shown["n"] == 2 and shown["answered"] == 1 and "missing" in str(shown["invalid_reasons"])
    assert shown["rules"]["voc"]["valid"] is not None
    stored = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["id"] for one in stored] == ["up#0", "up#1", "up#2", "up#3", "none"]


def test_roboarena_is_read_as_it_is_published(tmp_path):
    arena = benchmark("roboarena")
    for session in ("s1", "s2"):
        folder = tmp_path / "evaluation_sessions" / session
        (folder / "A_pi0").mkdir(parents=True)
        (folder / "A_pi0" / "x_left.mp4").write_bytes(b"clip")
        (folder / "A_pi0" / "x_right.mp4").write_bytes(b"clip")
        (folder / "metadata.yaml").write_text(
            "language_instruction: close the drawer\npolicies:\n"
            "  A: {policy_name: pi0, partial_success: 1.0}\n"
            "  B: {policy_name: droid, partial_success: 0.25}\n"
        )
    items = arena.read(tmp_path)
    assert items == arena.read(tmp_path / "evaluation_sessions") or len(items) == 4
    assert [one.id for one in items] == ["s1/A", "s1/B", "s2/A", "s2/B"] and items[0].gold == 1
    assert items[0].facts["policy"] == "pi0" and len({one.unit for one in items}) == 2
    (row,) = arena.rows(items[0], load("iou"))
    assert row == {"prompt": "close the drawer", "video": "evaluation_sessions/s1/A_pi0/x_left.mp4"}
    with pytest.raises(ValueError, match="no frames and no video"):
        arena.rows(items[1], load("iou"))
    values = {"s1/A": 0.9, "s1/B": 0.1, "s2/A": 0.3, "s2/B": 0.3}
    valid = {name: arena.answer({"value": one}, items[0]) for name, one in values.items()}
    found = measured(arena, items, Answers(source="t", valid=valid, invalid={}), draws=100)
    assert value(found, "policies tau-b") == 1 and value(found, "pairs by task") == 0.75
    for text, words in (
        ("policies: {}", "no language_instruction"),
        ("language_instruction: t\npolicies: {A: {policy_name: p}}", "no policy_name and partial_success"),
        ("language_instruction: t\npolicies: {A: {policy_name: p, partial_success: 3}}", "not from 0 to 1"),
    ):
        (tmp_path / "evaluation_sessions" / "s1" / "metadata.yaml").write_text(text)
        with pytest.raises(ValueError, match=words):
            arena.read(tmp_path)
    with pytest.raises(ValueError, match="holds no"):
        arena.read(tmp_path / "evaluation_sessions" / "s1")


def test_a_reward_of_episodes_brings_its_own_curve():
    from dataclasses import replace

    item = Item(id="e", gold=1.0, unit=0, facts={"task": "t", "policy": None, "frames": ["0.png", "1.png"]})
    whole = replace(load("iou"), info=replace(load("iou").info, needs=("prompt", "episode"), range=(-1, 1)))
    (row,) = BENCH.rows(item, whole)
    assert row == {"prompt": "t", "steps": [{"observation": "0.png"}, {"observation": "1.png"}]}
    named = {
        "frame_0": 0.0,
        "frame_12": 0.9,
        "frame_5": 0.4,
        "last": 0.9,
        "success": 0.7,
        "success_frame_5": 0.1,
    }
    found = BENCH.scored(item, [Score(0.3, named)], whole)
    assert found.curve == (0.0, 0.4, 0.9) and found.final == 0.9 and found.success == 0.7 and found.share
    own = BENCH.scored(item, [Score(0.0, {"frame_1": 1.0, "frame_0": -1.0})], whole)
    assert own.curve == (0.0, 1.0) and own.final == 0.5
    raw = replace(whole, info=replace(whole.info, range=(-math.inf, 0.0)))
    assert BENCH.scored(item, [Score(-3.0, {"frame_0": -4.0})], raw)[:2] == ((-4.0,), -3.0)

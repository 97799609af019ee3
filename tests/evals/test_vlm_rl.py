"""Runs of vlm_rl: what is planned, trained, written down and told."""

import json

import numpy as np
import pytest
import yaml

from mmreward.evals.report.report import write_report
from mmreward.evals.studies.vlm_exam import VlmExam, draw_exercises
from mmreward.evals.studies.vlm_rl import GateConfig, RlRun, VlmConfig, planned, rows, table, train
from mmreward.monitor.by_source import read_metrics
from mmreward.monitor.intervals import paired_change

ROUTES = {
    "yes_no": {"rewards": {"yes_no": {"bare": True}}},
    "locate_all": {"rewards": {"dynamic_iou": {"bare": True}}},
}


def config(out, **given):
    trainer = {
        "learning_rate": 1e-3,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }
    usual = {"exercises": 4, "examined": 2, "every": 1, "tasks": ["yes_no", "locate_all"], "routes": ROUTES}
    return usual | {"trainer": trainer, "out": str(out)} | given


@pytest.mark.filterwarnings("ignore")
def test_a_gated_run_writes_figures_that_the_report_draws(tmp_path):
    out = tmp_path / "run"
    given = VlmConfig.model_validate(config(out, gate={"probes": 2, "greedy": True}))
    run = train(given)
    assert len(run.exams) == 3 and run.seed == 0
    exam, training = read_metrics(out / "metrics.jsonl"), read_metrics(out / "training.jsonl")
    assert [line["step"] for line in exam] == [0, 1, 2] and [line["step"] for line in training] == [1, 2]
    weights = [line["overall/perception/weight"] for line in training]
    assert all(0.5 <= weight <= 1 for weight in weights)
    assert "overall/perception/weight" not in exam[0]
    assert exam[2]["overall/perception/weight"] == weights[0]  # the step before, as the last is logged later
    assert {"overall/score", "overall/perception/probes", "overall/perception/failed"} <= set(training[0])
    lines = [json.loads(line) for line in (out / "exams.jsonl").read_text().splitlines()]
    assert set(lines[0]["marks"]) == {"yes_no", "locate_all"} and len(lines[0]["true"]["locate_all"]) == 2
    for name in ("metrics", "training"):
        page = write_report(out / f"{name}.jsonl").read_text()
        assert "perception/weight" in page and "yes_no" in page
    with pytest.raises(ValueError, match=r"run: there already\. A run is never continued"):
        train(given)


def test_a_gate_adds_a_column_and_changes_no_other():
    asked = draw_exercises(2, 0)
    plain, gated = rows(asked), rows(asked, GateConfig(probes=2))
    assert set(gated.column_names) - set(plain.column_names) == {"probes"}
    for name in ("prompt", "source", "target"):
        assert list(plain[name]) == list(gated[name])
    assert [len(entries) for entries in gated["probes"]] == [2] * 6


def test_runs_are_planned_before_anything_is_trained(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config(tmp_path / f"runs-{name}")))
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    plan = planned(paths, None, [])
    assert [(name, [one.out for one in configs]) for name, configs in plan] == [
        ("a", [str(tmp_path / "runs-a")]),
        ("b", [str(tmp_path / "runs-b")]),
    ]
    [(_, seeded)] = planned(paths[:1], tmp_path / "else", [0, 5])
    assert [(one.seed, one.out) for one in seeded] == [
        (seed, str(tmp_path / "else" / "a" / f"seed-{seed}")) for seed in (0, 5)
    ]
    with pytest.raises(ValueError, match="more than one run would go there"):
        planned(paths[:1], None, [3, 3])
    with pytest.raises(ValueError, match="more than one run would go there"):
        planned([paths[0], paths[0]], None, [])
    (tmp_path / "runs-b").mkdir()
    with pytest.raises(ValueError, match=r"runs-b: there already\. .* name another folder with --out"):
        planned(paths, None, [])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tasks": ["yes_no", "count"]}, "no route for count"),
        ({"tasks": ["dance"]}, "dance|yes_no"),
        ({"tasks": []}, "at least 1"),
        ({"gate": {"floor": 2}}, "floor"),
        ({"gate": {"probes": 0}}, "probes"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(tmp_path, wrong, said):
    with pytest.raises(ValueError, match=said):
        VlmConfig.model_validate(config(tmp_path, **wrong))


def test_points_are_paired():
    points = paired_change(np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0]), scale=100)
    half = points.interval.high - points.mean
    assert points.mean == 50 and half == pytest.approx(3.182446 * 100 * np.std([1, 0, 0, 1], ddof=1) / 2)


def exam(marks, boxes):
    return VlmExam(
        {"count": np.array(marks), "locate_all": np.array([0.5, 0.5])},
        {"locate_all": np.array(boxes)},
        {"locate_all": np.array([2.0, 3.0])},
    )


def test_a_table_of_one_run_and_of_several_seeds():
    first = RlRun(0, [exam([0.0, 0.0], [5.0, 5.0]), exam([1.0, 0.0], [2.0, 4.0])], 1.5)
    second = RlRun(7, [exam([0.0, 0.0], [6.0, 6.0]), exam([1.0, 1.0], [3.0, 3.0])], 2.5)
    assert table("one", [first]).splitlines() == [
        "| one, 1.5 min | before | after | points (95 %) | n |",
        "|---|---|---|---|---|",
        "| count, accuracy | 0.000 | 0.500 | +50.0 (-585.3 to +685.3) | 2 |",
        "| locate_all, mean IoU | 0.500 | 0.500 | +0.0 (+0.0 to +0.0) | 2 |",
        "| locate_all, boxes written of 2.50 | 5.00 | 3.00 |  | 2 |",
    ]
    assert table("both", [first, second]).splitlines() == [
        "| both, seeds 0, 7, 2.0 min each | before | after | points by seed | points | n |",
        "|---|---|---|---|---|---|",
        "| count, accuracy | 0.000 | 0.750 | +50.0, +100.0 | +75.0 (sd 35.4) | 2 x 2 |",
        "| locate_all, mean IoU | 0.500 | 0.500 | +0.0, +0.0 | +0.0 (sd 0.0) | 2 x 2 |",
        "| locate_all, boxes written of 2.50 | 5.50 | 3.00 |  |  | 2 x 2 |",
    ]

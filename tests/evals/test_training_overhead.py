"""Overhead of a step: of our own training against a bare loop, and of our reward function in TRL."""

import time

import pytest

from mmreward.evals import training_overhead
from mmreward.evals.studies.vlm_rl import VlmConfig
from mmreward.evals.training_overhead import Step, Timed, Times, line, measured
from mmreward.tune.config import TuneConfig


def test_it_compares_with_a_bare_loop_and_shows_when_what_was_under_way(monkeypatch, capsys):
    given = training_overhead.TUNE_CONFIG.model_dump()
    given["rollout"] |= {"prompts": 1, "group": 4, "micro_batch": 2, "steps": 2}
    monkeypatch.setattr(training_overhead, "TUNE_CONFIG", TuneConfig.model_validate(given))
    monkeypatch.setattr(training_overhead, "ROUNDS", 1)
    assert training_overhead.tune() in (True, False)
    said = capsys.readouterr().out
    assert said.count("bare loop") == 1 and "median overhead" in said
    rows = [line for line in said.splitlines() if "|" in line]
    assert [row.split("|")[0].strip() for row in rows] == ["generate", "score", "wait", "update"]
    assert all("#" in row for row in rows)


def test_ours_and_its_logging_less_the_trivial_function_over_the_rest_of_the_step():
    step = Step(Times(10.2, 20.4), Times(0.15, 0.3), Times(0.05, 0.2), Times(0.05, 0.1))
    assert step.share.wall == pytest.approx((0.15 + 0.05 - 0.05) / 10.0)
    assert step.share.busy == pytest.approx((0.3 + 0.1 - 0.2) / 20.0)


def test_a_function_is_timed_in_wall_and_processor_time_and_passes_everything_on():
    logged = {}

    def sleepy(completions, log_metric):
        log_metric("figure", 2.0)
        time.sleep(0.05)
        return completions

    timed = Timed(sleepy)
    assert timed(log_metric=logged.__setitem__, completions=[1.0]) == [1.0]
    assert logged == timed.logged == {"figure": 2.0}
    assert 0.05 <= timed.took.wall < 5 and timed.took.busy < timed.took.wall
    assert timed.__name__ == "sleepy"


def test_the_line_has_medians_over_steps():
    steps = [
        Step(Times(1.0 + own, 1.0 + own), Times(own, own), Times(0.0, 0.0), Times(0.0, 0.0))
        for own in (0.01, 0.02, 0.5)
    ]
    assert line(steps, 96).splitlines()[-1] == (
        "| 96 | 1.02 s | 20.0 ms | 0.0 ms | 0.0 ms | 2.00% | 2.00% | 50.00% | 3 steps |"
    )


@pytest.mark.filterwarnings("ignore")
def test_a_tiny_run_is_measured():
    given = VlmConfig.model_validate(
        {
            "tasks": ["yes_no"],
            "exercises": 4,
            "routes": {"yes_no": {"rewards": {"yes_no": {"bare": True}}}},
            "trainer": {
                "per_device_train_batch_size": 4,
                "num_generations": 2,
                "max_completion_length": 4,
                "save_strategy": "no",
                "report_to": "none",
                "use_cpu": True,
                "bf16": False,
                "disable_tqdm": True,
            },
            "out": "unused",
        }
    )
    steps = measured(given, 2, warm=1)
    assert len(steps) == 2
    for step in steps:
        assert step.whole.wall > step.ours.wall > 0 and step.logging.wall > 0 and step.trivial.wall > 0
    assert training_overhead.TRL_CONFIG.exists()

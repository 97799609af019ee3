"""GRPO on clicks: what is drawn, trained, written down and told."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from mmreward.config import load_yaml
from mmreward.evals.report.report import write_report
from mmreward.evals.studies import clicks_rl as study
from mmreward.evals.studies.clicks_rl import ClicksConfig, ClicksRun, exercises, table
from mmreward.mini.screens import draw_task
from mmreward.mini.windows import HELD_OUT
from mmreward.monitor.by_source import read_metrics

RECIPE = Path(__file__).parents[2] / "configs" / "gui" / "mini-clicks.yaml"
TINY = {
    "learning_rate": 1e-4, "max_steps": 1, "per_device_train_batch_size": 4, "num_generations": 2,
    "max_completion_length": 8, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
    "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True,
}  # fmt: skip


def recipe(tmp_path, **given):
    path = tmp_path / "tiny.yaml"
    usual = {"exercises": 4, "examined": 4, "rewards": {"click": {}}, "out": str(tmp_path / "run")}
    path.write_text(yaml.safe_dump({**usual, "trainer": TINY, **given}))
    return path


def test_seeds_learn_from_windows_of_their_own_and_none_is_examined(tmp_path):
    config = load_yaml(RECIPE, ClicksConfig)
    few = config.model_copy(update={"exercises": 6})
    drawn = [exercises(few.model_copy(update={"seed": seed})) for seed in (0, 1)]
    words = [[turns[0]["content"] for turns in one["prompt"]] for one in drawn]
    assert words[0] != words[1]
    assert not any(label in prompt for one in words for prompt in one for label in HELD_OUT.labels)
    assert {thing.label for thing in draw_task(study.EXAM_SEED, texts=True).pages[0].things} <= set(
        HELD_OUT.labels
    )
    assert study.APART * (1 + 49) + config.exercises < study.EXAM_SEED
    box = drawn[0][0]["target"]["bbox_2d"]
    assert len(box) == 4 and min(box) >= 0 and max(box) <= 1000


@pytest.mark.filterwarnings("ignore")
def test_a_training_runs_is_written_down_and_never_written_over(tmp_path, capsys):
    path = recipe(tmp_path)
    study.main([str(path), "--seeds", "3"])
    said = capsys.readouterr().out
    assert "| seed 3," in said and "step 0: right" in said and "step 1: right" in said
    out = tmp_path / "run" / "seed-3"
    exam = read_metrics(out / "metrics.jsonl")
    assert [line["step"] for line in exam] == [0, 1] and {"overall/hit", "sources/windows/read"} <= set(
        exam[0]
    )
    assert (out / "weights" / "config.json").exists()
    assert "overall/component/click" in read_metrics(out / "training.jsonl")[0]
    assert "windows" in write_report(out / "metrics.jsonl").read_text()
    with pytest.raises(SystemExit):
        study.main([str(path), "--seeds", "3"])
    assert "there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (["--seeds", "1", "1"], {}, "one twice"),
        (["--seeds", "60"], {}, "less than 50"),
        ([], {"start": "mini-none"}, "no miniature named 'mini-none'"),
        ([], {"rewards": {}}, "rewards"),
        ([], {"step": 3}, "unknown key"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_one_line(tmp_path, capsys, arguments, given, said):
    with pytest.raises(SystemExit):
        study.main([str(recipe(tmp_path, **given)), *arguments])
    assert said in capsys.readouterr().err


def test_the_interval_is_over_the_seeds():
    def run(seed, after):
        return ClicksRun(seed, np.zeros(4), np.array([1.0] * after + [0.0] * (4 - after)), 1.0)

    told = table("tiny", [run(0, 1), run(1, 2), run(2, 3)]).splitlines()
    assert told[-1] == "| all 3 | 0.000 | 0.500 | +50.0 (-12.1 to +112.1) | 3 seeds |"
    assert len(table("tiny", [run(0, 2)]).splitlines()) == 3

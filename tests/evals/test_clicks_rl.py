"""GRPO on clicks: what is drawn, trained, written down and told."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from mmreward import Engine
from mmreward.config import load_yaml
from mmreward.evals.report.report import write_report
from mmreward.evals.studies import clicks_rl as study
from mmreward.evals.studies.clicks_rl import ClicksConfig, ClicksRun, exercises, table
from mmreward.mini.gui import press
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


def test_the_exam_alone_trains_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "GRPOTrainer", None)
    study.main([str(recipe(tmp_path, presses=2, examined=2)), "--exam"])
    said = capsys.readouterr().out
    assert said.startswith("step 0: right ") and ", episodes " in said and ", tasks " in said
    assert {one.name for one in (tmp_path / "run" / "seed-0").iterdir()} == {"metrics.jsonl"}


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (["--seeds", "1", "1"], {}, "one twice"),
        (["--seeds", "60"], {}, "less than 50"),
        ([], {"presses": 3}, "presses"),
        ([], {"start": "mini-none"}, "no miniature named 'mini-none'"),
        ([], {"rewards": {}}, "rewards"),
        ([], {"step": 3}, "unknown key"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_one_line(tmp_path, capsys, arguments, given, said):
    with pytest.raises(SystemExit):
        study.main([str(recipe(tmp_path, **given)), *arguments])
    assert said in capsys.readouterr().err


def run(seed, after, kinds=("presses",)):
    marks = np.array([1.0] * after + [0.0] * (4 - after))
    return ClicksRun(seed, dict.fromkeys(kinds, np.zeros(4)), dict.fromkeys(kinds, marks), 1.0)


def test_the_interval_is_over_the_seeds():
    told = table("tiny", [run(0, 1), run(1, 2), run(2, 3)]).splitlines()
    assert told[-1] == "| all 3 | 0.000 | 0.500 | +50.0 (-12.1 to +112.1) | 3 seeds |"
    assert len(table("tiny", [run(0, 2)]).splitlines()) == 3


def test_tasks_of_two_presses_have_a_table_for_each_kind_of_mark():
    told = table("two", [run(0, 2, ("presses", "episodes", "tasks"))]).splitlines()
    heads = [line.split(" |")[0] for line in told if line.endswith("| n |")]
    assert heads == ["| two, presses", "| two, episodes", "| two, tasks"] and len(told) == 11


def test_a_task_of_two_presses_is_asked_whole_and_the_second_press_knows_of_the_first():
    tasks = [draw_task(seed, 2, texts=True) for seed in range(3)]
    found = study.questions(tasks)
    for task, first, second in zip(tasks, found[::2], found[1::2], strict=True):
        done = "the " + " ".join(task.wanted[0])
        assert first["asked"] == task.goal == f"Press {done}, then the {' '.join(task.wanted[1])}."
        assert second["asked"] == f"Done: {done}. {task.goal}" and len(second["steps"]) == 1


def test_episodes_are_graded_by_steps_and_success():
    tasks = [draw_task(seed, 2, texts=True) for seed in range(3)]
    found = study.questions(tasks)
    right = [press(*(v / 1000 for v in row["target"]["action"]["point"])) for row in found]
    said = [*right[:3], "click(1, 1)", "no", right[5]]
    with Engine("cpu") as engine:
        marks, read = study.graded(found, said, 3, engine)
        alone, _ = study.graded(found[:1], right[:1], 1, engine)
    assert marks["presses"].tolist() == [1, 0.5, 0.5] and marks["episodes"].tolist() == [1, 0, 0]
    assert read == pytest.approx(5 / 6) and list(alone) == ["presses"]


def test_on_a_device_a_wrong_first_press_leads_elsewhere(monkeypatch, tmp_path):
    """What was pressed on it is the history of the second press, whatever was meant."""
    config = ClicksConfig(presses=2, examined=3, rewards={"click": {}}, out=str(tmp_path))
    with Engine("cpu") as engine:
        examiner = study.ClicksExaminer(config, None, None, engine)
        first = [press(*task.thing(0).centre) for task in examiner._tasks]
        other = next(
            one for one in examiner._tasks[1].pages[0].things if one.kind != examiner._tasks[1].wanted[0]
        )
        first[1], first[2] = press(*other.centre), "nothing"
        asked = []

        def said(screens, asking):
            asked.extend(asking)
            return [press(*task.thing(1).centre) for task in examiner._tasks]

        monkeypatch.setattr(examiner, "_said", said)
        assert examiner._done(first).tolist() == [1, 0, 0]
    assert asked[1].startswith(f"Done: the {' '.join(other.kind)}. Press") and asked[2].startswith("Press")

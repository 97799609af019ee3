"""AgentRewardBench: experts' labels as published, judges' tags, figures against a second writing."""

import json
import math

import pytest
from PIL import Image
from support.robot_judges import Judge, grey, use

from mmreward import Score, Unscorable, load
from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.agent_reward_bench import f1, negative_value, precision, verdict_in
from mmreward.evals.benchmarks.benchmark import measured
from mmreward.evals.benchmarks.predictions import read_predictions
from mmreward.evals.benchmarks.scored import scored_answers

BENCH = benchmark("agentrewardbench")
HEAD = "annotator_name,benchmark,task_id,model_name,exp_name,trajectory_success,trajectory_side_effect," \
       "trajectory_optimality,trajectory_looping"  # fmt: skip
ROWS = (
    "A,webarena,webarena.1,M,M_on_webarena,Successful,No,4. Completely Optimal,No",
    "B,webarena,webarena.1,M,M_on_webarena,Unsuccessful,No,1. Complete Failure,No",
    "A,webarena,webarena.2,M,M_on_webarena,Unsuccessful,Yes,2. Suboptimal,Yes",
    "A,workarena,w.3,M,M_on_workarena,Unsuccessful,No,3. Somewhat Optimal,No",
    "A,workarena,w.4,M,M_on_workarena,Unsure,No,2. Suboptimal,No",
    "A,workarena,w.5,M,M_on_workarena,Successful,No,4. Completely Optimal,Unsure",
)


@pytest.fixture
def labels(tmp_path):
    (tmp_path / "annotations.csv").write_text("\n".join((HEAD, *ROWS)))
    return tmp_path


def said(success, side="No", optimal="2. Suboptimal", loop="No"):
    return (
        f"<reasoning>it says <success>maybe</success></reasoning>\n<success>{success}</success>"
        f"<side>{side}</side><optimal>{optimal}</optimal><loop>{loop}</loop>"
    )


def found(folder, verdicts):
    items = BENCH.read(folder)
    path = folder / "p.jsonl"
    path.write_text("\n".join(json.dumps({"id": name, "raw_text": text}) for name, text in verdicts.items()))
    return measured(BENCH, items, read_predictions(path, BENCH, items), draws=100)


def test_the_first_annotation_of_a_trajectory_counts(labels):
    items = BENCH.read(labels)
    assert [item.id for item in items][:2] == ["webarena/M/webarena.1", "webarena/M/webarena.2"]
    assert len(items) == 5 and items[0].gold.success == 1.0 and math.isnan(items[3].gold.success)
    assert items[1].gold[1:] == (1.0, 2.0, 1.0)


def test_figures_of_a_judge(labels):
    result = found(
        labels,
        {
            "webarena/M/webarena.1": said("Successful", optimal="4. Completely Optimal"),
            "webarena/M/webarena.2": said("Successful", side="Yes", loop="Yes"),
            "workarena/M/w.3": said("Unsuccessful"),
            "workarena/M/w.4": said("Successful"),
            "workarena/M/w.5": said("nothing that is a verdict"),
        },
    )
    # Of what experts are sure of: two called so, one of which is; the fifth is invalid, and a failure for
    # the published code, which so keeps its precision.
    assert result.line("success/precision").strict == 0.5 and result.line("published/precision").strict == 0.5
    assert result.line("success/recall").strict == 0.5 and result.line("success/recall").valid == 1.0
    assert result.line("published/recall").strict == 0.5 and result.line("success/accuracy").strict == 0.5
    assert result.line("side_effect/f1").valid == 1.0 and result.line("looping/precision").valid == 1.0
    assert result.line("optimality").valid == 0.75 and result.line("optimality/within 1").valid == 1.0
    assert result.answers.invalid["workarena/M/w.5"].status == "unparsable"
    assert any("5 trajectories; 1302 are published" in words for words in result.cautions)
    assert {row[0]: row[1] for row in result.tables[0].rows} == {"webarena": 2, "workarena": 1}


def test_a_missing_failure_is_the_worst_verdict_and_not_a_free_failure(labels):
    """Silence about failures costs precision here, and nothing by the published code."""
    result = found(labels, {"webarena/M/webarena.1": said("Successful")})
    assert result.line("published/precision").strict == 1.0
    assert result.line("success/precision").strict == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("field", "given", "value"),
    [("success", "Successful", 1), ("success", "'Unsuccessful'", 0), ("looping", True, 1),
     ("side_effect", "no", 0), ("optimality", "3. Somewhat Optimal", 3), ("optimality", 4, 4)],
)  # fmt: skip
def test_verdicts(field, given, value):
    assert verdict_in(field, given) == value


def test_what_is_no_verdict():
    for given in (None, "", "n/a", "Unsure"):
        assert math.isnan(verdict_in("success", given))
    for field, given in (("success", "perhaps"), ("optimality", "7"), ("optimality", "good")):
        with pytest.raises(Unscorable):
            verdict_in(field, given)
    item = None
    for text in (
        "",
        "<success>Successful</success><success>Unsuccessful</success>",
        "<success>n/a</success>",
    ):
        with pytest.raises(Unscorable):
            BENCH.answer({"raw_text": text}, item)


def test_undefined_figures_are_not_zero():
    import numpy as np

    true, said_ = np.array([1.0, 0.0]), np.array([0.0, 0.0])
    assert math.isnan(precision(true, said_)) and f1(true, said_) == 0.0
    assert negative_value(true, said_) == 0.5


# --- rewards ------------------------------------------------------------------------------------------------


def lay_trajectories(folder, tasks):
    """Trajectories as published: the screenshot's grey is the outcome."""
    for name, (bench, task, level) in tasks.items():
        file = folder / "trajectories" / "cleaned" / bench / "M" / f"M_on_{bench}" / f"{name}.json"
        shots = folder / "trajectories" / "screenshots" / bench / "M" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shots.mkdir(parents=True)
        steps = []
        for number in range(2):
            shot = shots / f"screenshot_step_{number}.png"
            Image.fromarray(grey(level if number else 0)).save(shot)
            place = f"trajectories/screenshots/{bench}/M/{name}/{shot.name}"
            step = {"action": "click('1')", "reasoning": "go", "url": "http://x", "axtree": f"tree {task}"}
            steps.append({**step, "screenshot_path": place})
        file.write_text(json.dumps({"goal": f"do {task}", "steps": steps, "valid": True}))


def test_a_reward_is_measured_on_the_published_trajectories(labels, engine, monkeypatch):
    tasks = {
        "webarena.1": ("webarena", "webarena.1", 250),
        "webarena.resized.2": ("webarena", "webarena.2", 0),
        "w.3": ("workarena", "w.3", 0),
        "w.4": ("workarena", "w.4", 0),
        "w.5": ("workarena", "w.5", 100),
    }
    lay_trajectories(labels, tasks)

    def verdict(seen, prompt):
        if "do w.5" in prompt:
            return "I cannot say."
        optimal = "4. Completely Optimal" if seen[-1] > 0.5 else "2. Suboptimal"
        return said("Successful" if seen[-1] > 0.5 else "Unsuccessful", optimal=optimal)

    judge = use(monkeypatch, Judge(verdict))
    reward = load("agent_judge", words="own", tree="axtree")
    items = BENCH.read(labels)
    answers = scored_answers(BENCH, items, labels, "judge", reward, labels / "out" / "scores.jsonl", engine)
    assert answers.valid["webarena/M/webarena.1"] == (1, 0, 4, 0)
    assert answers.valid["webarena/M/webarena.2"] == (0, 0, 2, 0)
    assert answers.invalid["workarena/M/w.5"].status == "missing"
    assert any("tree webarena.2" in prompt and seen == [0] for seen, prompt, _ in judge.calls)
    result = measured(BENCH, items, answers, draws=50)
    assert result.line("success/precision").strict == 1.0 and result.line("success/recall").strict == 0.5


def test_votes_and_other_rewards_give_verdicts(labels):
    (item, *_) = BENCH.read(labels)
    reward = load("agent_judge", words="own", judge="mini-vlm")
    parts = {"success": 0.75, "side_effect": 0.25, "optimality": 2.5, "looping": 0.5}
    assert BENCH.scored(item, [Score(0.75, parts)], reward) == (1, 0, 3, 1)
    with pytest.raises(Unscorable, match="as many votes"):
        BENCH.scored(item, [Score(0.5, {**parts, "success": 0.5})], reward)


def test_trajectories_that_are_not_there_are_said(labels):
    (item, *_) = BENCH.read(labels)
    with pytest.raises(ValueError, match=r"no trajectory: put the published cleaned/"):
        BENCH.rows(item, None)

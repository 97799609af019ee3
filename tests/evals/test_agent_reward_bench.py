"""AgentRewardBench: experts' labels as published, judges' tags, figures against a second writing."""

import json
import math

import pytest

from mmreward import Unscorable
from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.agent_reward_bench import f1, negative_value, precision, verdict_in
from mmreward.evals.benchmarks.benchmark import measured
from mmreward.evals.benchmarks.predictions import read_predictions

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

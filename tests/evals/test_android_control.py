"""AndroidControl: one prediction file under all rules, published TFRecord files, episodes, denominators."""

import gzip
import json
import math

import pytest
from support.recordings import example, write_tfrecord
from typer.testing import CliRunner

from mmreward.cli import app
from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.benchmark import measured
from mmreward.evals.benchmarks.predictions import read_predictions
from mmreward.rewards.gui.rules import RULES

BENCH = benchmark("androidcontrol")
SIZE = [1080, 2400]
CLICK = {"type": "click", "point": [540, 1200]}
STEPS = [
    {"episode": 12, "step": 0, "size": SIZE, "action": CLICK, "boxes": [[480, 1150, 600, 1250]]},
    {"episode": 12, "step": 1, "size": SIZE, "action": {"action_type": "scroll", "direction": "down"}},
    {"episode": 13, "step": 0, "size": SIZE, "action": {"action_type": "input_text", "text": "green tea"}},
    {"episode": 13, "step": 1, "size": SIZE, "action": {"action_type": "navigate_back"}},
]
SAID = [
    {"id": "12/0", "action": {"type": "click", "point": [700, 1200]}, "space": "pixel"},
    {"id": "12/1", "raw_text": "Thought: t\nAction: scroll(direction='down')", "space": "ui-tars"},
    {"id": "13/0", "raw_text": "TYPE [tea]", "space": "os-atlas"},
]


def written(folder, rows, name="steps.jsonl"):
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def found(folder, steps=STEPS, said=SAID):
    items = BENCH.read(written(folder, steps))
    return measured(BENCH, items, read_predictions(written(folder, said, "p.jsonl"), BENCH, items), draws=100)


def test_one_file_under_all_rules(tmp_path):
    """The click 160 pixels off is right for UI-Genie's radius alone; "tea" is half of "green tea"."""
    result = found(tmp_path)
    steps = {name: result.line(f"{name}/step").strict * 4 for name in RULES if name not in ("a11y", "aitz")}
    assert steps == {
        "box": 1, "aitw": 2, "odyssey": 2, "qwen": 2, "ui_genie": 3, "os_genesis": 3, "gui_r1": 2,
        "gui_r1_eval": 2, "ui_r1": 2, "btl_ui": 2, "os_atlas": 1, "os_atlas_odyssey": 2, "ui_tars": 1,
    }  # fmt: skip
    assert result.line("ui_genie/episode").strict == 0.5 and result.line("box/episode").strict == 0.0
    assert result.line("box/grounding").strict == 0.0 and result.line("ui_genie/grounding").strict == 1.0
    assert math.isnan(result.line("a11y/step").strict)
    table = {row[0]: row for row in result.tables[0].rows}
    assert table["ui_genie"][1:6] == (0.75, 1.0, 1.0, 0.75, 0.5) and set(table) == set(RULES)


def test_a_missing_step_stays_in_the_denominator_and_the_other_reading_says_so(tmp_path):
    result = found(tmp_path)
    line = result.line("ui_genie/step")
    assert line.strict == 0.75 and line.valid == 1.0 and result.missing == ("13/1",)


def test_what_is_wrong_with_predictions(tmp_path):
    said = [
        {"id": "12/0", "raw_text": "click(1, 2)\nclick(3, 4)", "space": "pixel"},
        {"id": "12/1", "raw_text": "scroll(direction='down')"},
        {"id": "13/0", "raw_text": "hm", "space": "pixel"},
        {"id": "13/1", "raw_text": "press_back()", "space": "pixel"},
        {"id": "14/0", "raw_text": "press_back()", "space": "pixel"},
    ]
    result = found(tmp_path, said=said)
    reasons = {name: failed.reason for name, failed in result.answers.invalid.items()}
    assert "2 actions" in reasons["12/0"] and "does not say its space" in reasons["12/1"]
    assert "no action" in reasons["13/0"] and result.answers.unknown == ("14/0",)
    assert result.line("box/step").strict == 0.25


def test_elements_make_their_rules_defined(tmp_path):
    nodes = [{"box": [0, 0, 1080, 2400]}, {"box": [500, 1100, 720, 1300], "text": "Maps"}]
    step = {**STEPS[0], "nodes": nodes}
    result = found(tmp_path, [step], SAID[:1])
    assert result.line("a11y/step").strict == 1.0 and result.line("aitz/step").strict == 1.0


def test_the_published_files(tmp_path):
    """TFRecords in GZIP, actions as JSON, one fewer than screenshots."""
    actions = [b'{"action_type": "click", "x": 540, "y": 1200}', b'{"action_type": "wait"}']
    record = example({
        "episode_id": [7], "goal": [b"go"], "actions": actions, "step_instructions": [b"a", b"b"],
        "screenshot_widths": [1080] * 3, "screenshot_heights": [2400] * 3, "screenshots": [b"p"] * 3,
    })  # fmt: skip
    plain = write_tfrecord(tmp_path / "plain", record)
    (tmp_path / "android_control-00000-of-00001").write_bytes(gzip.compress(plain.read_bytes()))
    items = BENCH.read(tmp_path)
    assert [item.id for item in items] == ["7/0", "7/1"] and items[0].gold.actions[0].point == (0.5, 0.5)
    assert items[0].facts["size"] == (2400, 1080) and items[0].unit == "7"
    assert len(BENCH.read(plain)) == 2


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"episode": 1, "step": 0, "action": CLICK}], "a step has episode, step, size"),
        ([STEPS[0], STEPS[0]], "there twice"),
        ([{**STEPS[0], "action": {"type": "juggle"}}], "no action is named 'juggle'"),
        (
            [{**STEPS[0], "action": {"type": "click", "point": [5400, 1200]}, "boxes": []}],
            "beside the picture",
        ),
    ],
)
def test_labels_that_are_none_are_one_line(tmp_path, rows, words):
    with pytest.raises(ValueError, match=words):
        BENCH.read(written(tmp_path, rows))


def test_the_command_prints_one_table(tmp_path):
    labels, said = written(tmp_path, STEPS), written(tmp_path, SAID, "p.jsonl")
    words = ["benchmark", "androidcontrol", str(said), "--data", str(labels), "--draws", "100"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    for shown in ("ui_genie/step", "qwen/episode", "by rule", "without its rule"):
        assert shown in done.output, shown

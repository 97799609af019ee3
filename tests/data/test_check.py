"""Targets that can never be paid, found before a training."""

import json

import pytest
from typer.testing import CliRunner

from mmreward import Engine, load
from mmreward.cli import app
from mmreward.data.check import check_targets
from mmreward.data.routing import Router
from mmreward.registry import list_rewards

ROUTES = {
    "geo": {"rewards": {"math": {"workers": 1}}},
    "mcq": {"rewards": {"choice": {}}},
    "boxes": {"rewards": {"iou": {}}},
}
MCQ = {"source": "mcq", "meta": {"options": ["cat", "dog"]}}
ROWS = [
    {"id": "root", "source": "geo", "target": "2\u221a{3}"},
    {"id": "area", "source": "geo", "target": "9\u03c0cm^{2}"},
    {"id": "metres", "source": "geo", "target": "5m"},
    {"id": "torn", "source": "geo", "target": "\\frac{1"},
    {"id": "garbled", "source": "geo", "target": "1 +\\lor 2"},
    {"id": "empty", "source": "geo"},
    {"id": "letter", **MCQ, "target": "B"},
    {"id": "beyond", **MCQ, "target": "Q"},
    {"id": "box", "source": "boxes", "target": [{"bbox_2d": [0, 0, 9, 9], "label": "cat"}]},
    {"id": "turned", "source": "boxes", "target": [{"bbox_2d": [0, 0, -9, 9], "label": "cat"}]},
    {"id": "lost", "source": "elsewhere", "target": "5"},
]
UNPAID = {
    "torn": "unbalanced",
    "garbled": "cannot be read",
    "empty": "no target",
    "beyond": "no option",
    "turned": "no area",
}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "?", **row}) for row in ROWS))
    return path


def test_targets_that_can_never_be_paid_are_named_with_the_reason(data):
    with Engine("cpu") as engine:
        found = check_targets(data, engine, router=Router(ROUTES))
    assert {one.row for one in found.unpaid} == set(UNPAID)
    assert all(UNPAID[one.row] in one.why for one in found.unpaid)
    assert list(found.problems) == ["lost"] and "no route" in found.problems["lost"]
    assert (found.rows, found.targets) == (len(ROWS), {"math": 6, "choice": 2, "iou": 2})


SPACES = [("norm_1000", "norm_1"), ("norm_1", "norm_1000"), ("qwen3-vl", "norm_1")]


@pytest.mark.parametrize("name", ["click", "gui_grounding", "grounding"])
@pytest.mark.parametrize(("space", "target_space"), SPACES)
def test_targets_in_another_space_than_the_answers_are_read_in_their_own(tmp_path, name, space, target_space):
    reach = 1 if target_space == "norm_1" else 1000
    boxes = {"box": [0.1, 0.2, 0.3, 0.4], "turned": [0.3, 0.4, 0.1, 0.2]}
    rows = [
        {"id": key, "prompt": "?", "target": {"bbox_2d": [x * reach for x in box]}}
        for key, box in boxes.items()
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reward = load(name, space=space, target_space=target_space)
    with Engine("cpu") as engine:
        found = check_targets(tmp_path / "rows.jsonl", engine, rewards={name: reward})
    assert [one.row for one in found.unpaid] == ["turned"]


def test_the_command_says_so_by_reward_and_exits_with_3(data, tmp_path):
    routes = tmp_path / "routes.yaml"
    routes.write_text(json.dumps({"routes": ROUTES}))
    result = CliRunner().invoke(app, ["check", str(data), "--config", str(routes)])
    assert result.exit_code == 3
    assert "math: 6 targets, 3 can never be paid" in result.output
    assert "torn" in result.output and "lost" in result.output


def test_a_clean_file_exits_with_0(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "?", "target": "5 cm"}))
    result = CliRunner().invoke(app, ["check", str(path), "--reward", "math:workers=1"])
    assert (result.exit_code, result.output) == (0, "math: 1 targets, 0 can never be paid\n")


RULES = [info for info in list_rewards() if set(info.needs) == {"response", "target"} and info.example]


@pytest.mark.parametrize("info", RULES, ids=lambda info: info.name)
def test_the_target_of_every_rule_rewards_example_is_paid(info, tmp_path):
    """The dress of the ideal answer is learned from the example, so that a new reward is checked too."""
    path = tmp_path / "rows.jsonl"
    example = {key: value for key, value in info.example.items() if key != "response"}
    path.write_text(json.dumps({"prompt": "?", **example}))
    with Engine("cpu") as engine:
        found = check_targets(path, engine, rewards={info.name: load(info.name)})
    assert not found.unpaid and not found.problems


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("gui_grounding", one)
        for one in ("gui_g2", "gui_g1", "se_gui", "ui_agile", "infigui_r1", "points_gui_g")
    ]
    + [("gui_step", one) for one in ("gui_r1", "ui_r1", "infigui_r1", "btl_ui")],
)
def test_a_formula_is_held_to_what_it_pays_itself_and_not_to_the_range_of_all(name, protocol, tmp_path):
    """A whole answer earns 1 of gui_grounding's 4 by most formulas, and an action may have boxes alone."""
    box = [100, 100, 400, 400]
    good, bad = (
        {"bbox_2d": one} if name == "gui_grounding" else {"action": {"type": "click"}, "boxes": [one]}
        for one in (box, [100, 100, 4000, 400])
    )
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"id": k, "target": v}) + "\n" for k, v in {"a": good, "b": bad}.items())
    )
    with Engine("cpu") as engine:
        found = check_targets(path, engine, rewards={name: load(name, protocol=protocol)})
    assert [one.row for one in found.unpaid] == ["b"]

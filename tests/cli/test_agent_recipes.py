"""Recipes of robots and GUI agents: what runs here is run through the commands, on the rows of their page."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmreward.adapters import trl
from mmreward.cli import app
from mmreward.config import config_at, load_config
from mmreward.data.results import read
from mmreward.mini.push_recording import main, record

PAGE = (Path(__file__).parents[2] / "configs" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def scored(data, config):
    """Value of each row by each reward, through `mmreward score`."""
    out = data.with_name("scores.jsonl")
    run("score", data, "--config", config, "--out", out, "--device", "cpu")
    found = {}
    for result in read(out):
        assert result.status == "ok", result
        found.setdefault(result.reward, {})[result.id] = result.value
    return found


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    return record(tmp_path_factory.mktemp("push") / "push", 6)


@pytest.fixture(params=[0, 1], ids=["clicks", "routes"])
def rows(request, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(BLOCKS[request.param], encoding="utf-8")
    return path, ("gui/clicks", "gui/routes")[request.param]


# --- robots ---------------------------------------------------------------------------------------


def test_recordings_say_the_true_end_and_are_drawn_alike(episodes, tmp_path, capsys):
    rows = [json.loads(line) for line in episodes.read_text().splitlines()]
    assert all(row["meta"]["success"] for row in rows[::2]) and not all(
        row["meta"]["success"] for row in rows
    )
    assert all(row["image"] == row["steps"][-1]["observation"] for row in rows)
    assert all("action" in step for row in rows for step in row["steps"][:-1])
    assert all((episodes.parent / step["observation"]).exists() for row in rows for step in row["steps"])
    main([str(tmp_path / "again"), "--episodes", "6"])
    assert "6 episodes, " in capsys.readouterr().out
    assert (tmp_path / "again" / "episodes.jsonl").read_text() == episodes.read_text()
    frame = rows[0]["image"]
    assert (tmp_path / "again" / frame).read_bytes() == (episodes.parent / frame).read_bytes()
    with pytest.raises(ValueError, match="is not empty"):
        record(tmp_path / "again", 1)
    with pytest.raises(ValueError, match="0 episodes"):
        record(tmp_path / "none", 0)


def test_goal_is_closer_where_the_shape_has_arrived(episodes):
    found = scored(episodes, "robot/goal")
    ends = {row["id"]: row["meta"]["success"] for row in map(json.loads, episodes.read_text().splitlines())}
    assert set(found) == {"goal", "cosine", "total"} and len(found["total"]) == 6
    means = [
        sum(found["goal"][name] for name in ends if ends[name] is there) / list(ends.values()).count(there)
        for there in (True, False)
    ]
    assert means[0] > means[1]


def test_the_wrapper_of_an_environment_takes_the_same_file():
    """The value of a state is the total of the recipe."""
    import gymnasium

    from mmreward.adapters.gymnasium import VisionReward
    from mmreward.mini import push

    inner = gymnasium.make(push.ID, render_mode="rgb_array")
    env = VisionReward(inner, "robot/goal.yaml", task=push.task_of, shaping="value")
    env.reset(seed=0)
    _, paid, _, _, info = env.step(0)
    assert paid == pytest.approx(info["vision_value"], abs=1e-6) and 0.5 < paid < 1
    env.close()


def test_two_judges_are_paid_and_a_blank_camera_is_not(episodes, tmp_path):
    from PIL import Image

    (tmp_path / "frames").mkdir()
    row = json.loads(episodes.read_text().splitlines()[0])
    for step in row["steps"]:
        name = step["observation"]
        (tmp_path / name).write_bytes((episodes.parent / name).read_bytes())
    Image.new("RGB", (64, 64)).save(tmp_path / "frames" / "blank.png")
    blank = {**row, "id": "blank", "image": "frames/blank.png"}
    data = tmp_path / "episodes.jsonl"
    data.write_text(json.dumps(row) + "\n" + json.dumps(blank) + "\n")
    found = scored(data, "robot/mini-episodes")
    name = row["id"]
    assert found["total"][name] == pytest.approx(found["liv"][name] + 0.5 * found["asked"][name], abs=1e-5)
    assert found["seen"]["blank"] == 0 == found["total"]["blank"]


def test_the_recipe_of_published_judges_names_what_they_take():
    """Without their weights: the total is made of rewards that are there, with arguments that they have."""
    config = load_config(config_at("robot/episodes"))
    assert {args["reward"] for args in config.rewards.values()} == {"roboreward", "gvl", "topreward"}
    assert set(config.compose.build().reads) == set(config.rewards) and config.compose.gates == {"done": 0.0}


# --- GUI agents -----------------------------------------------------------------------------------


def test_the_rows_of_the_page_are_scored_checked_and_explained(rows):
    data, config = rows
    values = scored(data, config)["routed"]
    wanted = {"hit": 1, "near": 0, "words": 1} if config == "gui/clicks" else {"point": 1, "step": 1}
    assert {name: values[name] for name in wanted} == pytest.approx(wanted)
    assert "0 can never be paid" in run("check", data, "--config", config)
    told = run("explain", "--data", data, "--id", next(iter(wanted)), "--config", config)
    assert "action 1" in told or "answer" in told


def test_check_names_the_targets_of_another_space(tmp_path):
    data = tmp_path / "answers.jsonl"
    data.write_text(BLOCKS[1].replace("400, 400]", "4000, 400]"))
    assert "declare its target_space" in run("check", data, "--config", "gui/routes", code=3)


def test_a_trainer_takes_the_routes_by_name():
    rows = [json.loads(line) for line in BLOCKS[1].splitlines()]
    reward = trl.reward("gui/routes.yaml")
    told = reward(
        prompts=["?"] * len(rows),
        completions=[row["response"] for row in rows],
        source=[row["source"] for row in rows],
        target=[row["target"] for row in rows],
    )
    first = 1 / 2**0.5
    assert told == pytest.approx([1.0, (2 + first) / 3, 1.0], abs=1e-6)


def test_the_best_of_three_candidates_and_pairs_of_them(tmp_path):
    """The lines of the recipe, on the rows of its page."""
    data = tmp_path / "candidates.jsonl"
    data.write_text(BLOCKS[2], encoding="utf-8")
    found = scored(data, "gui/candidates")
    assert found["total"]["a"] > found["total"]["b"] >= found["total"]["c"] == 0
    scores, pairs, best = (tmp_path / name for name in ("scores.jsonl", "pairs", "best.jsonl"))
    run("pairs", data, scores, "--responses", "--reward", "total", "--out", pairs)
    (pair,) = map(json.loads, (pairs / "metadata.jsonl").read_text().splitlines())
    assert pair["chosen_id"] == "a" and pair["steps"][0]["thought"] == "I open the shop."
    run("gui", "choose", data, "--from", "gui_action", "--out", best)
    (line,) = map(json.loads, best.read_text().splitlines())
    assert (line["id"], line["candidates"], line["tied"]) == ("a", 3, False)

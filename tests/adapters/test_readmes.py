"""The READMEs of the adapters and of the server: what they show runs, and what they list is all there is."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import mmreward.server.app
from mmreward import cli
from mmreward.adapters import easyr1, ms_swift, openrlhf, trl, verl
from mmreward.adapters.rows import opened
from mmreward.adapters.scorer import Scorer
from mmreward.config import load_config
from mmreward.data.routing import Router
from mmreward.shaping_steps import STEPS, AnyStep

ROOT = Path(__file__).parents[2]
ADAPTERS = (ROOT / "mmreward" / "adapters" / "README.md").read_text(encoding="utf-8")
SERVER = (ROOT / "mmreward" / "server" / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("code", blocks(ADAPTERS, "python"))
def test_python_blocks_run(code, monkeypatch):
    if "trl_gate" in code:
        pytest.importorskip("trl")
    if "stable_baselines3" in code:
        pytest.importorskip("stable_baselines3")
        code = code.replace("15_000", "600")
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})


def test_yaml_blocks_are_configs_that_load(tmp_path):
    found = [text for text in blocks(ADAPTERS, "yaml") if yaml.safe_load(text).keys() & {"routes", "rewards"}]
    for text in found:
        (tmp_path / "run.yaml").write_text(text)
        assert load_config(tmp_path / "run.yaml") and Scorer(tmp_path / "run.yaml").label
    assert len(found) == 2


def test_entry_points_that_are_named_exist():
    for module, names in {
        easyr1: ["compute_score", "compute_one"],
        ms_swift: ["orm"],
        openrlhf: ["reward"],
        trl: ["reward", "components", "rollout"],
        verl: ["compute_score", "compute_score_async", "compute_score_batch", "RewardManager"],
    }.items():
        for name in names:
            assert hasattr(module, name) and name in ADAPTERS
    assert "app_of_environment" in SERVER and hasattr(mmreward.server.app, "app_of_environment")


def test_the_table_of_steps_lists_every_step_and_option():
    rows = {
        cells[0].strip("` "): cells
        for cells in re.findall(r"^\| (`\w+`) \| (.*?) \| (.*?) \| (.*?) \|", ADAPTERS, re.M)
    }
    assert tuple(rows) == STEPS
    for step in AnyStep.__args__:
        options = [field.name for field in fields(step) if field.name != "name"]
        _, columns, given, _ = rows[step.__dataclass_fields__["name"].default]
        said = re.findall(r"(\w+)(?: \(|, |$)", re.sub(r"\(.*?\)", "(", f"{columns}, {given}"))
        assert sorted(said) == sorted(options)


def test_the_shipped_example_has_every_step():
    routes = load_config(ROOT / "configs" / "vlm" / "shaping.yaml").routes
    assert tuple(step.name for route in routes.values() for step in route.shaping) == STEPS
    assert Router(routes).compares


def test_the_envelope_is_one():
    [envelope] = blocks(ADAPTERS, "json")
    assert opened(envelope) == {
        "answer": "B",
        "source": "geometry",
        "group": "17",
        "step": 3,
        "total_steps": 100,
    }


def test_the_servers_bodies_are_answered_by_the_file_that_it_is_shown_to_serve():
    judge, queries = map(json.loads, blocks(SERVER, "json"))
    assert "mmreward serve configs/vlm/routes.yaml" in SERVER
    with TestClient(mmreward.server.app.create_app(ROOT / "configs/vlm/routes.yaml")) as client:
        judged = client.post("/judge", json=judge).json()
        assert judged["status"] == "ok" and judged["rewards"]["final_reward"] == 1.0
        answered = client.post("/get_reward", json=queries)
        assert answered.status_code == 200 and answered.json()["rewards"] == [1.0]
        assert set(answered.json()) == {"rewards", "scores", "extra_logs"}
        assert client.post("/judge", json={**judge, "reward_verifier": "none"}).status_code == 404
        assert client.post("/get_reward", json={**queries, "labels": []}).status_code == 422
        broken = {**queries, "labels": ['{"v": 2, "answer": "12"}']}
        assert client.post("/get_reward", json=broken).status_code == 503


def test_the_serve_command_takes_the_options_it_is_shown_with(monkeypatch):
    [text] = blocks(SERVER, "bash")
    [command] = [line.split() for line in text.splitlines() if line.startswith("mmreward serve")]
    served = []
    monkeypatch.setattr(mmreward.server.app, "serve", lambda *given: served.append(given))
    assert CliRunner().invoke(cli.app, command[1:]).exit_code == 0
    assert served == [(Path("configs/vlm/routes.yaml"), "0.0.0.0", 8192, 2, 60.0, None)]
    assert (ROOT / "configs" / "vlm" / "routes.yaml").exists()

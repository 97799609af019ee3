"""Real processes: killed and started again, two at once, and rewards that run elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import forked
from support.chatserver import ChatServer
from support.emulated import EmulatedVLLM

from mmreward import load
from mmreward.generators.mini_flow import MiniFlow
from mmreward.models.weights import locate
from mmreward.sampling import media, shown
from mmreward.sampling import sample as draw
from mmreward.tune.aggregate import aggregate
from mmreward.tune.config import PromptsConfig
from mmreward.tune.data import load_prompts
from mmreward.tune.journal import lines
from mmreward.tune.learner import read_weights

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(240)


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    if arguments[0] != "-m":
        return forked.python(*arguments, env=environment)
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def write(config, tmp_path, name):
    path = tmp_path / f"{name}.json"
    path.write_text(config.model_copy(update={"out": str(tmp_path / name)}).model_dump_json())
    return str(path)


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(described, tmp_path):
    config = described(method={"name": "nft"}, rounds=5)
    script = str(TESTS / "support" / "train_toy.py")
    assert start(script, write(config, tmp_path, "whole")).returncode == 0
    killed = write(config, tmp_path, "killed")
    assert start(script, killed, "4").returncode == 9
    assert not (tmp_path / "killed" / "weights").exists()
    again = start(script, killed)
    assert again.returncode == 0, again.stderr
    one, other = (read_weights(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [line["round"] for line in lines(tmp_path / "killed" / "rounds.jsonl")] == list(range(5))


@pytest.mark.parametrize(("name", "shard"), [("grpo", False), ("nft", True)])
def test_two_processes_do_what_one_does(described, tmp_path, name, shard):
    rollout = {"prompts": 4, "group": 4, "micro_batch": 4, "steps": 4}
    gardo = {"encoder": "mini-clip"} if name == "grpo" else None
    config = described(method={"name": name}, rounds=3, rollout=rollout, gardo=gardo)
    script = str(TESTS / "support" / "train_toy.py")
    assert start(script, write(config, tmp_path, "one")).returncode == 0
    path = write(config.model_copy(update={"shard": shard}), tmp_path, "two")
    if shard:  # by the launcher that users take; the others are forks, which start at once
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        two = [start(*launch, script, path)]
    else:
        environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
        two = forked.ranks(2, script, path, env=environment)
    assert not any(one.returncode for one in two), two
    assert sum(one.stdout.count("one of 2 processes") for one in two) == 2
    first, second = (lines(tmp_path / name / "rounds.jsonl") for name in ("one", "two"))
    for key in first[0]:
        if key.startswith(("reward", "advantages", "scores")):
            assert first[0][key] == second[0][key], key
    one, other = (read_weights(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    for name in one:  # the same gradients, summed in another order
        torch.testing.assert_close(one[name], other[name], atol=2e-4, rtol=0)


def test_a_reward_in_a_child_gives_the_same_advantages(described, trainer, tmp_path):
    config = described(rewards={"clip": {}}, rounds=1)
    here = load("clipscore", weights="mini-clip")
    there = load("clipscore", weights="mini-clip", python=sys.executable)
    found = []
    for name, one in (("here", here), ("there", there)):
        run = trainer(config.model_copy(update={"out": str(tmp_path / name)}), rewards={"clip": one})
        run.run()
        found.append(lines(tmp_path / name / "rounds.jsonl")[0])
    for key in found[0]:
        if key.startswith(("reward", "advantages", "scores")):
            assert found[0][key] == pytest.approx(found[1][key], abs=1e-6), key
    there.close()


def test_a_judge_here_in_a_child_and_behind_a_server_gives_the_same_advantages(engine):
    samples = load_prompts(PromptsConfig(data="shapes-world", count=3, seed=3))
    generator, group = MiniFlow(), 4
    repeated = [sample for sample in samples for _ in range(group)]
    pixels = draw(generator, [one.prompt for one in repeated], range(len(repeated)), steps=3, guidance=1.0)
    shots = [shown(one, picture) for one, picture in zip(repeated, media(pixels, None), strict=True)]
    with ChatServer(EmulatedVLLM(locate("mini-vlm"))) as server:
        rewards = {
            "here": load("checklist", judge="mini-vlm", soft=True),
            "child": load("checklist", judge="mini-vlm", soft=True, python=sys.executable),
            "served": load("checklist", judge=f"judge@{server.url}", soft=True),
        }
        columns = {
            name: [score.value for score in column]
            for name, column in engine.score(shots, rewards, timeout=120).items()
        }
        engine.close()
    rewards["child"].close()
    groups = np.repeat(np.arange(len(samples)), group)
    worth = {name: aggregate({"one": column}, {"one": 1.0}, groups) for name, column in columns.items()}
    assert worth["here"].usable.all()
    assert worth["child"].values == pytest.approx(worth["here"].values, abs=1e-5)
    assert worth["served"].values == pytest.approx(worth["here"].values, abs=1e-3)

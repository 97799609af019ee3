"""One file of rewards for score, tune and search: the recipe of the usual mix, on the miniature's weights."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from mmreward.cli import app
from mmreward.cli.fetching import rewards_in, wants_of
from mmreward.config import config_at, load_config
from mmreward.evals.published.checkpoints import save_blip

NAMES = ["pickscore", "hpsv2", "imagereward", "clip", "aesthetic"]


def run(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


@pytest.fixture
def mix(tmp_path):
    """The recipe with other weights and nothing else changed."""
    raw = yaml.safe_load(config_at("score/t2i-mix").read_text())
    head = tmp_path / "head.safetensors"
    save_file({"weight": torch.linspace(-1, 1, 128)[None], "bias": torch.full((1,), 5.0)}, head)
    for name in ("pickscore", "hpsv2", "clip"):
        raw["rewards"][name]["weights"] = "mini-clip"
    raw["rewards"]["aesthetic"] |= {"head": str(head), "encoder": "mini-clip"}
    raw["rewards"]["imagereward"] |= save_blip(tmp_path / "blip", "ImageReward.pt")
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return tmp_path / "mix.yaml"


def test_the_recipe_scores_with_the_scales_and_the_publishers_numbers(mix, tmp_path):
    Image.new("RGB", (48, 40), (200, 30, 30)).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "a red circle", "image": "a.png"}) + "\n")
    run("score", tmp_path / "rows.jsonl", "--config", mix, "--out", tmp_path / "scores.jsonl")
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    rows = {row["reward"]: row for row in map(json.loads, lines)}
    factors = {"pickscore": 1 / 26, "clip": 100 / 30, "aesthetic": 1 / 10}
    for name, factor in factors.items():
        assert rows[name]["value"] == pytest.approx(factor * json.loads(rows[name]["parts"])["raw"])
    assert not any("raw" in json.loads(rows[name]["parts"]) for name in ("hpsv2", "imagereward"))


def test_tune_and_search_take_the_same_file(mix, tmp_path):
    common = {"generator": "mini-flow", "rewards": str(mix)}
    prompts = {"data": "shapes-world", "count": 4, "seed": 1}
    tune = common | {
        "prompts": prompts,
        "method": {"name": "grpo"},
        "rollout": {"prompts": 1, "group": 2, "micro_batch": 2, "steps": 2, "guidance": 1.0},
        "evaluation": {"prompts": prompts | {"count": 2}, "every": 1, "steps": 2, "guidance": 1.0},
        "rounds": 1,
        "out": str(tmp_path / "tuned"),
    }
    search = common | {
        "prompts": ["a red circle"],
        "method": {"name": "best-of-n", "n": 2},
        "steps": 2,
        "guidance": 1.0,
        "out": str(tmp_path / "searched"),
    }
    for command, config in (("tune", tune), ("search", search)):
        file = tmp_path / f"{command}.yaml"
        file.write_text(yaml.safe_dump(config))
        out = run(command, file)
        assert all(re.search(rf"\b{name}\b", out + listing(config["out"])) for name in NAMES), out
        assert [name for name, _ in rewards_in(file)] == NAMES


def listing(folder):
    texts = (path.read_text(errors="ignore") for path in Path(folder).rglob("*.json*"))
    return "\n".join(texts)


def test_a_file_of_rewards_that_is_not_there_is_named(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("generator: mini-flow\nprompts: [x]\nrewards: score/t2i-mux\nmethod: best-of-n\nout: o\n")
    done = CliRunner().invoke(app, ["search", str(file)])
    assert "did you mean the recipe 'score/t2i-mix'" in str(done.exception)


def test_a_score_file_itself_takes_its_rewards_written_out(tmp_path):
    """And so does a route, which a row of data may bring: it must name no file."""
    for text in ("rewards: score/t2i-mix\n", "routes: {a: {rewards: score/t2i-mix}}\n"):
        (tmp_path / "score.yaml").write_text(text)
        with pytest.raises(ValueError, match="rewards"):
            load_config(tmp_path / "score.yaml")


def test_what_the_recipe_reads_is_known_without_reading_it():
    wants = {name: [want.name for want in wants_of(name, args)] for name, args in rewards_in("score/t2i-mix")}
    assert wants["pickscore"] == ["yuvalkirstain/PickScore_v1"]
    assert wants["hpsv2"] == ["xswu/HPSv2/HPS_v2.1_compressed.pt"]
    assert wants["imagereward"][0] == "zai-org/ImageReward/ImageReward.pt"
    assert wants["clip"] == ["openai/clip-vit-large-patch14"]
    assert wants["aesthetic"][-1] == "openai/clip-vit-large-patch14"

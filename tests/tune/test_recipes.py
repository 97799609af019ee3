"""The recipes in configs/, and what `mmreward tune --dry-run` says of them."""

from importlib.resources import as_file, files

import pytest
from PIL import Image
from typer.testing import CliRunner

from mmreward import Media
from mmreward.cli import app
from mmreward.data.pair_folder import PreferencePair, write_pairs
from mmreward.generators.loading import Footprint, footprint
from mmreward.generators.mini_flow import MiniFlow
from mmreward.tune.config import PreferenceConfig, TuneConfig, load_tune_config
from mmreward.tune.learner import TrainedWeights
from mmreward.tune.plan import plan

RECIPES = sorted(f.name for f in (files("mmreward.configs") / "tune").iterdir() if f.name.endswith(".yaml"))
CAPTIONS = {"data": "shapes-world", "count": 64}


def recipe(name):
    with as_file(files("mmreward.configs") / "tune" / name) as path:
        return load_tune_config(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder of 64 preference pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    chosen, rejected = (Media(Image.new("RGB", (32, 32), colour)) for colour in ("red", "blue"))
    write_pairs(folder, [PreferencePair(prompt="red", chosen=chosen, rejected=rejected)] * 64)
    return str(folder)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_planned(name, pairs):
    config = recipe(name)
    given, offline = config.model_dump(), isinstance(config.method, PreferenceConfig)
    for place, data in ((given, {"data": pairs} if offline else CAPTIONS), (given["evaluation"], CAPTIONS)):
        if place["prompts"]["data"] != "shapes-world":  # the user's own
            place["prompts"] = data
    said = plan(TuneConfig.model_validate(given), lambda name, dtype: {"network": Footprint(2**30, 2**29)})
    rows = config.rollout.prompts * config.rollout.group
    assert (f"{config.method.batch} of 64 pairs" if offline else f"{rows} samples") in said
    for reward in (*config.rewards, *config.held_out):
        assert reward in said


def test_the_plan_of_the_miniature_says_memory_rounds_and_calls():
    said = plan(recipe("mini-grpo.yaml"), footprint)
    assert "generator mini-flow (float32)" in said
    assert "LoRA of rank 16" in said
    assert "reward checklist (weight 1)" in said
    assert "held out oracle: 256 per evaluation" in said


def test_a_dry_run_trains_nothing(tmp_path):
    with as_file(files("mmreward.configs") / "tune" / "mini-nft.yaml") as path:
        said = CliRunner().invoke(app, ["tune", str(path), "--dry-run", "--out", str(tmp_path / "run")])
    assert said.exit_code == 0, said.output
    assert "a round:" in said.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rollout: {selector: {name: windw}}", "did you mean 'window'"),
        ("rollout: {prompts: 3, group: 5, micro_batch: 4}", "micro_batch"),
        ("method: {name: grpo, klip: 1}", "did you mean 'clip'"),
        ("weights: {clipscore: 1}", "a weight for clipscore"),
        ("gardo: {others: [oracle]}", "give method.kl"),
        ("gardo: {share: 0.2}", "others, encoder or both"),
        ("uncertainty: {reward: clipscore}", "'clipscore' is not among the rewards"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_loaded(tmp_path, change, message):
    path = tmp_path / "run.yaml"
    parts = {
        "generator": "generator: mini-flow",
        "prompts": "prompts: {data: shapes-world, count: 8}",
        "rewards": "rewards: {oracle: {strict: true}}",
        "method": "method: {name: grpo}",
        "evaluation": "evaluation: {prompts: {data: shapes-world, count: 8}}",
        "out": f"out: {tmp_path / 'run'}",
    }
    parts[change.split(":")[0]] = change
    path.write_text("\n".join(parts.values()))
    said = CliRunner().invoke(app, ["tune", str(path), "--dry-run"])
    assert message in str(said.exception)


def gradients(checkpointing):
    generator = MiniFlow()
    weights = TrainedWeights(generator, rank=4, checkpointing=checkpointing)
    latents = generator.noise([0, 1])
    velocity = generator.velocity(latents, 0.5, generator.encode(["a red circle", "two blue squares"]))
    velocity.square().sum().backward()
    return velocity.detach(), [parameter.grad for parameter in weights.parameters.values()]


def test_checkpointing_changes_no_bit():
    kept, again = gradients(False), gradients(True)
    assert kept[0].equal(again[0])
    assert all(one.equal(other) for one, other in zip(kept[1], again[1], strict=True))

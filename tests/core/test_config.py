"""Strict YAML: every mistake names the key and the nearest name there is."""

from pathlib import Path

import pytest

from mmreward import Engine, configs
from mmreward.config import config_at, load_config
from mmreward.data.routing import Router

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*/*.yaml"))
OTHERS = ("generator:", "trainer:", "stages:")
CONFIGS = [path for path in SHIPPED if not any(f"\n{key}" in path.read_text() for key in OTHERS)]
"""Of `mmreward score`; the others also draw or train."""


def written(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_rewards_compose_and_engine_are_read(tmp_path):
    config = load_config(
        written(
            tmp_path,
            "rewards:\n  a: {reward: oracle}\n  iou:\n"
            "compose: {weights: {a: 1.5}, gates: {iou: 0.5}, normalise: group}\n"
            "engine: {device: cpu, items: 8}\n",
        )
    )
    assert config.rewards == {"a": {"reward": "oracle"}, "iou": {}}
    assert config.compose.build().weights == {"a": 1.5}
    with Engine.from_config(config.engine) as engine:
        assert engine.budget.items == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reward: {}", "did you mean 'rewards'"),
        ("rewards: {}\nengine: {divice: cpu}", "did you mean 'device'"),
        ("rewards: {}\ncompose: {weights: {}, gate: {}}", "did you mean 'gates'"),
        ("rewards: {}\nengine: {items: 0}", "engine.items"),
        ("rewards: {}\nengine: {ray: {actor: 2}}", "unknown key 'engine.ray.actor': did you mean 'actors'"),
        ("rewards: {}\nengine: {ray: {networks: {a: {num_cpu: 2}}}}", "did you mean 'num_cpus'"),
        ("rewards: {}\nengine: {ray: {num_gpus: -1}}", "engine.ray.num_gpus"),
        ("rewards: {}\ncompose: {weights: {a: heavy}}", "compose.weights.a"),
        ("rewards: [clipscore]", "rewards"),
        ("- a", "not a mapping"),
        ("rewards: {", "not YAML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_config(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="no config at"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_names_real_rewards_and_arguments(path):
    import inspect

    from mmreward.registry import find

    config = load_config(path)
    Router(config.routes)
    for name, args in config.rewards.items():
        known = inspect.signature(find(args.get("reward", name)).factory).parameters
        assert set(args) - {"reward", "columns", "scale"} <= set(known), (name, args)
    if config.compose is not None:
        assert {*config.compose.weights, *config.compose.gates} <= set(config.rewards)


@pytest.mark.parametrize("own", ["device: cpu", "resident_bytes: 1000"])
def test_a_device_of_this_process_beside_ray_is_refused(tmp_path, own):
    config = load_config(written(tmp_path, f"rewards: {{}}\nengine: {{ray: {{}}, {own}}}"))
    with pytest.raises(ValueError, match="actors own the devices"):
        Engine.from_config(config.engine)


@pytest.mark.parametrize(
    "name", ["tune/mini-grpo", "configs/tune/mini-grpo.yaml", "tune/mini-grpo.yaml", "configs/tune/mini-grpo"]
)
def test_a_recipe_of_the_package_is_found_wherever_a_command_is_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_at(name).read_text() == (Path(configs.__file__).parent / "tune/mini-grpo.yaml").read_text()


def test_an_own_file_comes_before_a_recipe_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "tune").mkdir(parents=True)
    (tmp_path / "configs" / "tune" / "mini-grpo.yaml").write_text("mine: 1")
    assert config_at("configs/tune/mini-grpo.yaml").read_text() == "mine: 1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tune/mini-gpro", "did you mean the recipe 'tune/mini-grpo'"),
        ("/etc/nowhere.yaml", "no config at /etc/nowhere.yaml"),
        ("../tune/mini-grpo", "no config"),
        (".", "is a folder"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words) as caught:
        config_at(name)
    assert "\n" not in str(caught.value)

"""Social Reward from what its publisher's training saves, against a second writing of its validation."""

import json

import open_clip
import pytest
import torch

from mmreward import Engine, Media, Sample, load
from mmreward.engine.batching import Budget
from mmreward.evals.published.checkpoints import OPEN_CLIP, save_social
from mmreward.evals.published.one_by_one import noise
from mmreward.evals.published.social import social
from mmreward.registry import find

ROWS = [
    (noise(60, 60, 0), "A red circle!"),
    (noise(40, 90, 1), "two squares"),
    (noise(90, 31, 2), "x " * 200),
]
SAMPLES = [Sample(id=prompt, prompt=prompt, image=Media(picture)) for picture, prompt in ROWS]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return save_social(tmp_path_factory.mktemp("social") / "social")


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


def test_values_are_those_of_a_second_writing(engine, args):
    reward, reference = load("social_reward", **args), social(args)
    scores = engine.score(SAMPLES, reward)["social_reward"]
    assert [s.value for s in scores] == pytest.approx([reference.value(*row) for row in ROWS], abs=1e-4)
    assert [s.parts["truncated"] for s in scores] == [0, 0, 1]
    with Engine("cpu", budget=Budget(items=1), cache_bytes=0) as other:
        backwards = other.score(SAMPLES[::-1], reward)["social_reward"][::-1]
    assert [s.value for s in backwards] == pytest.approx([s.value for s in scores], abs=1e-5)


def test_a_plain_gelu_is_refused(engine, args, tmp_path):
    """Trap: OpenAI's tensors fit open_clip's plain architecture, and give other numbers with it."""
    (tmp_path / "tiny-L.json").write_text(json.dumps(OPEN_CLIP))
    open_clip.add_model_config(tmp_path / "tiny-L.json")
    quick, plain = (
        engine.score(SAMPLES[:1], load("social_reward", **args | more))["social_reward"][0].value
        for more in ({}, {"architecture": "tiny-L"})
    )
    assert abs(quick - plain) > 1e-4
    with pytest.raises(ValueError, match="ViT-L-14-quickgelu"):
        load("social_reward", fitted=args["fitted"], architecture="ViT-L-14")


def test_its_file_is_the_users(args, tmp_path):
    with pytest.raises(ValueError, match="missing a required argument: 'fitted'"):
        load("social_reward")
    state = torch.load(args["fitted"], weights_only=True)
    assert "visual.proj" in state and "visual.conv1.bias" not in state
    for name in ("SocialReward", "picsart"):
        with pytest.raises(ValueError, match="did you mean 'social_reward'"):
            find(name)

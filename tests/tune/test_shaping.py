"""Shaping in `mmreward tune`: what is trained on is the rewritten column."""

import pytest
import torch
from support import toys

from mmreward import Score
from mmreward.tune.learner import read_weights

HYBRID = {"name": "hybrid", "rule": "rule", "model": "red", "confidence": 0.0}


async def useless(sample):
    return Score(0.5)


def test_a_rewritten_reward_trains_like_the_one_it_became(described, trainer, redness, tmp_path):
    """A rule of no confidence is the model in its place, to the bit."""
    rewards = {"rule": toys.toy(useless, "useless", needs=("image",)), "red": redness}
    runs = {
        "plain": ({"red": {}}, {}, ()),
        "shaped": ({"rule": {}, "red": {}}, {"red": 0.0}, (HYBRID,)),
    }
    for name, (given, weights, shaping) in runs.items():
        config = described(
            rewards=given, weights=weights, shaping=shaping or None, rounds=2, out=str(tmp_path / name)
        )
        trainer(config, rewards={key: rewards[key] for key in given}).run()
    plain, shaped = (read_weights(tmp_path / name / "weights.safetensors") for name in runs)
    assert plain and all(torch.equal(value, shaped[name]) for name, value in plain.items())


def test_steps_that_cannot_be_are_refused(described, trainer, redness):
    two = {"rule": {}, "red": {}}
    with pytest.raises(ValueError, match="trusted compares groups"):
        described(rewards=two, shaping=[{"name": "trusted", "accuracy": "rule", "thinking": "red"}])
    with pytest.raises(ValueError, match="rule is a gate"):
        described(rewards=two, shaping=[HYBRID], advantages={"mode": "gated", "gates": {"rule": 0.5}})
    with pytest.raises(ValueError, match="no reward named rule; there are red"):
        trainer(described(rewards={"red": {}}, shaping=[HYBRID]), rewards={"red": redness})
    config = described(rewards={"red": {}})
    assert config.shaping is None  # as in the description of a run from before there was shaping

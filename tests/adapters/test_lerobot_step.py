"""A step of LeRobot's pipelines: pay of a stream of transitions, labels of success, the real library."""

import numpy as np
import pytest
import torch

from mmreward import Engine, RewardInfo, Score
from mmreward.adapters.lerobot import Paying, picture_of, reward_step, step_class
from mmreward.registry import Reward

KEY = "observation.images.front"


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def brightness(asked):
    async def score(sample):
        asked.append(sample.prompt)
        return Score(float(np.asarray(sample.image.source).mean()) / 255)

    return Reward(RewardInfo(name="brightness", needs=("image",), range=(0, 1)), {}, score)


def transition(level, *, reward=5.0, done=False, truncated=False, tensor=True):
    picture = torch.full((1, 3, 4, 6), level) if tensor else np.full((4, 6, 3), round(level * 255), np.uint8)
    return {
        "observation": {KEY: picture, "observation.state": torch.zeros(1, 2)},
        "action": torch.zeros(2), "reward": reward, "done": done, "truncated": truncated,
        "info": {"is_intervention": False}, "complementary_data": {"task": ["make it bright"]},
    }  # fmt: skip


def test_transitions_are_paid_from_the_second_and_episodes_do_not_mix(engine):
    asked = []
    step = Paying(brightness(asked), KEY, env_weight=0.1, shaping="progress", gamma=1.0, engine=engine)
    first = step(transition(0.2, reward=0.0))
    assert first["reward"] == 0.0 and "env_reward" not in first["info"]
    second = step(transition(0.6))
    assert second["reward"] == pytest.approx(0.5 + 0.4, abs=1e-2) and not second["done"]
    assert second["info"]["env_reward"] == 5.0 and second["info"]["is_intervention"] is False
    assert second["info"]["vision_value"] == pytest.approx(0.6, abs=1e-2)
    assert step(transition(0.8, truncated=True))["info"]["vision_looks"] == 3
    assert step(transition(0.0, reward=0.0))["reward"] == 0.0, "after an end an episode begins"
    step.reset()
    assert step(transition(1.0, reward=0.0))["reward"] == 0.0, "after a reset too"
    assert set(asked) == {"make it bright"}


def test_labels_of_a_classifier(engine):
    step = Paying(
        brightness([]), KEY, weight=0.0, bonus=1.0, success={"enter": 0.7, "hits": 2, "window": 2},
        terminate=True, task="bright", engine=engine,
    )  # fmt: skip
    told = [step(transition(level, tensor=False)) for level in (0.1, 0.9, 0.2, 0.9, 0.9)]
    assert [one["reward"] for one in told[1:]] == [0, 0, 0, 1]
    assert [one["done"] for one in told] == [False] * 4 + [True]


def test_pictures_and_what_is_none():
    plain = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    assert np.array_equal(picture_of({"x": plain}, "x"), plain)
    floats = torch.from_numpy(plain).permute(2, 0, 1).float() / 255
    assert np.array_equal(picture_of({"x": floats}, "x"), plain)
    for bad, said in ((floats * 3 - 1, "put the step before"), (np.zeros((4, 6)), "one picture")):
        with pytest.raises(ValueError, match=said):
            picture_of({"x": bad}, "x")
    with pytest.raises(ValueError, match="has no 'y'; it has: x"):
        picture_of({"x": plain}, "y")
    with pytest.raises(ValueError, match="success="):
        reward_step("saturation", frames="x", terminate=True)


def test_in_a_pipeline_of_lerobot(tmp_path):
    pytest.importorskip("lerobot.processor.pipeline")
    from lerobot.processor.pipeline import DataProcessorPipeline

    step = reward_step("saturation", frames=KEY, shaping="value", task="x")
    pipeline = DataProcessorPipeline(steps=[step], to_transition=lambda t: t, to_output=lambda t: t)
    pipeline.reset()
    grey, red = transition(0.5), transition(0.0)
    red["observation"][KEY][:, 0] = 1.0
    assert [pipeline(one)["reward"] for one in (grey, red, grey)] == pytest.approx([5.0, 1.0, 0.0], abs=0.02)
    pipeline.save_pretrained(tmp_path)
    again = DataProcessorPipeline.from_pretrained(
        tmp_path, config_filename=next(tmp_path.glob("*.json")).name,
        to_transition=lambda t: t, to_output=lambda t: t,
    )  # fmt: skip
    assert isinstance(again.steps[0], step_class())
    assert [again(one)["reward"] for one in (grey, red)] == pytest.approx([5.0, 1.0], abs=0.02)
    for one in (step, again.steps[0]):
        one.paying.watch.close()


def test_without_lerobot_the_need_is_one_line(monkeypatch):
    import sys

    step_class.cache_clear()
    monkeypatch.setitem(sys.modules, "lerobot.processor.pipeline", None)
    with pytest.raises(ValueError, match="pip install lerobot"):
        reward_step("saturation", frames=KEY)

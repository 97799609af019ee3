"""The wrappers on MuJoCo, rendered without a screen: what a camera really sees, and what it is paid."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("mujoco")
DRIVERS = ("egl", "osmesa")
CODE = """
import json
import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv
from mmreward import Engine
from mmreward.adapters.gymnasium import VisionReward, VisionRewardVector

def reacher():
    return gymnasium.make("Reacher-v5", render_mode="rgb_array", width=96, height=96, max_episode_steps=6)

def episode(engine):
    reward = {"goal": {"weights": "mini-clip", "baseline": "a picture"}}
    env = VisionReward(reacher(), reward, task="a red circle", every=2, gamma=0.9, engine=engine)
    env.reset(seed=3)
    told = []
    for step in range(6):
        _, earned, _, truncated, info = env.step(np.full(2, 0.5 if step % 2 else -1.0, np.float32))
        told.append([earned, info.get("vision_value"), info["env_reward"], bool(truncated)])
    return told, info["vision_residual"], env.watch.footage[0].last

with Engine("cpu") as engine:
    first, residual, frame = episode(engine)
    second, _, _ = episode(engine)
    many = SyncVectorEnv([reacher, reacher])
    vector = VisionRewardVector(many, "saturation", task="a red circle", shaping="value", engine=engine)
    vector.reset(seed=3)
    paid = [vector.step(np.zeros((2, 2), np.float32))[1].tolist() for _ in range(2)]
print(json.dumps([first, second, residual, [list(frame.shape), float(frame.std())], paid]))
"""


@pytest.fixture(scope="module")
def driver():
    for name in DRIVERS:
        look = (
            "import gymnasium as g; e = g.make('Reacher-v5', render_mode='rgb_array'); e.reset(); e.render()"
        )
        if run(look, name).returncode == 0:
            return name
    pytest.skip("MuJoCo can render by none of EGL and OSMesa here (Debian: libegl1 or libosmesa6)")


def run(code, name):
    environment = {**os.environ, "MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_an_arm_is_paid_for_what_a_camera_sees(driver):
    done = run(CODE, driver)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second, residual, (shape, spread), paid = json.loads(done.stdout.splitlines()[-1])
    assert shape == [96, 96, 3] and spread > 5  # a picture with something in it
    assert first == second  # the same seed, the same pictures, the same pay
    values = [value for _, value, _, _ in first]
    assert [value is not None for value in values] == [False, True, False, True, False, True]
    assert len({round(value, 6) for value in values if value is not None}) == 3  # the arm moves, and is seen
    assert first[-1][3] and residual == pytest.approx(0, abs=1e-9)  # cut by the limit of time
    assert all(own < 0 for _, _, own, _ in first)  # the simulator's own reward, which is left out
    assert all(0 < reward <= 1 for row in paid for reward in row)

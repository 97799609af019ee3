"""The wrappers on MuJoCo, rendered without a screen: what a camera really sees, and what it is paid."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.recordings import LENGTHS, lerobot

from mmreward import Engine, load
from mmreward.data.lerobot_copy import write_back
from mmreward.data.results import Result
from mmreward.data.rows import read_rows

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

RECORD = """
import sys
import gymnasium
import numpy as np

env = gymnasium.make("Pusher-v5", render_mode="rgb_array", width=32, height=32)
frames = []
for number, length in enumerate(json.loads(sys.argv[2])):
    env.reset(seed=number)
    for step in range(length):
        frames.append(env.render())
        env.step(np.full(7, 2.0 if step % 2 else -2.0, np.float32))
np.save(sys.argv[1], np.stack(frames))
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


def run(code, name, *arguments):
    environment = {**os.environ, "MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
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


def test_a_recording_goes_into_lerobot_and_comes_back_with_its_reward(driver, tmp_path):
    """Episodes of Pusher as a LeRobot dataset: read, scored by `goal` and `liv`, and written into a copy."""
    done = run("import json\n" + RECORD, driver, str(tmp_path / "frames.npy"), json.dumps(LENGTHS))
    assert done.returncode == 0, done.stderr[-2000:]
    frames = np.load(tmp_path / "frames.npy")
    assert frames.shape == (sum(LENGTHS), 32, 32, 3) and frames.std() > 5
    dataset = lerobot(tmp_path / "pusher", cameras={"observation.images.top": 0}, pictures=list(frames))
    samples = [row.sample for row in read_rows(dataset)]
    assert [len(one.steps) for one in samples] == list(LENGTHS)
    begun = np.cumsum([0, *LENGTHS])
    for number, sample in enumerate(samples):
        for step, told in enumerate(sample.steps):
            (seen,) = told["observation"].values()
            read = seen.array()
            assert np.abs(read.astype(int) - frames[begun[number] + step]).mean() < 8, (number, step)
    rewards = {
        "goal": load("goal", weights="mini-clip"),
        "liv": load("liv", weights="mini-clip", frames="all"),
    }
    # An episode has no picture of its own: `goal` is shown its last.
    shown = [replace(one, image=one.steps[-1]["observation"]["top"]) for one in samples]
    with Engine("cpu") as engine:
        scores = engine.score(shown, rewards)
    assert all(score.ok for column in scores.values() for score in column)
    results = [
        Result.of(one.id, "liv", score, "f", "") for one, score in zip(samples, scores["liv"], strict=True)
    ]
    assert write_back(dataset, results, "liv", tmp_path / "paid") == (3, 0)
    written = [
        value
        for file in sorted((tmp_path / "paid" / "data").glob("*/*.parquet"))
        for value in pq.read_table(file).column("reward.liv").to_pylist()
    ]
    curves = [
        score.parts[f"frame_{step}"]
        for score, n in zip(scores["liv"], LENGTHS, strict=True)
        for step in range(n)
    ]
    assert written == pytest.approx(curves, abs=1e-6) and len({round(value, 6) for value in curves}) > 5

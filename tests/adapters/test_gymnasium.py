"""Real gymnasium environments under a reward that reads the picture: what each step earns, one environment
and vectors in every autoreset mode, and what a judge that fails costs.
"""

from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import AddRenderObservation

from mmreward import Engine, RewardInfo, Score, Unscorable
from mmreward.adapters.gymnasium import VisionReward, VisionRewardVector
from mmreward.adapters.watching import Footage
from mmreward.registry import Reward

LENGTH = 6
GAMMA = 0.9


class Track(gymnasium.Env):
    """A track of six places: action 1 goes on, 0 stays; the last place ends the episode, and pays 1."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, render_mode="rgb_array", start=0):
        self.render_mode, self._start = render_mode, start
        self.observation_space = gymnasium.spaces.Discrete(LENGTH)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self._start
        return self.place, {"task": f"reach place {LENGTH - 1}"}

    def step(self, action):
        self.place = min(self.place + int(action), LENGTH - 1)
        done = self.place == LENGTH - 1
        return self.place, float(done), done, False, {}

    def render(self):
        if self.render_mode is None:
            return None
        frame = np.zeros((8, LENGTH, 3), np.uint8)
        frame[:, : self.place + 1] = 255
        return frame


gymnasium.register("Track-v0", Track)


class Judge:
    """A reward that reads the progress off the picture, as the share of white columns; counts what it saw."""

    def __init__(self, broken=()):
        self.seen, self.broken = [], broken
        info = RewardInfo(name="progress", needs=("shown",), range=(0, 1))
        self.reward = Reward(info, {}, self.score)

    async def score(self, sample):
        pixels = np.asarray(sample.shown.source)
        frames = pixels if pixels.ndim == 4 else pixels[None]
        self.seen.append((sample.prompt, [round(float(frame.mean()) / 255 * LENGTH) - 1 for frame in frames]))
        place = self.seen[-1][1][-1]
        if place in self.broken:
            raise Unscorable(f"cannot read place {place}")
        return Score(place / (LENGTH - 1))


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def run(env, actions):
    """Rewards and infos of one episode."""
    env.reset(seed=0)
    told = []
    for action in actions:
        _, reward, terminated, truncated, info = env.step(action)
        told.append((reward, info))
        if terminated or truncated:
            break
    return [reward for reward, _ in told], [info for _, info in told]


def potential(places, *, terminated=True):
    values = [place / (LENGTH - 1) for place in places]
    after = [*values[1:-1], 0.0 if terminated else values[-1]]
    return [GAMMA * new - old for new, old in zip(after, values, strict=False)]


# --- one environment --------------------------------------------------------------------------------


def test_the_wrapper_is_a_gymnasium_environment(engine):
    check_env(VisionReward(Track(), Judge().reward, engine=engine), skip_render_check=True)


def test_every_step_earns_the_shaped_value_of_what_is_seen(engine):
    judge = Judge()
    env = VisionReward(Track(), judge.reward, task="go on", gamma=GAMMA, engine=engine)
    rewards, infos = run(env, [1, 0, 1, 1, 1, 1])
    assert rewards == pytest.approx(potential([0, 1, 1, 2, 3, 4, 5]))
    # The place that ends the episode is not looked at: its potential is 0 whatever it shows.
    assert judge.seen == [("go on", [place]) for place in (0, 1, 1, 2, 3, 4)]
    assert [info.get("vision_value") for info in infos] == [0.2, 0.2, 0.4, 0.6, 0.8, None]
    assert infos[-1]["env_reward"] == 1.0 and infos[-1]["vision_looks"] == 6
    assert infos[-1]["vision_residual"] == pytest.approx(0)


def test_a_limit_of_time_keeps_the_potential(engine):
    env = gymnasium.wrappers.TimeLimit(Track(), 3)
    rewards, infos = run(VisionReward(env, Judge().reward, gamma=GAMMA, engine=engine), [1, 1, 0])
    assert rewards == pytest.approx(potential([0, 1, 2, 2], terminated=False))
    assert infos[-1]["vision_residual"] == pytest.approx(0)


def test_looking_at_every_third_step_or_in_the_end(engine):
    judge = Judge()
    env = VisionReward(Track(), judge.reward, every=3, gamma=GAMMA, engine=engine)
    rewards, infos = run(env, [1] * 5)
    assert [places for _, places in judge.seen] == [[0], [3]]
    assert rewards == pytest.approx([0, 0, GAMMA * 0.6, (GAMMA - 1) * 0.6, -0.6])
    assert infos[-1]["vision_residual"] == pytest.approx(0)
    judge = Judge()
    env = VisionReward(Track(), judge.reward, every="end", shaping="value", env_weight=2.0, engine=engine)
    assert run(env, [1] * 5)[0] == pytest.approx([0, 0, 0, 0, 2 + 1])
    assert [places for _, places in judge.seen] == [[5]]


def test_a_clip_of_the_episode_ends_with_the_last_frame(engine):
    judge = Judge()
    env = VisionReward(Track(), judge.reward, clip=3, shaping="value", engine=engine)
    run(env, [1] * 5)
    assert [places for _, places in judge.seen] == [[0, 1], [0, 1, 2], [0, 2, 3], [0, 2, 4], [0, 2, 5]]


@pytest.mark.parametrize(("most", "length"), [(2, 3), (4, 100), (8, 1000), (1, 50)])
def test_footage_keeps_few_frames_and_always_first_and_last(most, length):
    footage = Footage(most)
    for number in range(length):
        footage.add(np.full((1, 1, 3), number % 251, np.uint8))
        assert len(footage._frames) <= 8 * most
    clip = footage.clip(fps=10.0)
    numbers = np.asarray(clip.source)[:, 0, 0, 0]
    assert len(numbers) == min(most, length) and numbers[-1] == (length - 1) % 251
    if most > 1:
        assert numbers[0] == 0 and (len(numbers) - 1) / clip.given_fps == pytest.approx((length - 1) / 10)


def test_success_pays_once_and_may_end_the_episode(engine):
    rule = {"enter": 0.6, "hits": 2, "window": 2}
    given = {"success": rule, "bonus": 10.0, "shaping": "progress", "engine": engine}
    rewards, infos = run(VisionReward(Track(), Judge().reward, **given), [1] * 5)
    assert rewards == pytest.approx([0.2, 0.2, 0.2, 10.2, 0.2])
    assert [info["vision_success"] for info in infos] == [False, False, False, True, True]
    ended = VisionReward(Track(), Judge().reward, terminate=True, **given)
    rewards, _ = run(ended, [1] * 5)
    assert len(rewards) == 4


def test_labels_of_success_alone(engine):
    """As the classifiers of SERL give them: 1 at the step that succeeds, which ends the episode, else 0."""
    rule = {"enter": 0.6, "hits": 2, "window": 3}
    env = VisionReward(
        Track(), Judge().reward, success=rule, bonus=1.0, weight=0.0, terminate=True, engine=engine
    )
    rewards, infos = run(env, [1] * 5)
    assert rewards == [0, 0, 0, 1] and [info["vision_success"] for info in infos] == [False] * 3 + [True]


def test_the_task_may_come_from_the_reset_and_a_look_counts_for_nothing(engine):
    judge = Judge()
    env = VisionReward(Track(), judge.reward, task=lambda index, info: info["task"], engine=engine)
    env.reset()
    env.step(1)
    assert env.look().value == 0.2 and judge.seen[-1] == ("reach place 5", [1])


def test_an_environment_described_by_its_spec_is_made_again():
    env = VisionReward(gymnasium.make("Track-v0"), "saturation", task="x", every=2)
    again = gymnasium.make(env.spec)
    assert run(env, [1, 1])[0] == run(again, [1, 1])[0]
    for one in (env, again):
        one.close()


# --- a judge that fails -----------------------------------------------------------------------------


def test_a_failed_look_holds_the_value_or_pays_nothing_or_raises(engine):
    def wrapped(unknown, **given):
        reward = Judge(broken={2}).reward
        return VisionReward(Track(), reward, gamma=GAMMA, unknown=unknown, engine=engine, **given)

    held, infos = run(wrapped("hold"), [1] * 5)
    assert held == pytest.approx([0.18, -0.02, GAMMA * 0.6 - 0.2, GAMMA * 0.8 - 0.6, -0.8])
    assert infos[1]["vision_failed"] == "error: cannot read place 2" and "vision_value" not in infos[1]
    assert infos[-1]["vision_failures"] == 1 and infos[-1]["vision_residual"] == pytest.approx(0)
    none, infos = run(wrapped("zero"), [1] * 5)
    assert none[1] == 0 and infos[-1]["vision_residual"] == pytest.approx(0.9 * 0.02)
    with pytest.raises(RuntimeError, match="environment 0, step 2: error: cannot read place 2"):
        run(wrapped("raise"), [1] * 5)


def test_a_judge_that_is_gone_ends_the_run(engine):
    reward = Judge(broken={1}).reward
    env = VisionReward(Track(), reward, patience=4, engine=engine)
    with pytest.raises(RuntimeError, match=r"4 looks in a row failed, the last: .*cannot read place 1"):
        run(env, [1] + [0] * 9)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda e: VisionReward(Track(), "saturation", every="end", engine=e), "pays nothing"),
        (lambda e: VisionReward(Track(), "saturation", every=0, engine=e), "every is a number"),
        (lambda e: VisionReward(Track(), "saturation", terminate=True, engine=e), "success="),
        (lambda e: VisionReward(Track(), "saturation", bonus=1.0, engine=e), "success="),
        (lambda e: VisionReward(Track(), "saturate", engine=e), "saturation"),
        (lambda e: VisionReward(Track(render_mode=None), "saturation", engine=e).reset(), "render_mode"),
        (lambda e: VisionReward(Track(), "saturation", frames="", engine=e).reset(), "a frame is uint8"),
        (lambda e: VisionReward(Track(), "saturation", frames="top", engine=e).reset(), "no 'top'"),
    ],
)
def test_arguments_that_cannot_work_are_said_first(make, said, engine):
    with pytest.raises(ValueError, match=said):
        make(engine)


# --- vectors ----------------------------------------------------------------------------------------

STARTS = (0, 2, 4)
PLANS = {0: [1, 0, 1, 1, 1, 1], 2: [1, 1, 0, 1], 4: [0, 0, 1]}


def pixels(start, limit):
    env = gymnasium.wrappers.TimeLimit(Track(start=start), limit)
    return AddRenderObservation(env, render_only=False, render_key="pixels", obs_key="place")


def alone(start, limit, engine):
    env = VisionReward(gymnasium.wrappers.TimeLimit(Track(start=start), limit), Judge().reward, gamma=GAMMA)
    env.watch.scorer._yours = engine
    return run(env, PLANS[start])[0]


def episodes_of(env, mode, steps, *, telescoping=True):
    """Rewards by environment and episode, each environment repeating its plan."""
    env.reset(seed=0)
    found, at, ended = [[[]] for _ in STARTS], [0] * len(STARTS), np.zeros(len(STARTS), dtype=bool)
    for _ in range(steps):
        actions = np.array([PLANS[start][at[i] % len(PLANS[start])] for i, start in enumerate(STARTS)])
        skipped = ended if mode is AutoresetMode.NEXT_STEP else np.zeros(len(STARTS), dtype=bool)
        _, rewards, terminated, truncated, infos = env.step(actions)
        ended = terminated | truncated
        for i in range(len(STARTS)):
            if skipped[i]:
                assert rewards[i] == 0 and not infos["_vision_reward"][i]
                continue
            found[i][-1].append(float(rewards[i]))
            at[i] += 1
            if ended[i]:
                assert infos["_vision_residual"][i]
                assert not telescoping or infos["vision_residual"][i] == pytest.approx(0, abs=1e-9)
                found[i].append([])
                at[i] = 0
        if mode is AutoresetMode.DISABLED and ended.any():
            env.reset(options={"reset_mask": ended})
    return [one[:-1] for one in found]


@pytest.mark.parametrize("limit", [4, 50])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_each_of_a_vector_earns_what_it_earns_alone_in_every_autoreset_mode(mode, limit, engine):
    judge = Judge()
    vector = SyncVectorEnv([lambda s=s: pixels(s, limit) for s in STARTS], autoreset_mode=mode)
    frames = "render" if mode is not AutoresetMode.SAME_STEP else "pixels"
    env = VisionRewardVector(vector, judge.reward, gamma=GAMMA, frames=frames, engine=engine)
    found = episodes_of(env, mode, 24)
    for start, episodes in zip(STARTS, found, strict=True):
        assert len(episodes) >= 3
        for rewards in episodes:
            assert rewards == pytest.approx(alone(start, limit, engine)), start
    env.close()


def test_a_vector_is_scored_by_one_call_per_step(engine, monkeypatch):
    vector = SyncVectorEnv([lambda s=s: pixels(s, 50) for s in STARTS])
    env = VisionRewardVector(vector, Judge().reward, frames="pixels", engine=engine)
    calls = []
    score = env.watch.scorer.score
    monkeypatch.setattr(
        env.watch.scorer, "score", lambda batch: calls.append(len(batch.samples)) or score(batch)
    )
    env.reset(seed=0)
    env.step(np.array([1, 1, 1]))  # the third ends, and is not looked at
    env.step(np.array([1, 1, 1]))  # it begins again
    assert calls == [3, 2, 2, 1]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_finished_episode_is_scored_once_in_every_autoreset_mode(mode, engine):
    """Paid by its end alone: as many looks as ends, each at the last state, whichever mode resets it."""
    judge = Judge()
    vector = SyncVectorEnv([lambda s=s: pixels(s, 3) for s in STARTS], autoreset_mode=mode)
    frames = "render" if mode is not AutoresetMode.SAME_STEP else "pixels"
    env = VisionRewardVector(
        vector, judge.reward, every="end", shaping="value", frames=frames, unknown="raise", engine=engine
    )
    found = episodes_of(env, mode, 20, telescoping=False)
    ended = [rewards for episodes in found for rewards in episodes]
    assert len(judge.seen) == len(ended) >= 9
    for start, episodes in zip(STARTS, found, strict=True):
        last = min(start + sum(PLANS[start][:3]), LENGTH - 1)
        for rewards in episodes:
            assert rewards == pytest.approx([0] * (len(rewards) - 1) + [last / (LENGTH - 1)])


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_nothing_is_lost_when_the_judge_dies(mode, engine):
    """Steps, true rewards and episodes go on while it is away; when it is back the pay adds up to what it
    would have been, and gone for good it ends the run, after which the wrapper is still whole."""
    judge = Judge()

    def made(env, **given):
        frames = "render" if mode is not AutoresetMode.SAME_STEP else "pixels"
        return VisionRewardVector(
            env, judge.reward, gamma=1.0, shaping="progress", frames=frames, engine=engine, **given
        )

    two = [lambda: pixels(0, 50)] * 2
    env = made(SyncVectorEnv(two, autoreset_mode=mode), env_weight=0.0)
    env.reset(seed=0)
    paid, failures = np.zeros(2), 0
    for number in range(4):
        judge.broken = range(LENGTH) if number in (1, 2) else ()
        _, rewards, terminated, _, infos = env.step(np.array([1, 0]))
        paid += rewards
        failures += int(infos["_vision_failed"].sum())
        assert infos["_env_reward"].all() and not terminated.any()
        assert list(rewards) == pytest.approx([[0.2, 0], [0, 0], [0, 0], [0.6, 0]][number])
    assert failures == 4 and paid == pytest.approx([0.8, 0])
    judge.broken = ()
    _, rewards, terminated, _, infos = env.step(np.array([1, 0]))
    assert terminated[0] and infos["vision_failures"][0] == 2
    assert paid + rewards == pytest.approx([1, 0]), "what it would have been"

    # Two members fail at one step, which is once: three such steps in a row end the run.
    env = made(SyncVectorEnv(two, autoreset_mode=mode), patience=3)
    env.reset(seed=0)
    judge.broken = range(LENGTH)
    env.step(np.array([1, 0]))
    env.step(np.array([1, 0]))
    with pytest.raises(RuntimeError, match="3 looks in a row failed, the last: environment 1, step 3"):
        env.step(np.array([1, 0]))
    judge.broken = ()
    _, rewards, _, _, infos = env.step(np.array([1, 1]))
    assert list(rewards) == pytest.approx([0.8, 0.2]) and infos["vision_value"][0] == 0.8


def test_environments_in_processes_of_their_own(engine):
    vector = AsyncVectorEnv([lambda s=s: pixels(s, 50) for s in STARTS])
    env = VisionRewardVector(vector, Judge().reward, gamma=GAMMA, frames="pixels", engine=engine)
    found = episodes_of(env, AutoresetMode.NEXT_STEP, 12)
    env.close()
    assert found[2][0] == pytest.approx(alone(4, 50, engine))


def test_a_vector_that_resets_within_the_step_must_have_pictures_in_its_observations(engine):
    vector = SyncVectorEnv([Track], autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="AddRenderObservation"):
        VisionRewardVector(vector, Judge().reward, engine=engine)
    two = SyncVectorEnv([lambda: pixels(0, 9)] * 2)
    with pytest.raises(ValueError, match="1 tasks for 2"):
        VisionRewardVector(two, Judge().reward, task=["a"], frames="pixels", engine=engine).reset()

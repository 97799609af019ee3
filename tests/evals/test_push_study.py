"""The push study: rewards of a table as the environment pays them, best policies, Q-learning, its words."""

import numpy as np
import pytest

from mmreward import Engine
from mmreward.evals.studies import push
from mmreward.evals.studies.push import Learned, best, examined, learned_table, paid, paying, table, tabled

MARK = (2, 1)
PLAIN = [kind for kind in push.KINDS if kind not in push.JUDGED]


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def world():
    return tabled("left of", [MARK])


@pytest.mark.parametrize("kind", [*PLAIN, "topreward"])
def test_the_table_pays_what_the_environment_pays(world, engine, kind):
    rewards = paid(kind, "left of", world, engine)
    env, answered = paying(kind, "left of", engine), push.Tabled(push.made_world("left of"), rewards, world)
    inner = env.unwrapped
    rng, seed = np.random.default_rng(0), 0
    while env.reset(seed=seed) and inner.mark != MARK:
        seed += 1
    answered.reset(seed=seed)
    for _ in range(12):
        state = world.numbers[(inner.mark, inner.agent, inner.moved)]
        move = int(rng.integers(4))
        assert float(env.step(move)[1]) == pytest.approx(rewards[state, move], abs=1e-4)
        assert answered.step(move)[1] == rewards[state, move] and answered.unwrapped.moved == inner.moved
        assert world.won[world.after[state, move]] == inner.success


def test_best_policies(world, engine):
    """A reward that sees pictures alone has a best policy that succeeds; a potential leaves what is best."""
    found = {kind: best(paid(kind, "left of", world, engine), world) for kind in PLAIN}
    assert found["sparse"] == pytest.approx(1) == found["goal as potential"]
    assert found["goal as potential, zero"] == pytest.approx(1)
    assert found["goal"] > 0.9 and 0.02 < found["none"] < 0.4
    wrong = best(-paid("goal", "left of", world, engine), world)
    assert wrong < found["none"], "who runs from the goal arrives less often than by chance"


def test_a_table_is_learned_and_nothing_is_learned_of_nothing(world, engine):
    shares = [learned_table(paid("goal", "left of", world, engine), world, seed, 8000) for seed in (0, 1)]
    nothing = learned_table(paid("none", "left of", world, engine), world, 0, 2000)
    assert min(shares) > 0.6 > 0.4 > nothing
    sparse = paid("sparse", "left of", world, engine)
    assert learned_table(sparse, world, 3, 3000) == learned_table(sparse, world, 3, 3000)


def test_what_a_judge_of_hops_is_shown(world, engine):
    start, won = int(world.starts[-1]), int(np.flatnonzero(world.won)[0])
    sample = push.sample_of("dopamine", won, world)
    first, last = (step["observation"].array() for step in sample.steps)
    assert np.array_equal(first, world.frames[start]) and np.array_equal(last, world.frames[won])
    assert sample.inputs[0].array().shape == first.shape
    assert not np.array_equal(sample.inputs[0].array(), first)
    with pytest.raises(ValueError, match="--live does not know"):
        paying("dopamine", "left of", engine)
    with pytest.raises(SystemExit):
        push.main(["--learner", "dqn", "--marks", "2"])


def test_exams_and_the_table():
    assert examined(lambda seen: 0, "left of", 10) < 0.5
    lines = table([Learned("sparse", 1.0, (0.5, 0.7)), Learned("none", 0.16)])
    assert "100.0%" in lines[1] and "0.600" in lines[1] and "0.500 0.700" in lines[1]
    assert lines[2].split()[-3:] == ["-", "-", "-"]


def test_a_learner_that_is_not_there_is_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ValueError, match="pip install stable-baselines3"):
        push.learned_dqn(push.made_world("left of"), "left of", 0, 10, 1)

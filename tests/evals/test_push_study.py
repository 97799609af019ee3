"""The push study: best policies by value iteration, exams, and its table; nothing is trained."""

import numpy as np
import pytest

from mmreward import Engine
from mmreward.evals.studies import push
from mmreward.evals.studies.push import Row, best, examined, table


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def test_the_true_reward_solves_all_and_none_walks_at_random(engine):
    share, starts = best("sparse", "left of", engine)
    assert share == pytest.approx(1) and starts > 400
    none, _ = best("none", "left of", engine)
    assert 0.05 < none < 0.3


def test_a_potential_leaves_what_the_best_policy_solves(engine):
    """By mini-clip at one mark; the reward alone is not told of success, and its best policy solves most."""
    env, places = push.world("left of"), push.push.PLACES
    env.mark = (2, 1)
    states = [(a, m) for a in places for m in places if len({a, m, env.mark}) == 3]
    won = np.array([env.is_goal(moved) for _, moved in states])
    kinds = ("sparse", "goal", "goal as potential")
    found = {kind: push._solved(env, kind, states, won, engine) for kind in kinds}
    assert found["goal as potential"] == pytest.approx(found["sparse"])
    assert found["goal"][0] > 0.9 * found["sparse"][0]


def test_exams_and_the_table():
    assert examined(lambda seen: 0, "left of", 10) < 0.5
    lines = table([Row("sparse", 1.0, 532, (0.5, 0.7)), Row("none", 0.16, 532)])
    assert "100.0%" in lines[1] and "0.600" in lines[1] and "0.500 0.700" in lines[1]
    assert lines[2].split()[-3:] == ["-", "-", "-"]


def test_a_learner_that_is_not_there_is_one_line(engine, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ValueError, match="pip install stable-baselines3"):
        push.learned("sparse", "left of", 0, 10, 1, engine)

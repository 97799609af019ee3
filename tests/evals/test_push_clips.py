"""Clips that deserve less: how they are made, what rewards say of them, and false positives."""

import numpy as np
import pytest

from mmreward import Engine
from mmreward.evals.studies import push_clips
from mmreward.evals.studies.push_clips import clips_of, false_positives, rewards_of, table, valued


@pytest.fixture(scope="module")
def clips():
    return clips_of(6, 50_000)


def test_each_column_is_what_it_says(clips):
    good, turned, still = clips["as it is"][0], clips["reversed"][0], clips["frozen"][0]
    assert np.array_equal(good.frames[0], turned.frames[-1]) and len(good.frames) == len(turned.frames)
    assert np.array_equal(still.frames[-1], good.frames[0]) and not clips["empty"][0].frames[-1].any()
    assert clips["foreign"][0].task == good.task == "a red circle left of a blue square"
    assert {len(column) for column in clips.values()} == {6}
    assert sorted(map(id, clips["shuffled"][0].frames)) == sorted(map(id, good.frames))


def test_a_reward_falls_where_it_should(clips):
    rewards = {"goal": rewards_of("a red circle right of a blue square")["goal"]}
    with Engine("cpu") as engine:
        found = valued(clips, rewards, engine)
    good = found["goal"]["as it is"]
    for column in ("reversed", "frozen", "empty", "foreign"):
        assert np.mean(found["goal"][column] < good) >= 0.8, column
    lines = table(found)
    assert "false positives" in lines[0] and lines[1].startswith("goal") and "100%" in lines[1]


def test_a_judge_that_pays_failures_is_exposed():
    good = np.linspace(0.5, 1.0, 20)
    assert false_positives(good, np.linspace(0, 0.4, 20)) == 0
    assert false_positives(np.ones(20), np.ones(20)) == 1, "always the same pay"
    assert false_positives(good, np.array([0.9, 0.1, np.nan, 0.7])) == 0.5
    assert false_positives(-good, np.zeros(4)) == 1, "whatever its scale"


def test_an_unknown_reward_is_one_line(capsys):
    with pytest.raises(SystemExit):
        push_clips.main(["--rewards", "gaol"])
    assert "there are goal, liv" in capsys.readouterr().err

"""The push world: its moves, starts that can be solved, pictures the miniature can read, and true success."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv

import mmreward.mini.push as push
from mmreward.mini.oracle import read
from mmreward.mini.world import parse_caption


def made(**options):
    return gymnasium.make(push.ID, **options).unwrapped


def walk_there(env):
    """Moves of a shortest way to success, by breadth-first search over copies of the places."""
    left, seen = [((env.agent, env.moved), ())], set()
    while left:
        (agent, moved), way = left.pop(0)
        if env.is_goal(moved):
            return way
        for number, move in enumerate(push.MOVES):
            after = env.after(agent, moved, move)
            if after not in seen:
                seen.add(after)
                left.append((after, (*way, number)))
    return None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"relation": "above", "distractors": 3},
        {"goal": "picture", "layout": 3, "distractors": 1},
        {"observation": "picture", "size": 32},
    ],
)
def test_gymnasium_takes_it_and_every_start_can_be_solved(options):
    env = made(**options)
    check_env(env)
    for seed in range(15):
        _, info = env.reset(seed=seed)
        way = walk_there(env)
        assert not info["success"] and len(way) == info["shortest"] > 0
        for number, action in enumerate(way):
            _, reward, terminated, truncated, info = env.step(action)
            last = number == len(way) - 1
            assert (reward, terminated, truncated) == (float(last), last, False)
        assert info["success"] and info["is_success"] and env.success


def test_what_is_pushed_and_what_is_not():
    env = made(layout=0, distractors=1)
    env.reset(seed=0)
    env.mark, env.others = (3, 1), ((("green", "circle"), (1, 3)),)
    env.agent, env.moved = (0, 1), (1, 1)
    assert env.after((0, 1), (1, 1), (1, 0)) == ((1, 1), (2, 1)), "the shape goes on"
    assert env.after((1, 1), (2, 1), (1, 0)) == ((1, 1), (2, 1)), "the mark stands behind it"
    assert env.after((2, 1), (1, 1), (1, 0)) == ((2, 1), (1, 1)), "the mark cannot be pushed"
    assert env.after((1, 2), (2, 2), (0, 1)) == ((1, 2), (2, 2)), "nor a distractor"
    assert env.after((0, 0), (1, 1), (-1, 0)) == ((0, 0), (1, 1)), "nor a wall"
    assert env.after((0, 2), (0, 3), (0, 1)) == ((0, 2), (0, 3)), "nor a shape at the wall"
    assert env.after((0, 2), (3, 3), (0, -1)) == ((0, 1), (3, 3))


def test_the_pictures_say_what_is_true():
    """The oracle, which shares no code with the world's drawing, finds both shapes and not the agent."""
    env = made(relation="left of")
    caption = parse_caption(env.task)
    assert str(caption) == env.task == "a red circle left of a blue square"
    assert env.opposite == "a red circle right of a blue square"
    for seed in range(8):
        env.reset(seed=seed)
        for action in walk_there(env):
            env.step(action)
            found = {one.kind: one for one in read(env.render())}
            assert set(found) == {("red", "circle"), ("blue", "square")}
            assert (found["red", "circle"].x < found["blue", "square"].x - 0.05) == env.success


def test_the_picture_of_a_goal_is_the_goal():
    env = made(goal="picture", layout=5, distractors=1)
    env.reset(seed=1)
    goal = env.goal_picture
    env.reset(seed=2)
    assert np.array_equal(goal, env.goal_picture), "the layout stays"
    for action in walk_there(env):
        env.step(action)
    assert env.success
    reached = env.render().astype(int)
    grey = np.abs(reached - goal).max(axis=2) > 8
    assert 0 < grey.mean() < 0.05, "the agent alone is not on it"
    with pytest.raises(ValueError, match="is a text"):
        _ = made().goal_picture


def test_seeds_repeat_and_layouts_differ():
    env = made()
    assert np.array_equal(env.reset(seed=7)[0], env.reset(seed=7)[0])
    marks = {(env.reset()[0][4], env.reset()[0][5]) for _ in range(12)}
    assert len(marks) > 3
    fixed = made(layout=1)
    assert len({tuple(fixed.reset(seed=n)[0][4:6]) for n in range(6)}) == 1
    vector = SyncVectorEnv([lambda: gymnasium.make(push.ID) for _ in range(2)])
    seen, info = vector.reset(seed=0)
    assert seen.shape == (2, 6) and list(info["task"]) == [env.task] * 2


def test_episodes_end_by_time_and_go_on_at_success_where_asked():
    env = made(terminate=False, max_steps=9)
    env.reset(seed=0)
    way = list(walk_there(env))
    steps = [env.step(action) for action in [*way, *[way[-1]] * (9 - len(way))]]
    assert [one[2] for one in steps] == [False] * 9 and [one[3] for one in steps] == [False] * 8 + [True]
    assert steps[len(way) - 1][1] == 1.0


def test_a_visual_reward_rises_on_the_way_to_the_goal():
    """`goal` by mini-clip is told of no place; over episodes that are solved it ends higher than it began."""
    from mmreward import Engine
    from mmreward.adapters.gymnasium import VisionReward

    with Engine("cpu") as engine:
        inner = gymnasium.make(push.ID, terminate=False)
        arguments = {"weights": "mini-clip", "alpha": 0.5, "baseline": inner.unwrapped.opposite}
        env = VisionReward(
            inner, {"goal": arguments}, task=push.task_of, shaping="progress", gamma=1.0, engine=engine
        )
        gained = []
        for seed in range(6):
            env.reset(seed=seed)
            gained.append(sum(float(env.step(a)[1]) for a in walk_there(inner.unwrapped)))
    assert np.mean(gained) > 0.02 and np.mean(np.array(gained) > 0) >= 0.8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"relation": "beside"}, "relation is one of"),
        ({"goal": "words"}, "goal is text or picture"),
        ({"goal": "picture"}, "give layout=SEED"),
        ({"distractors": 4}, "0 to 3"),
        ({"max_steps": 0}, "1 at least"),
        ({"kinds": (("red", "circle"), ("red", "circle"))}, "two different ones"),
        ({"kinds": (("red", "circle"), ("pink", "cube"))}, "two different ones"),
    ],
)
def test_arguments_that_make_no_sense(options, words):
    with pytest.raises(ValueError, match=words):
        push.Push(**options)

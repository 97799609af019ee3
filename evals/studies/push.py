"""Learning to push from what a camera sees: true success on the push world under a visual reward alone.

Two figures for each reward. "Best": the share of all starts that its best policy solves, by value iteration,
which no learner stands in the way of. "Learned": the share of held-out starts that a DQN of
Stable-Baselines3 solves after equal steps, over seeds. A start is solved if the goal is reached at the end of
the episode; `goal` alone is not told of that. The policy reads the places, the reward reads the picture.

- goal: `goal` by mini-clip, the change of its value from step to step; nothing else.
- goal as potential: the same value as a potential beside the true reward, which leaves the best policy.
- sparse: 1 in every state of success, 0 elsewhere.
- none: 0 always.

`pip install stable-baselines3` first, or give `--best` for the first figure alone.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from mmreward import Engine, Media, Sample, load
from mmreward.adapters.gymnasium import VisionReward
from mmreward.mini import push
from mmreward.mini.world import RELATIONS
from mmreward.monitor.intervals import Interval, mean_of, share_interval
from mmreward.monitor.tables import aligned, ends
from mmreward.potentials import StepShaping

GAMMA = 0.9
MAX_STEPS = 24
STEPS, SEEDS, EXAMS = 15_000, 5, 200
FIRST_EXAM = 10_000
"""Seed of the first held-out start; training seeds are small."""
SCALE = 20.0
"""Weight of the visual reward: its values differ by a tenth or two between neighbours of a start and the
goal."""
ALPHA = 0.5
KINDS = ("goal", "goal as potential", "sparse", "none")
SWEEPS = 200
"""Of value iteration: 0.9^200 is below 1e-9."""
DQN: Mapping[str, Any] = {
    "learning_rate": 1e-3,
    "buffer_size": 20_000,
    "learning_starts": 500,
    "train_freq": 4,
    "batch_size": 128,
    "gamma": GAMMA,
    "target_update_interval": 500,
    "exploration_fraction": 0.5,
    "exploration_final_eps": 0.1,
    "policy_kwargs": {"net_arch": [64, 64]},
    "device": "cpu",
}

Floats = NDArray[np.float64]
State = tuple[push.Place, push.Place]


class Row(NamedTuple):
    """One reward: what its best policy solves, and what was learned by each seed."""

    kind: str
    best: float
    starts: int
    learned: tuple[float, ...] = ()

    @property
    def interval(self) -> Interval | None:
        """Of the mean over seeds."""
        return mean_of(self.learned).interval


def world(relation: str) -> push.Push:
    """The world that is learned: it goes on at success, so that staying away pays nothing."""
    made: Any = gymnasium.make(push.ID, relation=relation, terminate=False, max_steps=MAX_STEPS).unwrapped
    assert isinstance(made, push.Push)
    return made


def arguments_of(env: push.Push) -> dict[str, Any]:
    """Arguments of `goal`: the relation is wanted, and its opposite is to be left."""
    return {"weights": "mini-clip", "alpha": ALPHA, "baseline": env.opposite}


# --- the best policy of a reward ----------------------------------------------------------------------------


def best(kind: str, relation: str, engine: Engine) -> tuple[float, int]:
    """Share of all starts that the best policy under a reward solves, and their number, over every mark.

    Ties between actions are broken as a coin would: each best action counts alike, so that no reward at all
    is a random walk.
    """
    env = world(relation)
    solved = starts = 0.0
    for mark in push.PLACES:
        env.mark = mark
        states = [(a, m) for a in push.PLACES for m in push.PLACES if len({a, m, mark}) == 3]
        won = np.array([env.is_goal(moved) for _, moved in states])
        if won.any():
            share, number = _solved(env, kind, states, won, engine)
            solved, starts = solved + share, starts + number
    return solved / starts, int(starts)


def _solved(
    env: push.Push, kind: str, states: Sequence[State], won: NDArray[np.bool_], engine: Engine
) -> tuple[float, int]:
    numbers = {state: number for number, state in enumerate(states)}
    after = np.array([[numbers[env.after(*state, move)] for move in push.MOVES] for state in states])
    paid = _paid(env, kind, states, won, after, engine)
    value = np.zeros(len(states))
    for _ in range(SWEEPS):
        value = (paid + GAMMA * value[after]).max(axis=1)
    worth = paid + GAMMA * value[after]
    chance = (worth >= worth.max(axis=1, keepdims=True) - 1e-9).astype(float)
    chance /= chance.sum(axis=1, keepdims=True)
    reached = won.astype(float)
    for _ in range(MAX_STEPS):
        reached = (chance * reached[after]).sum(axis=1)
    begun = []
    for number, state in enumerate(states):
        env.agent, env.moved = state
        shortest = env.shortest()
        if shortest is not None and 0 < shortest <= MAX_STEPS:
            begun.append(number)
    return float(reached[begun].sum()), len(begun)


def _paid(
    env: push.Push,
    kind: str,
    states: Sequence[State],
    won: NDArray[np.bool_],
    after: NDArray[np.int64],
    engine: Engine,
) -> Floats:
    """The reward of every action in every state."""
    true = won[after].astype(float)
    if kind in ("sparse", "none"):
        return true if kind == "sparse" else np.zeros_like(true)
    reward = load("goal", **arguments_of(env))
    frames = [push.drawn(env.scene(moved, agent), env.size) for agent, moved in states]
    samples = [Sample(id=str(n), prompt=env.task, image=Media(one)) for n, one in enumerate(frames)]
    seen = np.array([score.value for score in engine.score(samples, {"goal": reward})["goal"]])
    columns = []
    for place in range(len(push.MOVES)):
        shaping = StepShaping(len(seen), "progress" if kind == "goal" else "potential", gamma=GAMMA)
        shaping.begin(np.ones(len(seen), dtype=bool), seen)
        columns.append(shaping.step(seen[after[:, place]], np.zeros(len(seen), dtype=bool)))
    shaped = SCALE * np.stack(columns, axis=1)
    return shaped if kind == "goal" else true + shaped


# --- what is learned ----------------------------------------------------------------------------------------


def made(kind: str, relation: str, engine: Engine) -> gymnasium.Env[Any, Any]:
    """The environment that pays by a reward."""
    env = world(relation)
    if kind == "sparse":
        return env
    if kind == "none":
        return gymnasium.wrappers.TransformReward(env, lambda _: 0.0)
    return VisionReward(
        env,
        {"goal": arguments_of(env)},
        task=push.task_of,
        shaping="progress" if kind == "goal" else "potential",
        env_weight=0.0 if kind == "goal" else 1.0,
        gamma=GAMMA,
        weight=SCALE,
        engine=engine,
    )


def learned(kind: str, relation: str, seed: int, steps: int, exams: int, engine: Engine) -> float:
    """Share of held-out starts that a policy solves after so many steps.

    Raises:
        ValueError: Stable-Baselines3 is not installed.
    """
    try:
        import stable_baselines3
    except ImportError:
        raise ValueError("learning needs Stable-Baselines3: pip install stable-baselines3") from None
    model = stable_baselines3.DQN("MlpPolicy", made(kind, relation, engine), seed=seed, **DQN)
    model.learn(steps)
    return examined(lambda seen: int(model.predict(seen, deterministic=True)[0]), relation, exams)


def examined(act: Callable[[NDArray[Any]], int], relation: str, exams: int) -> float:
    """Share of held-out starts at whose end the goal is reached."""
    env, right = world(relation), 0
    for number in range(exams):
        seen, _ = env.reset(seed=FIRST_EXAM + number)
        ended = False
        while not ended:
            seen, _, _, ended, info = env.step(act(seen))
        right += bool(info["success"])
    return right / exams


# --- the command --------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as text: learned figures are means over seeds with Student's intervals."""
    cells = [("reward", "best policy solves", "learned", "95 % interval", "by seed")]
    for row in rows:
        by_seed = " ".join(f"{one:.3f}" for one in row.learned)
        mean = f"{np.mean(row.learned):.3f}" if row.learned else "-"
        cells.append((row.kind, f"{row.best:.1%}", mean, ends(row.interval, ""), by_seed or "-"))
    return list(aligned(cells))


def main(arguments: Sequence[str] | None = None) -> int:
    """Solve, learn, examine and print."""
    parser = argparse.ArgumentParser(prog="python -m mmreward.evals.studies.push", description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="trainings of each reward")
    parser.add_argument("--exams", type=int, default=EXAMS, help="held-out starts")
    parser.add_argument("--rewards", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--relation", default="left of", choices=RELATIONS)
    parser.add_argument("--best", action="store_true", help="the best policies alone: nothing is learned")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    chance = examined(lambda _: int(rng.integers(len(push.MOVES))), options.relation, options.exams)
    rows = []
    with Engine("cpu") as engine:
        for kind in options.rewards:
            share, starts = best(kind, options.relation, engine)
            scores: list[float] = []
            for seed in range(0 if options.best else options.seeds):
                scores.append(learned(kind, options.relation, seed, options.steps, options.exams, engine))
                print(f"{kind}, seed {seed}: {scores[-1]:.3f}", flush=True)
            rows.append(Row(kind, share, starts, tuple(scores)))
    print(f"\n{rows[0].starts} starts; {options.steps} steps, {options.exams} held-out starts")
    print("\n".join(table(rows)))
    low, high = share_interval(round(chance * options.exams), options.exams)
    print(f"random actions: {chance:.3f} ({low:.3f} to {high:.3f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

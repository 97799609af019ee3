"""Learning to push from what a camera sees: true success on the push world under a visual reward alone.

Two figures for each reward. "Best": the share of all starts that its best policy solves, by value iteration,
which no learner stands in the way of. "Learned": the share that is solved after equal steps of learning, over
seeds. A start is solved if the goal is reached at the end of the episode; `goal` alone is not told of that.

- goal: `goal` by mini-clip, the change of its value from step to step; nothing else.
- roboreward, topreward, dopamine: the same of these, read from mini-robot (`mini.robot`, which was taught
  on other shapes): the mark of the picture, the log-probability of True, and the hop from a beginning.
- goal as potential: the same value as a potential beside the true reward, which leaves the best policy.
- goal as potential, zero: the same, with the value that starts have about as the potential 0.
- sparse: 1 in every state of success, 0 elsewhere.
- none: 0 always.

The reward reads the picture, the policy the places; a picture that a reward cannot read pays nothing. The
learner is Q-learning over a table of all states, as small as this world allows, and is examined at every
start. `--learner dqn` is the DQN of Stable-Baselines3 in the environment itself, examined at starts that
were held out; it needs `pip install stable-baselines3`. It is paid what `adapters.gymnasium.VisionReward`
pays, each state being asked about once; `--live` has that wrapper ask at every step, in a hundred times the
time.
"""

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, SupportsFloat

import gymnasium
import numpy as np
from numpy.typing import NDArray

from mmreward import Engine, Media, Sample, load
from mmreward.adapters.gymnasium import VisionReward
from mmreward.assets import ASSETS
from mmreward.mini import push, robot
from mmreward.mini.world import RELATIONS
from mmreward.monitor.intervals import Interval, mean_of, share_interval
from mmreward.monitor.tables import aligned, ends
from mmreward.potentials import Flags, StepShaping

GAMMA = 0.9
MAX_STEPS = 24
SEEDS, EXAMS = 5, 200
STEPS = {"table": 100_000, "dqn": 15_000}
"""Of a training, by learner."""
FIRST_EXAM = 10_000
"""Seed of the first start that is held out of a DQN's training, whose own seeds are small."""
SCALES: Mapping[str, float] = {"goal": 20.0, "dopamine": 4.0}
"""Weight of a visual reward, 1 where none stands here: values of `goal` differ by a tenth or two between
neighbours of a start and the goal."""
ALPHA = 0.5
ZERO = 0.8
"""About the value of `goal` at a start."""
JUDGED = ("roboreward", "topreward", "dopamine")
"""Rewards that are read from mini-robot."""
KINDS = ("goal", *JUDGED, "goal as potential", "goal as potential, zero", "sparse", "none")
SWEEPS = 200
"""Of value iteration: 0.9^200 is below 1e-9."""
RATE, EXPLORING = 0.5, (1.0, 0.1)
"""Of Q-learning: its learning rate, and the share of random actions at the first step and from half on."""
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
Learner = Literal["table", "dqn"]


class Learned(NamedTuple):
    """One reward: what its best policy solves, and what was learned by each seed."""

    kind: str
    best: float
    learned: tuple[float, ...] = ()

    @property
    def interval(self) -> Interval | None:
        """Of the mean over seeds, within what a share can be."""
        found = mean_of(self.learned).interval
        return None if found is None else Interval(max(0.0, found.low), min(1.0, found.high))


class World(NamedTuple):
    """All states of the world, for every place of the mark.

    `after` (S, moves) is the state that a move leads to, `won` (S,) where the goal is reached, `starts` are
    the states that an episode can begin with, `frames` the picture of each, `references` a picture of a
    beginning and of a goal with the same mark, for rewards that compare with them.
    """

    task: str
    after: NDArray[np.int64]
    won: Flags
    starts: NDArray[np.int64]
    frames: Sequence[push.Frame]
    references: Sequence[tuple[push.Frame, push.Frame]]
    numbers: Mapping[tuple[push.Place, push.Place, push.Place], int]


def made_world(relation: str) -> push.Push:
    """The world that is learned: it goes on at success, so that staying away pays nothing."""
    made: Any = gymnasium.make(push.ID, relation=relation, terminate=False, max_steps=MAX_STEPS).unwrapped
    assert isinstance(made, push.Push)
    return made


def tabled(relation: str, marks: Sequence[push.Place] = push.PLACES) -> World:
    """The states with these marks."""
    env = made_world(relation)
    states = [
        (mark, agent, moved)
        for mark in marks
        for agent in push.PLACES
        for moved in push.PLACES
        if len({mark, agent, moved}) == 3
    ]
    numbers = {state: number for number, state in enumerate(states)}
    after, won, starts, frames = [], [], [], []
    ends: dict[push.Place, list[push.Frame | None]] = {mark: [None, None] for mark in marks}
    for number, (mark, agent, moved) in enumerate(states):
        env.mark, env.agent, env.moved = mark, agent, moved
        after.append([numbers[(mark, *env.after(agent, moved, move))] for move in push.MOVES])
        won.append(env.success)
        frames.append(push.drawn(env.scene(moved, agent), env.size))
        least = env.shortest()
        if least is not None and 0 < least <= MAX_STEPS:
            starts.append(number)
            ends[mark][0] = frames[-1]
        elif env.success and ends[mark][1] is None:
            ends[mark][1] = push.drawn(env.scene(moved, None), env.size)
    # A mark without a goal has no start either, and what is paid there is never learned from.
    references = []
    for (mark, _, _), one in zip(states, frames, strict=True):
        first, goal = ends[mark]
        references.append((one if first is None else first, one if goal is None else goal))
    return World(env.task, np.array(after), np.array(won), np.array(starts), frames, references, numbers)


def arguments_of(kind: str, env: push.Push) -> tuple[str, dict[str, Any]]:
    """Reward and arguments: `goal` wants the relation and its opposite is to be left; the others ask
    mini-robot in the words that it was taught."""
    if kind not in JUDGED:
        return "goal", {"weights": "mini-clip", "alpha": ALPHA, "baseline": env.opposite}
    words = {"judge": robot.NAME, "words": str(ASSETS / robot.NAME / f"{kind}.txt")}
    more: dict[str, dict[str, Any]] = {
        "roboreward": {"max_tokens": 8},
        "topreward": {"how": "spellings"},
        "dopamine": {"how": "forward", "frames": "all", "max_tokens": 24, "most_gaps": 0.0},
    }
    return kind, {**words, **more[kind]}


def sample_of(kind: str, number: int, world: World) -> Sample:
    """What a reward is shown of a state: its picture, and `dopamine` an episode of a beginning and it."""
    shown, (first, goal) = world.frames[number], world.references[number]
    if kind != "dopamine":
        return Sample(id=str(number), prompt=world.task, image=Media(shown))
    steps = tuple({"observation": Media(one)} for one in (first, shown))
    return Sample(id=str(number), prompt=world.task, steps=steps, inputs=(Media(goal),))


def shaping_of(kind: str) -> dict[str, Any]:
    """How a reward follows from the values of `goal`: arguments that a table and the environment share."""
    if kind in ("goal", *JUDGED):
        return {"kind": "progress"}
    return {"kind": "potential", "zero": ZERO if kind.endswith("zero") else 0.0}


def paid(kind: str, relation: str, world: World, engine: Engine) -> Floats:
    """The reward (S, moves) of every move in every state, as the environment of `paying` pays it."""
    true = world.won[world.after].astype(float)
    if kind in ("sparse", "none"):
        return true if kind == "sparse" else np.zeros_like(true)
    seen = valued(kind, relation, world, engine)
    every, none = np.ones(len(seen), dtype=bool), np.zeros(len(seen), dtype=bool)
    columns = []
    for place in range(len(push.MOVES)):
        shaping = StepShaping(len(seen), **shaping_of(kind), gamma=GAMMA)
        shaping.begin(every, seen)
        columns.append(shaping.step(seen[world.after[:, place]], none))
    shaped: Floats = SCALES.get(arguments_of(kind, made_world(relation))[0], 1.0) * np.stack(columns, axis=1)
    return true + shaped if kind.startswith("goal as") else shaped


def valued(kind: str, relation: str, world: World, engine: Engine) -> Floats:
    """The value of every state; NaN where the reward has none."""
    name, arguments = arguments_of(kind, made_world(relation))
    samples = [sample_of(kind, number, world) for number in range(len(world.frames))]
    scores = engine.score(samples, {name: load(name, **arguments)})[name]
    return np.array([score.value if score.ok else np.nan for score in scores])


def solved(chance: Floats, world: World) -> float:
    """Share of the starts from which a policy, the chances (S, moves) of its moves, ends at the goal."""
    reached = world.won.astype(float)
    for _ in range(MAX_STEPS):
        reached = (chance * reached[world.after]).sum(axis=1)
    return float(reached[world.starts].mean())


def greedy(worth: Floats) -> Floats:
    """The policy of the best moves; of several each with the same chance, as no reward at all has it."""
    chance = (worth >= worth.max(axis=1, keepdims=True) - 1e-9).astype(float)
    best: Floats = chance / chance.sum(axis=1, keepdims=True)
    return best


def best(rewards: Floats, world: World) -> float:
    """Share of the starts that the best policy under these rewards solves, by value iteration."""
    value = np.zeros(len(world.won))
    for _ in range(SWEEPS):
        value = (rewards + GAMMA * value[world.after]).max(axis=1)
    return solved(greedy(rewards + GAMMA * value[world.after]), world)


# --- what is learned ----------------------------------------------------------------------------------------


def learned_table(rewards: Floats, world: World, seed: int, steps: int) -> float:
    """Share of the starts that Q-learning solves after so many steps of episodes from random starts."""
    rng = np.random.default_rng(seed)
    starts = rng.choice(world.starts, size=1 + steps // MAX_STEPS).tolist()
    draws, moves = rng.random(steps).tolist(), rng.integers(len(push.MOVES), size=steps).tolist()
    after, pays = world.after.tolist(), rewards.tolist()
    worth = [[0.0] * len(push.MOVES) for _ in after]
    first, last = EXPLORING
    state = 0
    for step in range(steps):
        if step % MAX_STEPS == 0:
            state = starts[step // MAX_STEPS]
        exploring = max(last, first + (last - first) * 2 * step / steps)
        own = worth[state]
        move = moves[step] if draws[step] < exploring else own.index(max(own))
        there = after[state][move]
        # The end of an episode is one of time, so that what comes after it counts.
        own[move] += RATE * (pays[state][move] + GAMMA * max(worth[there]) - own[move])
        state = there
    return solved(greedy(np.array(worth)), world)


def paying(kind: str, relation: str, engine: Engine) -> gymnasium.Env[Any, Any]:
    """The environment that pays by a reward."""
    env = made_world(relation)
    if kind == "sparse":
        return env
    if kind == "none":
        return gymnasium.wrappers.TransformReward(env, lambda _: 0.0)
    if kind == "dopamine":
        raise ValueError("dopamine compares with one beginning of each mark, which --live does not know")
    how, (name, arguments) = shaping_of(kind), arguments_of(kind, env)
    return VisionReward(
        env,
        {name: arguments},
        task=push.task_of,
        shaping=how["kind"],
        zero=how.get("zero", 0.0),
        env_weight=1.0 if kind.startswith("goal as") else 0.0,
        gamma=GAMMA,
        weight=SCALES.get(name, 1.0),
        engine=engine,
    )


class Tabled(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The push world, paid by a table (S, moves) of what a reward pays."""

    def __init__(self, env: push.Push, rewards: Floats, world: World) -> None:
        super().__init__(env)
        self._world, self._rewards, self._numbers = env, rewards, world.numbers

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        state = self._numbers[(self._world.mark, self._world.agent, self._world.moved)]
        seen, _, terminated, truncated, info = self.env.step(action)
        return seen, float(self._rewards[state, int(action)]), terminated, truncated, info


def learned_dqn(env: gymnasium.Env[Any, Any], relation: str, seed: int, steps: int, exams: int) -> float:
    """Share of held-out starts that a policy solves after so many steps in `env`.

    Raises:
        ValueError: Stable-Baselines3 is not installed.
    """
    try:
        import stable_baselines3
    except ImportError:
        raise ValueError("learning needs Stable-Baselines3: pip install stable-baselines3") from None
    model = stable_baselines3.DQN("MlpPolicy", env, seed=seed, **DQN)
    model.learn(steps)
    return examined(lambda seen: int(model.predict(seen, deterministic=True)[0]), relation, exams)


def examined(act: Callable[[NDArray[Any]], int], relation: str, exams: int) -> float:
    """Share of held-out starts at whose end the goal is reached."""
    env, right = made_world(relation), 0
    for number in range(exams):
        seen, _ = env.reset(seed=FIRST_EXAM + number)
        ended = False
        while not ended:
            seen, _, _, ended, info = env.step(act(seen))
        right += bool(info["success"])
    return right / exams


# --- the command --------------------------------------------------------------------------------------------


def table(rows: Sequence[Learned]) -> list[str]:
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
    parser.add_argument("--learner", choices=list(STEPS), default="table")
    parser.add_argument("--steps", type=int, help="of each training; default: 100,000, or 15,000 of a DQN")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="trainings of each reward")
    parser.add_argument("--exams", type=int, default=EXAMS, help="held-out starts of a DQN")
    parser.add_argument("--rewards", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--relation", default="left of", choices=RELATIONS)
    parser.add_argument("--live", action="store_true", help="a DQN's reward looks at every step anew")
    parser.add_argument("--marks", type=int, default=len(push.PLACES), help="places of the mark, of 16")
    options = parser.parse_args(arguments)
    relation, steps = options.relation, options.steps or STEPS[options.learner]
    if options.learner == "dqn" and options.marks != len(push.PLACES):
        parser.error("--marks is of the table: the environment draws every mark")
    chosen = np.random.default_rng(0).permutation(len(push.PLACES))[: options.marks]
    world, rows = tabled(relation, [push.PLACES[one] for one in sorted(chosen)]), []
    # It says of each clip of two frames that it would rather have had four.
    logging.getLogger("qwen_vl_utils.vision_process").setLevel(logging.ERROR)
    with Engine("cpu") as engine:
        for kind in options.rewards:
            rewards = paid(kind, relation, world, engine)
            scores: list[float] = []
            for seed in range(options.seeds):
                if options.learner == "table":
                    scores.append(learned_table(rewards, world, seed, steps))
                else:
                    live = options.live
                    env = (
                        paying(kind, relation, engine)
                        if live
                        else Tabled(made_world(relation), rewards, world)
                    )
                    scores.append(learned_dqn(env, relation, seed, steps, options.exams))
                    print(f"{kind}, seed {seed}: {scores[-1]:.3f}", flush=True)
            rows.append(Learned(kind, best(rewards, world), tuple(scores)))
    print(
        f"{relation}: {len(world.won)} states, {len(world.starts)} starts; {options.learner}, {steps} steps"
    )
    print("\n".join(table(rows)))
    if options.learner == "dqn":
        rng = np.random.default_rng(0)
        chance = examined(lambda _: int(rng.integers(len(push.MOVES))), relation, options.exams)
        low, high = share_interval(round(chance * options.exams), options.exams)
        print(f"random actions: {chance:.3f} ({low:.3f} to {high:.3f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

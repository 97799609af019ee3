"""Clips of the push world that deserve less, and rewards that should see it: a table.

    python -m mmreward.evals.studies.push_clips

Episodes that go the shortest way are shown as they are, reversed, shuffled, frozen (the first frame all the
time), empty (black) and foreign (an episode of other shapes that succeeds, judged by this task). A cell is
the mean value and the share of episodes whose value is below that of the episode as it is. An end that is a
start must be worth less; a shuffled clip ends with one of its frames, sometimes the best.

Failures are episodes of random moves that end without success. "False positives" is the share of them that is
worth as much as the least of nine in ten successes: a judge that pays failures shows there, whatever its
scale. mini-vlm, which was taught neither words nor episodes, stands for such a judge.
"""

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmreward import Engine, Media, Sample, load
from mmreward.assets import ASSETS
from mmreward.mini import push, robot
from mmreward.mini.push_recording import best_move
from mmreward.monitor.tables import aligned

EPISODES = 24
MAX_STEPS = 10
FOREIGN = (("green", "triangle"), ("yellow", "square"))
"""Shapes of the foreign episodes."""
RECALL = 0.9

Frames = Sequence[push.Frame]


class Episode(NamedTuple):
    """Frames of an episode, its task, and a picture of its goal."""

    frames: Frames
    task: str
    goal: push.Frame


CORRUPTIONS: Mapping[str, Callable[[Frames, np.random.Generator], Frames]] = {
    "reversed": lambda frames, _: frames[::-1],
    "shuffled": lambda frames, rng: [frames[index] for index in rng.permutation(len(frames))],
    "frozen": lambda frames, _: [frames[0]] * len(frames),
    "empty": lambda frames, _: [np.zeros_like(frames[0])] * len(frames),
}


def judged(name: str, judge: str, **more: Any) -> dict[str, Any]:
    """Arguments of a reward that asks a judge in mini-robot's words."""
    return {"reward": name, "judge": judge, "words": str(ASSETS / robot.NAME / f"{name}.txt"), **more}


def rewards_of(opposite: str) -> dict[str, dict[str, Any]]:
    """Rewards that run on the miniature, by their name in the table. mini-robot sees last frames, as it was
    taught; `dopamine` the first too."""
    sees: dict[str, Any] = {"frames": "last"}
    return {
        "goal": {"reward": "goal", "weights": "mini-clip", "baseline": opposite},
        "liv": {"reward": "liv", "weights": "mini-clip", "frames": "last"},
        "roboreward": judged("roboreward", robot.NAME, max_tokens=8, **sees),
        "topreward": judged("topreward", robot.NAME, how="spellings", **sees),
        "dopamine": judged("dopamine", robot.NAME, how="forward", frames="2", max_tokens=24),
        "topreward, mini-vlm": judged("topreward", "mini-vlm", how="spellings", **sees),
    }


def played(
    seed: int, *, expert: bool, kinds: Sequence[Sequence[str]] = robot.HELD_OUT
) -> tuple[Episode, bool]:
    """An episode from a start, by the shortest way or at random, and whether it ends with success."""
    env = push.Push(max_steps=MAX_STEPS, kinds=kinds)
    rng = np.random.default_rng((seed, 1))
    env.reset(seed=seed)
    frames, over = [np.asarray(env.render())], False
    while not over:
        _, _, won, late, _ = env.step(best_move(env) if expert else int(rng.integers(len(push.MOVES))))
        frames.append(np.asarray(env.render()))
        over = won or late
    place = next(one for one in push.PLACES if env.is_goal(one) and one != env.mark)
    return Episode(frames, env.task, push.drawn(env.scene(place, None), env.size)), env.success


def clips_of(number: int, seed: int) -> dict[str, list[Episode]]:
    """The episodes of each column; every one has as many."""
    rng = np.random.default_rng(seed)
    good = [played(seed + one, expert=True)[0] for one in range(number)]
    found = {"as it is": good}
    for name, corrupt in CORRUPTIONS.items():
        found[name] = [one._replace(frames=corrupt(one.frames, rng)) for one in good]
    foreign = [played(seed + one, expert=True, kinds=FOREIGN)[0] for one in range(number)]
    found["foreign"] = [
        one._replace(task=mine.task, goal=mine.goal) for one, mine in zip(foreign, good, strict=True)
    ]
    failures: list[Episode] = []
    start = seed
    while len(failures) < number:
        episode, success = played(start, expert=False)
        failures += [] if success else [episode]
        start += 1
    return {**found, "failures": failures}


def sample_of(episode: Episode, name: str) -> Sample:
    steps = tuple({"observation": Media(frame)} for frame in episode.frames)
    return Sample(
        id=name,
        prompt=episode.task,
        image=Media(episode.frames[-1]),
        steps=steps,
        inputs=(Media(episode.goal),),
    )


def valued(
    clips: Mapping[str, Sequence[Episode]], rewards: Mapping[str, Any], engine: Engine
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Values by reward and column; NaN where a reward has none."""
    names = [(column, number) for column, episodes in clips.items() for number in range(len(episodes))]
    samples = [sample_of(clips[column][number], f"{column} {number}") for column, number in names]
    loaded = {name: load(told["reward"], **{key: value for key, value in told.items() if key != "reward"})
              for name, told in rewards.items()}  # fmt: skip
    found = {}
    for name, scores in engine.score(samples, loaded).items():
        values = np.array([score.value if score.ok else np.nan for score in scores])
        found[name] = dict(zip(clips, values.reshape(len(clips), -1), strict=True))
    return found


def false_positives(good: NDArray[np.float64], failures: NDArray[np.float64]) -> float:
    """Share of failures that is worth as much as the least of nine in ten successes; what has no value pays
    nothing."""
    known = np.sort(np.nan_to_num(good, nan=-np.inf))
    least = known[int(len(known) * (1 - RECALL))]
    return float(np.mean(np.nan_to_num(failures, nan=-np.inf) >= least))


def table(found: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> list[str]:
    """A row for each reward: means, shares of episodes that fell, and false positives."""
    columns = list(next(iter(found.values())))
    cells: list[tuple[str, ...]] = [("reward", *columns, "unread", "false positives")]
    for name, values in found.items():
        good, row = values[columns[0]], [name]
        for column in columns:
            known = values[column][~np.isnan(values[column])]
            mean = f"{known.mean():.2f}" if len(known) else "-"
            fell = np.mean(np.isnan(values[column]) | (values[column] < good - 1e-6))
            row.append(mean if column in (columns[0], "failures") else f"{mean} ({fell:.0%})")
        unread = np.mean([np.isnan(one).mean() for one in values.values()])
        paid = false_positives(good, values["failures"])
        cells.append((*row, f"{unread:.0%}", f"{paid:.0%}"))
    return list(aligned(cells))


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, corrupt, score and print."""
    parser = argparse.ArgumentParser(prog="python -m mmreward.evals.studies.push_clips", description=__doc__)
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--seed", type=int, default=50_000)
    parser.add_argument("--rewards", nargs="+", help="default: all")
    options = parser.parse_args(arguments)
    rewards = rewards_of(push.Push().opposite)
    if unknown := set(options.rewards or ()) - set(rewards):
        parser.error(f"no reward {', '.join(sorted(unknown))}; there are {', '.join(rewards)}")
    rewards = {name: told for name, told in rewards.items() if name in (options.rewards or rewards)}
    # It says of each clip of two frames that it would rather have had four.
    logging.getLogger("qwen_vl_utils.vision_process").setLevel(logging.ERROR)
    with Engine("cpu") as engine:
        print("\n".join(table(valued(clips_of(options.episodes, options.seed), rewards, engine))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

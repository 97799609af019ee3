"""Recordings of the push world: episodes step by step with their pictures, in a file that `score` reads.

    python -m mmreward.mini.push_recording runs/push

Every other episode goes the shortest way, those between at random, so that some succeed and some do not.
OUT/episodes.jsonl has a row for each: the task as its prompt, the last frame as its image, and what the
camera saw in `steps` (see `trajectories`; the last has no action). `meta.success` is the true end, which no
reward is told of. The same seed draws the same files. Needs gymnasium (`pip install "mmreward[robot]"`).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .push import MOVES, Push
from .world import RELATIONS

MAX_STEPS = 10
"""Of an episode. A start that is farther from success is drawn again: the shortest way always arrives."""
TABLE = "episodes.jsonl"


def best_move(env: Push) -> int:
    """The first move of a shortest way to success; the world stays as it is.

    Raises:
        ValueError: there is no way.
    """
    here = (env.agent, env.moved)
    ways: list[tuple[int, int]] = []
    for number, move in enumerate(MOVES):
        env.agent, env.moved = env.after(*here, move)
        steps = env.shortest()
        if steps is not None:
            ways.append((steps, number))
    env.agent, env.moved = here
    if not ways:
        raise ValueError("no way leads from here to success")
    return min(ways)[1]


def episode(env: Push, seed: int, frames: Path, *, expert: bool) -> dict[str, Any]:
    """Play one episode, write its frames, and return its row; paths are those of `frames`' folder's files.

    Args:
        env: the world, made with its render mode.
        seed: of the start, and of random moves.
        frames: a folder that is there.
        expert: go the shortest way, else at random.
    """
    rng = np.random.default_rng((seed, 1))
    _, info = env.reset(seed=seed)
    steps: list[dict[str, Any]] = []
    over = False
    while True:
        name = f"{seed:04}-{len(steps):02}.png"
        Image.fromarray(np.asarray(env.render())).save(frames / name)
        steps.append(
            {"observation": f"{frames.name}/{name}", "time": len(steps) / env.metadata["render_fps"]}
        )
        if over:
            break
        action = best_move(env) if expert else int(rng.integers(len(MOVES)))
        steps[-1]["action"] = action
        _, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    meta = {"success": bool(info["success"]), "policy": "shortest" if expert else "random"}
    return {"id": f"{seed:04}", "prompt": info["task"], "image": steps[-1]["observation"], "steps": steps,
            "meta": meta}  # fmt: skip


def record(out: Path, number: int = 12, seed: int = 0, relation: str = "left of") -> Path:
    """Write `number` episodes into the folder `out`, and return their table.

    Args:
        out: a new or an empty folder.
        number: of episodes.
        seed: of the first; the others follow it.
        relation: as of `Push`.

    Raises:
        ValueError: something is in `out` already, or no episode is wanted.
    """
    if number < 1:
        raise ValueError(f"{number} episodes: 1 at least")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty: name a new folder")
    env = Push(relation, max_steps=MAX_STEPS)
    (out / "frames").mkdir(parents=True)
    rows = [episode(env, one, out / "frames", expert=one % 2 == 0) for one in range(seed, seed + number)]
    table = out / TABLE
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Record, and say how many episodes succeeded."""
    parser = argparse.ArgumentParser(prog="python -m mmreward.mini.push_recording", description=__doc__)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--relation", choices=RELATIONS, default="left of")
    given = parser.parse_args(arguments)
    table = record(given.out, given.episodes, given.seed, given.relation)
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    print(f"{len(rows)} episodes, {sum(row['meta']['success'] for row in rows)} with success -> {table}")


if __name__ == "__main__":
    main()

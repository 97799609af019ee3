"""Cost of looking in a training: `python -m mmreward.evals.watching_overhead`.

The push world in vectors of 1, 8 and 32 members under `adapters.gymnasium.VisionRewardVector`, no picture
twice. Processor time of a step is told apart as it is spent: in the environments (step and render), in the
networks (pictures prepared and encoded), in the wrapper (the rest of the calling thread), and in the engine
(hashing, coroutines, threads: what remains of the process). It is the same on a busy machine. Figures are
medians over steps; overheads are shares of the network's time.

Two networks: mini-clip, whose forwards are as short as any, and a CLIP of ViT-B/32's size with weights of
chance. With mini-clip a second reward that reads the same encoder is added: "encoded" counts the pictures
that went through an encoder in a step, which is the members and no more where both rewards have one `resize`.
Exits with 1 when the wrapper costs more than 5 percent of the network, or a picture was encoded twice.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv

from mmreward import Engine
from mmreward.adapters.gymnasium import VisionRewardVector
from mmreward.mini import push
from mmreward.models.encoders import DualEncoder
from mmreward.monitor.tables import aligned

from .speed.inputs import SCALES, save_dual_encoder

BAR = 0.05
MEMBERS = (1, 8, 32)
STEPS, WARM = 60, 4
FEW = 4
"""Steps with the large network."""


class Cost(NamedTuple):
    """One vector under one network: milliseconds of a step's processor time, and pictures that it encoded."""

    network: str
    members: int
    step: float
    environment: float
    forward: float
    engine: float
    wrapper: float
    encoded: float

    @property
    def overhead(self) -> float:
        """The wrapper's time as a share of the network's."""
        return self.wrapper / self.forward

    @property
    def with_engine(self) -> float:
        """The same of wrapper and engine."""
        return (self.wrapper + self.engine) / self.forward


class Fresh(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The push world with a picture that never comes twice, as a camera's: what is cached counts for
    nothing."""

    def __init__(self, env: gymnasium.Env[Any, Any], seed: int) -> None:
        super().__init__(env)
        self._rng = np.random.default_rng(seed)

    def render(self) -> Any:
        frame = np.array(self.env.render())
        frame[:2] = self._rng.integers(256, size=frame[:2].shape)
        return frame


class Spending:
    """Processor seconds and pictures of the current step, by what they were spent on."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.items = 0

    def of(self, name: str, call: Callable[..., Any], *, count: bool = False) -> Callable[..., Any]:
        """The same function, its time added to a name's; `count` counts the pictures of its second
        argument."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.spent[name] = self.spent.get(name, 0.0) + time.thread_time() - began
                self.items += len(args[2]) if count and args[1] == "image" else 0

        return timed


@contextmanager
def timed_networks(clock: Spending) -> Iterator[None]:
    """All dual encoders add their work to the clock's "forward"."""
    prepare = clock.of("forward", DualEncoder.prepare, count=True)
    forward = clock.of("forward", DualEncoder.forward)
    with patch.object(DualEncoder, "prepare", prepare), patch.object(DualEncoder, "forward", forward):
        yield


def member(seed: int) -> gymnasium.Env[Any, Any]:
    return Fresh(gymnasium.make(push.ID, terminate=False, max_steps=10_000), seed)


def measured(rewards: Mapping[str, Any], network: str, members: int, steps: int) -> Cost:
    """Costs of `steps` steps after some that warm up."""
    clock = Spending()
    vector: Any = SyncVectorEnv([partial(member, seed) for seed in range(members)])
    rng = np.random.default_rng(0)
    told: list[Mapping[str, float]] = []
    with Engine("cpu") as engine, timed_networks(clock):
        env = VisionRewardVector(vector, rewards, task=push.task_of, engine=engine)
        vector.step = clock.of("environment", vector.step)
        vector.render = clock.of("environment", vector.render)
        env.watch.scorer.score = clock.of("score", env.watch.scorer.score)  # type: ignore[method-assign]
        env.reset(seed=0)
        for number in range(WARM + steps):
            actions = rng.integers(len(push.MOVES), size=members)
            clock.spent, clock.items = {}, 0
            began, alone = time.process_time(), time.thread_time()
            env.step(actions)
            alone, whole = time.thread_time() - alone, time.process_time() - began
            if number >= WARM:
                told.append({**clock.spent, "step": whole, "alone": alone, "encoded": clock.items})
        env.close()

    def usual(of: Callable[[Mapping[str, float]], float]) -> float:
        return 1000 * median(of(one) for one in told)

    def wrapper(one: Mapping[str, float]) -> float:
        return one["alone"] - one["environment"] - one["score"]

    return Cost(
        network,
        members,
        usual(lambda one: one["step"]),
        usual(lambda one: one["environment"]),
        usual(lambda one: one["forward"]),
        usual(lambda one: one["step"] - one["environment"] - one["forward"] - wrapper(one)),
        usual(wrapper),
        median(one["encoded"] for one in told),
    )


def table(costs: Sequence[Cost]) -> list[str]:
    """Milliseconds of a step and overheads, a row for each vector."""
    head = ("network", "members", "ms a step", "per member", "environment", "network's", "engine", "wrapper")
    cells = [(*head, "encoded", "wrapper / network", "with engine")]
    for one in costs:
        times = (one.step, one.step / one.members, one.environment, one.forward, one.engine, one.wrapper)
        shown = [f"{value:.2f}" for value in times]
        shares = (f"{one.encoded:g}", f"{one.overhead:.1%}", f"{one.with_engine:.1%}")
        cells.append((one.network, str(one.members), *shown, *shares))  # type: ignore[arg-type]
    return list(aligned(cells))


def complaints(costs: Sequence[Cost]) -> list[str]:
    """One line for each vector whose wrapper costs more than the bar, or that encodes a picture twice."""
    told = [
        f"{one.network}, {one.members}: the wrapper costs {one.overhead:.1%} of the network, above {BAR:.0%}"
        for one in costs
        if one.overhead > BAR
    ]
    return told + [
        f"{one.network}, {one.members}: {one.encoded:g} pictures were encoded in a step"
        for one in costs
        if one.encoded != one.members
    ]


def rewards_of(weights: str, *, both: bool = False) -> dict[str, Any]:
    """`goal` by these weights, and `clipscore` by the same where both are wanted."""
    goal = {"weights": weights, "alpha": 0.5, "baseline": "a red circle right of a blue square"}
    return {"goal": goal, "clipscore": {"weights": weights, "resize": "pil"}} if both else {"goal": goal}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the bar."""
    parser = argparse.ArgumentParser(prog="python -m mmreward.evals.watching_overhead", description=__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=list(MEMBERS))
    parser.add_argument("--steps", type=int, default=STEPS, help=f"with mini-clip; {FEW} with ViT-B/32")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    costs = []
    for both in (False, True):
        name = "mini-clip, goal" + (" + clipscore" if both else "")
        given = rewards_of("mini-clip", both=both)
        costs += [measured(given, name, members, options.steps) for members in options.members]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "clip"
        save_dual_encoder(weights, SCALES["small"], 0, torch.float32)
        given = rewards_of(str(weights))
        costs += [measured(given, "ViT-B/32, goal", one, min(FEW, options.steps)) for one in options.members]
    print("\n".join(table(costs)))
    missed = complaints(costs)
    print("\n".join(missed) or f"the wrapper costs at most {max(one.overhead for one in costs):.1%}: met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

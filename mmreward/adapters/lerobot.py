"""LeRobot: a step of its processor pipelines that pays a transition for what a camera sees (seen at 0.4.4 and
0.6.2). LeRobot's own step takes its classifier alone; this takes any reward of the suite.

    from lerobot.processor import DataProcessorPipeline
    from mmreward.adapters.lerobot import reward_step

    step = reward_step({"goal": {"weights": "mini-clip"}}, frames="observation.images.front",
                       task="a red circle", shaping="progress", gamma=0.99)
    env_processor = DataProcessorPipeline(steps=[..., step])

It is `adapters.gymnasium.VisionReward` on a stream of transitions: the first after `reset`, or after one that
ended, begins an episode and keeps its reward; each later one is paid. Not imported before it is asked for.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .scorer import Given, Scorer
from .watching import Options, Watch

NAME = "mmreward_vision_reward"
"""Of the step in LeRobot's registry."""
OBSERVATION, REWARD, DONE, TRUNCATED = "observation", "reward", "done", "truncated"
INFO, EXTRA = "info", "complementary_data"
"""Keys of a transition; LeRobot's `TransitionKey` are these strings."""


def reward_step(
    rewards: Given | Scorer,
    *,
    frames: str,
    env_weight: float = 0.0,
    terminate: bool = False,
    fps: float = 10.0,
    **options: Unpack[Options],
) -> Any:
    """A `lerobot.processor.ProcessorStep`.

    `info` of a transition gets the keys of `VisionReward`. A classifier's labels, 1 at the step that succeeds
    and 0 elsewhere: `weight=0.0, bonus=1.0, success={"enter": 0.9, "hits": 2, "window": 3}`, and with
    `terminate=True` the episode is done there.

    Args:
        rewards: as `VisionReward` takes them.
        frames: key of the observation that is the picture, such as "observation.images.front": uint8
            (H, W, 3), or a tensor (3, H, W) or (1, 3, H, W) of floats from 0 to 1 or of uint8.
        env_weight: of the reward that the transition brings.
        terminate: the transition is done at success.
        fps: of the robot.
        options: as of `VisionReward`. Without a `task`, complementary data's "task" is the prompt.

    Raises:
        ValueError: as `VisionReward`, or LeRobot is not installed.
    """
    if terminate and options.get("success") is None:
        raise ValueError("terminate ends an episode at success: give success={'enter': VALUE}")
    described = {"rewards": rewards, "frames": frames, "env_weight": env_weight, "terminate": terminate}
    return step_class()(**described, fps=fps, **options)


@cache
def step_class() -> type:
    """The step's class, registered with LeRobot, so that a saved pipeline finds it; call this before one is
    loaded.

    Raises:
        ValueError: LeRobot is not installed.
    """
    try:
        from lerobot.processor.pipeline import ProcessorStep, ProcessorStepRegistry
    except ImportError as error:
        raise ValueError(f"a step of LeRobot's needs LeRobot: pip install lerobot ({error})") from None

    @ProcessorStepRegistry.register(name=NAME)
    class VisionRewardStep(ProcessorStep):  # type: ignore[misc]
        """Pays a transition for what a camera sees; see `reward_step`."""

        def __init__(self, **described: Any) -> None:
            self.paying = Paying(**described)
            self._described = described

        def __call__(self, transition: Mapping[str, Any]) -> dict[str, Any]:
            return self.paying(transition)

        def get_config(self) -> dict[str, Any]:
            if isinstance(self._described["rewards"], Scorer):
                raise ValueError(
                    "a Scorer is not saved with a pipeline: give the rewards by name or as a file"
                )
            return {key: value for key, value in self._described.items() if key != "engine"}

        def reset(self) -> None:
            self.paying.reset()

        def transform_features(self, features: Any) -> Any:
            return features

    return VisionRewardStep


class Paying:
    """Rewards of a stream of transitions; knows LeRobot's keys and nothing else of it.

    Args:
        rewards: and all others: see `reward_step`.
    """

    def __init__(
        self,
        rewards: Given | Scorer,
        frames: str,
        env_weight: float = 0.0,
        terminate: bool = False,
        fps: float = 10.0,
        **options: Unpack[Options],
    ) -> None:
        self._frames, self._env_weight, self._terminate = frames, env_weight, terminate
        told: Options = {**options, "task": options.get("task") or _task_of}
        self.watch = Watch(1, rewards, fps=fps, **told)
        self._begun = False

    def reset(self) -> None:
        """The next transition begins an episode."""
        self._begun = False

    def __call__(self, transition: Mapping[str, Any]) -> dict[str, Any]:
        """The transition with its reward, whether it is done, and what `info` says.

        Raises:
            ValueError: no observation of the name `frames`, or it is no picture.
            RuntimeError: see `unknown` and `patience` of `VisionReward`.
        """
        seen = [picture_of(transition.get(OBSERVATION) or {}, self._frames)]
        if not self._begun:
            extra: Mapping[str, Any] = transition.get(EXTRA) or {}
            self.watch.begin(np.array([True]), seen, lambda _: extra)
            self._begun = True
            return dict(transition)
        own = float(transition.get(REWARD) or 0.0)
        terminated = np.array([bool(transition.get(DONE))])
        truncated = np.array([bool(transition.get(TRUNCATED))])
        earned, told = self.watch.step(np.array([True]), seen, terminated, truncated, ends=self._terminate)
        self._begun = not (terminated[0] or truncated[0])
        there = {name: told[name][0] for name in told if not name.startswith("_") and told[f"_{name}"][0]}
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in there.items()}
        return {
            **transition,
            REWARD: self._env_weight * own + float(earned[0]),
            DONE: bool(terminated[0]),
            INFO: {**(transition.get(INFO) or {}), "env_reward": own, **plain},
        }


def _task_of(_: int, extra: Mapping[str, Any]) -> str:
    """The task in complementary data, which LeRobot's batches make a list of one."""
    task = extra.get("task") or ""
    return str(task[0] if isinstance(task, list | tuple) else task)


def picture_of(observation: Mapping[str, Any], key: str) -> NDArray[np.uint8]:
    """One picture of an observation, uint8 (H, W, 3).

    Raises:
        ValueError: it is not there, or is no picture.
    """
    if key not in observation:
        raise ValueError(f"the observation has no {key!r}; it has: {', '.join(map(str, observation)) or '-'}")
    given = observation[key]
    array = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"{key} is {array.shape}: one picture, (height, width, 3) or (3, height, width)")
    if array.dtype == np.uint8:
        return array
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{key} has {low:.3g} to {high:.3g}: floats are from 0 to 1; put the step before "
                         "those that normalise")  # fmt: skip
    pixels: NDArray[np.uint8] = np.rint(array * 255).astype(np.uint8)
    return pixels

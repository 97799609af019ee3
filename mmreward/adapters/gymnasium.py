"""Gymnasium: rewards of what a camera sees, for one environment (`VisionReward`) and for a vector of them
(`VisionRewardVector`). Needs gymnasium 1.4 or newer (`pip install "mmreward[robot]"`).

All environments that are looked at after a step are scored together. A judge that fails costs its look, never
a step: what the learner gets then is said by `unknown`, what happened by `info`.

Keys of `info` (of a vector: arrays, where `info["_vision_value"]` marks the environments looked at):

- env_reward: the environment's own reward; vision_reward: ours, as added to it.
- vision_value: what the judge said; there after a look that worked.
- vision_failed: why a look did not work, "status: note".
- vision_success: True while a success holds, if there is a `success` rule.
- vision_looks, vision_failures, vision_residual: of the episode, at its end; see `StepShaping.residual`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat, Unpack

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from ..types import Score
from .scorer import Given, Scorer
from .watching import Options, Watch

RENDER = "render"
"""In the place of an observation's key: frames are what `env.render()` returns."""


class VisionReward(RecordConstructorArgs, gymnasium.Wrapper[Any, Any, Any, Any]):
    """Reward of an environment from its pictures, by any reward of this suite or several under a recipe.

    Args:
        env: made with render_mode="rgb_array", or with pictures among its observations.
        rewards: a reward's name, names, a mapping of names to arguments, a YAML file with `rewards:` and
            `compose:`, or a `Scorer`.
        task: what is to be done, the prompt of each look; see `Task`.
        goal: a picture of the goal or several, the `inputs` of each look.
        every: steps from one look to the next, or "end": the last state of an episode is looked at alone. A
            state at which an episode ends is always looked at, unless its value cannot matter.
        shaping: "potential", "progress" or "value"; see `potentials.StepShaping`.
        gamma: the learner's discount.
        zero: the value that is a potential of 0, about that of a start; see `potentials.StepShaping`.
        weight: of our reward.
        env_weight: of the environment's own, which is left out by default.
        unknown: what a look that failed does: "hold" the last value, pay "zero", or "raise".
        patience: looks that may fail one after another before RuntimeError is raised, those of all members
            of a vector at one step being one. The wrapper is whole after it: the next step goes on from here.
        clip: frames of the clip that is scored, evenly spaced from the first of the episode to the last; 0
            scores the last frame alone, as a picture.
        success: a rule of success, as the arguments of `potentials.Threshold`: {"enter": 0.9, "hits": 2,
            "window": 3}.
        bonus: paid once in an episode, when it succeeds.
        terminate: end the episode at success.
        frames: key of the observation that is a picture, "" for the observation itself, or "render".
        engine: an engine of yours; default: one of its own, closed with the environment.
        timeout: seconds one look may take.

    Raises:
        ValueError: arguments that contradict each other, an unknown reward or argument, or a frame that is no
            picture.
        Unavailable: at the first look, the rewards can be computed for no picture.
        RuntimeError: see `unknown` and `patience`.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        rewards: Given | Scorer,
        *,
        env_weight: float = 0.0,
        terminate: bool = False,
        frames: str = RENDER,
        **options: Unpack[Options],
    ) -> None:
        if terminate and options.get("success") is None:
            raise ValueError("terminate ends an episode at success: give success={'enter': VALUE}")
        RecordConstructorArgs.__init__(
            self,
            _disable_deepcopy=True,
            rewards=rewards,
            env_weight=env_weight,
            terminate=terminate,
            frames=frames,
            **options,
        )
        gymnasium.Wrapper.__init__(self, env)
        self.watch = Watch(1, rewards, fps=_fps(env), **options)
        self._env_weight, self._terminate, self._frames = env_weight, terminate, frames

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self.watch.begin(np.array([True]), [self._picture(obs)], lambda _: info)
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        obs, own, terminated, truncated, info = self.env.step(action)
        ended = np.array([bool(terminated)])
        earned, told = self.watch.step(
            np.array([True]), [self._picture(obs)], ended, np.array([bool(truncated)]), ends=self._terminate
        )
        there = {name: told[name][0] for name in told if not name.startswith("_") and told[f"_{name}"][0]}
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in there.items()}
        total = self._env_weight * float(own) + float(earned[0])
        return obs, total, bool(ended[0]), bool(truncated), {**info, "env_reward": float(own), **plain}

    def look(self) -> Score:
        """Score of what the environment shows now; nothing else changes."""
        return self.watch.look(0)

    def close(self) -> None:
        self.watch.close()
        super().close()

    def _picture(self, obs: Any) -> Any:
        return self.env.render() if self._frames == RENDER else _of_key(obs, self._frames)


class VisionRewardVector(VectorWrapper[Any, Any, Any, Any, Any]):
    """`VisionReward` for a vector environment, in every autoreset mode: a finished episode is scored once, at
    its last state, and nothing carries over into the next.

    Args:
        env: the vector. Where it resets within the step (`AutoresetMode.SAME_STEP`), pictures must be among
            the observations (`gymnasium.wrappers.AddRenderObservation`), for it renders the next episode.
        rewards: and all others: see `VisionReward`; there is no `terminate`, since a vector ends its own
            episodes.

    Raises:
        ValueError: see `VisionReward`; frames "render" in a vector that resets within the step.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        rewards: Given | Scorer,
        *,
        env_weight: float = 0.0,
        frames: str = RENDER,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(env)
        self._mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        if self._mode is AutoresetMode.SAME_STEP and frames == RENDER:
            raise ValueError(
                "a vector that resets within the step renders the next episode: put pictures into its "
                "observations (gymnasium.wrappers.AddRenderObservation) and name their key by `frames`"
            )
        self.watch = Watch(env.num_envs, rewards, fps=_fps(env), **options)
        self._env_weight, self._frames = env_weight, frames
        self._ended, self._nobody = (np.zeros(env.num_envs, dtype=bool) for _ in range(2))

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        mask = (options or {}).get("reset_mask")
        which = np.ones(self.num_envs, dtype=bool) if mask is None else np.array(mask, dtype=bool)
        obs, infos = self.env.reset(seed=seed, options=options)
        self.watch.begin(which, self._pictures(obs), lambda index: _row(infos, index))
        self._ended[which] = False
        return obs, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, own, terminated, truncated, infos = self.env.step(actions)
        own = np.asarray(own, dtype=float)
        done = np.logical_or(terminated, truncated)
        # In NEXT_STEP an environment whose episode is over is reset by this step, and its action ignored.
        begun = self._ended if self._mode is AutoresetMode.NEXT_STEP else self._nobody
        pictures = after = list(self._pictures(obs))
        if self._mode is AutoresetMode.SAME_STEP:
            after = list(pictures)
            for index in done.nonzero()[0].tolist():
                after[index] = self._final(infos, index)
        earned, told = self.watch.step(~begun, after, np.array(terminated), np.array(truncated))
        fresh = done if self._mode is AutoresetMode.SAME_STEP else begun
        if fresh.nonzero()[0].size:
            self.watch.begin(fresh, pictures, lambda index: _row(infos, index))
        self._ended = done
        told |= {"env_reward": own, "_env_reward": ~begun}
        total = self._env_weight * own + earned if self._env_weight else earned.copy()
        return obs, total, terminated, truncated, {**infos, **told}

    def look(self, index: int) -> Score:
        """Score of what one environment shows now; nothing else changes."""
        return self.watch.look(index)

    def close(self, **kwargs: Any) -> None:
        self.watch.close()
        super().close(**kwargs)

    def _pictures(self, obs: Any) -> Sequence[Any]:
        if self._frames != RENDER:
            return list(_of_key(obs, self._frames))
        rendered = self.env.render()
        if rendered is None:
            raise ValueError("env.render() returned None: make the environments with render_mode='rgb_array'")
        return rendered

    def _final(self, infos: Mapping[str, Any], index: int) -> Any:
        if "final_obs" not in infos:
            raise ValueError(
                "the vector says SAME_STEP, and its info has no final_obs to look at: gymnasium 1.1"
            )
        return _of_key(infos["final_obs"][index], self._frames)


def _fps(env: Any) -> float:
    return float(env.metadata.get("render_fps") or 1.0)


def _of_key(obs: Any, key: str) -> Any:
    if not key:
        return obs
    if not isinstance(obs, Mapping) or key not in obs:
        known = ", ".join(map(str, obs)) if isinstance(obs, Mapping) else type(obs).__name__
        raise ValueError(f"the observation has no {key!r}; it has: {known}")
    return obs[key]


def _row(infos: Mapping[str, Any], index: int) -> dict[str, Any]:
    """`info` of one environment of a vector."""
    marked = {name: infos[f"_{name}"][index] for name in infos if f"_{name}" in infos}
    return {name: infos[name][index] for name, there in marked.items() if there}

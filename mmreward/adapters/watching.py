"""Looks at the pictures of environments, and the rewards that follow: what the wrappers of `gymnasium` share.

All environments that are looked at after a step are scored together, by one call of the engine. A judge that
fails costs its look, never a step. Knows no environment, only frames and what ended.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from ..engine.engine import Engine
from ..media import Media
from ..potentials import Flags, Floats, Kind, StepShaping, Success, Threshold, Unknown
from ..types import Sample, Score
from .rows import Batch
from .scorer import Given, Scorer

Task = str | Sequence[str] | Callable[[int, Mapping[str, Any]], str]
"""What is to be done: one text for all, one per environment, or a function of an environment's number and the
`info` of its reset (of a vector: its row)."""
KEPT = 8
"""Frames kept of an episode, per frame of the clip that is scored."""


class Options(TypedDict, total=False):
    """Arguments of both wrappers; `gymnasium.VisionReward` says what they are."""

    task: Task
    goal: Any
    every: int | Literal["end"]
    shaping: Kind
    gamma: float
    zero: float
    weight: float
    unknown: Unknown | Literal["raise"]
    patience: int
    clip: int
    success: Mapping[str, Any] | None
    bonus: float
    engine: Engine | None
    timeout: float | None


class Footage:
    """Frames of one episode, from which a clip of `most` frames is taken, evenly spaced, the last included;
    with 0, the last frame alone.

    Memory is bounded: above `KEPT` times `most` frames every other one is dropped, so that the spacing is
    even to within an eighth of a gap.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._frames: list[NDArray[np.uint8]] = []
        self._stride, self._seen = 1, 0
        self.last: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)

    def add(self, frame: NDArray[np.uint8]) -> None:
        if self._most and self._seen % self._stride == 0:
            self._frames.append(frame)
            if len(self._frames) > KEPT * self._most:
                self._frames, self._stride = self._frames[::2], 2 * self._stride
        self._seen += 1
        self.last = frame

    def clip(self, fps: float) -> Media:
        """The clip so far; its rate is such that it lasts as long as the episode."""
        frames = list(self._frames)
        if (self._seen - 1) % self._stride:
            frames.append(self.last)
        if len(frames) > self._most:
            places = np.linspace(len(frames) - 1, 0, self._most).round().astype(int)[::-1]
            frames = [frames[place] for place in places]
        rate = fps * (len(frames) - 1) / (self._seen - 1) if len(frames) > 1 else fps
        return Media(np.stack(frames), "video", fps=rate)


class Watch:
    """Looks at the frames of `n` environments side by side, and rewards for their steps.

    Args:
        n: environments.
        rewards: see `gymnasium.VisionReward`, as for all others.
        fps: frames per second of the environments.
    """

    def __init__(
        self,
        n: int,
        rewards: Given | Scorer,
        *,
        fps: float,
        task: Task = "",
        goal: Any = None,
        every: int | Literal["end"] = 1,
        shaping: Kind = "potential",
        gamma: float = 0.99,
        zero: float = 0.0,
        weight: float = 1.0,
        unknown: Unknown | Literal["raise"] = "hold",
        patience: int = 50,
        clip: int = 0,
        success: Mapping[str, Any] | None = None,
        bonus: float = 0.0,
        engine: Engine | None = None,
        timeout: float | None = None,
    ) -> None:
        if every != "end" and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f"every is a number of steps from 1, or 'end', not {every!r}")
        if every == "end" and shaping == "potential":
            raise ValueError(
                "a potential that is looked at in the end only pays nothing, since a terminal state's is 0: "
                "take shaping='value' or 'progress', or every=STEPS"
            )
        if patience < 1 or clip < 0:
            raise ValueError(f"patience is from 1, clip from 0, not {patience} and {clip}")
        if bonus and success is None:
            raise ValueError("a bonus is paid at success: give success={'enter': VALUE}")
        # Mesa's software renderer brings an LLVM, and so does triton, which torch imports late: loaded in
        # that order the process dies of a segmentation fault, in the other order both work.
        with suppress(ImportError):
            import_module("triton")
        self._owned = not isinstance(rewards, Scorer)
        self.scorer = (
            rewards if isinstance(rewards, Scorer) else Scorer(rewards, engine=engine, timeout=timeout)
        )
        self.n, self.every, self.weight, self.bonus, self.fps = n, every, weight, bonus, fps
        self.task, self.patience, self.most = task, patience, clip
        self.raising = unknown == "raise"
        self.shaping = StepShaping(
            n, shaping, gamma=gamma, unknown="hold" if unknown == "raise" else unknown, zero=zero
        )
        self.success = Success(n, Threshold(**success)) if success is not None else None
        goals = goal if isinstance(goal, list | tuple) else [] if goal is None else [goal]
        self.goals = tuple(Media.of(one, "image", "goal") for one in goals)
        self.tasks = [""] * n
        self.footage: list[Footage] = [Footage(clip) for _ in range(n)]
        self.steps, self.looks, self.failures = (np.zeros(n, dtype=int) for _ in range(3))
        self._episodes = np.zeros(n, dtype=int)
        self._lost = 0
        self._none, self._no_notes = np.full(n, np.nan), np.full(n, None, dtype=object)

    def close(self) -> None:
        if self._owned:
            self.scorer.close()

    def begin(self, which: Flags, frames: Sequence[Any], infos: Callable[[int], Mapping[str, Any]]) -> None:
        """Start episodes at these frames; those of other environments are not looked at."""
        for index in _indices(which):
            self.tasks[index] = self._task_of(index, infos)
            self.footage[index] = Footage(self.most)
            self.footage[index].add(frame_of(frames[index]))
        self._episodes[which] += 1
        self.steps[which] = self.looks[which] = self.failures[which] = 0
        if self.success is not None:
            self.success.begin(which)
        looked = which & (self.shaping.kind != "value")
        values, _ = self._look(looked)
        self.shaping.begin(which, values)

    def step(
        self, live: Flags, frames: Sequence[Any], terminated: Flags, truncated: Flags, *, ends: bool = False
    ) -> tuple[Floats, dict[str, NDArray[Any]]]:
        """Rewards (n,) of one step, and what `info` says, as arrays with their masks.

        Args:
            live: (n,) environments that made a step.
            frames: n pictures after it, of the states before any reset.
            terminated: (n,) as the environment says.
            truncated: (n,) the same.
            ends: a success ends the episode; `terminated` is changed in place.
        """
        for index in _indices(live):
            self.footage[index].add(frame_of(frames[index]))
        self.steps[live] += 1
        done = terminated | truncated
        if self.every == 1:
            due = live.copy()
        else:
            due = live & (done if self.every == "end" else done | (self.steps % self.every == 0))
        if self.shaping.kind == "potential" and self.success is None:
            due &= ~terminated  # its value is 0 whatever is seen
        values, notes = self._look(due)
        infos: dict[str, NDArray[Any]] = {}
        seen = self.success.look(values) if self.success is not None else None
        if seen is not None:
            infos |= {"vision_success": seen.on, "_vision_success": live}
            if ends:
                terminated |= seen.on & live
                done = terminated | truncated
        shaped = self.shaping.step(values, terminated, live=live, looked=due)
        earned = shaped if self.weight == 1 else self.weight * shaped
        if seen is not None:
            earned[seen.now] += self.bonus
        known = ~np.isnan(values)
        infos |= {
            "vision_value": values,
            "_vision_value": known,
            "vision_reward": earned,
            "_vision_reward": live,
            "vision_failed": notes,
            "_vision_failed": due & ~known,
        }
        ended = done & live
        if _indices(ended):
            at_end = {
                "vision_looks": self.looks,
                "vision_failures": self.failures,
                "vision_residual": self.shaping.residual(terminated),
            }
            for name, column in at_end.items():
                infos |= {name: column.copy(), f"_{name}": ended}
        return earned, infos

    def look(self, index: int) -> Score:
        """Score of what one environment shows now, which counts for nothing."""
        return self._scores([index])[0]

    def _task_of(self, index: int, infos: Callable[[int], Mapping[str, Any]]) -> str:
        if callable(self.task):
            return self.task(index, infos(index))
        if isinstance(self.task, str):
            return self.task
        if len(self.task) != self.n:
            raise ValueError(f"{len(self.task)} tasks for {self.n} environments")
        return self.task[index]

    def _look(self, which: Flags) -> tuple[Floats, NDArray[Any]]:
        """Values (n,) of the environments of `which`, NaN elsewhere and where the judge failed, and why.

        Raises:
            RuntimeError: `unknown` is "raise" and a look failed, or `patience` times in a row all have.
            Unavailable: the rewards can be computed for no picture.
        """
        values, notes = self._none.copy(), self._no_notes.copy()
        indices, failed = _indices(which), []
        scores = self._scores(indices)
        self.looks[which] += 1
        for index, score in zip(indices, scores, strict=True):
            if score.ok:
                values[index] = score.value
                continue
            notes[index] = f"{score.status}: {score.note}"
            failed.append(index)
            self.failures[index] += 1
        if indices:
            # By steps and not by looks: of 32 members all fail at once when a judge is away for a moment.
            self._lost = self._lost + 1 if len(failed) == len(indices) else 0
        if failed and (self.raising or self._lost >= self.patience):
            many = "" if self.raising else f"{self._lost} looks in a row failed, the last: "
            last = failed[0] if self.raising else failed[-1]
            raise RuntimeError(f"{many}environment {last}, step {self.steps[last]}: {notes[last]}")
        return values, notes

    def _scores(self, indices: list[int]) -> list[Score]:
        if not indices:
            return []
        return self.scorer.score(Batch([self._sample(index) for index in indices], {})).totals

    def _sample(self, index: int) -> Sample:
        footage = self.footage[index]
        name = f"{index}-{self._episodes[index]}-{self.steps[index]}"
        if self.most:
            shown: dict[str, Any] = {"video": footage.clip(self.fps)}
        else:
            shown = {"image": Media(footage.last)}
        return Sample(id=name, prompt=self.tasks[index], inputs=self.goals, **shown)


def _indices(which: Flags) -> list[int]:
    indices: list[int] = which.nonzero()[0].tolist()
    return indices


def frame_of(value: Any) -> NDArray[np.uint8]:
    """A copy of one frame, uint8 (H, W, 3): environments draw into the same memory again.

    Raises:
        ValueError: anything else, with the usual cause.
    """
    if value is None:
        raise ValueError("env.render() returned None: make the environment with render_mode='rgb_array'")
    frame = np.asarray(value)
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(
            f"a frame is uint8 (height, width, 3), not {frame.dtype} {frame.shape}; name the observation's "
            "key by `frames`, or leave it at 'render'"
        )
    return frame.copy()

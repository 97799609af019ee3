"""The push world: an agent in shapes world pushes one shape until a caption holds, or a picture is matched.

    import gymnasium, mmreward.mini.push
    env = gymnasium.make("mmreward/Push-v0", render_mode="rgb_array")

Four by four places. The agent is a small grey cross, which captions never mention; it goes left, right, up or
down, and a shape in its way is pushed on if the place behind it is free. Only the first shape can be pushed:
the second is the mark that it is placed by, the others are distractors. Pictures are those of `world.render`.
Every start can be solved. True success is in `info`, whatever the reward is, which makes it the figure that
no visual reward optimises. Needs gymnasium (`pip install "mmreward[robot]"`).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from .world import COLOURS, OPPOSITE, RELATIONS, SHAPES, Caption, Scene, Thing, holds, render

ID = "mmreward/Push-v0"
SIDE = 4
"""Places in a row."""
FIRST, APART, RADIUS = 0.14, 0.24, 0.115
"""Centre of the first place, distance of two, and half-extent of a shape, in fractions of the picture's
side."""
ARM = 0.05
"""Half the length of the agent's strokes."""
MOVES: tuple[tuple[int, int], ...] = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Left, right, up, down."""
MOST = 3
"""Distractors at most, so that there is room to push."""
KINDS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)

Place = tuple[int, int]
Kind = tuple[str, str]
PLACES: tuple[Place, ...] = tuple((column, row) for column in range(SIDE) for row in range(SIDE))
Frame = NDArray[np.uint8]


class Push(gymnasium.Env[NDArray[Any], np.int64]):
    """An agent pushes a shape.

    Reward: 1 in every state of success, else 0. `info` has `success` and `is_success` (the same, under the
    name that Stable-Baselines3 reads), `task`, the goal in words, and at a reset `shortest`, the least steps
    to success.

    Args:
        relation: "left of", "right of", "above" or "below": where the first shape is to be, of the mark.
        goal: "text", the relation; or "picture", one place, as `goal_picture` shows it.
        kinds: colour and shape of the first and of the mark.
        distractors: 0 to 3 other shapes, which cannot be pushed.
        layout: seed of where the mark, the distractors and the goal of a picture are; None: drawn anew with
            every reset, of text goals alone.
        max_steps: after which an episode is truncated.
        terminate: end an episode at success. Under a reward that pays for every step, do not: it would pay
            to stay away.
        observation: "state" (places of agent, first shape, mark and distractors, 0 to 1), or "picture".
        size: of pictures, in pixels.
        render_mode: "rgb_array" or None.

    Raises:
        ValueError: anything else.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - as its base

    def __init__(
        self,
        relation: str = "left of",
        *,
        goal: Literal["text", "picture"] = "text",
        kinds: Sequence[Sequence[str]] = (("red", "circle"), ("blue", "square")),
        distractors: int = 0,
        layout: int | None = None,
        max_steps: int = 30,
        terminate: bool = True,
        observation: Literal["state", "picture"] = "state",
        size: int = 64,
        render_mode: str | None = "rgb_array",
    ) -> None:
        if relation not in RELATIONS:
            raise ValueError(f"relation is one of {', '.join(RELATIONS)}, not {relation!r}")
        if goal not in ("text", "picture") or observation not in ("state", "picture"):
            raise ValueError("goal is text or picture, observation is state or picture")
        if goal == "picture" and layout is None:
            raise ValueError("the picture of a goal needs places that stay: give layout=SEED")
        if not 0 <= distractors <= MOST or max_steps < 1:
            raise ValueError(f"distractors are 0 to {MOST}, max_steps 1 at least")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is 'rgb_array' or None, not {render_mode!r}")
        self.kinds = tuple((str(colour), str(shape)) for colour, shape in kinds)
        if len(set(self.kinds)) != 2 or set(self.kinds) - set(KINDS):
            raise ValueError(f"kinds are two different ones of shapes world, not {self.kinds}")
        self.relation, self.goal, self.render_mode, self.size = relation, goal, render_mode, size
        self.max_steps, self._terminate, self._observation = max_steps, terminate, observation
        self._layout, self._number = layout, distractors
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))
        self.observation_space: gymnasium.Space[Any] = (
            gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
            if observation == "picture"
            else gymnasium.spaces.Box(0.0, 1.0, (2 * (3 + distractors),), np.float32)
        )
        self.agent: Place = (0, 0)
        self.moved: Place = (0, 0)
        self.mark: Place = (0, 0)
        self.others: tuple[tuple[Kind, Place], ...] = ()
        self.target: Place | None = None
        self._steps = 0
        if layout is not None:
            self._lay_out(np.random.default_rng(layout))

    @property
    def task(self) -> str:
        """The goal in words, as captions of this world say it."""
        return related(self.kinds, self.relation)

    @property
    def opposite(self) -> str:
        """The task turned round: what is to be left, for a reward that takes a baseline."""
        return related(self.kinds, OPPOSITE[self.relation])

    @property
    def goal_picture(self) -> Frame:
        """The first shape where it is to be, without the agent; of a world whose goal is a picture.

        Raises:
            ValueError: the goal is a text.
        """
        if self.target is None:
            raise ValueError("the goal of this world is a text: make it with goal='picture'")
        return drawn(self.scene(self.target, None), self.size)

    @property
    def success(self) -> bool:
        """True where the goal is reached now."""
        return self.is_goal(self.moved)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        while True:
            if self._layout is None:
                self._lay_out(self.np_random)
            free = [place for place in PLACES if place not in self._fixed()]
            first, second = (free[i] for i in self.np_random.permutation(len(free))[:2])
            self.moved, self.agent = first, second
            least = self.shortest()
            if least is not None and 0 < least <= self.max_steps:
                return self._observed(), {**self._info(), "shortest": least}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self.agent, self.moved = self.after(self.agent, self.moved, MOVES[int(action)])
        self._steps += 1
        reached = self.success
        truncated = self._steps >= self.max_steps
        return self._observed(), float(reached), reached and self._terminate, truncated, self._info()

    def render(self) -> Frame | None:
        """The picture, which is not to be written to; None without a render mode."""
        return None if self.render_mode is None else drawn(self.scene(self.moved, self.agent), self.size)

    def _info(self) -> dict[str, Any]:
        reached = self.success
        return {"success": reached, "is_success": reached, "task": self.task}

    def _observed(self) -> NDArray[Any]:
        if self._observation == "picture":
            return drawn(self.scene(self.moved, self.agent), self.size).copy()
        places = (self.agent, self.moved, self.mark, *(place for _, place in self.others))
        return (np.array(places, dtype=np.float32) / (SIDE - 1)).reshape(-1)

    # --- places -------------------------------------------------------------------------------------------

    def _lay_out(self, rng: np.random.Generator) -> None:
        """Draw where the mark, the distractors and the goal of a picture are."""
        while True:
            places = [PLACES[i] for i in rng.permutation(SIDE * SIDE)]
            names = [KINDS[i] for i in rng.permutation(len(KINDS)) if KINDS[i] not in self.kinds]
            self.mark = places[0]
            others = places[1 : 1 + self._number]
            self.others = tuple(zip(names[: self._number], others, strict=True))
            self.target = None
            if any(self.is_goal(place) for place in places[1 + self._number :]):
                break
        if self.goal == "picture":
            self.target = next(place for place in places[1 + self._number :] if self.is_goal(place))

    def _fixed(self) -> set[Place]:
        return {self.mark, *(place for _, place in self.others)}

    def is_goal(self, place: Place) -> bool:
        if self.target is not None:
            return place == self.target
        return holds(self.relation, _thing(self.kinds[0], place), _thing(self.kinds[1], self.mark))

    def after(self, agent: Place, moved: Place, move: tuple[int, int]) -> tuple[Place, Place]:
        """Agent and first shape after a move; both stay where the way is not free."""
        there, fixed = _next(agent, move), self._fixed()
        if there is None or there in fixed:
            return agent, moved
        if there != moved:
            return there, moved
        behind = _next(moved, move)
        if behind is None or behind in fixed:
            return agent, moved
        return there, behind

    def shortest(self) -> int | None:
        """The least steps to success, by breadth-first search; None where there is no way."""
        start = (self.agent, self.moved)
        steps: dict[tuple[Place, Place], int] = {start: 0}
        left = deque([start])
        while left:
            state = left.popleft()
            if self.is_goal(state[1]):
                return steps[state]
            for move in MOVES:
                after = self.after(*state, move)
                if after not in steps:
                    steps[after] = steps[state] + 1
                    left.append(after)
        return None

    def scene(self, moved: Place, agent: Place | None) -> Scene:
        things = [_thing(self.kinds[0], moved), _thing(self.kinds[1], self.mark)]
        things += [_thing(kind, place) for kind, place in self.others]
        if agent is None:
            return Scene(tuple(things))
        return Scene(tuple(things), clutter=strokes(agent))


def strokes(agent: Place) -> tuple[tuple[float, float, float, float], ...]:
    """Lines of the cross that the agent is drawn as."""
    x, y = centre(agent)
    return (x - ARM, y, x + ARM, y), (x, y - ARM, x, y + ARM)


def related(kinds: Sequence[Kind], relation: str) -> str:
    """The caption of a relation between two shapes."""
    first, second = kinds
    return str(Caption(((first, 1), (second, 1)), relation))


def _next(place: Place, move: tuple[int, int]) -> Place | None:
    column, row = place[0] + move[0], place[1] + move[1]
    return (column, row) if 0 <= column < SIDE and 0 <= row < SIDE else None


def centre(place: Place) -> tuple[float, float]:
    return FIRST + APART * place[0], FIRST + APART * place[1]


def _thing(kind: Kind, place: Place) -> Thing:
    return Thing(*kind, *centre(place), RADIUS)


@lru_cache(maxsize=4096)
def drawn(scene: Scene, size: int) -> Frame:
    """The picture of a scene, which several states of a training come back to."""
    frame = np.asarray(render(scene, size), dtype=np.uint8)
    frame.setflags(write=False)
    return frame


def task_of(_: int, info: Mapping[str, Any]) -> str:
    """The task in a reset's `info`, for the argument `task` of `adapters.gymnasium.VisionReward`."""
    return str(info["task"])


if ID not in gymnasium.registry:
    gymnasium.register(ID, "mmreward.mini.push:Push")

"""Which steps of a trajectory are stochastic and trained; every other step follows the ODE.

A selector is a pure function of (number of steps, round, seed). It keeps no state, so a resumed run and all
processes of one run agree without talking to each other.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import accumulate
from typing import Any, Literal, Protocol, get_args

Pace = Literal["constant", "decay", "exp_decay"]


class StepSelector(Protocol):
    """Chooses the trained steps of one round."""

    def steps(self, num_steps: int, round: int, seed: int) -> tuple[int, ...]:
        """Indices of the trained steps, rising, at least one.

        Args:
            num_steps: T, the number of steps of the sampler.
            round: number of the rollout, from 0.
            seed: of the run; only the selectors that choose at random look at it.

        Raises:
            ValueError: the selector asks for steps that a sampler of T steps does not have.
        """
        ...


@dataclass(frozen=True)
class AllButLast:
    """Steps 0 to T - 2. The last one has little noise or none, and its density drowns the others."""

    def steps(self, num_steps: int, round: int, seed: int) -> tuple[int, ...]:
        return tuple(range(_end(num_steps)))


@dataclass(frozen=True)
class Explicit:
    """The steps that are listed, in every round.

    The only selector that may name the last step: flow, dance and wan have noise there, and `Kernel.log_prob`
    refuses it for those that have none.
    """

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", tuple(sorted(self.indices)))
        if not self.indices or self.indices[0] < 0 or len(set(self.indices)) < len(self.indices):
            raise ValueError(f"indices must be distinct steps, at least one, not {self.indices}")

    def steps(self, num_steps: int, round: int, seed: int) -> tuple[int, ...]:
        if self.indices[-1] >= num_steps:
            raise ValueError(f"step {self.indices[-1]} was asked for, but a sampler of {num_steps} has none")
        return self.indices


@dataclass(frozen=True)
class RandomFraction:
    """A random share of all steps but the last, other ones every round (DanceGRPO trains 0.6 of them)."""

    fraction: float = 0.6

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction must lie in (0, 1], not {self.fraction}")

    def steps(self, num_steps: int, round: int, seed: int) -> tuple[int, ...]:
        end = _end(num_steps)
        number = max(1, int(self.fraction * end))
        return tuple(sorted(_random(round, seed).sample(range(end), number)))


@dataclass(frozen=True)
class Window:
    """`width` neighbouring steps from [low, high), at a random place every round or always the first.

    Flow-GRPO-Fast, and MixGRPO's "random" strategy. `high` is T - 1 unless given, which leaves out the last
    step.
    """

    width: int = 4
    low: int = 0
    high: int | None = None
    random: bool = True

    def __post_init__(self) -> None:
        if self.width < 1 or self.low < 0:
            raise ValueError(f"width must be at least 1 and low at least 0, not {self.width} and {self.low}")

    def steps(self, num_steps: int, round: int, seed: int) -> tuple[int, ...]:
        high = _end(num_steps) if self.high is None else self.high
        last = _last_start(self.width, self.low, high, num_steps)
        start = _random(round, seed).randint(self.low, last) if self.random else self.low
        return tuple(range(start, start + self.width))


@dataclass(frozen=True)
class SlidingWindow:
    """A window that moves from the noisy steps to the clean ones (MixGRPO, https://arxiv.org/abs/2507.21802).

    It trains `width` steps for some rounds, then moves by `stride`. At the end it stays, whole, or starts
    again. (In the published code the last windows shrink, to nothing in the end.)

    Args:
        width: steps in the window.
        stride: how far it moves.
        iterations: rounds at one place, at the start.
        pace: "constant"; "decay" shortens the stay linearly with the place, down to `fewest` at `high`;
            "exp_decay" by exp(-rate (place - threshold)) behind `threshold`, rounded up.
        roll_back: start again at 0 after the last place.
        high: end of the places that are visited; T - 2 unless given, as published.
        fewest, rate, threshold: see `pace`.
    """

    width: int = 4
    stride: int = 1
    iterations: int = 25
    pace: Pace = "constant"
    roll_back: bool = False
    high: int | None = None
    fewest: int = 1
    rate: float = 0.1
    threshold: int = 13

    def __post_init__(self) -> None:
        if self.pace not in get_args(Pace):
            raise ValueError(f"pace is one of {', '.join(get_args(Pace))}, not {self.pace!r}")
        if min(self.width, self.stride, self.iterations, self.fewest) < 1:
            raise ValueError("width, stride, iterations and fewest must be at least 1")
        if self.fewest > self.iterations:
            raise ValueError(f"fewest {self.fewest} is more than iterations {self.iterations}")
        if self.rate < 0:
            raise ValueError(f"rate must not be negative, not {self.rate}")

    def steps(self, num_steps: int, round: int, seed: int) -> tuple[int, ...]:
        high = num_steps - 2 if self.high is None else self.high
        last = _last_start(self.width, 0, high, num_steps)
        starts = [*range(0, last, self.stride), last]
        ends = list(accumulate(self._stay(start, high) for start in starts))
        now = round % ends[-1] if self.roll_back else min(round, ends[-1] - 1)
        start = starts[bisect_right(ends, now)]
        return tuple(range(start, start + self.width))

    def _stay(self, start: int, high: int) -> int:
        """Rounds at one place."""
        match self.pace:
            case "constant":
                return self.iterations
            case "decay":
                return math.floor(self.iterations - (self.iterations - self.fewest) * start / high + 0.5)
            case "exp_decay":
                return math.ceil(self.iterations * math.exp(-self.rate * max(start - self.threshold, 0)))


def selector(name: str, **arguments: Any) -> StepSelector:
    """A selector by name: all_but_last, explicit, random_fraction, window or sliding_window.

    Raises:
        ValueError: an unknown name, answered with the nearest one, or as the selector itself.
    """
    if name not in _SELECTORS:
        near = get_close_matches(name, _SELECTORS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_SELECTORS)}"
        raise ValueError(f"no step selector is called {name!r}: {hint}")
    return _SELECTORS[name](**arguments)


_SELECTORS: dict[str, Callable[..., StepSelector]] = {
    "all_but_last": AllButLast,
    "explicit": Explicit,
    "random_fraction": RandomFraction,
    "window": Window,
    "sliding_window": SlidingWindow,
}


def _end(num_steps: int) -> int:
    """One past the last step that has noise with every kernel."""
    if num_steps < 2:
        raise ValueError(f"{num_steps} step(s) leave none to train but the last: take at least 2")
    return num_steps - 1


def _last_start(width: int, low: int, high: int, num_steps: int) -> int:
    """The last place of a window in [low, high)."""
    if high > _end(num_steps):
        raise ValueError(f"high {high} takes in the last of {num_steps} steps, which has no noise")
    if low + width > high:
        raise ValueError(f"a window of {width} does not fit between steps {low} and {high} of {num_steps}")
    return high - width


def _random(round: int, seed: int) -> random.Random:
    return random.Random(f"{seed}/{round}")  # text is hashed with SHA-512: the same on every machine

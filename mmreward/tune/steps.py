"""Step selectors and noise levels: the steps of a trajectory that are trained, and the levels of losses
without one.

A selector names the stochastic, trained steps; every other step follows the ODE. It is a pure function of
(number of steps, round, seed) and keeps no state, so a resumed run and all processes of one run agree without
communication.

A time sampler gives the level s at which a clean sample is noised, one per row, drawn from a
`torch.Generator` alone, so that processes that share a seed agree. Stratified draws spread the rows of a
batch evenly over the distribution: the same levels on average, with less variance in the loss.
"""

import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from ..errors import nearest

Pace = Literal["constant", "decay", "exp_decay"]


class StepSelector(Protocol):
    """Choice of the trained steps of one round."""

    def steps(self, num_steps: int, round: int, seed: int) -> tuple[int, ...]:
        """Indices of the trained steps, rising, at least one.

        Args:
            num_steps: T, the number of steps of the sampler.
            round: number of the rollout, from 0.
            seed: of the run; only the selectors that choose at random use it.

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
        raise ValueError(f"no step selector is called {name!r}: {nearest(name, _SELECTORS)}")
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


# --- noise levels -------------------------------------------------------------------------------------------


First = Literal["with", "without", "forced"]


class TimeSampler(Protocol):
    """Distribution of noise levels."""

    def sample(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Levels (num_rows,) in (0, 1], float32, on the generator's device, in random order."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Uniform levels between `low` and `high`.

    Raises:
        ValueError: not 0 < low <= high <= 1.
    """

    low: float = 1e-3
    high: float = 1.0
    stratified: bool = True

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    def sample(self, num_rows: int, generator: torch.Generator) -> Tensor:
        shares = _shares(num_rows, generator, self.stratified)
        return (self.low + (self.high - self.low) * shares).float()


@dataclass(frozen=True)
class LogitNormal:
    """Levels whose logit is normal, then shifted towards noise: shift s / (1 + (shift - 1) s).

    SD3 trains so (https://arxiv.org/abs/2403.03206): the middle levels are the hard ones. Levels outside
    [low, high] are moved to the nearer end.

    Raises:
        ValueError: a negative std, a shift that is not positive, or not 0 < low <= high <= 1.
    """

    mean: float = 0.0
    std: float = 1.0
    shift: float = 3.0
    low: float = 0.01
    high: float = 1 - 1e-6
    stratified: bool = True

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        if not (self.std >= 0 and self.shift > 0):
            raise ValueError(f"std must be at least 0 and shift above 0, not {self.std} and {self.shift}")

    def sample(self, num_rows: int, generator: torch.Generator) -> Tensor:
        normal = torch.special.ndtri(_shares(num_rows, generator, self.stratified))
        levels = torch.sigmoid(self.mean + self.std * normal)
        levels = self.shift * levels / (1 + (self.shift - 1) * levels)
        return levels.clamp(self.low, self.high).float()


@dataclass(frozen=True)
class OnGrid:
    """The levels at which a solver evaluates the network, all alike: DiffusionNFT trains where it samples.

    With as many rows as levels (or a multiple), each level is met equally often.

    Args:
        sigmas: the solver's grid; its end, 0, is never drawn.
        first: "with" treats the first level like the others, "without" leaves it out (at pure noise a
            prediction knows only the prompt), "forced" gives it to exactly one row of every batch.

    Raises:
        ValueError: levels that do not fall from at most 1 to 0, or none left to draw.
    """

    sigmas: tuple[float, ...]
    first: First = "with"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigmas", tuple(float(level) for level in self.sigmas))
        falling = all(b < a for a, b in itertools.pairwise(self.sigmas))
        if len(self.sigmas) < 2 or not falling or self.sigmas[0] > 1 or self.sigmas[-1] != 0:
            raise ValueError(f"sigmas must fall from at most 1 to 0, not {self.sigmas}")
        if self.first not in get_args(First):
            raise ValueError(f"first is one of {', '.join(get_args(First))}, not {self.first!r}")
        if self.first != "with" and len(self.sigmas) < 3:
            raise ValueError(f"first={self.first!r} leaves no level of {self.sigmas}")

    def sample(self, num_rows: int, generator: torch.Generator) -> Tensor:
        levels = torch.tensor(self.sigmas[:-1], dtype=torch.float32, device=generator.device)
        if self.first == "with":
            return _spread(levels, num_rows, generator)
        if self.first == "without" or num_rows == 0:
            return _spread(levels[1:], num_rows, generator)
        rows = torch.cat([levels[:1], _spread(levels[1:], num_rows - 1, generator)])
        return rows[torch.randperm(num_rows, generator=generator, device=generator.device)]


def _spread(levels: Tensor, num_rows: int, generator: torch.Generator) -> Tensor:
    places = (_shares(num_rows, generator, stratified=True) * len(levels)).long()
    return levels[places.clamp(max=len(levels) - 1)]


def _shares(num_rows: int, generator: torch.Generator, stratified: bool) -> Tensor:
    """Uniform in [0, 1), float64; stratified: one row in each of `num_rows` equal parts, in random order."""
    shares = torch.rand(num_rows, generator=generator, device=generator.device, dtype=torch.float64)
    if not stratified or num_rows == 0:
        return shares
    order = torch.randperm(num_rows, generator=generator, device=generator.device)
    return (order + shares) / num_rows


def _check_range(low: float, high: float) -> None:
    if not 0 < low <= high <= 1:
        raise ValueError(f"levels must satisfy 0 < low <= high <= 1, not low {low} and high {high}")

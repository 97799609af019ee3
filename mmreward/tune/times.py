"""Noise levels for losses that need no trajectory: at which s a clean sample is noised.

A sampler gives one level per row, drawn from a `torch.Generator` alone, so that processes that share a seed
agree. Stratified draws spread the rows of a batch evenly over the distribution: the same levels on average,
with less variance in the loss.
"""

import itertools
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

First = Literal["with", "without", "forced"]


class TimeSampler(Protocol):
    """Draws noise levels."""

    def sample(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Levels (num_rows,) in (0, 1], float32, on the generator's device, in random order."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Every level between `low` and `high` alike.

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
        return torch.lerp(*shares.new_tensor([self.low, self.high]), shares).float()


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

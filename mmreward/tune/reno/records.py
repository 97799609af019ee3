"""What ReNO is told and what it tells: settings, curves, costs and the outcome. See `noise`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ...types import Score
from .descent import Optimiser


@dataclass(frozen=True, slots=True, kw_only=True)
class Reno:
    """Settings of `optimise_noise`; the defaults are the paper's.

    Args:
        iterations: pictures per latent; after the last one the noise is not changed any more.
        lr: learning rate; 5, or 10 for HyperSDXL.
        optimiser: "sgd" (Nesterov, with `momentum`) or "adam" (epsilon 1e-2, momenta of its own).
        momentum: of SGD.
        clip: largest norm of one latent's gradient.
        regularise: weight of `chi_energy`, which keeps the noise as long as Gaussian noise is.
        max_drift: a latent stops when the length of its noise is further than this share from sqrt(d); None
            never stops it.
        steps: Euler steps per picture; ReNO is meant for models that need one.
        guidance: classifier-free guidance; 1 is none.
        checkpoint: keep one step's activations in memory instead of all; costs one more forward per step.
        watch_every: iterations between two looks of the held-out rewards; the last one always has one.

    Raises:
        ValueError: a setting outside its range.
    """

    iterations: int = 50
    lr: float = 5.0
    optimiser: Optimiser = "sgd"
    momentum: float = 0.9
    clip: float = 0.1
    regularise: float = 0.01
    max_drift: float | None = None
    steps: int = 1
    guidance: float = 1.0
    checkpoint: bool = True
    watch_every: int = 10

    def __post_init__(self) -> None:
        for name in ("iterations", "steps", "watch_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if not self.regularise >= 0:
            raise ValueError(f"regularise must be at least 0, not {self.regularise}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, not {self.momentum}")
        if self.max_drift is not None and not self.max_drift > 0:
            raise ValueError(f"max_drift must be above 0, or None for no limit, not {self.max_drift}")
        if self.optimiser not in ("sgd", "adam"):
            raise ValueError(f"optimiser is 'sgd' or 'adam', not {self.optimiser!r}")


class Spent(NamedTuple):
    """What it has cost, counted in rows: a batch of eight is eight."""

    forwards: int = 0
    """Of the network: two per guided step, and those of checkpointing."""
    backwards: int = 0
    decodes: int = 0
    rewards: int = 0
    """Evaluations of terms."""

    def plus(self, *more: int) -> "Spent":
        return Spent(*(mine + theirs for mine, theirs in zip(self, more, strict=True)))


@dataclass(frozen=True, slots=True)
class Curves:
    """What happened, iteration by iteration: tensors (iterations, N), NaN after a latent stopped."""

    loss: torch.Tensor
    """Of the reward terms alone: the best picture is the one where it is least."""
    rewards: Mapping[str, torch.Tensor]
    """Raw rewards by term."""
    norm: torch.Tensor
    """Length of the noise over sqrt(d); Gaussian noise has about 1."""
    distance: torch.Tensor
    """Of the noise from its start, over sqrt(d); two independent draws are sqrt(2) apart."""
    watched: dict[int, dict[str, list[Score | None]]] = field(default_factory=dict)
    """Iteration -> held-out reward -> N scores, None for a latent that had stopped."""

    @classmethod
    def empty(cls, terms: Sequence[str], iterations: int, number: int) -> "Curves":
        loss, norm, distance, *rewards = torch.full((3 + len(terms), iterations, number), torch.nan)
        return cls(loss, dict(zip(terms, rewards, strict=True)), norm, distance)


@dataclass(frozen=True, slots=True)
class Optimised:
    """The best picture of every latent, by the reward terms alone."""

    pixels: torch.Tensor
    """(N, 3, H, W) or (N, T, 3, H, W) in [0, 1]."""
    latents: torch.Tensor
    """What to start from to get these pixels again, or the same scene in more steps: (N, ...), float32."""
    start: torch.Tensor
    """The pixels of the first iteration."""
    best: tuple[int | None, ...]
    """The iteration; None for a latent that never had a finite loss, whose pixels are those of the start."""
    stopped: tuple[str, ...]
    """Why a latent ended before the last iteration; empty when it did not."""
    curves: Curves
    spent: Spent

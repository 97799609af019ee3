"""Parts of ReNO (see `reno`): its settings, the terms of its loss, the descent of its noises, and its result.

- `Reno`: settings; the defaults are the paper's (arXiv:2406.04312).
- `Term` and `Transform`: differentiable rewards as terms of one loss, a transform and a weight each. The
  transforms are the constants that published code scatters over its loops, by name. Know no generator.
- `Descent`: gradient descent on the rows of one tensor, every row as if it were alone. Knows no loss.
- `Curves` and `Optimised`: the course of an optimisation and its result.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch

from ..tune.backprop_steps import rowwise
from ..types import Score
from .job import Spent

Optimiser = Literal["sgd", "adam"]


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


# --- terms of the loss --------------------------------------------------------------------------------------

ScoreTensor = Callable[[torch.Tensor, Sequence[str]], torch.Tensor]
"""Pixels in [0, 1], (N, 3, H, W) or (N, T, 3, H, W), and N prompts to N rewards; has a gradient."""


class Transform(NamedTuple):
    """A reward r as a loss: scale * (ceiling - r), and no less than 0 when `hinge`."""

    ceiling: float = 0.0
    scale: float = 1.0
    hinge: bool = False

    def __call__(self, rewards: torch.Tensor) -> torch.Tensor:
        loss = self.scale * (self.ceiling - rewards)
        return loss.relu() if self.hinge else loss


RAW = Transform()
TRANSFORMS: Mapping[str, Transform] = {
    "raw": RAW,
    "cosine": Transform(1.0),
    "reno-hps": Transform(1.0, 5.0),
    "reno-imagereward": Transform(2.0),
    "reno-clip": Transform(100.0, 0.01),
    "reno-pickscore": Transform(30.0, 0.05),
    "reno-aesthetic": Transform(10.0),
    "refl-imagereward": Transform(2.0, hinge=True),
    "pickscore/26": Transform(0.0, 1 / 26),
    "clip/30": Transform(0.0, 1 / 30),
    "unifiedreward/5": Transform(0.0, 1 / 5),
}
"""By name. "reno-..." are ReNO's (github.com/ExplainableML/ReNO), "refl-..." ImageReward's own; the divisors
are those of Flow-GRPO's rewards. CLIP and PickScore are expected as logits (100 x cosine), HPS as a cosine;
"cosine" does to a plain cosine what "reno-clip" does to a logit. Without a floor, the ceiling changes the
loss's value and not its gradient."""


@dataclass(frozen=True, slots=True)
class Term:
    """One reward in the loss.

    Args:
        score: the differentiable reward, such as `Reward.score_tensor`.
        weight: of its loss; negative to push the reward down.
        transform: from reward to loss.
    """

    score: ScoreTensor
    weight: float = 1.0
    transform: Transform = RAW

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"the weight of a term is {self.weight}; give a finite number")


def weighed(
    terms: Mapping[str, Term], pixels: torch.Tensor, prompts: Sequence[str]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of every picture, (N,), and the raw rewards by name, (N,) each without their graph.

    Raises:
        ValueError: a term does not give one reward per picture.
    """
    loss = torch.zeros(len(pixels), device=pixels.device)
    rewards = {}
    for name, term in terms.items():
        values = term.score(pixels, prompts).to(loss)
        if values.shape != loss.shape:
            raise ValueError(
                f"{name} gives rewards of shape {tuple(values.shape)} for {len(pixels)} pictures; "
                f"it must give ({len(pixels)},)"
            )
        loss = loss + term.weight * term.transform(values)
        rewards[name] = values.detach()
    return loss, rewards


@torch.no_grad()
def standardised(terms: Mapping[str, Term], pixels: torch.Tensor, prompts: Sequence[str]) -> dict[str, Term]:
    """The terms with their weights divided by their losses' standard deviations over some pictures.

    So weights say how much each term counts, whatever scale its reward comes on. Take pictures of fresh
    noises: what the generator varies by itself is the yardstick.

    Raises:
        ValueError: a term's losses are not finite, or do not differ from each other.
    """
    scaled = {}
    for name, term in terms.items():
        spread = float(term.transform(term.score(pixels, prompts)).double().std(unbiased=False))
        if not (math.isfinite(spread) and spread > 1e-12):
            raise ValueError(
                f"the losses of {name} have standard deviation {spread} over {len(pixels)} pictures; "
                "take more pictures, or leave the term out"
            )
        scaled[name] = replace(term, weight=term.weight / spread)
    return scaled


# --- descent ------------------------------------------------------------------------------------------------

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-2
"""ReNO's: gradients of noise are small, and the usual 1e-8 would turn every one of them into a full step."""


def clipped(gradient: torch.Tensor, limit: float) -> torch.Tensor:
    """Every row (first dimension) scaled down to a norm of at most `limit`."""
    norm: torch.Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp_min(1e-12)
    share = (limit / norm).clamp(max=1)
    return gradient * rowwise(share, gradient)


class Descent:
    """Nesterov SGD or Adam over the rows of one tensor: each row as if it were alone, and some stop for good.

    Args:
        like: gives the shape (N, ...), type and device of the state.
        lr: learning rate.
        optimiser: "sgd" or "adam".
        momentum: of SGD; 0 is plain gradient descent.
    """

    def __init__(self, like: torch.Tensor, lr: float, optimiser: Optimiser, momentum: float) -> None:
        self.lr, self.optimiser, self.momentum = lr, optimiser, momentum
        self.mean = torch.zeros_like(like)
        self.square = torch.zeros_like(like) if optimiser == "adam" else None
        self.count = 0

    def step(self, rows: Sequence[int], gradient: torch.Tensor) -> torch.Tensor:
        """Update to add to these rows, (len(rows), ...); call it once an iteration with all that go on."""
        self.count += 1
        index = list(rows)
        if self.square is None:
            self.mean[index] = self.momentum * self.mean[index] + gradient
            return -self.lr * (gradient + self.momentum * self.mean[index])
        first, second = ADAM_BETAS
        self.mean[index] = torch.lerp(gradient, self.mean[index], first)
        self.square[index] = torch.lerp(gradient.square(), self.square[index], second)
        mean = self.mean[index] / (1 - first**self.count)
        spread = (self.square[index] / (1 - second**self.count)).sqrt()
        return -self.lr * mean / (spread + ADAM_EPS)


# --- result -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Curves:
    """Course of an optimisation: tensors (iterations, N), NaN after a latent stopped."""

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
        """All NaN, to be filled in."""
        loss, norm, distance, *rewards = torch.full((3 + len(terms), iterations, number), torch.nan)
        return cls(loss, dict(zip(terms, rewards, strict=True)), norm, distance)


@dataclass(frozen=True, slots=True)
class Optimised:
    """The best picture of every latent, by the reward terms alone."""

    pixels: torch.Tensor
    """(N, 3, H, W) or (N, T, 3, H, W) in [0, 1]."""
    latents: torch.Tensor
    """Starting latents that give these pixels again, or the same scene in more steps: (N, ...), float32."""
    start: torch.Tensor
    """The pixels of the first iteration."""
    best: tuple[int | None, ...]
    """The iteration; None for a latent that never had a finite loss, whose pixels are those of the start."""
    stopped: tuple[str, ...]
    """Reason for which a latent ended before the last iteration; empty when it did not."""
    curves: Curves
    spent: Spent
    """Of all latents together; `calls` are evaluations of terms."""

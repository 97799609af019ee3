"""Rollouts: drawing samples with the policy, and replaying the steps it is trained on.

Both go through `advance`, with the same rows in the same batch, so that before the first update a replayed
step has bit for bit the density it was drawn with. Knows no reward and no loss.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from ..generator import Conditioning, Generator
from .data import Row, seed_of
from .kernels import Kernel, Transition, dpm_step

Solver = Literal["euler", "dpm2"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sampling plan of a round: noise levels, kernel, stochastic and trained steps.

    Args:
        sigmas: noise levels (T + 1,), float32.
        steps: of the grid that `sigmas` is, or was thinned from.
        kernel: of the stochastic steps.
        stochastic: the steps that draw noise; the others follow the ODE.
        trained: the steps that are kept for replay, all of them stochastic.
        guidance: scale of classifier-free or distilled guidance, in replay too.
        solver: of the other steps.
        dtype: what the trajectory is stored in.
        seed: of the run.
        round: number of the round.

    Raises:
        ValueError: a trained step that is not stochastic.
    """

    sigmas: torch.Tensor
    steps: int
    kernel: Kernel
    stochastic: frozenset[int] = frozenset()
    trained: frozenset[int] = frozenset()
    guidance: float = 1.0
    solver: Solver = "euler"
    dtype: torch.dtype = torch.float32
    seed: int = 0
    round: int = 0

    def __post_init__(self) -> None:
        if not self.trained <= self.stochastic:
            raise ValueError(f"steps {sorted(self.trained - self.stochastic)} are trained but draw no noise")


@dataclass(frozen=True)
class Step:
    """One step that is trained: latents before and after (N, ...), its mean, and its log-density (N,)."""

    index: int
    x: torch.Tensor
    x_next: torch.Tensor
    mean: torch.Tensor
    log_prob: torch.Tensor


@dataclass(frozen=True)
class Rollout:
    """The samples of one micro-batch: rows, conditioning, finished latents (N, ...), and the trained
    steps."""

    rows: Sequence[Row]
    conditioning: Conditioning
    final: torch.Tensor
    steps: tuple[Step, ...]


class Advance(NamedTuple):
    """Velocity (N, ...) at a step's latents, and the distribution of the latents after it."""

    velocity: torch.Tensor
    move: Transition


@torch.no_grad()
def roll_out(generator: Generator, conditioning: Conditioning, rows: Sequence[Row], plan: Plan) -> Rollout:
    """Draw one sample per row."""
    latents = generator.noise([row.start for row in rows], plan.steps).to(plan.dtype).float()
    steps, x0 = [], None
    for i in range(len(plan.sigmas) - 1):
        if i in plan.stochastic:
            move = advance(generator, latents, conditioning, plan, i).move
            after = plan.kernel.draw(move, step_noise(latents, rows, plan, i), plan.dtype)
            if i in plan.trained:
                density = plan.kernel.log_prob(move, after)
                stored = after.to(plan.dtype)
                steps.append(Step(i, latents.to(plan.dtype), stored, move.mean, density))
            latents, x0 = after, None  # the solver's history ends at a step with noise
        else:
            velocity = generator.velocity(latents, plan.sigmas[i], conditioning, plan.guidance)
            if plan.solver == "dpm2":
                latents, x0 = dpm_step(latents, velocity, plan.sigmas, i, x0)
            else:
                latents = latents + (plan.sigmas[i + 1] - plan.sigmas[i]) * velocity
            latents = latents.to(plan.dtype).float()
    return Rollout(rows, conditioning, latents, tuple(steps))


def advance(
    generator: Generator, latents: torch.Tensor, conditioning: Conditioning, plan: Plan, i: int
) -> Advance:
    """The network's velocity at step i and the transition it implies; differentiable in the weights."""
    velocity = generator.velocity(latents, plan.sigmas[i], conditioning, plan.guidance)
    return Advance(velocity, plan.kernel.transition(latents, velocity, plan.sigmas, i))


def replay(generator: Generator, rollout: Rollout, step: Step, plan: Plan) -> tuple[Advance, torch.Tensor]:
    """A trained step under the network as it is now, and the log-density (N,) of the latents that were drawn.

    Only the stored latents before and after the step are needed: the step's mean and density are computed
    again, with a gradient, and the steps in between are skipped.
    """
    # The whole micro-batch in its order, the conditioning and the grid of the rollout: with other batch
    # sizes, kernels round otherwise, and the ratio before the first update would not be exactly 1.
    again = advance(generator, step.x.float(), rollout.conditioning, plan, step.index)
    return again, plan.kernel.log_prob(again.move, step.x_next.float())


def step_noise(latents: torch.Tensor, rows: Sequence[Row], plan: Plan, i: int) -> torch.Tensor:
    """Standard normal noise in the shape of the latents; each row and step has a seed of its own."""
    shape = latents.shape[1:]
    seeds = [seed_of(plan.seed, "step", plan.round, row.index, i) for row in rows]
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(latents.device)


def noisy_steps(trained: Collection[int], num_steps: int, everywhere: bool) -> frozenset[int]:
    """The stochastic steps: the trained ones, or all but the last, which would leave noise in the sample."""
    return frozenset(trained) | (frozenset(range(num_steps - 1)) if everywhere else frozenset())

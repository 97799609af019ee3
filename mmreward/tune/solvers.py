"""DPM-Solver++ of second order for the ODE: fewer steps than Euler's rule where no density is needed.

https://arxiv.org/abs/2211.01095 (multistep, data prediction, midpoint), written for rectified flow. A kernel
with a density is in `kernels`, Euler's rule for a whole trajectory in `sampling.solve`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .generator import Conditioning, Generator


class Solved(NamedTuple):
    """Latents after a step, and the x0_hat of that step, which the next one wants; both (N, ...), float32."""

    latents: Tensor
    x0: Tensor


def dpm_step(
    latents: Tensor, velocity: Tensor, sigmas: Tensor, i: int, x0_before: Tensor | None = None
) -> Solved:
    """One step from sigmas[i] to sigmas[i + 1]; differentiable.

    Second order where it can be: not without an earlier x0_hat, not right after the level 1 and not to the
    level 0, where the log signal-to-noise ratio is infinite; a step to 0 gives x0_hat.

    Args:
        latents: (N, ...) at sigmas[i].
        velocity: at these latents, same shape.
        sigmas: falling levels, float32; all of a grid or the rest of one.
        i: index of the step.
        x0_before: x0_hat of step i - 1; None starts a trajectory (or a new one, after a stochastic step).

    Raises:
        ValueError: a step that is not in the grid, or an x0_before for the first.
    """
    if not 0 <= i < len(sigmas) - 1:
        raise ValueError(f"step {i} is not one of the {len(sigmas) - 1} steps of the grid")
    if i == 0 and x0_before is not None:
        raise ValueError("step 0 has no step before it: x0_before must be None")
    now, after = sigmas[i], sigmas[i + 1]
    x0 = latents.float() - now * velocity.float()
    target = x0 if x0_before is None else x0 + _extrapolation(sigmas, i) * (x0 - x0_before)
    decay = after * (1 - now) / (now * (1 - after))  # exp(-h), h the step in lambda = ln((1 - s) / s)
    return Solved(after / now * latents.float() + (1 - after) * (1 - decay) * target, x0)


def dpm_solve(
    generator: Generator,
    latents: Tensor,
    conditioning: Conditioning,
    sigmas: Tensor,
    guidance: float = 1.0,
) -> Tensor:
    """Latents at the first of `sigmas` to latents at the last, like `sampling.solve`; differentiable."""
    x0 = None
    for i in range(len(sigmas) - 1):
        velocity = generator.velocity(latents, sigmas[i], conditioning, guidance)
        latents, x0 = dpm_step(latents, velocity, sigmas, i, x0)
    return latents


def _extrapolation(sigmas: Tensor, i: int) -> Tensor:
    """h / (2 h_before): how far the change of x0_hat is carried on, 0 where a step in lambda is infinite."""
    before, now, after = (((1 - s) / s).log() for s in sigmas[i - 1 : i + 2])
    return torch.where(after.isfinite(), 0.5 * (after - now) / (now - before), torch.zeros_like(now))

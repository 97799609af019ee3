"""Stochastic steps of a sampler with their densities, grids of noise levels, and DPM-Solver++ for the other
steps.

A policy gradient draws a step with `Kernel.draw` and replays it with `Kernel.log_prob`. Knows no network and
no loss.

All kernels live in the coordinates of `generator`: x_s = (1 - s) x0 + s noise, velocity = noise - x0, so that
x0_hat = x - s v and noise_hat = x + (1 - s) v. A step goes from s to s' < s with dt = s' - s < 0.

| name  | noise                                | source                                            |
|-------|--------------------------------------|---------------------------------------------------|
| flow  | g = eta sqrt(s / (1 - s))            | Flow-GRPO, https://arxiv.org/abs/2505.05470       |
| dance | g = eta                              | DanceGRPO, https://arxiv.org/abs/2505.07818       |
| wan   | g = eta (lo + (hi - lo) s)           | flow_grpo for Wan2.1; hi and lo from the grid     |
| cps   | c = s' sin(eta pi / 2)               | Flow-CPS, https://arxiv.org/abs/2509.05952        |
| ddim  | c = eta s' sqrt(1 - (r' / r)^2)      | DDIM, https://arxiv.org/abs/2010.02502; r = s/(1-s) |
| ode   | none                                 | Euler's rule                                      |

The first three are steps of a stochastic differential equation with diffusion g: they add noise of standard
deviation c = g sqrt(-dt) and are exact only for small steps. The next two replace a part of the noise that is
there: whatever the step, noise of standard deviation s' remains.

A ratio of densities is sensitive to rounding (errors are divided by 2 c^2), so all of this is float32, and
float64 is refused: a replay in another precision gives another ratio.

A grid is the T + 1 levels, float32, between which a sampler takes its T steps. It is made once, stored with
the trajectory and used again in the replay; it is never computed twice.

`dpm_step` is DPM-Solver++ of second order (https://arxiv.org/abs/2211.01095: multistep, data prediction,
midpoint), written for rectified flow: fewer steps than Euler's rule where no density is needed. Euler's rule
for a whole trajectory is `sampling.solve`.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..errors import nearest

Density = Literal["gaussian", "dropped"]

SMALLEST_STD = 1e-6
"""Noise below this is lost in the rounding of float32 latents, and a density over it means nothing."""


class Transition(NamedTuple):
    """A normal distribution over the next latents, float32.

    `mean` has the shape of the latents; `std` (c) is what the noise is multiplied by, `drift_std` (g) the
    same per unit of time, std = drift_std sqrt(-dt); `dt` is negative. The last three have no dimensions.
    """

    mean: Tensor
    std: Tensor
    drift_std: Tensor
    dt: Tensor


@dataclass(frozen=True)
class Kernel:
    """Transition kernel of the sampler: draws a step, and gives the log-density of a step that was drawn.

    Args:
        name: flow, dance, wan, cps, ddim or ode.
        eta: amount of noise; 0 is Euler's rule. At most 1 for cps and ddim, 0 for ode.
        density: "gaussian" is the log-density of the step; "dropped" is -(x' - mean)^2, the form published
            with cps: without scale and constants, so differences of it are not logarithms of a true ratio.

    Raises:
        ValueError: no such name or density, or an eta outside its range.
    """

    name: str
    eta: float
    density: Density = "gaussian"

    def __post_init__(self) -> None:
        if self.name not in ETAS:
            raise ValueError(f"no kernel is called {self.name!r}: {nearest(self.name, ETAS)}")
        if self.density not in get_args(Density):
            raise ValueError(f"density is one of {', '.join(get_args(Density))}, not {self.density!r}")
        most = _LARGEST_ETA.get(self.name, math.inf)
        if not (math.isfinite(self.eta) and 0 <= self.eta <= most):
            raise ValueError(f"eta of {self.name} must lie between 0 and {most}, not {self.eta}")

    @property
    def deterministic(self) -> bool:
        """True where no step has noise, and so none has a density."""
        return self.eta == 0

    def transition(self, x: Tensor, v: Tensor, sigmas: Tensor, i: int) -> Transition:
        """The distribution of the latents at sigmas[i + 1], given those at sigmas[i]; differentiable.

        Args:
            x: latents (N, ...), in any precision below float64.
            v: velocity at x, same shape.
            sigmas: the whole grid (T + 1,), float32, falling (see `check`). Kept on the CPU it saves
                the waits for the device when levels are read.
            i: index of the step, 0 to T - 1.

        Raises:
            ValueError: float64 anywhere, shapes that differ, or a step that is not in the grid.
        """
        x, v = _float32("latents", x), _float32("velocity", v)
        if x.shape != v.shape:
            raise ValueError(f"latents {tuple(x.shape)} and velocity {tuple(v.shape)} differ in shape")
        if sigmas.dtype != torch.float32 or sigmas.ndim != 1:
            raise ValueError(f"sigmas must be float32 and (T + 1,), not {sigmas.dtype} {tuple(sigmas.shape)}")
        if not 0 <= i < len(sigmas) - 1:
            raise ValueError(f"step {i} is not one of the {len(sigmas) - 1} steps of the grid")
        if self.name in _DRIFTS:
            return _diffuse(x, v, sigmas, i, _DRIFTS[self.name](sigmas, i, self.eta))
        return _renoise(x, v, sigmas, i, *_SHARES[self.name](sigmas, i, self.eta))

    def draw(
        self, transition: Transition, noise: Tensor | None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Latents mean + std noise, float32 whose values exist in `dtype`.

        Storing them in `dtype` then loses nothing, and a replay sees the very numbers that were drawn.

        Args:
            transition: where the step may lead.
            noise: standard normal, shape of the latents; None only where the kernel is deterministic.
            dtype: precision in which the trajectory is stored.

        Raises:
            ValueError: no noise for a stochastic kernel, or noise of another shape.
        """
        x_next = transition.mean
        # Rounding to `dtype` comes before the density is computed: the density must be that of the stored
        # latents, or the replay's ratio would be off by the rounding.
        if noise is not None:
            if noise.shape != x_next.shape:
                raise ValueError(f"noise {tuple(noise.shape)} for latents {tuple(x_next.shape)}")
            x_next = x_next + transition.std * _float32("noise", noise)
        elif not self.deterministic:
            raise ValueError(f"{self.name} with eta {self.eta} is stochastic: give it standard normal noise")
        return x_next.to(dtype).float()

    def log_prob(self, transition: Transition, x_next: Tensor) -> Tensor:
        """Log-density of `x_next`, averaged (not summed) over all but the first dimension: (N,), float32.

        Gradients reach the mean only; `x_next` is detached.

        Raises:
            ValueError: the kernel or this step has no noise, so there is no density; or shapes that differ.
        """
        if self.deterministic:
            raise ValueError(f"{self.name} with eta {self.eta} has no density: its steps are deterministic")
        if not bool((transition.std > SMALLEST_STD).all()):
            raise ValueError(
                f"a step with noise {float(transition.std.min()):.3g} has no density: "
                f"leave it out of the trained steps (the last step of {self.name} may have none)"
            )
        if x_next.shape != transition.mean.shape:
            raise ValueError(f"{tuple(x_next.shape)} drawn from a mean of {tuple(transition.mean.shape)}")
        error = _float32("x_next", x_next).detach() - transition.mean
        if self.density == "dropped":
            density = -error.square()
        else:
            density = -0.5 * (error / transition.std).square() - transition.std.log() - _HALF_LOG_TAU
        return density.reshape(len(density), -1).mean(1)


def kernel(name: str, eta: float | None = None, density: Density = "gaussian") -> Kernel:
    """A kernel by name, with the usual eta of its authors unless one is given.

    Raises:
        ValueError: as `Kernel`; an unknown name is answered with the nearest one.
    """
    return Kernel(name, ETAS.get(name, 0.0) if eta is None else eta, density)


ETAS = {"flow": 0.7, "dance": 0.3, "wan": 1.0, "cps": 0.8, "ddim": 1.0, "ode": 0.0}
"""Every kernel's usual eta. The Wan2.1 recipe has none: 1 is what it does."""

_LARGEST_ETA = {"cps": 1.0, "ddim": 1.0, "ode": 0.0}
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def _flow(sigmas: Tensor, i: int, eta: float) -> Tensor:
    # The grid's second level replaces 1 below the line, where 1 - s would vanish (or be a rounding error).
    # Without a branch: reading a level would wait for the device.
    safe = torch.where(sigmas[i] > 1 - 1e-6, sigmas[1], sigmas[i])
    return eta * (sigmas[i] / (1 - safe)).sqrt()


def _dance(sigmas: Tensor, i: int, eta: float) -> Tensor:
    return torch.full_like(sigmas[i], eta)


def _wan(sigmas: Tensor, i: int, eta: float) -> Tensor:
    return eta * torch.lerp(sigmas[-1], sigmas[1], sigmas[i])


def _cps(sigmas: Tensor, i: int, eta: float) -> tuple[Tensor, Tensor]:
    angle = torch.full_like(sigmas[i], eta * math.pi / 2)
    return angle.sin(), angle.cos()


def _ddim(sigmas: Tensor, i: int, eta: float) -> tuple[Tensor, Tensor]:
    # In variance-preserving terms c^2 = eta^2 (1 - ab') / (1 - ab) (1 - ab / ab'). With ab written in s and
    # everything divided by sqrt(ab') + sqrt(1 - ab'), all that is left is the ratio of the two s / (1 - s).
    now, after = sigmas[i], sigmas[i + 1]
    kept = after * (1 - now) / (now * (1 - after))
    fresh = (now - after) / (now * (1 - after)) * (1 + kept)  # 1 - kept^2, without cancellation
    return eta * fresh.sqrt(), ((1 - eta**2) + (eta * kept).square()).sqrt()


_DRIFTS: dict[str, Callable[[Tensor, int, float], Tensor]] = {
    "flow": _flow,
    "dance": _dance,
    "wan": _wan,
    "ode": _dance,
}
"""g of the kernels that discretise a stochastic differential equation; without noise it is Euler's rule."""

_SHARES: dict[str, Callable[[Tensor, int, float], tuple[Tensor, Tensor]]] = {"cps": _cps, "ddim": _ddim}
"""Shares of the next level's noise that are fresh and kept; their squares add up to 1."""


def _diffuse(x: Tensor, v: Tensor, sigmas: Tensor, i: int, drift_std: Tensor) -> Transition:
    now, dt = sigmas[i], sigmas[i + 1] - sigmas[i]
    noise_hat = x + (1 - now) * v
    mean = x + dt * v + (drift_std.square() / (2 * now) * dt) * noise_hat
    return Transition(mean, drift_std * (-dt).sqrt(), drift_std, dt)


def _renoise(x: Tensor, v: Tensor, sigmas: Tensor, i: int, fresh: Tensor, kept: Tensor) -> Transition:
    now, after = sigmas[i], sigmas[i + 1]
    dt = after - now
    mean = (1 - after) * (x - now * v) + (after * kept) * (x + (1 - now) * v)
    std = after * fresh
    return Transition(mean, std, std / (-dt).sqrt(), dt)


def _float32(what: str, tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.float64:
        raise ValueError(f"{what} are float64; kernels compute in float32: call .float() on them once")
    return tensor.float()


# --- grids --------------------------------------------------------------------------------------------------


def shifted(steps: int, shift: float = 1.0, device: torch.device | str = "cpu") -> Tensor:
    """Levels (steps + 1,) from 1 to 0: shift u / (1 + (shift - 1) u) for evenly spaced u.

    Shift 1 is even, 3 is usual for SD3 and FLUX, 5 for video (https://arxiv.org/abs/2403.03206): large
    pictures need more of their steps at high noise.

    Raises:
        ValueError: fewer than one step, or a shift that is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not shift > 0:
        raise ValueError(f"shift must be positive, not {shift}")
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float32, device=device)
    return even / (even + (1 - even) / shift)  # the same, and exactly 1 where u is 1, for any shift


def check(sigmas: Tensor) -> Tensor:
    """The grid itself, checked: float32, (T + 1,), from at most 1 strictly down to 0.

    Reads the levels, so on a GPU call it once per grid and not once per step.

    Raises:
        ValueError: what is wrong with it.
    """
    if sigmas.dtype != torch.float32:
        raise ValueError(f"sigmas are {sigmas.dtype}, must be float32: another precision shifts every ratio")
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas must be (T + 1,) with at least one step, not {tuple(sigmas.shape)}")
    levels = sigmas.tolist()
    for before, after in itertools.pairwise(levels):
        if not after < before:  # NaN ends here too
            raise ValueError(f"sigmas must fall at every step, but {before:.6g} is followed by {after:.6g}")
    if levels[0] > 1:
        raise ValueError(f"sigmas start at {levels[0]:.6g}; 1 is pure noise: divide timesteps by 1000")
    if levels[-1] != 0:
        raise ValueError(f"sigmas end at {levels[-1]:.6g}, must end at 0")
    return sigmas


def compressed(sigmas: Tensor, start: int, ratio: float = 0.4) -> Tensor:
    """The grid with its steps from index `start` on thinned to about `ratio` of their number, at least one.

    MixGRPO-Flash (https://arxiv.org/abs/2507.21802) does so behind the window of stochastic steps, where a
    second-order solver makes up for it. As its code does, `ratio` is taken of the steps from the window's
    last on, rounded down, and gives the number of levels, sigmas[start] among them: of 21 steps behind a
    window, 7 are left. The levels up to sigmas[start] stay; the others are read off the grid at evenly spaced
    places, by linear interpolation, so that its shift is kept.

    Raises:
        ValueError: a start that is no step of the grid, or a ratio outside (0, 1].
    """
    total = len(sigmas) - 1
    if not 0 <= start < total:
        raise ValueError(f"start {start} is not one of the {total} steps of the grid")
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must lie in (0, 1], not {ratio}")
    steps = max(1, int((total - start + 1) * ratio) - 1)
    places = torch.linspace(start, total, steps + 1, dtype=torch.float64)
    below = places.long().clamp(max=total - 1)
    levels = sigmas.double().cpu()
    tail = torch.lerp(levels[below], levels[below + 1], places - below)
    return torch.cat([sigmas[: start + 1], tail[1:].to(sigmas)])


# --- the other steps ----------------------------------------------------------------------------------------


class Solved(NamedTuple):
    """Latents after a step, and the x0_hat of that step, an argument of the next; both (N, ...), float32."""

    latents: Tensor
    x0: Tensor


def dpm_step(
    latents: Tensor, velocity: Tensor, sigmas: Tensor, i: int, x0_before: Tensor | None = None
) -> Solved:
    """One step of DPM-Solver++ from sigmas[i] to sigmas[i + 1]; differentiable.

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


def _extrapolation(sigmas: Tensor, i: int) -> Tensor:
    """h / (2 h_before): how far the change of x0_hat is carried on, 0 where a step in lambda is infinite."""
    before, now, after = (((1 - s) / s).log() for s in sigmas[i - 1 : i + 2])
    return torch.where(after.isfinite(), 0.5 * (after - now) / (now - before), torch.zeros_like(now))

import math
from collections.abc import Iterable

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from mmreward.generator import Conditioning
from mmreward.sampling import solve
from mmreward.tune.kernels import compressed, dpm_step, shifted

MEAN, STD = 0.5, 0.4
CONDITIONING = Conditioning({"none": torch.zeros(4, 1)})
START = torch.linspace(-2, 2, 4)[:, None]


class Gaussian:
    """The exact velocity of data N(MEAN, STD^2); it counts its calls."""

    calls = 0

    def velocity(self, latents, sigma, conditioning, guidance=1.0):
        self.calls += 1
        s = sigma
        gain = (1 - s) * STD**2 / ((1 - s) ** 2 * STD**2 + s**2)
        return (latents - MEAN - gain * (latents - (1 - s) * MEAN)) / s


def dpm_solve(generator, latents, conditioning, sigmas, guidance=1.0):
    """`dpm_step` along a whole grid, as a rollout takes the steps that draw no noise."""
    x0 = None
    for i in range(len(sigmas) - 1):
        velocity = generator.velocity(latents, sigmas[i], conditioning, guidance)
        latents, x0 = dpm_step(latents, velocity, sigmas, i, x0)
    return latents


def spread(s: float) -> float:
    return math.hypot((1 - s) * STD, s)


def exact(latents: torch.Tensor, start: float, end: float) -> torch.Tensor:
    """The ODE moves every point at a fixed number of standard deviations from the mean."""
    return (1 - end) * MEAN + spread(end) / spread(start) * (latents - (1 - start) * MEAN)


def errors(solver, grids: Iterable[torch.Tensor]) -> list[float]:
    return [
        (solver(Gaussian(), START, CONDITIONING, grid) - exact(START, grid[0].item(), grid[-1].item()))
        .abs().max().item()
        for grid in grids
    ]  # fmt: skip


def test_second_order():
    grids = [torch.linspace(0.9, 0.1, steps + 1) for steps in (32, 64, 128)]
    for solver, order in [(dpm_solve, 2), (solve, 1)]:
        coarse, middle, fine = errors(solver, grids)
        assert math.log2(coarse / middle) == pytest.approx(order, abs=0.1)
        assert math.log2(middle / fine) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("shift", [1, 3])
def test_whole_grids_are_finite_and_better_than_eulers_rule(shift):
    grids = [shifted(steps, shift) for steps in (1, 2, 5, 10, 20)]
    ours, eulers = errors(dpm_solve, grids), errors(solve, grids)
    assert all(math.isfinite(error) for error in ours)
    assert ours[0] == pytest.approx(eulers[0], abs=1e-6)  # one step from noise to x0_hat is the same in both
    assert all(mine < other for mine, other in zip(ours[2:], eulers[2:], strict=True))
    assert ours[-1] < 0.5 * eulers[-1]


@pytest.mark.parametrize(("steps", "shift"), [(4, 1.0), (10, 3.0), (20, 5.0)])
def test_same_latents_as_diffusers(steps, shift):
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2
    )
    scheduler.set_timesteps(steps)
    generator = Gaussian()
    theirs = START
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        velocity = generator.velocity(theirs, sigma, CONDITIONING)
        theirs = scheduler.step(velocity, timestep, theirs).prev_sample
    ours = dpm_solve(generator, START, CONDITIONING, scheduler.sigmas)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def test_one_evaluation_a_step_and_gradients():
    generator = Gaussian()
    latents = START.clone().requires_grad_()
    end = dpm_solve(generator, latents, CONDITIONING, shifted(6, 3))
    assert generator.calls == 6
    (gradient,) = torch.autograd.grad(end.sum(), latents)
    slope = (end[-1] - end[0]) / (START[-1] - START[0])  # the velocity of a normal distribution is linear
    torch.testing.assert_close(gradient, slope.detach().expand(4, 1))


def test_steps_outside_the_noise_range_are_first_order():
    grid = torch.tensor([1.0, 0.6, 0.3, 0.0])
    x, v, before = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(dpm_step(x, v, grid, 0).latents, x - 0.4 * v)
    torch.testing.assert_close(dpm_step(x, v, grid, 1, before).latents, x - 0.3 * v)
    last = dpm_step(x, v, grid, 2, before)
    torch.testing.assert_close(last.latents, x - 0.3 * v)
    assert torch.equal(last.latents, last.x0)


def test_fewer_steps_behind_a_window():
    """As MixGRPO-Flash samples: the solver starts anew in the middle of a grid, with 40 % of the steps."""
    grid = shifted(25, 3)
    middle = exact(START, 1.0, grid[4].item())
    target = exact(START, 1.0, 0.0)
    rest = compressed(grid, 4)[4:]
    assert len(rest) - 1 == 7
    ours, eulers = (solver(Gaussian(), middle, CONDITIONING, rest) for solver in (dpm_solve, solve))
    assert (ours - target).abs().max() < 0.9 * (eulers - target).abs().max()


def test_wrong_arguments_are_named():
    grid = shifted(3)
    with pytest.raises(ValueError, match="step 3 is not one of the 3 steps"):
        dpm_step(START, START, grid, 3)
    with pytest.raises(ValueError, match="x0_before must be None"):
        dpm_step(START, START, grid, 0, START)

"""Kernels against numbers worked out by hand in float64, and against what they must keep."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmreward.tune.kernels import ETAS, Kernel, Transition, kernel, shifted

NAMES = tuple(ETAS)
NOISY = tuple(name for name in NAMES if name != "ode")
STEP = torch.tensor([1.0, 0.7, 0.6, 0.0])  # the golden numbers are for its step 1


def one(value: float) -> torch.Tensor:
    return torch.tensor([[value]])


def step(name: str, eta: float, density: str = "gaussian") -> tuple[Transition, float, float]:
    """The golden step: x = 1, v = .5, s = .7 to .6, noise .3; with x' and its log-density."""
    rule = kernel(name, eta, density)
    transition = rule.transition(one(1.0), one(0.5), STEP, 1)
    x_next = rule.draw(transition, one(0.3))
    return transition, x_next.item(), rule.log_prob(transition, x_next).item()


@pytest.mark.parametrize(
    ("name", "eta", "mean", "std", "x_next", "log_prob"),
    [
        ("flow", 0.7, 0.856083333, 0.338132124, 0.957522971, 0.120380027),
        ("dance", 0.3, 0.942607143, 0.094868330, 0.971067642, 1.391326818),
        ("cps", 0.8, 0.473221726, 0.570633910, 0.644411899, -0.402931120),
        # lo = 0, hi = .7: g = .49, c = .49 sqrt(.1), mean = .95 - .1 * .49^2 / 1.4 * 1.15
        ("wan", 1.0, 0.930277500, 0.154951605, 0.976762981, 0.900703849),
    ],
)
def test_golden_step(name, eta, mean, std, x_next, log_prob):
    transition, drawn, density = step(name, eta)
    assert transition.mean.item() == pytest.approx(mean, abs=2e-7)
    assert transition.std.item() == pytest.approx(std, abs=1e-7)
    assert drawn == pytest.approx(x_next, abs=2e-7)
    assert density == pytest.approx(log_prob, abs=2e-6)
    assert transition.dt.item() == pytest.approx(-0.1, abs=1e-7)
    assert (transition.drift_std * (-transition.dt).sqrt()).item() == pytest.approx(std, rel=1e-6)


def test_golden_drift_and_dropped_density():
    assert step("flow", 0.7)[0].drift_std.item() == pytest.approx(1.069267662, rel=1e-6)
    assert step("cps", 0.8, "dropped")[2] == pytest.approx(-0.029306075, abs=1e-7)


@pytest.mark.parametrize(("eta", "mean", "std"), [(1.0, 0.26, 0.6), (0.0, 0.95, 0.0)])
def test_golden_ends_of_cps(eta, mean, std):
    transition = kernel("cps", eta).transition(one(1.0), one(0.5), STEP, 1)
    assert transition.mean.item() == pytest.approx(mean, abs=1e-6)
    assert transition.std.item() == pytest.approx(std, abs=1e-7)


def test_golden_first_step_of_flow():
    transition = kernel("flow", 0.7).transition(one(1.0), one(0.5), torch.tensor([1.0, 0.9, 0.0]), 0)
    assert transition.mean.item() == pytest.approx(0.705, abs=1e-6)
    assert transition.drift_std.item() == pytest.approx(2.213594362, rel=1e-6)
    assert transition.std.item() == pytest.approx(0.7, rel=1e-6)


@pytest.mark.parametrize(
    ("shift", "stds"),
    [
        (1, [0.700, 0.664, 0.443, 0.338, 0.271, 0.221, 0.181, 0.145, 0.111, 0.074]),
        (3, [0.700, 0.738, 0.532, 0.442, 0.388, 0.350, 0.320, 0.291, 0.256, 0.202]),
    ],
)
def test_golden_noise_of_a_whole_flow_trajectory(shift, stds):
    grid = shifted(10, shift)
    found = [kernel("flow").transition(one(0.0), one(0.0), grid, i).std.item() for i in range(10)]
    assert found == pytest.approx(stds, abs=6e-4)


def vp_to_flow(alpha_bar: float) -> tuple[float, float]:
    """Noise level of rectified flow, and what latents are divided by, for a variance-preserving alpha-bar."""
    scale = math.sqrt(alpha_bar) + math.sqrt(1 - alpha_bar)
    return math.sqrt(1 - alpha_bar) / scale, scale


def ddim_in_flow(ab: float, ab_next: float, x: float, eps: float, eta: float) -> tuple[float, float]:
    """Mean and std in variance-preserving coordinates, computed by the kernel in those of flow."""
    (now, scale), (after, scale_next) = vp_to_flow(ab), vp_to_flow(ab_next)
    x0 = (x - math.sqrt(1 - ab) * eps) / math.sqrt(ab)
    grid = torch.tensor([now, after, 0.0])
    transition = kernel("ddim", eta).transition(one(x / scale), one(eps - x0), grid, 0)
    return transition.mean.item() * scale_next, transition.std.item() * scale_next


def test_golden_ddim():
    mean, std = ddim_in_flow(0.5, 0.6, 1.0, 0.2, 1.0)
    assert mean == pytest.approx(1.043805337, abs=1e-6)
    assert std == pytest.approx(0.365148372, abs=1e-6)


@given(
    ab=st.floats(0.005, 0.95),
    gain=st.floats(0.01, 0.99),
    x=st.floats(-3, 3),
    eps=st.floats(-3, 3),
    eta=st.floats(0, 1),
)
def test_ddim_in_flow_coordinates_is_ddim(ab, gain, x, eps, eta):
    ab_next = ab + gain * (1 - ab)
    x0 = (x - math.sqrt(1 - ab) * eps) / math.sqrt(ab)
    std = eta * math.sqrt((1 - ab_next) / (1 - ab) * (1 - ab / ab_next))
    mean = math.sqrt(ab_next) * x0 + math.sqrt(1 - ab_next - std**2) * eps
    found_mean, found_std = ddim_in_flow(ab, ab_next, x, eps, eta)
    assert found_mean == pytest.approx(
        mean, abs=1e-4
    )  # x0 is a hundred times larger than x where ab is small
    assert found_std == pytest.approx(std, abs=1e-5)


@given(
    name=st.sampled_from(["cps", "ddim"]),
    eta=st.floats(0, 1),
    shift=st.floats(0.3, 6),
    steps=st.integers(1, 30),
    data=st.data(),
)
def test_coefficient_preserving_kernels_keep_the_noise_level(name, eta, shift, steps, data):
    """A point mass at 0 with the exact velocity: x = s e is e times the level after the step as well."""
    grid = shifted(steps, shift)
    i = data.draw(st.integers(0, steps - 1))
    transition = kernel(name, eta).transition(one(grid[i].item()), one(1.0), grid, i)
    total = math.hypot(transition.mean.item(), transition.std.item())
    assert total == pytest.approx(grid[i + 1].item(), abs=1e-5)


def test_flow_leaves_too_much_noise():
    transition = kernel("flow", 0.7).transition(one(0.7), one(1.0), STEP, 1)
    assert math.hypot(transition.mean.item(), transition.std.item()) == pytest.approx(0.6189, abs=1e-4)
    transition = kernel("dance", 0.3).transition(one(0.7), one(1.0), STEP, 1)
    assert math.hypot(transition.mean.item(), transition.std.item()) == pytest.approx(0.6011, abs=1e-4)


@given(eta=st.floats(0.01, 2), shift=st.floats(0.3, 6), steps=st.integers(2, 40))
def test_first_step_of_flow_has_noise_eta(eta, shift, steps):
    transition = kernel("flow", eta).transition(one(0.3), one(-1.0), shifted(steps, shift), 0)
    assert transition.std.item() == pytest.approx(eta, rel=1e-4)


def test_a_first_level_that_misses_1_by_rounding_is_1():
    grid = torch.tensor([1 - 2**-24, 0.9, 0.0])
    assert kernel("flow", 0.7).transition(one(1.0), one(0.5), grid, 0).std.item() == pytest.approx(
        0.7, rel=1e-5
    )


@given(eta=st.floats(0.01, 2), i=st.integers(1, 9))
def test_dance_is_flow_with_constant_diffusion(eta, i):
    grid = shifted(10, 3)
    x, v = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(i))
    level = grid[i].item()
    flow = kernel("flow", eta * math.sqrt((1 - level) / level)).transition(x, v, grid, i)
    dance = kernel("dance", eta).transition(x, v, grid, i)
    torch.testing.assert_close(flow, dance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_without_noise_every_kernel_is_eulers_rule(name):
    grid = shifted(6, 3)
    x, v = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1))
    for i in range(6):
        transition = kernel(name, 0.0).transition(x, v, grid, i)
        torch.testing.assert_close(transition.mean, x + (grid[i + 1] - grid[i]) * v)
        assert transition.std == 0
        assert transition.drift_std == 0


@pytest.mark.parametrize("name", NOISY)
def test_log_prob_is_the_mean_of_the_normal_log_density(name):
    grid = shifted(8, 3)
    x, v, x_next = torch.randn(3, 4, 2, 3, 3, generator=torch.Generator().manual_seed(2))
    rule = kernel(name)
    transition = rule.transition(x, v, grid, 3)
    expected = torch.distributions.Normal(transition.mean, transition.std).log_prob(x_next).mean((1, 2, 3))
    torch.testing.assert_close(rule.log_prob(transition, x_next), expected)
    shift = kernel(name, density="dropped").log_prob(transition, x_next) / (2 * transition.std**2)
    torch.testing.assert_close(shift - transition.std.log() - 0.5 * math.log(2 * math.pi), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NOISY)
def test_replay_sees_the_very_numbers_that_were_drawn(name, dtype):
    grid, rule = shifted(6, 3), kernel(name)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(8, 8, generator=generator) / 8
    x = torch.randn(4, 8, generator=generator).to(dtype).float()
    stored, densities = [x.to(dtype)], []
    for i in range(5):
        transition = rule.transition(x, x @ weight, grid, i)
        x = rule.draw(transition, torch.randn(4, 8, generator=generator), dtype)
        densities.append(rule.log_prob(transition, x))
        stored.append(x.to(dtype))
    for i in range(5):
        again = rule.transition(stored[i], stored[i].float() @ weight, grid, i)
        ratio = (rule.log_prob(again, stored[i + 1]) - densities[i]).exp()
        assert torch.equal(ratio, torch.ones(4))


def test_gradient_reaches_the_velocity_and_not_the_drawn_latents():
    grid, rule = shifted(4), kernel("flow")
    x, v = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(4))
    v.requires_grad_()
    transition = rule.transition(x, v, grid, 1)
    x_next = rule.draw(transition, torch.randn(3, 4, generator=torch.Generator().manual_seed(5)))
    assert x_next.requires_grad  # for rewards that are differentiated
    (gradient,) = torch.autograd.grad(rule.log_prob(transition, x_next).sum(), v)
    # d log p / d v = (x' - m) / c^2 dm / dv / 4, where dm/dv = dt (1 + g^2 (1 - s) / (2 s))
    slope = transition.dt * (1 + transition.drift_std**2 * (1 - grid[1]) / (2 * grid[1]))
    expected = (x_next - transition.mean) / transition.std**2 * slope / 4
    torch.testing.assert_close(gradient, expected.detach())


def gaussian_velocity(x: torch.Tensor, s: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """Exact velocity for data N(mean, std^2)."""
    gain = (1 - s) * std**2 / ((1 - s) ** 2 * std**2 + s**2)
    x0 = mean + gain * (x - (1 - s) * mean)
    return (x - x0) / s


def end_of_trajectory(rule: Kernel, steps: int, mean: float, std: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(6)
    grid = shifted(steps)
    x = torch.randn(20_000, generator=generator)
    for i in range(steps):
        transition = rule.transition(x, gaussian_velocity(x, grid[i], mean, std), grid, i)
        x = rule.draw(transition, torch.randn(len(x), generator=generator))
    return x


@pytest.mark.parametrize("name", ["flow", "dance"])
def test_stochastic_and_plain_sampling_have_the_same_marginals(name):
    fine, coarse = (end_of_trajectory(kernel(name), steps, 0.5, 0.8) for steps in (800, 10))
    assert fine.mean().item() == pytest.approx(0.5, abs=0.02)
    assert fine.std().item() == pytest.approx(0.8, abs=0.015)
    assert abs(coarse.std().item() - 0.8) > 2 * abs(fine.std().item() - 0.8)


@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("name", ["cps", "ddim"])
def test_point_mass_is_reached_in_any_number_of_steps(name, steps):
    end = end_of_trajectory(kernel(name), steps, 0.5, 0.0)
    torch.testing.assert_close(end, torch.full_like(end, 0.5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["cps", "ddim"])
def test_a_last_step_without_noise_is_refused_by_the_density(name):
    grid, rule = shifted(4), kernel(name)
    transition = rule.transition(one(1.0), one(0.5), grid, 3)
    torch.testing.assert_close(rule.draw(transition, one(2.0)), transition.mean)
    with pytest.raises(ValueError, match=r"has no density: leave it out.*last step of " + name):
        rule.log_prob(transition, transition.mean)


def test_the_last_step_of_flow_has_a_density():
    rule = kernel("flow")
    transition = rule.transition(one(1.0), one(0.5), shifted(4), 3)
    assert rule.log_prob(transition, transition.mean).isfinite()


@pytest.mark.parametrize("rule", [kernel("ode"), kernel("flow", 0.0), kernel("cps", 0.0, "dropped")])
def test_deterministic_kernels_have_no_density(rule):
    transition = rule.transition(one(1.0), one(0.5), STEP, 1)
    torch.testing.assert_close(rule.draw(transition, None), one(0.95))
    with pytest.raises(ValueError, match="no density: its steps are deterministic"):
        rule.log_prob(transition, one(0.95))


def test_float64_is_refused_wherever_it_comes_from():
    rule, x = kernel("flow"), one(1.0)
    with pytest.raises(ValueError, match=r"sigmas must be float32.*float64"):
        rule.transition(x, x, STEP.double(), 1)
    with pytest.raises(ValueError, match="velocity are float64"):
        rule.transition(x, x.double(), STEP, 1)
    transition = rule.transition(x, x, STEP, 1)
    with pytest.raises(ValueError, match="x_next are float64"):
        rule.log_prob(transition, x.double())
    with pytest.raises(ValueError, match="noise are float64"):
        rule.draw(transition, x.double())


def test_levels_cut_to_integer_timesteps_change_the_ratio():
    """Why the grid is stored: 1000 s cut to an integer, as some trainers do, is another distribution."""
    grid, rule = shifted(6, 3), kernel("flow")
    cut = (1000 * grid).int() / 1000
    x, v = torch.randn(2, 2, 64, generator=torch.Generator().manual_seed(7))
    transition = rule.transition(x, v, grid, 1)
    x_next = rule.draw(transition, torch.randn(2, 64, generator=torch.Generator().manual_seed(8)))
    other = rule.log_prob(rule.transition(x, v, cut, 1), x_next)
    assert ((other - rule.log_prob(transition, x_next)).exp() - 1).abs().max() > 1e-4


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="did you mean 'dance'"):
        kernel("danse")
    with pytest.raises(ValueError, match="there are flow, dance, wan, cps, ddim, ode"):
        kernel("heun")
    for name, eta in [("cps", 1.2), ("ddim", 1.01), ("ode", 0.1), ("flow", -0.1), ("dance", math.nan)]:
        with pytest.raises(ValueError, match=f"eta of {name} must lie between"):
            kernel(name, eta)
    with pytest.raises(ValueError, match="density is one of gaussian, dropped"):
        kernel("cps", density="sum")
    rule = kernel("flow")
    transition = rule.transition(one(1.0), one(0.5), STEP, 1)
    with pytest.raises(ValueError, match="stochastic: give it standard normal noise"):
        rule.draw(transition, None)
    with pytest.raises(ValueError, match=r"noise \(1,\) for latents \(1, 1\)"):
        rule.draw(transition, torch.zeros(1))
    with pytest.raises(ValueError, match=r"\(2, 1\) drawn from a mean of \(1, 1\)"):
        rule.log_prob(transition, torch.zeros(2, 1))
    with pytest.raises(ValueError, match="differ in shape"):
        rule.transition(one(1.0), torch.zeros(1), STEP, 1)
    for i in (-1, 3):
        with pytest.raises(ValueError, match=f"step {i} is not one of the 3 steps"):
            rule.transition(one(1.0), one(0.5), STEP, i)


def test_usual_eta_of_each():
    assert {name: kernel(name).eta for name in NAMES} == {
        "flow": 0.7, "dance": 0.3, "wan": 1.0, "cps": 0.8, "ddim": 1.0, "ode": 0.0,
    }  # fmt: skip

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmreward.tune.losses import diagnostics, dppo, guard, guard_log_ratio, ppo


@dataclass
class Step:
    """Flow-SDE from sigma 0.7 to 0.6 with eta 0.7, at x = 1, and the log-probability of a drawn x'."""

    std: float = 0.7 * math.sqrt(0.7 / 0.3) * math.sqrt(0.1)
    dt: float = -0.1

    def mean(self, v: torch.Tensor) -> torch.Tensor:
        g = 0.7 * math.sqrt(0.7 / 0.3)
        half = g * g / (2 * 0.7)
        return (1 + half * self.dt) + v * (1 + half * 0.3) * self.dt

    def logp(self, x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        normal = torch.distributions.Normal(mean, self.std)
        return normal.log_prob(x).flatten(1).mean(1)


STEP = Step()


def moved(noise: torch.Tensor, change: torch.Tensor | float) -> tuple[torch.Tensor, ...]:
    """Log-probabilities and means, new and old, in float64 for sharp comparisons."""
    v = torch.full_like(noise, 0.5)
    old, new = STEP.mean(v), STEP.mean(v + change)
    drawn = old + STEP.std * noise
    return STEP.logp(drawn, new), STEP.logp(drawn, old), new, old


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values)


def test_ppo_and_guard_golden_ratios():
    logp, logp_old, mean, mean_old = moved(torch.full((1, 1), 0.3, dtype=torch.float64), 0.02)
    assert float(logp - logp_old) == pytest.approx(-0.002236310, abs=1e-8)
    loss = ppo(logp, logp_old, -torch.ones(1), clip=1.0)
    assert float(loss) == pytest.approx(0.997766189, abs=1e-6)
    log_ratio = guard_log_ratio(logp, logp_old, mean, mean_old, STEP.std)
    assert math.exp(float(log_ratio)) == pytest.approx(0.999253279, abs=1e-6)
    loss = guard(logp, logp_old, mean, mean_old, STEP.std, STEP.dt, -torch.ones(1), clip=1.0)
    assert float(loss) == pytest.approx(0.999253279 / 0.1, abs=1e-5)


def test_guard_ratio_is_exp_of_the_mean_noise_times_shift():
    noise = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    change = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logp, logp_old, mean, mean_old = moved(noise, change)
    expected = (noise * (mean - mean_old)).flatten(1).mean(1)
    found = guard_log_ratio(logp, logp_old, mean, mean_old, STEP.std)
    torch.testing.assert_close(found, expected.float(), atol=2e-5, rtol=1e-4)


def test_guard_takes_one_std_and_dt_per_row():
    logp, logp_old, mean, mean_old = moved(torch.randn(2, 3), 0.1)
    advantages = rows(1.0, -1.0)
    stds, spans = rows(0.3, 0.4), rows(-0.1, -0.2)
    both = guard(logp, logp_old, mean, mean_old, stds, spans, advantages)
    for i in range(2):
        one = slice(i, i + 1)
        alone = guard(logp[one], logp_old[one], mean[one], mean_old[one], stds[i], spans[i], advantages[one])
        torch.testing.assert_close(both[one], alone)


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "slope"),
    [
        (2.0, 1.05, -2 * 1.05, -2 * 1.05),
        (2.0, 1.5, -2 * 1.1, 0.0),
        (2.0, 0.5, -2 * 0.5, -2 * 0.5),
        (-2.0, 0.5, 2 * 0.9, 0.0),
        (-2.0, 1.5, 2 * 1.5, 2 * 1.5),
        (0.0, 1.5, 0.0, 0.0),
    ],
)
def test_ppo_clips_only_what_moves_on(advantage, ratio, loss, slope):
    logp = rows(math.log(ratio)).requires_grad_()
    found = ppo(logp, rows(0.0), rows(advantage), clip=0.1)
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert float(logp.grad) == pytest.approx(slope)


@given(st.floats(0.01, 10), st.floats(-3, 3), st.floats(-0.5, 0.5))
def test_ppo_scales_with_the_advantage(scale, advantage, log_ratio):
    logp, zero = rows(log_ratio), rows(0.0)
    whole = ppo(logp, zero, rows(scale * advantage), clip=0.1)
    torch.testing.assert_close(whole, scale * ppo(logp, zero, rows(advantage), clip=0.1))


def test_nothing_of_the_old_policy_gets_a_gradient():
    logp, logp_old, mean, mean_old = (
        t.float().detach().requires_grad_() for t in moved(torch.randn(2, 3), 0.1)
    )
    advantages = rows(1.0, -1.0).requires_grad_()
    (
        ppo(logp, logp_old, advantages)
        + guard(logp, logp_old, mean, mean_old, STEP.std, STEP.dt, advantages)
        + dppo(logp, logp_old, mean, mean_old, STEP.std, advantages)
    ).sum().backward()
    assert logp_old.grad is None
    assert mean_old.grad is None
    assert advantages.grad is None
    assert logp.grad.abs().sum() > 0


FAR, NEAR = 1.0, 1e-4


@pytest.mark.parametrize(
    ("advantage", "log_ratio", "distance", "kept"),
    [
        (1.0, 0.1, FAR, False),
        (1.0, -0.1, FAR, True),
        (-1.0, 0.1, FAR, True),
        (-1.0, -0.1, FAR, False),
        (1.0, 0.1, NEAR, True),
        (1.0, -0.1, NEAR, True),
        (-1.0, 0.1, NEAR, True),
        (-1.0, -0.1, NEAR, True),
    ],
)
def test_dppo_masks_far_rows_that_move_on(advantage, log_ratio, distance, kept):
    logp = rows(log_ratio).requires_grad_()
    found = dppo(logp, rows(0.0), torch.full((1, 3), distance), torch.zeros(1, 3), 1.0, rows(advantage), 1e-5)
    found.sum().backward()
    expected = -advantage * math.exp(log_ratio) if kept else 0.0
    assert found.item() == pytest.approx(expected)
    assert float(logp.grad) == pytest.approx(expected)


def test_dppo_threshold_is_on_the_divergence_with_the_std():
    mean, zeros = torch.full((2, 4), 0.2), torch.zeros(2, 4)
    logp = torch.full((2,), 0.1)
    found = dppo(logp, zeros[:, 0], mean, zeros, rows(1.0, 10.0), torch.ones(2), threshold=0.01)
    assert found[0] == 0
    assert found[1] == pytest.approx(-math.exp(0.1))


def test_dppo_survives_an_infinite_ratio():
    logp = rows(500.0, 0.0).requires_grad_()
    found = dppo(logp, torch.zeros(2), torch.ones(2, 3), torch.zeros(2, 3), 1.0, torch.ones(2))
    found.sum().backward()
    assert found.tolist() == [0, -1]
    assert logp.grad.tolist() == [0, -1]


def test_diagnostics():
    ratios = torch.tensor([0.5, 1.0, 1.05, 2.0])
    found = diagnostics(ratios.log(), torch.zeros(4), clip=0.1)
    expected = {
        "ratio_mean": 1.1375,
        "ratio_std": float(ratios.std(correction=0)),
        "ratio_min": 0.5,
        "ratio_max": 2.0,
        "ratio_deviation": 1.0,
        "clip_frac": 0.5,
        "clip_frac_high": 0.25,
        "clip_frac_low": 0.25,
        "approx_kl": float(ratios.log().square().mean() / 2),
    }
    assert found == pytest.approx(expected)
    assert diagnostics(ratios, ratios, 0.1)["ratio_deviation"] == 0


def test_bad_input_is_named():
    two, square = torch.zeros(2), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"'advantages': \(2, 1\)"):
        ppo(two, two, torch.zeros(2, 1))
    with pytest.raises(ValueError, match="clip is -1"):
        ppo(two, two, two, clip=-1)
    with pytest.raises(ValueError, match=r"std is 0\.0 in some row; only steps with noise have a ratio"):
        dppo(two, two, square, square, 0.0, two)
    with pytest.raises(ValueError, match="dt is below 0"):
        guard(two, two, square, square, 0.3, 0.1, two)
    with pytest.raises(ValueError, match="std has 3 numbers for 2 rows"):
        guard(two, two, square, square, torch.ones(3), -0.1, two)
    with pytest.raises(ValueError, match="shapes differ"):
        guard(two, two, square, square[:, :2], 0.3, -0.1, two)
    with pytest.raises(ValueError, match="no rows"):
        diagnostics(torch.zeros(0), torch.zeros(0), 0.1)

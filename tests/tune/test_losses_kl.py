import pytest
import torch
from torch.distributions import Normal, kl_divergence

from mmreward.tune.losses import mean_gauss, mean_mse, old_policy, velocity_mse

MEAN, REF = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def test_mean_gauss_is_the_divergence_of_two_normals():
    stds = torch.tensor([0.2, 0.3, 0.5])
    wide = stds.reshape(3, 1, 1, 1)
    expected = kl_divergence(Normal(MEAN, wide), Normal(REF, wide)).flatten(1).mean(1)
    torch.testing.assert_close(mean_gauss(MEAN, REF, stds), expected)


def test_scales_of_the_three_spaces():
    g, dt = 1.07, -0.1
    true, flow_grpo = mean_gauss(MEAN, REF, g * (-dt) ** 0.5), mean_gauss(MEAN, REF, g)
    torch.testing.assert_close(flow_grpo, -dt * true)
    torch.testing.assert_close(true, mean_mse(MEAN, REF) / (2 * g**2 * -dt))
    x = torch.ones_like(MEAN)
    euler = mean_mse(x + MEAN * dt, x + REF * dt)
    torch.testing.assert_close(euler, dt**2 * velocity_mse(MEAN, REF))


@pytest.mark.parametrize("penalty", [mean_mse, velocity_mse, lambda a, b: mean_gauss(a, b, 0.3)])
def test_gradient_goes_to_the_policy_alone(penalty):
    policy, reference = MEAN.clone().requires_grad_(), REF.clone().requires_grad_()
    penalty(policy, reference).sum().backward()
    assert (policy.grad * (policy - reference)).min() > 0
    assert reference.grad is None


def test_old_policy():
    logp, logp_old = (torch.tensor(t, requires_grad=True) for t in ([1.0, 2.0], [1.0, 2.5]))
    found = old_policy(logp, logp_old)
    found.sum().backward()
    assert found.tolist() == [0, 0.125]
    assert logp.grad.tolist() == [0, -0.5]
    assert logp_old.grad is None


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="use velocity_mse"):
        mean_gauss(MEAN, REF, 0.0)
    with pytest.raises(ValueError, match="shapes differ"):
        velocity_mse(MEAN, REF[:1])

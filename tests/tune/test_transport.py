import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from mmreward.models.maps import Transport
from mmreward.tune.fit_maps import fused, learn_transport, partial_plan, token_cost


@settings(max_examples=12)
@given(
    n=st.integers(1, 7), m=st.integers(1, 7), mass=st.sampled_from([0.3, 0.9, 1.0]), seed=st.integers(0, 99)
)
def test_the_plan_keeps_to_its_marginals_and_its_mass(n, m, mass, seed):
    cost = torch.rand(2, n, m, generator=torch.Generator().manual_seed(seed))
    plan = partial_plan(cost, mass=mass, epsilon=0.1, iterations=800)
    assert (plan >= 0).all()
    torch.testing.assert_close(plan.sum((-2, -1)), torch.full((2,), mass))
    assert (plan.sum(-1) <= 1 / n + 1e-3).all()
    assert (plan.sum(-2) <= 1 / m + 1e-3).all()


def cheapest(cost, mass):
    """The same problem without entropy, as a linear programme."""
    n, m = cost.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    limits = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return linprog(
        cost.ravel(), np.vstack([rows, columns]), limits, np.ones((1, n * m)), [mass], bounds=(0, None)
    ).fun


@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_with_little_entropy_the_plan_is_the_cheapest(mass):
    cost = np.random.default_rng(0).random((5, 6))
    plan = partial_plan(torch.tensor(cost), mass=mass, epsilon=0.005, iterations=3000)
    assert float((plan * torch.tensor(cost)).sum()) == pytest.approx(cheapest(cost, mass), abs=0.01)


def test_with_much_entropy_the_plan_is_flat():
    plan = partial_plan(torch.rand(4, 5), mass=0.9, epsilon=1e4)
    torch.testing.assert_close(plan, torch.full((4, 5), 0.9 / 20), atol=1e-5, rtol=0)


def test_what_has_no_partner_is_left_out():
    """Three words and three places match in pairs, the fourth of each matches nothing."""
    cost = 1 - torch.eye(4)
    cost[3, 3] = 1
    plan = partial_plan(cost, mass=0.75, epsilon=0.01, iterations=500)
    torch.testing.assert_close(plan.diagonal(), torch.tensor([0.25, 0.25, 0.25, 0]), atol=1e-3, rtol=0)


def test_a_small_epsilon_does_not_overflow_and_the_plan_has_a_gradient():
    cost = (1000 * torch.rand(3, 4)).requires_grad_()
    plan = partial_plan(cost, epsilon=1e-3, iterations=20)
    assert plan.isfinite().all()
    (plan * cost).sum().backward()
    assert cost.grad.isfinite().all() and cost.grad.abs().sum() > 0


def test_token_cost_golden():
    words, places = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    torch.testing.assert_close(token_cost(words, places), torch.tensor([[0.0, 1.0]]))
    times = torch.tensor([0.5]), torch.tensor([0.25, 1.0])
    points = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.3, 0.4], [1.0, 0.0]])
    priors = token_cost(words, places, times=times, points=points, temporal=2.0, spatial=4.0)
    torch.testing.assert_close(priors, torch.tensor([[0.5 + 1.0, 1 + 1.0 + 4.0]]))


def test_attention_follows_the_plan_and_stays_a_distribution():
    attention = torch.tensor([[0.5, 0.25, 0.25]])
    steered = fused(attention, torch.tensor([[0.1, 0.3, 0.0]]))
    torch.testing.assert_close(steered, torch.tensor([[0.4, 0.6, 0.0]]), atol=1e-6, rtol=0)


def test_a_known_map_is_recovered():
    """Between a Gaussian and itself stretched and moved, the map of least effort is that stretch and move."""
    source = torch.Generator().manual_seed(0)
    stretch, move = torch.tensor([1.5, 0.6]), torch.tensor([1.0, -0.5])

    def texts(count):
        return torch.randn(count, 2, generator=source)

    def images(count):
        return torch.randn(count, 2, generator=source) * stretch + move

    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    transport = learn_transport(texts, images, hidden=24, steps=150, inner=4, batch=128, lr=4e-3)
    assert torch.equal(torch.rand(1), before), "the caller's random numbers were used up"
    test = texts(500)
    error = (transport(test) - (test * stretch + move)).square().mean()
    identity = (test - (test * stretch + move)).square().mean()
    assert float(error) < 0.1 * float(identity)
    right, wrong = transport.quality(test, test * stretch + move), transport.quality(test, -test)
    assert right.shape == (500,) and right.mean() > 0.9 > wrong.mean()


def test_a_fresh_map_is_the_identity():
    texts = torch.randn(4, 6)
    torch.testing.assert_close(Transport(6)(texts), texts)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"mass 0 must be in"):
        partial_plan(torch.rand(2, 2), mass=0)
    with pytest.raises(ValueError, match="texts are 3 wide and images 4"):
        learn_transport(lambda n: torch.rand(n, 3), lambda n: torch.rand(n, 4))

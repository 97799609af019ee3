import math

import numpy as np
import pytest
import torch

from mmreward.tune.losses import centres, crd, implicit_reward

GROUPS = torch.tensor([7, 3, 7, 3, 7, 3])
P = torch.tensor([0.1, 0.9, 0.4, 0.6, 0.8, 0.2])


def velocities(d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Velocity with mean squared error d, an old one with error 1, and the target."""
    target = torch.randn(len(d), 4, generator=torch.Generator().manual_seed(0))
    return target + d.sqrt()[:, None], target + 1, target


def loss(q: torch.Tensor, p: torch.Tensor = P, groups: torch.Tensor = GROUPS, **options) -> torch.Tensor:
    weighting = {name: options.pop(name) for name in ("temperature", "dual") if name in options}
    return crd(q, p, centres(q.detach(), p, groups, **weighting), **options)


def test_implicit_reward_is_the_gain_in_fit():
    d = torch.tensor([0.25, 1.0, 4.0])
    torch.testing.assert_close(implicit_reward(*velocities(d)), 1 - d)
    # a constant miss e has squared error e^2 and mean absolute error e
    torch.testing.assert_close(implicit_reward(*velocities(d), adaptive=True), 1 - d.sqrt())


def test_implicit_reward_has_no_gradient_to_the_old_policy_nor_through_its_weights():
    v, v_old, target = (t.requires_grad_() for t in velocities(torch.tensor([0.25, 4.0])))
    implicit_reward(v, v_old, target, adaptive=True).sum().backward()
    assert v_old.grad is None
    miss = (v - target).detach()
    torch.testing.assert_close(v.grad, -2 * miss / miss.abs().mean(1, keepdim=True) / 4)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.3}, {"temperature": 0.3, "dual": False}])
def test_no_loss_where_the_centred_fit_is_the_centred_reward(options):
    beta, offset = 2.0, torch.where(GROUPS == 7, -0.2, 0.4)
    v, v_old, target = velocities(1 - P / beta - offset)
    q = implicit_reward(v, v_old, target)
    assert loss(q, beta=beta, **options).max() < 1e-9
    assert loss(q, beta=1.0, **options).min() > 1e-6


def test_difficulty_of_a_prompt_does_not_matter():
    q = torch.randn(6, generator=torch.Generator().manual_seed(1))
    shift = torch.where(GROUPS == 7, 10.0, -3.0)
    for options in ({}, {"temperature": 0.2}):
        torch.testing.assert_close(loss(q + shift, **options), loss(q, **options), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("form", ["squared", "cross_entropy"])
@pytest.mark.parametrize("temperature", [math.inf, 0.4])
def test_equals_a_plain_loop(form, temperature):
    q, beta, clip = np.array([0.3, -0.2, 0.1, 0.5, -0.4, 0.0]), 1.5, 5.0
    p, groups = P.double().numpy(), GROUPS.numpy()
    sides = [0.0] if math.isinf(temperature) else [1 / temperature, -1 / temperature]
    expected = []
    for i in range(6):
        mine = np.flatnonzero(groups == groups[i])
        terms = []
        for side in sides:
            weights = np.exp(side * p[mine]) / np.exp(side * p[mine]).sum()
            implied = beta * (q[i] - weights @ q[mine])
            given = p[i] - weights @ p[mine]
            chance, wanted = 1 / (1 + math.exp(-implied)), 1 / (1 + math.exp(-given))
            entropy = -wanted * math.log(chance) - (1 - wanted) * math.log(1 - chance)
            terms.append((implied - given) ** 2 if form == "squared" else entropy)
        expected.append(clip / beta * np.mean(terms))
    found = loss(torch.tensor(q, dtype=torch.float32), beta=beta, temperature=temperature, form=form)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_low_temperature_centres_on_the_best_and_on_the_worst():
    q = torch.arange(6.0)
    centre = centres(q, P, GROUPS, temperature=1e-4)
    torch.testing.assert_close(centre[0], torch.tensor([[4.0, 0.8], [0.0, 0.1]]))
    torch.testing.assert_close(centre[1], torch.tensor([[1.0, 0.9], [5.0, 0.2]]))


def test_batches_within_a_group_give_the_same_losses():
    q = torch.randn(6, generator=torch.Generator().manual_seed(2))
    centre = centres(q, P, GROUPS, temperature=0.5)
    parts = [crd(q[i : i + 2], P[i : i + 2], centre[i : i + 2]) for i in (0, 2, 4)]
    torch.testing.assert_close(torch.cat(parts), loss(q, temperature=0.5))


def test_gradient_raises_the_fit_of_good_samples():
    q = torch.zeros(6, requires_grad=True)
    loss(q).sum().backward()
    means = torch.where(GROUPS == 7, P[GROUPS == 7].mean(), P[GROUPS == 3].mean())
    torch.testing.assert_close(q.grad, -2 * 5 * (P - means))


def test_bad_input_is_named():
    q = torch.zeros(6)
    with pytest.raises(ValueError, match="temperature is 0"):
        centres(q, P, GROUPS, temperature=0)
    with pytest.raises(ValueError, match="give integers"):
        centres(q, P, GROUPS.float())
    with pytest.raises(ValueError, match=r"give \(6, C, 2\)"):
        crd(q, P, torch.zeros(6, 2))
    with pytest.raises(ValueError, match="beta is 0"):
        crd(q, P, torch.zeros(6, 1, 2), beta=0)
    with pytest.raises(ValueError, match="form is squared"):
        crd(q, P, torch.zeros(6, 1, 2), form="bce")
    with pytest.raises(ValueError, match="shapes differ"):
        implicit_reward(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 2))

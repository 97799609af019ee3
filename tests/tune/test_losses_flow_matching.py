import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmreward.tune.forward_process import OLD_DECAY
from mmreward.tune.losses import awm, denoising_error, matching_logp, nft, rwr, sft, to_probability


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values)


def noised(count: int = 4) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x0, noise, v_old = torch.randn(3, count, 3, 2, 2, generator=draw)
    sigma = torch.linspace(0.2, 1, count)
    wide = sigma.reshape(-1, 1, 1, 1)
    x = (1 - wide) * x0 + wide * noise
    return {"x0": x0, "x": x, "target": noise - x0, "v_old": v_old, "sigma": sigma}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("all", [0.0, 0.0, 0.4, 0.5, 0.75, 1.0]),
        ("positive_only", [0.5, 0.5, 0.5, 0.5, 0.75, 1.0]),
        ("negative_only", [0.0, 0.0, 0.4, 0.5, 0.5, 0.5]),
        ("one_only", [0.5, 0.5, 0.5, 0.5, 0.6, 0.6]),
        ("binary", [0.4, 0.4, 0.4, 0.5, 0.6, 0.6]),
    ],
)
def test_advantages_to_probability(mode, expected):
    found = to_probability(rows(-9.0, -5.0, -1.0, 0.0, 2.5, 7.0), mode=mode)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_nft_golden():
    """x0 0.3, noise 1.1, sigma 0.6: v+ = 0.65 and v- = 0.55 estimate x0 as 0.39 and 0.45."""
    loss = nft(rows(0.7), rows(0.6), rows(0.78), rows(0.3), 0.6, rows(0.8), beta=0.5)
    assert loss.item() == pytest.approx(5 * (0.8 * 0.09 + 0.2 * 0.15) / 0.5, rel=1e-5)


def test_nft_equals_a_plain_loop():
    case, beta, p = noised(), 0.3, rows(0.0, 0.2, 0.7, 1.0)
    v = case["v_old"] + 0.3 * torch.randn(case["x"].shape, generator=torch.Generator().manual_seed(5))
    expected = []
    for i in range(len(p)):
        new, old = v[i].double().numpy(), case["v_old"][i].double().numpy()
        x, x0, s = case["x"][i].double().numpy(), case["x0"][i].double().numpy(), float(case["sigma"][i])
        errors = []
        for side in (beta * new + (1 - beta) * old, (1 + beta) * old - beta * new):
            miss = x - s * side - x0
            errors.append(np.mean(miss**2 / max(np.mean(np.abs(miss)), 1e-5)))
        expected.append(5 * (float(p[i]) * errors[0] + (1 - float(p[i])) * errors[1]) / beta)
    found = nft(v, case["v_old"], case["x"], case["x0"], case["sigma"], p, beta)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(("p", "sign"), [(0.9, 1), (0.6, 1), (0.5, 0), (0.4, -1), (0.0, -1)])
def test_nft_moves_toward_the_target_only_for_good_samples(p, sign):
    case = noised()
    v = case["v_old"].clone().requires_grad_()
    nft(v, case["v_old"], case["x"], case["x0"], case["sigma"], torch.full((4,), p)).sum().backward()
    along = (v.grad * (v - case["target"]).detach()).flatten(1).sum(1)
    torch.testing.assert_close(along.sign(), torch.full((4,), float(sign)), atol=1e-5, rtol=0)


def test_nft_at_the_old_policy_does_not_depend_on_p():
    case = noised()
    losses = [
        nft(case["v_old"], case["v_old"], case["x"], case["x0"], case["sigma"], torch.full((4,), p))
        for p in (0.0, 1.0)
    ]
    torch.testing.assert_close(*losses)


def test_nft_weights_and_old_policy_get_no_gradient():
    case = noised()
    v, v_old = (case["v_old"].clone().requires_grad_() for _ in range(2))
    p = torch.full((4,), 1.0, requires_grad=True)
    nft(v, v_old, case["x"], case["x0"], case["sigma"], p).sum().backward()
    assert v_old.grad is None
    assert p.grad is None
    wide = case["sigma"].reshape(-1, 1, 1, 1)
    miss = case["x"] - wide * case["v_old"] - case["x0"]
    scale = miss.abs().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(v.grad, 5 * 2 * miss * -wide / scale / miss[0].numel())


def test_nft_names_bad_input():
    one = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="beta is 0"):
        nft(one, one, one, one, 0.5, torch.ones(2), beta=0)
    with pytest.raises(ValueError, match="p has 3 numbers for 2 rows"):
        nft(one, one, one, one, 0.5, torch.ones(3))
    with pytest.raises(ValueError, match="shapes differ"):
        nft(one, one[:1], one, one, 0.5, torch.ones(2))


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("uniform", -0.04),
        ("s", -0.02),
        ("s2", -0.01),
        ("huber", -0.099995),
        ("ghuber", -2 * (0.4472136 - 0.0031623)),
    ],
)
def test_awm_goldens(weighting, expected):
    found = matching_logp(torch.full((1, 5), 0.7), torch.full((1, 5), 0.5), 0.5, weighting=weighting)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@given(st.floats(0.01, 1), st.floats(0.01, 4))
def test_huber_is_half_of_generalised_huber_at_one_half(sigma, error):
    v, target = torch.full((1, 3), error), torch.zeros(1, 3)
    huber = matching_logp(v, target, sigma, weighting="huber")
    torch.testing.assert_close(2 * huber, matching_logp(v, target, sigma, weighting="ghuber", power=0.5))
    linear = matching_logp(v, target, sigma, weighting="ghuber", power=1.0)
    torch.testing.assert_close(linear, matching_logp(v, target, sigma, weighting="s"))


@pytest.mark.parametrize("weighting", ["uniform", "s", "s2", "huber", "ghuber"])
def test_awm_before_an_update_is_advantage_weighted_matching(weighting):
    case, advantages = noised(), rows(2.0, -1.0, 0.0, 0.5)
    v, same = (case["v_old"].clone().requires_grad_() for _ in range(2))
    start = matching_logp(case["v_old"], case["target"], case["sigma"], weighting=weighting)
    loss = awm(v, case["target"], case["sigma"], start, advantages, weighting=weighting)
    torch.testing.assert_close(loss, -advantages)
    loss.sum().backward()
    matched = matching_logp(same, case["target"], case["sigma"], weighting=weighting)
    (-advantages * matched).sum().backward()
    torch.testing.assert_close(v.grad, same.grad)


def test_awm_gradient_is_finite_at_a_perfect_fit():
    v = torch.zeros(2, 3, requires_grad=True)
    matching_logp(v, torch.zeros(2, 3), 0.5, weighting="ghuber").sum().backward()
    assert torch.isfinite(v.grad).all()


def test_awm_clips_by_its_own_ratio():
    target = torch.zeros(1, 2)
    v = torch.full((1, 2), 0.1, requires_grad=True)
    awm(v, target, 0.5, rows(-0.5), rows(1.0), clip=0.1).sum().backward()
    assert not v.grad.any()


def test_matching_names_bad_input():
    one = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="weighting is one of uniform, s, s2, huber, ghuber, not 't'"):
        matching_logp(one, one, 0.5, weighting="t")
    with pytest.raises(ValueError, match="power is 0"):
        matching_logp(one, one, 0.5, power=0)
    with pytest.raises(ValueError, match="mode is one of all"):
        to_probability(rows(1.0), mode="some")
    with pytest.raises(ValueError, match="clip is 0"):
        to_probability(rows(1.0), clip=0)


def test_reward_weighted_regression_and_supervised():
    d, rewards = rows(0.5, 2.0).requires_grad_(), rows(0.0, 1.0)
    torch.testing.assert_close(rwr(d, rewards), rows(0.5, 2 * math.e))
    torch.testing.assert_close(rwr(d, rewards, temperature=0.5), rows(0.5, 2 * math.e**2))
    torch.testing.assert_close(rwr(d, rewards, form="raw"), rows(0.0, 2.0))
    loss = sft(d, rows(0.5, 0.0))
    loss.sum().backward()
    assert loss.tolist() == [0.25, 0]
    assert d.grad.tolist() == [0.5, 0]


def test_rwr_names_bad_input():
    with pytest.raises(ValueError, match="standardise the rewards"):
        rwr(rows(1.0), rows(100.0))
    with pytest.raises(ValueError, match="temperature is 0"):
        rwr(rows(1.0), rows(1.0), temperature=0)
    with pytest.raises(ValueError, match="form is exp or raw"):
        rwr(rows(1.0), rows(1.0), form="log")


def test_raw_rwr_and_awm_weigh_the_same_error():
    case = noised()
    d = denoising_error(case["v_old"], case["target"])
    torch.testing.assert_close(rwr(d, torch.ones(4), form="raw"), d)
    torch.testing.assert_close(-matching_logp(case["v_old"], case["target"], case["sigma"]), d)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("copy", {0: 0, 1000: 0}),
        ("nft", {0: 0, 100: 0.1, 500: 0.5, 9000: 0.5}),
        ("nft_late", {0: 0, 75: 0, 76: 0.0075, 175: 0.75, 300: 0.999}),
        ("dgpo", {0: 0, 100: 0.1, 300: 0.3, 9000: 0.3}),
        ("crd", {0: 0.25, 10: 0.3, 300: 0.999}),
    ],
)
def test_decay_of_the_old_policy(name, expected):
    assert {step: OLD_DECAY[name](step) for step in expected} == pytest.approx(expected)
    with pytest.raises(ValueError, match="step is -1"):
        OLD_DECAY[name](-1)

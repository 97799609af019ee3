import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import softplus

from mmreward.tune.losses import (
    d3po,
    denoising_error,
    dgpo,
    dpo,
    group_preference,
    hinge,
    hold_clipped,
    ipo,
    rpo,
)


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values)


GOLDEN = (rows(0.10), rows(0.12), rows(0.15), rows(0.14))
LOG2 = math.log(2)


def test_error_of_the_noise_follows_from_that_of_the_velocity():
    draw = torch.Generator().manual_seed(0)
    x0, noise, v = torch.randn(3, 4, 2, 5, 5, generator=draw)
    sigma = rows(0.1, 0.5, 0.9, 1.0)
    wide = sigma.reshape(4, 1, 1, 1)
    x = (1 - wide) * x0 + wide * noise
    implied_noise = x + (1 - wide) * v
    expected = (implied_noise - noise).square().flatten(1).mean(1)
    found = denoising_error(v, noise - x0, sigma, "epsilon")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, (1 - sigma) ** 2 * denoising_error(v, noise - x0))


def test_denoising_error_names_bad_input():
    with pytest.raises(ValueError, match="needs sigma"):
        denoising_error(torch.zeros(1, 2), torch.zeros(1, 2), space="epsilon")
    with pytest.raises(ValueError, match="space is velocity or epsilon, not 'x0'"):
        denoising_error(torch.zeros(1, 2), torch.zeros(1, 2), 0.5, "x0")
    with pytest.raises(ValueError, match="shapes differ"):
        denoising_error(torch.zeros(1, 2), torch.zeros(2, 2))


def test_dpo_goldens():
    assert float(dpo(*GOLDEN, beta=100)) == pytest.approx(0.201413278, abs=1e-6)
    assert float(dpo(*GOLDEN, beta=2000)) == pytest.approx(math.log1p(math.exp(-30)), rel=1e-4)
    torch.testing.assert_close(dpo(*GOLDEN, beta=2500, half=False), dpo(*GOLDEN, beta=5000))


def test_hinge_and_ipo_on_the_golden_margin():
    assert float(hinge(*GOLDEN, beta=10)) == pytest.approx(1 - 10 * 0.03)
    assert float(hinge(*GOLDEN, beta=100)) == 0
    assert float(ipo(*GOLDEN, beta=10)) == pytest.approx((0.03 - 0.05) ** 2, rel=1e-4)


@given(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
def test_swapping_the_pair_turns_the_preference_round(errors):
    d_w, ref_w, d_l, ref_l = (rows(e) for e in errors)
    straight, swapped = dpo(d_w, ref_w, d_l, ref_l), dpo(d_l, ref_l, d_w, ref_w)
    torch.testing.assert_close((-straight).exp() + (-swapped).exp(), rows(1.0))


@pytest.mark.parametrize("loss", [dpo, hinge, ipo, rpo])
def test_gradient_lowers_the_chosen_error_and_spares_the_references(loss):
    tensors = [t.clone().requires_grad_() for t in (rows(0.2), rows(0.2), rows(0.3), rows(0.3))]
    label = (rows(1.0),) if loss is rpo else ()
    loss(*tensors, *label).sum().backward()
    chosen, ref_chosen, rejected, ref_rejected = (t.grad for t in tensors)
    assert chosen > 0 > rejected
    assert ref_chosen is None
    assert ref_rejected is None


def test_log_two_at_the_reference():
    d = rows(0.2, 0.7)
    torch.testing.assert_close(dpo(d, d, d, d), torch.full((2,), LOG2))
    torch.testing.assert_close(d3po(d, d, d, d), torch.full((2,), LOG2))
    torch.testing.assert_close(rpo(d, d, d, d, rows(1.0, 0.0)), d + LOG2)


def test_d3po_golden():
    found = d3po(rows(math.log(1.05)), rows(0.0), rows(math.log(0.98)), rows(0.0), beta=0.1)
    assert float(found) == pytest.approx(0.689703487, abs=1e-6)


@pytest.mark.parametrize(("ratio", "alive"), [(1.05, True), (0.95, True), (1.2, False), (0.8, False)])
def test_d3po_has_no_gradient_outside_its_band(ratio, alive):
    logp = rows(math.log(ratio)).requires_grad_()
    d3po(logp, rows(0.0), rows(0.0), rows(0.0)).sum().backward()
    assert bool(logp.grad != 0) == alive
    wide = rows(math.log(ratio)).requires_grad_()
    d3po(wide, rows(0.0), rows(0.0), rows(0.0), band=(0.5, 1.5)).sum().backward()
    assert wide.grad != 0


def test_d3po_band_must_hold_one():
    with pytest.raises(ValueError, match=r"band is \(1.1, 1.2\)"):
        d3po(*GOLDEN, band=(1.1, 1.2))


D, D_REF = rows(0.10, 0.15), rows(0.12, 0.14)
PAIR, ONE_GROUP = rows(1.0, -1.0), torch.tensor([5, 5])


def test_dgpo_golden():
    found = dgpo(D, D_REF, PAIR, ONE_GROUP, beta=100)
    weight = 1 / (1 + math.exp(1.5))
    torch.testing.assert_close(found, weight * rows(0.10, -0.15))


def test_dgpo_of_a_pair_has_the_gradient_of_dpo():
    d, both = D.clone().requires_grad_(), D.clone().requires_grad_()
    dgpo(d, D_REF, PAIR, ONE_GROUP, beta=100).sum().backward()
    dpo(both[:1], D_REF[:1], both[1:], D_REF[1:], beta=100).sum().backward()
    torch.testing.assert_close(d.grad, both.grad * 2 / 100)


def test_dgpo_has_the_gradient_of_its_groups_log_sigmoid():
    draw = torch.Generator().manual_seed(3)
    d, d_ref, advantages = torch.rand(3, 7, generator=draw)
    groups = torch.tensor([9, 2, 9, 9, 2, 2, 2])
    one, other = d.clone().requires_grad_(), d.clone().requires_grad_()
    dgpo(one, d_ref, advantages, groups, beta=4.0).sum().backward()
    for group in (2, 9):
        mine = groups == group
        mean = (advantages * (other - d_ref))[mine].mean()
        (softplus(4.0 * mean) * mine.sum() / 4.0).backward()
    torch.testing.assert_close(one.grad, other.grad)


def test_dgpo_spread_over_calls_is_the_same_with_weights():
    groups = torch.tensor([1, 2, 1, 2])
    d, d_ref, advantages = torch.rand(3, 4)
    whole = dgpo(d, d_ref, advantages, groups)
    weights = group_preference(d, d_ref, advantages, groups)
    parts = [
        dgpo(d[r], d_ref[r], advantages[r], groups[r], weights=weights[r]) for r in (slice(0, 3), slice(3, 4))
    ]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_group_ids_stay_integers():
    with pytest.raises(ValueError, match="give integers"):
        group_preference(D, D_REF, PAIR, torch.tensor([1.0, 1.0]))
    apart = group_preference(D, D_REF, PAIR, torch.tensor([2**53, 2**53 + 1]))
    assert apart[0] != apart[1]


@pytest.mark.parametrize(
    ("advantage", "change", "held"),
    [
        (1.0, -0.2, True),
        (1.0, 0.2, False),
        (-1.0, 0.2, True),
        (-1.0, -0.2, False),
        (1.0, -0.01, False),
        (-1.0, 0.01, False),
    ],
)
def test_hold_clipped_stops_rows_that_moved_far_enough(advantage, change, held):
    d = rows(0.5 + change).requires_grad_()
    kept = hold_clipped(d, rows(0.5), rows(advantage), clip=0.1)
    assert kept.item() == pytest.approx(0.5 + change)
    (kept + 0 * d).sum().backward()
    assert float(d.grad) == (0 if held else 1)


def test_rpo_is_its_cross_entropy():
    z = (0.12 - 0.10) - (0.14 - 0.15)
    win, lose = (-math.log(1 / (1 + math.exp(-s * 10 * z))) for s in (1, -1))
    # the photo comes first: d_photo, ref_photo, d_generated, ref_generated
    found = rpo(*(t.repeat(3) for t in GOLDEN), rows(1.0, 0.0, 0.3), beta=10)
    torch.testing.assert_close(found, 0.10 + rows(win, lose, 0.3 * win + 0.7 * lose))


def test_columns_do_not_broadcast():
    with pytest.raises(ValueError, match="one number per row"):
        dpo(torch.zeros(2), torch.zeros(2), torch.zeros(2, 1), torch.zeros(2))

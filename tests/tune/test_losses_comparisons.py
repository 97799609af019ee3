"""Losses of reward models against their goldens and slow second writings; gradients by autograd."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from mmreward.tune.losses import bradley_terry, bradley_terry_ties, uncertain


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def slow_uncertain(mean: float, sigma: float, form: str) -> float:
    """By scipy's adaptive quadrature, in float64."""

    def density(x: float) -> float:
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def term(x: float) -> float:
        z = mean + sigma * x
        return density(x) * (np.logaddexp(0, -z) if form == "published" else sigmoid(z))

    kink = min(max(-mean / sigma, -12), 12)
    total = quad(term, -12, 12, points=[kink], limit=400)[0]
    return total if form == "published" else -math.log(total)


def test_bradley_terry_goldens():
    torch.testing.assert_close(bradley_terry(rows(1.0, 0.0)), rows(0.313261687518, 0.693147180560))
    torch.testing.assert_close(bradley_terry(rows(1.57), 0.57), rows(0.313261687518))
    torch.testing.assert_close(bradley_terry(rows(1.5, 1.0), rows(0.5, 1.0)), rows(0.3132617, 0.6931472))


def test_bradley_terry_ties_goldens():
    assert float(bradley_terry_ties(rows(1.0))) == pytest.approx(1.043591778, abs=1e-6)
    assert float(bradley_terry_ties(rows(1.0), "tie")) == pytest.approx(0.545970888, abs=1e-6)


@given(st.floats(-8, 8), st.floats(1.5, 10))
def test_bradley_terry_ties_probabilities_sum_to_one(difference, k):
    d = rows(difference)
    losses = (bradley_terry_ties(d, k=k), bradley_terry_ties(-d, k=k), bradley_terry_ties(d, "tie", k))
    assert float(sum((-loss).exp() for loss in losses)) == pytest.approx(1, abs=1e-5)


def test_bradley_terry_ties_names_bad_input():
    with pytest.raises(ValueError, match=r"k is 1\.0"):
        bradley_terry_ties(rows(0.0), k=1.0)
    with pytest.raises(ValueError, match="turn the sign"):
        bradley_terry_ties(rows(0.0), "loss")


@pytest.mark.parametrize(
    ("given", "published", "integrated"),
    [
        ((1, 0, 0, 0), 0.4918017090, -math.log(0.6750567)),
        ((1, 0, -5, -5), 0.3132706, 0.3132670),
        ((0, 0, 1, 1), 1.6931725708, math.log(2)),
    ],
)
def test_uncertain_goldens(given, published, integrated):
    columns = [rows(float(value)) for value in given]
    assert float(uncertain(*columns)) == pytest.approx(published, abs=2e-6)
    assert float(uncertain(*columns, form="integrated")) == pytest.approx(integrated, abs=2e-6)


@pytest.mark.parametrize("form", ["published", "integrated"])
@pytest.mark.parametrize(
    ("mean", "chosen", "rejected"), [(2.0, -1.0, 0.5), (-3.0, 1.0, 1.5), (0.3, 3.0, 3.0)]
)
def test_uncertain_is_the_integral_and_so_is_its_gradient(mean, chosen, rejected, form):
    columns = [rows(value).requires_grad_() for value in (mean, 0.0, chosen, rejected)]
    loss = uncertain(*columns, form=form)
    loss.sum().backward()

    def slow(mean: float, chosen: float, rejected: float) -> float:
        return slow_uncertain(mean, math.hypot(math.exp(chosen), math.exp(rejected)), form)

    here, step = (mean, chosen, rejected), 1e-4
    assert float(loss.detach()) == pytest.approx(slow(*here), rel=1e-4)
    for place, column in enumerate((columns[0], *columns[2:])):
        up, down = (
            slow(*(value + sign * step * (place == i) for i, value in enumerate(here))) for sign in (1, -1)
        )
        assert float(column.grad) == pytest.approx((up - down) / (2 * step), rel=1e-2, abs=2e-4)


def test_uncertain_is_what_thousands_of_draws_come_to():
    columns = [rows(0.4, -1.0), rows(0.0, 0.2), rows(0.3, -0.5), rows(-0.2, 0.1)]
    sigma = (columns[2].exp().square() + columns[3].exp().square()).sqrt()
    z = columns[0] - columns[1] + sigma * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    drawn = -torch.nn.functional.logsigmoid(z).mean(0)
    torch.testing.assert_close(uncertain(*columns), drawn, atol=6e-3, rtol=0)
    torch.testing.assert_close(
        uncertain(*columns, form="integrated"), -z.sigmoid().mean(0).log(), atol=6e-3, rtol=0
    )


def test_only_the_integrated_form_may_want_a_wider_sigma():
    """A pair that contradicts the means: the published form narrows it like any other."""
    for form, wider in (("published", 1), ("integrated", -1)):
        log_sigma = rows(0.0).requires_grad_()
        uncertain(rows(-2.0), rows(0.0), log_sigma, rows(0.0), form).sum().backward()
        assert math.copysign(1, float(log_sigma.grad)) == wider


def test_uncertain_names_bad_input():
    with pytest.raises(ValueError, match="one number per row"):
        uncertain(torch.zeros(2), torch.zeros(2), torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ValueError, match="form is published or integrated, not 'other'"):
        uncertain(*[torch.zeros(2)] * 4, form="other")

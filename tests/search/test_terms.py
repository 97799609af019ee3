"""Transforms, weights and sums of differentiable rewards; the row-wise optimisers against torch's."""

import math

import pytest
import torch

from mmreward.search.config import entry
from mmreward.search.reno_terms import (
    ADAM_EPS,
    TRANSFORMS,
    Descent,
    Term,
    clipped,
    standardised,
    weighed,
)

PIXELS = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a"] * 4


def brightness(pixels, prompts):
    return pixels.flatten(1).mean(1)


@pytest.mark.parametrize(
    ("name", "weight", "reward", "loss"),
    [
        ("reno-hps", 1.0, 0.28, 3.6),
        ("reno-imagereward", 1.0, 0.5, 1.5),
        ("reno-clip", 1.0, 30.0, 0.7),
        ("cosine", 1.0, 0.30, 0.7),
        ("reno-pickscore", 1.0, 22.0, 0.4),
        ("reno-aesthetic", 0.0, 6.0, 0.0),
        ("refl-imagereward", 1.0, 2.5, 0.0),
        ("pickscore/26", 1.0, 20.8, -0.8),
        ("raw", 2.0, 0.25, -0.5),
    ],
)
def test_losses_of_published_code(name, weight, reward, loss):
    term = Term(lambda pixels, prompts: torch.full((1,), reward), weight, TRANSFORMS[name])
    total, raw = weighed({"r": term}, PIXELS[:1], PROMPTS[:1])
    assert float(total) == pytest.approx(loss, abs=1e-6) and float(raw["r"]) == pytest.approx(reward)


def test_terms_add_up_and_the_raw_rewards_have_no_graph():
    pixels = PIXELS.clone().requires_grad_()
    terms = {"a": Term(brightness, 2.0), "b": Term(brightness, 3.0, TRANSFORMS["cosine"])}
    loss, raw = weighed(terms, pixels, PROMPTS)
    torch.testing.assert_close(loss, 3 - 5 * brightness(PIXELS, PROMPTS))
    assert loss.requires_grad and not raw["a"].requires_grad


def test_standardised_terms_weigh_the_same_whatever_their_scale():
    terms = {
        "small": Term(brightness),
        "large": Term(lambda p, q: 1000 * brightness(p, q) + 7, transform=TRANSFORMS["reno-clip"]),
    }
    scaled = standardised(terms, PIXELS, PROMPTS)
    for name in terms:
        loss, _ = weighed({name: scaled[name]}, PIXELS, PROMPTS)
        assert float(loss.std(unbiased=False)) == pytest.approx(1.0, rel=1e-5)


def test_what_cannot_be_a_term_is_named():
    with pytest.raises(ValueError, match="did you mean 'reno-clip'"):
        entry("reno_clip", TRANSFORMS, "transform")
    with pytest.raises(ValueError, match="weight of a term is nan"):
        Term(brightness, math.nan)
    with pytest.raises(ValueError, match=r"flat gives rewards of shape \(\) for 4 pictures"):
        weighed({"flat": Term(lambda pixels, prompts: pixels.mean())}, PIXELS, PROMPTS)
    with pytest.raises(ValueError, match=r"the losses of same have standard deviation 0\.0 over 4 pictures"):
        standardised({"same": Term(lambda pixels, prompts: torch.ones(4))}, PIXELS, PROMPTS)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_steps_are_those_of_torch(optimiser):
    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    theirs = torch.nn.Parameter(start.clone())
    if optimiser == "sgd":
        reference = torch.optim.SGD([theirs], lr=0.3, momentum=0.9, nesterov=True)
    else:
        reference = torch.optim.Adam([theirs], lr=0.3, eps=ADAM_EPS)
    ours, descent = start.clone(), Descent(start, 0.3, optimiser, 0.9)
    for _ in range(5):
        theirs.grad = theirs.detach().sin()
        reference.step()
        ours += descent.step([0, 1, 2], ours.sin())
    torch.testing.assert_close(ours, theirs.detach())


def test_a_row_that_stops_leaves_the_others_alone():
    start = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
    both, alone = start.clone(), start[1:].clone()
    wide, narrow = Descent(start, 0.3, "adam", 0.9), Descent(start[1:], 0.3, "adam", 0.9)
    for iteration in range(4):
        rows = [0, 1] if iteration < 2 else [1]
        both[rows] += wide.step(rows, both[rows].cos())
        alone += narrow.step([0], alone.cos())
    torch.testing.assert_close(both[1:], alone)


def test_rows_are_clipped_one_by_one():
    rows = torch.tensor([[3.0, 4.0], [0.03, 0.04], [0.0, 0.0]])
    torch.testing.assert_close(
        clipped(rows, 0.1), torch.tensor([[0.06, 0.08], [0.03, 0.04], [0.0, 0.0]]), atol=1e-7, rtol=0
    )

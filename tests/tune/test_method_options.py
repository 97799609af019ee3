"""RPO, DGPO's clipping and GDPO's second standardisation: from the config to the numbers."""

import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmreward.data.pair_folder import PreferencePair
from mmreward.media import Media
from mmreward.tune.aggregate import aggregate
from mmreward.tune.config import AdvantageConfig, ForwardProcessConfig, PreferenceConfig
from mmreward.tune.forward_process import ForwardProcess, Noised
from mmreward.tune.grading import Grades
from mmreward.tune.losses import denoising_error, dgpo, hold_clipped, rpo
from mmreward.tune.offline import Offline, score_margin
from mmreward.tune.online import Online

ADVANTAGES = torch.tensor([1.5, -0.5, 0.25, -1.0])
GROUPS = torch.tensor([3, 3, 3, 4])
USABLE = torch.ones(4, dtype=torch.bool)


def draw(seed):
    return torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(seed))


NOISED = Noised(draw(1), torch.full((4,), 0.5), draw(2))


def loss_of(config, v, old=None, start=None):
    method = ForwardProcess(ForwardProcessConfig.model_validate(config), {})
    return method._loss(v, old, start, NOISED, draw(3), GROUPS, ADVANTAGES, USABLE)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_online_rpo_prefers_the_best_as_surely_as_the_advantages_say(temperature):
    v, old = draw(4), draw(5)
    got = loss_of({"name": "rpo", "beta": 2.0, "temperature": temperature}, v, old)
    error, reference = (denoising_error(each, NOISED.target) for each in (v, old))
    preferred = torch.sigmoid(torch.tensor([2.0 / temperature]))
    expected = rpo(error[:1], reference[:1], error[1:2], reference[1:2], preferred, 2.0)
    torch.testing.assert_close(got, torch.cat([expected, torch.zeros(3)]))


def test_dgpo_without_the_option_is_dgpo():
    v, old, start = draw(4), draw(5), draw(6)
    error, reference = (denoising_error(each, NOISED.target) for each in (v, old))
    expected = dgpo(error, reference, ADVANTAGES, GROUPS, 100.0)
    for config in ({"name": "dgpo"}, {"name": "dgpo", "updates": 2}):
        assert torch.equal(loss_of(config, v, old, start), expected)


def test_hold_clipped_takes_the_gradient_off_rows_that_moved_far_enough():
    config = {"name": "dgpo", "beta": 1.0, "updates": 2, "hold_clipped": 0.05}
    v, old, start = draw(4).requires_grad_(), draw(5), draw(6)
    error, drawn = denoising_error(v, NOISED.target), denoising_error(start, NOISED.target)
    held = hold_clipped(error, drawn, ADVANTAGES, 0.05)
    expected = dgpo(held, denoising_error(old, NOISED.target), ADVANTAGES, GROUPS, 1.0)
    got = loss_of(config, v, old, start)
    torch.testing.assert_close(got, expected)
    (gradient,) = torch.autograd.grad(got.sum(), v, retain_graph=True)
    (by_hand,) = torch.autograd.grad(expected.sum(), v)
    torch.testing.assert_close(gradient, by_hand)
    ratio = (drawn - error).exp()
    gone = torch.where(ADVANTAGES > 0, ratio > 1.05, ratio < 0.95)
    assert 0 < gone.sum() < 4 and torch.equal(gradient.flatten(1).abs().sum(1) == 0, gone)
    # in the first update of a round there is nothing to compare with
    torch.testing.assert_close(loss_of(config, v, old), loss_of({"name": "dgpo", "beta": 1.0}, v, old))


def pair(**facts):
    nothing = Media(b"", "image")
    return PreferencePair(prompt="", chosen=nothing, rejected=nothing, facts=facts)


def test_the_scores_of_a_pair_say_how_sure_its_preference_is():
    assert score_margin(pair(chosen_score=0.75, rejected_score=0.25)) == 0.5
    for facts in ({}, {"chosen_score": 1.0}, {"chosen_score": None, "rejected_score": 0.0}):
        assert score_margin(pair(**facts)) == math.inf
    assert score_margin(pair(chosen_score=math.nan, rejected_score=0.0)) == math.inf


def test_offline_rpo_is_the_loss_of_its_config():
    method = PreferenceConfig(name="flow_rpo", beta=3.0)
    errors = [torch.rand(4, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    preferred = torch.tensor([1.0, 0.5, 0.75, 0.6])
    offline = SimpleNamespace(_method=method, _beta=method.beta)
    torch.testing.assert_close(Offline._loss(offline, *errors, preferred), rpo(*errors, preferred, 3.0))


@pytest.mark.parametrize(
    "config",
    [
        {"name": "nft", "updates": 2, "hold_clipped": 0.1},
        {"name": "dgpo", "hold_clipped": 0.1},
        {"name": "dgpo", "updates": 2, "hold_clipped": 0.0},
    ],
)
def test_a_clip_that_would_do_nothing_is_refused(config):
    with pytest.raises(ValueError, match="hold_clipped"):
        ForwardProcessConfig.model_validate(config)


@pytest.mark.parametrize("again", [False, True])
def test_sums_are_standardised_once_more_where_the_config_says_so(again):
    values = {"a": np.array([1.0, 2.0, 4.0, 0.0, 1.0, 5.0]), "b": np.array([0.1, 0.0, 0.2, 0.5, 0.4, 0.3])}
    weights, groups = {"a": 1.0, "b": 0.5}, np.array([0, 0, 0, 1, 1, 1])
    config = SimpleNamespace(advantages=AdvantageConfig(restandardise=again), weights=weights)
    grades = Grades(np.arange(6), values, np.full(6, np.nan), Counter())
    (got,) = Online.advantages(SimpleNamespace(_config=config), grades, groups).values()
    expected = aggregate(values, weights, groups, restandardise=again, clip=5.0, eps=1e-4)
    np.testing.assert_array_equal(got.values, expected.values)
    assert bool(abs(got.values.std() - 1) < 1e-6) == again
    with pytest.raises(ValueError, match="restandardise is for"):
        AdvantageConfig(restandardise=True, mode="min")

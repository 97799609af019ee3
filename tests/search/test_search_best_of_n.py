import asyncio
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.search_toys import Walk, rewarding

from mmreward import Score
from mmreward.search.best_of_n import best_of_n, expected_max, kl_bound, soft_best_of_n
from mmreward.search.job import Spent

itself = rewarding(float)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7))
def test_expected_max_is_the_mean_over_all_subsets(values):
    naive = [np.mean([max(some) for some in combinations(values, n)]) for n in range(1, len(values) + 1)]
    np.testing.assert_allclose(expected_max(values), naive, atol=1e-9)


def test_expected_max_is_unbiased_and_leaves_out_what_failed():
    draws = np.random.default_rng(0).uniform(size=(4000, 8))
    np.testing.assert_allclose(expected_max(draws).mean(0), [n / (n + 1) for n in range(1, 9)], atol=0.01)
    np.testing.assert_allclose(expected_max([np.nan, 1.0, 3.0]), [2.0, 3.0])
    assert len(expected_max([np.nan])) == 0
    with pytest.raises(ValueError, match="prompt by prompt"):
        expected_max([[np.nan, 1.0]])


def test_expected_max_survives_large_numbers():
    assert expected_max(np.arange(400.0))[-1] == pytest.approx(399)


def test_kl_bound():
    assert kl_bound(1) == 0
    assert kl_bound(4) == pytest.approx(np.log(4) - 0.75)
    with pytest.raises(ValueError, match="at least 1"):
        kl_bound(0)


def test_kl_bound_is_the_kl_of_the_maximum_of_uniforms():
    u = (np.arange(200_000) + 0.5) / 200_000
    density = 4 * u**3
    assert kl_bound(4) == pytest.approx(np.mean(density * np.log(density)), abs=1e-6)


def test_takes_the_maximum_and_counts_what_it_spends():
    walk = Walk(steps=3, prompts=2, forwards=2)
    first, second = best_of_n(walk, itself, n=5, batch=4)
    assert first.best == int(first.latents[:, 0].argmax())
    assert first.spent == second.spent == Spent(forwards=5 * 3 * 2, decodes=5, calls=5)
    assert max(walk.asked) <= 4
    assert not np.allclose(first.media, second.media)


def test_samples_do_not_depend_on_how_many_others_there_are():
    few, many = (best_of_n(Walk(prompts=p), itself, n=n)[0] for p, n in ((1, 2), (3, 6)))
    assert few.media == many.media[:2]


def test_expected_maximum_of_normals():
    found = best_of_n(Walk(steps=1, prompts=3000), itself, n=4)
    assert np.mean([max(one.media) for one in found]) == pytest.approx(1.0294, abs=0.05)


def test_soft_best_of_n_draws_from_the_tilt():
    (found,) = soft_best_of_n(Walk(steps=2), itself, n=20_000, strength=1.0)
    assert np.exp(found.log_weights) @ np.array(found.media) == pytest.approx(1.0, abs=0.1)
    drawn = [found.media[found.draw(seed)] for seed in range(400)]
    assert np.mean(drawn) == pytest.approx(1.0, abs=0.2)


def test_a_failed_score_is_never_taken():
    (found,) = soft_best_of_n(Walk(), rewarding(float, lambda x: x > 0), n=50, strength=9.0)
    assert found.media[found.best] < 0
    assert all(found.media[found.draw(seed)] < 0 for seed in range(50))
    (nothing,) = best_of_n(Walk(), rewarding(float, lambda x: True), n=3)
    assert nothing.best is None
    assert nothing.draw(0) is None


def test_an_async_reward_is_awaited():
    async def score(media, prompts):
        await asyncio.sleep(0)
        return [Score(x) for x in media]

    assert best_of_n(Walk(), score, n=3)[0].best == best_of_n(Walk(), itself, n=3)[0].best


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="n must be at least 1, not 0"):
        best_of_n(Walk(), itself, n=0)
    with pytest.raises(ValueError, match="1 scores for 2 samples"):
        best_of_n(Walk(), lambda media, prompts: [Score(1.0)], n=2)
    with pytest.raises(TypeError, match="float"):
        best_of_n(Walk(), lambda media, prompts: [1.0, 2.0], n=2)
    with pytest.raises(ValueError, match="batch"):
        best_of_n(Walk(), itself, n=1, batch=0)

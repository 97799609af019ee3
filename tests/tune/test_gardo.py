import numpy as np
import pytest

from mmreward.tune.advantages import Advantages, group_advantages
from mmreward.tune.aggregate import favour_diverse, uncertain

NAN = np.nan


def test_good_samples_count_by_their_distance_to_the_nearest_neighbour():
    advantages = group_advantages([1, 1, 1, -3.0], [0] * 4, std_scope="none")
    angles = np.array([0.0, 0.1, 1.5, 3.0])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [5], [2], [1]]
    result = favour_diverse(advantages, embeddings, [0] * 4)
    nearest = 1 - np.cos([0.1, 0.1, 1.4, 1.5])
    expected = advantages.values * nearest / nearest.mean()
    np.testing.assert_allclose(result.values[:3], expected[:3])
    assert result.values[3] == advantages.values[3]
    assert result.values[2] > result.values[0]


def test_rows_that_are_not_usable_are_no_neighbours():
    advantages = group_advantages([2, 1, 0, NAN], [0] * 4)
    embeddings = np.array([[1.0, 0], [0, 1], [-1, 0], [NAN, 0]])
    result = favour_diverse(advantages, embeddings, [0] * 4)
    np.testing.assert_allclose(result.values, advantages.values)
    assert result.values[3] == 0


def test_identical_samples_stay_as_they_are_and_results_are_clipped():
    advantages = group_advantages([1, 2, 3], [0] * 3)
    np.testing.assert_allclose(favour_diverse(advantages, np.ones((3, 2)), [0] * 3).values, advantages.values)
    good = Advantages(np.array([3.0, 3.0, 3.0]), np.ones(3, dtype=bool))
    loner = [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]
    assert favour_diverse(good, loner, [0] * 3).values.tolist() == [0, 0, 9]
    assert favour_diverse(good, loner, [0] * 3, clip=5.0).values.tolist() == [0, 0, 5]


def test_bad_embeddings_are_named():
    advantages = group_advantages([1, 2, 3], [0] * 3)
    with pytest.raises(ValueError, match="embedding of row 1 has length 0"):
        favour_diverse(advantages, [[1.0], [0.0], [1.0]], [0] * 3)
    with pytest.raises(ValueError, match=r"give \(3, D\)"):
        favour_diverse(advantages, np.ones((2, 2)), [0] * 3)


def test_rows_that_the_proxy_overrates_are_marked():
    proxy = [10.0, 9.0, 8.0, 1.0, NAN, 0.0]
    honest = [0.0, 9.0, 8.0, 10.0, 5.0, 1.0]
    assert uncertain(proxy, [honest, honest], share=0.1).tolist() == [True] + [False] * 5
    assert not uncertain(proxy, [proxy]).any()


def test_share_is_of_the_overrated_rows():
    proxy = np.arange(10.0)
    honest = np.array([9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    assert np.flatnonzero(uncertain(proxy, [honest], share=1.0)).tolist() == [5, 6, 7, 8, 9]
    assert np.flatnonzero(uncertain(proxy, [honest], share=0.4)).tolist() == [8, 9]
    assert np.flatnonzero(uncertain(proxy, [honest], share=0.01)).tolist() == [9]


def test_uncertain_needs_something_to_compare():
    with pytest.raises(ValueError, match="at least one other"):
        uncertain([1.0], [])
    with pytest.raises(ValueError, match="share is 0"):
        uncertain([1.0], [[1.0]], share=0)

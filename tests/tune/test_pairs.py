import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmreward.tune.advantages import best_and_worst, best_shares

NAN = math.nan
VALUES = [3.0, 1.0, NAN, 2.0, 5.0, 5.0, 0.2, 0.1, NAN, 7.0]
GROUPS = [8, 8, 8, 8, 1, 1, 4, 4, 6, 6]


def test_best_against_worst_without_ties_and_failures():
    assert best_and_worst(VALUES, GROUPS).tolist() == [[6, 7], [0, 1]]
    assert best_and_worst([1.0, 1.0], [0, 0]).shape == (0, 2)


def test_best_shares_sum_to_one_per_group_and_ties_share():
    weights = best_shares(VALUES, GROUPS)
    assert weights.tolist() == [1, 0, 0, 0, 0.5, 0.5, 1, 0, 0, 1]
    assert not best_shares([NAN], [0]).any()


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5) | st.just(NAN)), max_size=20))
def test_chosen_beats_rejected_within_one_group(rows):
    groups, values = np.array([g for g, _ in rows], dtype=int), np.array([v for _, v in rows], dtype=float)
    for chosen, rejected in best_and_worst(values, groups):
        assert groups[chosen] == groups[rejected]
        assert values[chosen] > values[rejected]
        assert values[chosen] == np.nanmax(values[groups == groups[chosen]])

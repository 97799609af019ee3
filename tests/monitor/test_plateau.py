import math

import pytest

from mmreward.monitor.alarms import Plateau


def test_stops_after_as_many_looks_without_a_rise_as_it_has_patience():
    plateau = Plateau(patience=2)
    assert [plateau.stop(mean) for mean in (0.1, 0.3, 0.3, 0.4, 0.2, 0.35)] == [False] * 5 + [True]
    assert (plateau.best, plateau.best_look) == (0.4, 3)


def test_a_rise_below_the_least_is_none():
    plateau = Plateau(patience=2, least=0.05)
    assert [plateau.stop(mean) for mean in (0.1, 0.12, 0.14)] == [False, False, True]
    assert plateau.best_look == 0


@pytest.mark.parametrize("mean", [math.nan, math.inf])
def test_a_mean_that_is_no_number_is_an_error(mean):
    with pytest.raises(ValueError, match="look at the scores' status"):
        Plateau().stop(mean)


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"least": -1.0}, {"least": math.nan}])
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Plateau(**wrong)

"""Paired gains: failed scores leave with their partner, and the interval is Student's."""

import math

import pytest

from mmreward import Sample, Score
from mmreward.search.job import Found
from mmreward.search.run import gain_of, gain_table


def scores(*values):
    return [Score(value) if math.isfinite(value) else Score.failed("error", "broken") for value in values]


def test_a_gain_is_paired():
    gain = gain_of(scores(0.1, 0.2, 0.3), scores(0.2, 0.4, 0.6))
    assert gain.difference == pytest.approx(0.2) and gain.number == 3
    assert gain.margin == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-5)


def test_a_failed_score_takes_its_partner_along():
    gain = gain_of(scores(0.1, 0.9, math.nan), scores(0.3, math.nan, 0.9))
    assert (gain.first, gain.best, gain.number) == (0.1, 0.3, 1) and math.isnan(gain.margin)
    assert gain_of(scores(math.nan), scores(0.5)) is None


def test_the_table_says_how_many_prompts_it_is_about():
    found = [
        Found([Sample(), Sample()], 1, 8, [{}, {}]),
        Found([Sample(), Sample()], None, 8, [{}, {}]),
    ]
    table = gain_table(found, {"a": scores(0.1, 0.3, 9, 9), "b": scores(*[math.nan] * 4)}, "toy")
    assert "2 prompts, 4 pictures, 8 forward passes" in table
    assert "0.100    0.300   +0.200" in table and "1 of 2" in table and "0 of 2" in table

"""Axes carry round numbers, gaps stay gaps, and a curve says in words what it shows."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pages import Page

from mmreward.evals.report.charts import lanes, overlap
from mmreward.evals.report.curves import (
    BOTTOM,
    HEIGHT,
    MOST_POINTS,
    TOP,
    Curve,
    figure,
    thinned,
    tick_label,
    ticks,
    upright,
)

NAN = math.nan


def drawn(**changes) -> Page:
    return Page(
        figure(Curve(**{"name": "kl", "x": [0, 1, 2, 3], "y": [1, 2, 3, 4], "unit": "nats", **changes}))
    )


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 9))
def test_ticks_are_few_even_and_inside(low, width, most):
    high = low + width
    found = ticks(low, high, most)
    step = min((b - a for a, b in pairwise(found)), default=width)
    assert 1 <= len(found) <= most + 1 or width < 1e-9 * abs(low)
    assert all(low - 1e-6 * step <= tick <= high + 1e-6 * step for tick in found)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-2.3, 6.1, ["-2", "0", "2", "4", "6"]),
        (0, 2e-4, ["0.00000", "0.00005", "0.00010", "0.00015", "0.00020"]),
        (0, 3e-7, ["0", "1e-07", "2e-07", "3e-07"]),
    ],
)
def test_labels_have_the_places_they_need(low, high, labels):
    found = ticks(low, high)
    assert [tick_label(value, found[1] - found[0]) for value in found] == labels


def test_rounds_are_whole():
    assert ticks(0, 2, 6, whole=True) == [0, 1, 2]


def test_an_axis_ends_where_it_is_told_to_unless_values_lie_beyond():
    share = upright([0.2, 0.4], reach=(0.0,))
    assert share.place(0.0) == HEIGHT - BOTTOM and share.place(0.4) > TOP
    assert upright([-0.1, 0.4], reach=(0.0,)).low < -0.1
    flat = upright([0.0, 0.0], reach=(0.0,))
    assert flat.low == 0 < flat.high


def test_what_was_not_measured_is_a_gap():
    page = drawn(y=[1.0, NAN, 3.0, 2.0], low=[0.5, NAN, 2.0, 1.0], high=[1.5, NAN, 4.0, 3.0])
    line = page.having("path", "line")[0]["d"]
    assert line.count("M") == 2 and "h0" in line, "one point alone, then a line"
    assert len(page.having("polygon", "band")) == 2 and len(page.having("circle")) == 3
    assert "1 value missing" in page.words


def test_a_curve_without_any_value_says_so():
    page = drawn(y=[NAN] * 4)
    assert "never measured" in page.words and not page.having("svg")


def test_a_curve_tells_what_it_shows():
    label = drawn(y=[1, 4, 2, 3], along="rounds")
    assert label.having("svg")[0]["aria-label"] == (
        "kl, nats, along rounds: 1.000 at 0, 3.000 at 3; lowest 1.000, highest 4.000"
    )


def test_points_say_their_value_and_interval():
    page = drawn(x=[0], y=[0.5], low=[0.25], high=[0.75], along="rounds trained")
    assert "rounds trained 0: 0.500 (0.250 to 0.750)" in page.words


def test_the_best_is_marked_once():
    assert len(drawn(best=2).having("path", "best")) == 1 and not drawn().having("path", "best")


def test_many_points_become_means_of_neighbours():
    number = 3 * MOST_POINTS
    values = [NAN if 3 <= i < 6 else float(i) for i in range(number)]
    values[7] = NAN
    thin = thinned(Curve(name="", x=list(range(number)), y=values, unit=""))
    assert len(thin.x) == MOST_POINTS and list(thin.x[:3]) == [1, 4, 7]
    assert thin.y[0] == 1 and math.isnan(thin.y[1]) and thin.y[2] == 7, "NaN is left out, not counted as 0"
    few = Curve(name="", x=[0], y=[1], unit="")
    assert thinned(few) is few


def test_names_and_units_are_escaped():
    page = drawn(name="<script>alert(1)</script>", unit='"><b>', tag="<i>", along="'<u>")
    assert not [tag for tag, _ in page.tags if tag in ("script", "u", "i")]


def test_lanes_show_every_span_and_what_went_on_at_once():
    spans = [("generate", 0.0, 2.0), ("generate", 2.0, 3.0), ("score", 1.0, 4.0), ("update", 4.0, 5.0)]
    assert overlap(spans, "generate", "score") == 2.0
    page = Page(lanes(spans))
    bars = page.having("rect")
    assert len(bars) == 4
    ends = {bar["class"]: float(bar["x"]) + float(bar["width"]) for bar in bars}
    begins = {bar["class"]: float(bar["x"]) for bar in reversed(bars)}
    assert begins["score"] < ends["generate"] < ends["score"] == pytest.approx(begins["update"])
    assert "drawing 3.0 s; scoring 3.0 s; updating 1.0 s" in page.having("svg")[0]["aria-label"]

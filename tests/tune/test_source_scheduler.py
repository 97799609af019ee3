"""Weights that stay on the simplex above the floor, follow the objectives, and resume exactly."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreward.tune.source_objectives import progress, quality
from mmreward.tune.source_scheduler import SourceScheduler

SOURCES = ("a", "b", "c")
figures = st.dictionaries(
    st.sampled_from(["quality", "loss"]), st.dictionaries(st.sampled_from(SOURCES), st.floats()), max_size=2
)


def scheduler(**changes):
    return SourceScheduler(SOURCES, {"quality": 1.0, "loss": -0.5}, **changes)


def test_one_update_by_hand():
    """z = (1.2247, 0, -1.2247); half of it is the lead, and 0.2 times that the logits."""
    one = scheduler(rate=0.2, floor=0.1, smoothing=0.5)
    found = one.update({"quality": {"a": 3.0, "b": 2.0, "c": 1.0}})
    step = 0.2 * 0.5 * math.sqrt(1.5)
    whole = math.exp(step) + 1 + math.exp(-step)
    expected = {"a": 0.1 + 0.7 * math.exp(step) / whole, "b": 0.1 + 0.7 / whole}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_objectives_add_up_and_a_negative_one_is_to_fall():
    both = scheduler().update({"quality": {"a": 1, "b": 0, "c": 0}, "loss": {"a": 1, "b": 0, "c": 0}})
    alone = scheduler().update({"quality": {"a": 1, "b": 0, "c": 0}})
    falling = scheduler().update({"loss": {"a": 1, "b": 0, "c": 0}})
    assert alone["a"] > both["a"] > 1 / 3 > falling["a"]


@settings(max_examples=25)
@given(st.lists(figures, max_size=30), st.sampled_from([0.0, 0.1, 0.3]), st.floats(0.01, 100))
def test_weights_stay_on_the_simplex_above_the_floor(steps, floor, rate):
    one = scheduler(floor=floor, rate=rate)
    for step in steps:
        one.update(step)
    weights = one.weights
    assert math.fsum(weights.values()) == pytest.approx(1) and min(weights.values()) >= floor
    assert all(map(math.isfinite, weights.values()))


@settings(max_examples=25)
@given(st.lists(figures, min_size=1, max_size=6))
def test_the_order_of_sources_and_objectives_does_not_matter(steps):
    one, other = scheduler(), scheduler()
    for step in steps:
        one.update(step)
        other.update({name: dict(reversed(values.items())) for name, values in reversed(step.items())})
    assert one.weights == other.weights


@settings(max_examples=25)
@given(st.lists(figures, min_size=2, max_size=8), st.integers(1, 7), st.integers(0, 50))
def test_resumed_is_as_if_it_had_never_stopped(steps, cut, batch):
    whole, first, second = scheduler(), scheduler(), scheduler()
    expected = [(whole.update(step), whole.counts(batch)) for step in steps]
    found = [(first.update(step), first.counts(batch)) for step in steps[:cut]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    found += [(second.update(step), second.counts(batch)) for step in steps[cut:]]
    assert found == expected and second.updates == len(steps)


def test_what_is_unknown_or_the_same_for_all_moves_nothing():
    one = scheduler()
    one.update({"quality": dict.fromkeys(SOURCES, 0.3)})
    one.update({"loss": {"a": 1.0}})
    one.update({"loss": {"a": math.nan, "b": math.inf}})
    assert one.weights == pytest.approx(dict.fromkeys(SOURCES, 1 / 3))


def test_a_source_without_a_value_is_neither_ahead_nor_behind():
    found = scheduler().update({"quality": {"a": 1.0, "b": 0.0}})
    assert found["a"] > found["c"] > found["b"]


def test_a_constant_lead_settles_short_of_all():
    """With forget f the logit settles at rate * lead / f."""
    one = scheduler(rate=0.02, forget=0.1, floor=0.0)
    for _ in range(300):
        one.update({"quality": {"a": 3.0, "b": 2.0, "c": 1.0}})
    assert math.log(one.weights["a"] / one.weights["b"]) == pytest.approx(0.02 * math.sqrt(1.5) / 0.1)


@settings(max_examples=25)
@given(st.lists(figures, max_size=5), st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_counts_add_up_and_follow_the_weights(steps, batches):
    one = scheduler(rate=1.0)
    for step in steps:
        one.update(step)
    drawn = dict.fromkeys(SOURCES, 0)
    for batch in batches:
        counts = one.counts(batch)
        assert sum(counts.values()) == batch and min(counts.values()) >= 0
        for source in SOURCES:
            drawn[source] += counts[source]
    for source, weight in one.weights.items():
        assert abs(drawn[source] - weight * sum(batches)) < 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sources": ("a",)}, "two different"),
        ({"sources": ("a", "a")}, "two different"),
        ({"objectives": {}}, "at least one objective"),
        ({"objectives": {"x": math.nan}}, "finite weight"),
        ({"floor": 0.5}, "floor of 0.5 for 2"),
        ({"floor": -0.1}, "floor of -0.1"),
        ({"rate": 0.0}, "rate 0.0"),
        ({"smoothing": 1.0}, "smoothing 1.0"),
        ({"forget": 1.1}, "forget 1.1"),
    ],
)
def test_numbers_outside_their_range_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        SourceScheduler(**{"sources": ("a", "b"), "objectives": {"x": 1.0}, **given})


def test_strangers_are_refused():
    with pytest.raises(ValueError, match="no objective 'qualty'"):
        scheduler().update({"qualty": {}})
    with pytest.raises(ValueError, match="quality: no source d"):
        scheduler().update({"quality": {"d": 1.0}})
    with pytest.raises(ValueError, match="a state of a, b, not of a, b, c"):
        scheduler().load_state_dict(SourceScheduler(("a", "b"), {"x": 1}).state_dict())
    with pytest.raises(ValueError, match="-1 samples"):
        scheduler().counts(-1)


def test_quality_and_progress_read_the_metrics_by_source():
    metrics = {
        "overall/groups/zero_variance": 0.9,
        "sources/a/groups/zero_variance": 0.25,
        "sources/a/unread": 0.5,
        "sources/a/failed": 0.2,
        "sources/b/groups/zero_variance": 1.0,
        "sources/c/score": 0.5,
        "sources/c/component/x/score": 0.1,
    }
    assert quality(metrics) == pytest.approx({"a": 0.3, "b": 0.0})
    assert progress(metrics, {"sources/c/score": 0.75, "sources/a/score": 1.0}) == {"c": 0.25}

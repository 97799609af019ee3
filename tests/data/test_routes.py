"""A route's total by hand, its mistakes by name, and what no score can do to it."""

import math
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toys import toy

from mmreward import Score
from mmreward.data.routing import PARTS, load_route

UNIT = st.floats(0, 1)


async def half(sample):
    return Score(0.5)


@pytest.fixture
def rewards():
    """Toys by the names verifiers have; `likes` is on a scale of 0 to 10 and `error` better when lower."""
    for name in ("right", "form", "probe", "bonus"):
        toy(half, name)
    toy(half, "likes", range=(0.0, 10.0))
    toy(half, "error", range=(0.0, 2.0), higher_is_better=False)
    toy(half, "endless", range=(-math.inf, math.inf))
    toy(half, "ranked", arity="group")


def scored(**values):
    return {name: value if isinstance(value, Score) else Score(value) for name, value in values.items()}


def described(**roles):
    names = {name for role, given in roles.items() if role != "ranges" for name in given}
    return {"rewards": dict.fromkeys(sorted(names)), **roles}


def test_v_triunes_weights_by_hand(rewards):
    """final = acc * a / (a + f) + fmt * f / (a + f), with a 1 and f 0.1."""
    route = load_route("s", described(accuracy={"right": 1.0}, format={"form": 0.1}))
    assert route.total(scored(right=1.0, form=0.0)).value == pytest.approx(0.9090909090909091)
    assert route.total(scored(right=0.0, form=1.0)).value == pytest.approx(0.0909090909090909)
    assert route.total(scored(right=1.0, form=1.0)).value == 1.0


def test_all_terms_by_hand(rewards):
    """0.5 * (3 * (0.75 * 1 + 0.25 * 0.2) + 1 * 0.4) / 4 + 0.1 * 0.5 - 0.2 * 0.25 = 0.35."""
    route = load_route(
        "s",
        described(
            accuracy={"right": 2.25, "likes": 0.75},
            format={"form": 1.0},
            extra={"bonus": 0.1, "error": -0.2},
            soft_gates={"probe": 0.5},
        ),
    )
    total = route.total(scored(right=1.0, likes=2.0, form=0.4, bonus=0.5, error=1.5, probe=0.1))
    assert total.value == pytest.approx(0.35)
    assert dict(total.parts) == pytest.approx(
        {"accuracy": 0.8, "format": 0.4, "gate": 0.5, "extra": 0.0, "parsed": 1.0}
    )


@pytest.mark.parametrize(("probe", "gate"), [(0.0, 0.5), (0.49, 0.5), (0.7, 0.7), (1.0, 1.0)])
def test_a_soft_gate_multiplies_by_no_less_than_its_floor(rewards, probe, gate):
    """PEARL multiplies by max(0.5, probe accuracy)."""
    route = load_route("s", described(accuracy={"right": 1}, soft_gates={"probe": 0.5}))
    assert route.total(scored(right=1.0, probe=probe)).value == gate


def test_a_hard_gate_opens_at_its_threshold_on_the_rewards_own_scale(rewards):
    route = load_route("s", described(accuracy={"right": 1}, gates={"likes": 7}))
    assert route.total(scored(right=1.0, likes=7.0)).value == 1.0
    shut = route.total(scored(right=1.0, likes=6.9))
    assert shut.value == 0.0 and shut.note == "gate shut: likes" and shut.parts["accuracy"] == 1.0


def test_extras_are_paid_beside_a_shut_gate_and_the_total_is_held(rewards):
    route = load_route("s", described(accuracy={"right": 1}, gates={"form": 1}, extra={"bonus": 0.3}))
    assert route.total(scored(right=1.0, form=0.0, bonus=1.0)).value == pytest.approx(0.3)
    assert route.total(scored(right=1.0, form=1.0, bonus=1.0)).value == 1.0


@pytest.mark.parametrize("name", ["right", "form", "probe", "bonus", "likes"])
def test_whatever_is_paid_and_fails_fails_the_total(rewards, name):
    route = load_route(
        "s",
        described(
            accuracy={"right": 1},
            format={"form": 1},
            extra={"bonus": 1},
            soft_gates={"probe": 0.5},
            gates={"likes": 1},
        ),
    )
    values = {"right": 1.0, "form": 1.0, "probe": 1.0, "bonus": 1.0, "likes": 1.0}
    total = route.total(scored(**{**values, name: Score.failed("timeout", "too slow")}))
    assert math.isnan(total.value) and total.status == "timeout" and total.note == f"{name}: too slow"
    assert dict(total.parts) == dict.fromkeys(PARTS, 0.0)


def test_what_is_only_watched_may_fail(rewards):
    route = load_route("s", described(accuracy={"right": 1}, extra={"bonus": 0}, watch=["form"]))
    lost = Score.failed("error", "broken")
    assert route.total(scored(right=1.0, form=lost, bonus=lost)).value == 1.0


def test_an_answer_that_could_not_be_read_shows(rewards):
    route = load_route("s", described(accuracy={"right": 1, "likes": 1}))
    total = route.total(scored(right=Score(0.0, {"parsed": 0.0}), likes=Score(3.0, {"parsed": 1.0})))
    assert total.parts["parsed"] == 0.0


def test_a_range_of_your_own_replaces_the_declared_one(rewards):
    route = load_route("s", described(accuracy={"endless": 1}, ranges={"endless": [-1, 3]}))
    values = [route.total(scored(endless=value)).value for value in (-5.0, -1.0, 1.0, 3.0, 9.0)]
    assert values == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_single_reward_is_the_accuracy(rewards):
    assert load_route("s", {"rewards": {"right": {}}}).total(scored(right=0.3)).value == 0.3


@settings(max_examples=40)
@given(st.lists(UNIT, min_size=5, max_size=5), st.floats(0.01, 10), st.floats(0, 10), st.floats(-5, 5))
def test_totals_lie_in_the_unit_interval_and_rise_with_the_accuracy(values, a, f, weight):
    for name in ("right", "form", "probe", "bonus"):
        toy(half, name)
    route = load_route(
        "s",
        described(
            accuracy={"right": a}, format={"form": f}, extra={"bonus": weight}, soft_gates={"probe": 0.2}
        ),
    )
    right, form, probe, bonus, better = values
    one = route.total(scored(right=right, form=form, probe=probe, bonus=bonus))
    other = route.total(scored(right=max(right, better), form=form, probe=probe, bonus=bonus))
    assert 0 <= one.value <= other.value + 1e-12 <= 1 + 1e-12
    assert tuple(one.parts) == PARTS and all(map(math.isfinite, one.parts.values()))


MISTAKES = [
    ({"rewards": {"rihgt": {}}}, "rewards.rihgt: no reward named 'rihgt': did you mean 'right'"),
    ({"rewards": {"iou": {"treshold": 1}}}, "rewards.iou: iou has no argument 'treshold': did you mean"),
    ({"rewards": {"iou": {"threshold": "high"}}}, r"rewards.iou: threshold is 'high': .* a valid number"),
    ({"rewards": {"iou": {"threshold": 7}}}, "rewards.iou: threshold 7"),
    ({"rewards": {"iou": {"columns": {"trget": "boxes"}}}}, "rewards.iou: .*'trget' is none of"),
    ({"rewards": {"iou": {"columns": 3}}}, "rewards.iou: "),
    ({"rewards": {}}, "rewards: "),
    ({"rewards": {"right": {}}, "acuracy": {"right": 1}}, "unknown key 'acuracy': did you mean 'accuracy'"),
    ({"rewards": {"right": {}}, "accuracy": {"right": -1}}, "accuracy.right: .*got -1"),
    ({"rewards": {"right": {}}, "accuracy": {"right": "much"}}, "accuracy.right: .*got 'much'"),
    ({"rewards": {"right": {}}, "accuracy": {"right": math.nan}}, "accuracy.right"),
    ({"rewards": {"right": {}}, "accuracy": {"right": 0}}, "accuracy, format: their weights sum to 0"),
    ({"rewards": {"right": {}}, "extra": {"right": 1}}, "accuracy, format: their weights sum to 0"),
    (
        {"rewards": {"right": {}}, "accuracy": {"right": 1}, "gates": {"form": 1}},
        "gates.form: no such reward",
    ),
    (
        {"rewards": {"right": {}}, "accuracy": {"right": 1}, "ranges": {"form": [0, 1]}},
        "ranges.form: no such",
    ),
    ({"rewards": {"right": {}, "form": {}}, "accuracy": {"right": 1}}, "rewards.form: no role"),
    ({"rewards": {"endless": {}}}, "ranges.endless: .* give it a finite one"),
    ({"rewards": {"right": {}}, "ranges": {"right": [1, 1]}}, "ranges.right: "),
    (
        {
            "rewards": {"endless": {}},
            "shaping": [{"name": "length_scaled", "accuracy": "endless", "limit": 9}],
        },
        "ranges.endless: .* give it a finite one",
    ),
    (
        {"rewards": {"right": {}, "form": {}}, "accuracy": {"right": 1}, "shaping": [{"name": "consistent"}]},
        "shaping.0.consistent.accuracy: Field required",
    ),
    (
        {"rewards": {"right": {}}, "shaping": [{"name": "consistnt"}]},
        ".*no shaping named 'consistnt': did you mean 'consistent'",
    ),
    (
        {
            "rewards": {"right": {}, "error": {}},
            "accuracy": {"right": 1},
            "shaping": [{"name": "consistent", "accuracy": "right", "consistency": "error"}],
        },
        "shaping.0: error is better when lower",
    ),
    (
        {
            "rewards": {"right": {}, "form": {}},
            "accuracy": {"right": 1},
            "shaping": [{"name": "consistent", "accuracy": "form", "consistency": "right"}],
        },
        "shaping.0: it rewrites form, which has no weight",
    ),
    ({"rewards": {"ranked": {}}}, r"rewards.ranked: it compares samples \(group\)"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES)
def test_mistakes_name_source_and_key(rewards, given, message):
    with pytest.raises(ValueError, match=rf"^source 'coco': (.*; )?{message}"):
        load_route("coco", given)


def test_nulls_mean_that_a_key_is_missing(rewards):
    given = {
        "rewards": {"iou": {"threshold": None, "width": 0.5, "columns": None}, "right": None},
        "accuracy": {"iou": 1, "right": None},
        "format": None,
        "watch": ["right"],
        "ranges": {"right": None},
    }
    route = load_route("s", given)
    assert route.rewards["iou"].args["threshold"] == 1.0 and route.rewards["iou"].args["width"] == 0.5
    assert dict(route.config.accuracy) == {"iou": 1.0}


def test_all_mistakes_of_a_route_are_told_at_once(rewards):
    with pytest.raises(ValueError) as error:
        load_route("s", {"rewards": {"rihgt": {}, "iou": {"treshold": 1}}})
    assert "rihgt" in str(error.value) and "treshold" in str(error.value)


def test_the_order_of_the_weights_does_not_matter(rewards):
    names, values = ("right", "form", "probe"), scored(right=0.1, form=0.7, probe=0.3)
    totals = {
        load_route(
            "s", described(accuracy={name: i + 0.1 for i, name in sorted(enumerate(names), key=order.index)})
        )
        .total(values)
        .value
        for order in map(list, permutations(enumerate(names)))
    }
    assert len(totals) == 1

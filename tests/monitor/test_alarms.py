"""The alarm on scripted curves: when it must ring, and above all when it must not."""

import json
import math
import random

import pytest

from mmreward.monitor.alarms import Estimate, OverOptimisation, Verdict, estimate


def run(
    watch: OverOptimisation, optimised: list[float], held_out: list[float], error: float = 0.01
) -> list[Verdict]:
    """One held-out reward called clip, at steps 0, 10, 20, ..."""
    return [
        watch.update(10 * i, Estimate(up, error), {"clip": Estimate(other, error)})
        for i, (up, other) in enumerate(zip(optimised, held_out, strict=True))
    ]


def levels(verdicts: list[Verdict]) -> str:
    return "".join(verdict.level[0] for verdict in verdicts)


def test_over_optimisation_warns_and_then_alarms_with_a_reason():
    verdicts = run(OverOptimisation(), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.50, 0.55, 0.60, 0.50, 0.45, 0.40])
    assert levels(verdicts) == "ooowwa"
    assert verdicts[0].reasons == ()
    assert verdicts[-1].reasons == (
        "held-out clip fell from 0.6 (step 20) to 0.4, 14.1 standard errors, "
        "while the optimised reward rose from 0.3 to 0.6 (3 in a row)",
    )


def test_a_dip_that_recovers_is_no_alarm():
    curve = [0.5, 0.6, 0.5, 0.5, 0.6, 0.5, 0.5, 0.61]
    assert levels(run(OverOptimisation(), [0.1 * i for i in range(8)], curve)) == "oowwowwo"


def test_a_fall_within_the_errors_is_none():
    curve = [0.60, 0.57, 0.57, 0.57, 0.57]
    optimised = [0.1 * i for i in range(5)]
    assert levels(run(OverOptimisation(), optimised, curve)) == "ooooo"  # 2.1 standard errors
    assert levels(run(OverOptimisation(tolerance=2.0), optimised, curve)) == "owwaa"


def test_both_rewards_falling_is_only_a_warning():
    verdicts = run(OverOptimisation(), [0.5, 0.4, 0.3, 0.2, 0.1], [0.6, 0.5, 0.4, 0.3, 0.2])
    assert levels(verdicts) == "owwww"
    assert "no higher than then" in verdicts[-1].reasons[0]


def test_one_of_several_held_out_rewards_is_enough():
    watch = OverOptimisation(patience=1)
    still = Estimate(1.0, 0.01)
    assert watch.update(0, still, {"a": still, "b": still}).level == "ok"
    verdict = watch.update(1, Estimate(2.0, 0.01), {"a": still, "b": Estimate(0.5, 0.01)})
    assert verdict.level == "alarm"
    assert len(verdict.reasons) == 1
    assert "held-out b" in verdict.reasons[0]


def test_noise_raises_no_alarm():
    """A held-out reward and a monitor that only fluctuate, under a rising optimised one: 60 runs of 60."""
    rng = random.Random(0)
    alarms = 0
    for _ in range(60):
        watch = OverOptimisation()
        verdicts = [
            watch.update(
                t,
                Estimate(0.1 * t, 0.1),
                {"clip": Estimate(rng.gauss(0, 1), 1.0)},
                {"saturation": rng.gauss(1, 0.08)},
            )
            for t in range(60)
        ]
        alarms += "a" in levels(verdicts)
    assert alarms <= 2


def test_noise_does_not_hide_a_fall():
    rng = random.Random(1)
    for _ in range(20):
        truth = [min(t, 20) - 0.8 * max(0, t - 20) for t in range(60)]
        verdicts = run(
            OverOptimisation(),
            [float(t) for t in range(60)],
            [value + rng.gauss(0, 1) for value in truth],
            error=1.0,
        )
        assert 22 <= levels(verdicts).index("a") <= 36


def monitored(watch: OverOptimisation, name: str, values: list[float]) -> str:
    return levels([watch.update(t, Estimate(0, 1), {}, {name: value}) for t, value in enumerate(values)])


def test_a_monitor_that_leaves_its_baseline():
    assert (
        monitored(OverOptimisation(), "saturation", [0.5, 0.52, 0.48, 0.5, 0.6, 0.7, 0.7, 0.7]) == "ooooowwa"
    )
    assert (
        monitored(OverOptimisation(), "saturation", [0.5, 0.52, 0.48, 0.5, 0.3, 0.3, 0.5, 0.3]) == "oooowwow"
    )
    assert monitored(OverOptimisation(), "saturation", [0.5, 0.5, 0.5, 0.5, 0.6, 0.6]) == "oooooo"


def test_only_the_harmful_direction_counts():
    values = [1.0, 1.1, 0.9, 1.0, 3.0, 3.0, 3.0]
    assert monitored(OverOptimisation(harmful={"grid_16": "up"}), "grid_16", values) == "oooowwa"
    assert monitored(OverOptimisation(harmful={"diversity": "down"}), "diversity", values) == "ooooooo"


def test_what_could_not_be_measured_is_a_warning_and_no_number():
    watch = OverOptimisation(patience=1)
    failed = Estimate(math.nan, math.nan)
    fine = Estimate(1.0, 0.1)
    assert watch.update(0, fine, {"clip": failed}).reasons == (
        "clip was not compared at step 0: a reward could not be measured",
    )
    assert watch.update(1, fine, {"clip": fine}).level == "ok"  # the failure did not become the best
    assert watch.update(2, failed, {"clip": Estimate(-9.0, 0.1)}).level == "warn"
    assert watch.update(3, Estimate(2.0, 0.1), {}).level == "ok"
    assert monitored(watch, "saturation", [math.nan, 1.0, 1.0, 1.0, 1.0, 1.0]) == "wooooo"


def test_a_baseline_of_zeros_cannot_alarm():
    assert monitored(OverOptimisation(patience=1), "kl", [0.0] * 4 + [0.0, 0.1]) == "ooooow"


@pytest.mark.parametrize("cut", [0, 1, 3, 6, 9])
def test_a_resumed_run_gives_the_same_verdicts(cut):
    rng = random.Random(2)
    feed = [
        (t, Estimate(float(t), 0.1), {"clip": Estimate(-0.3 * t + rng.random(), 0.1)}, {"kl": 1.0 + 0.2 * t})
        for t in range(12)
    ]
    whole, first, second = OverOptimisation(), OverOptimisation(), OverOptimisation()
    expected = [whole.update(*one) for one in feed]
    found = [first.update(*one) for one in feed[:cut]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    found += [second.update(*one) for one in feed[cut:]]
    assert found == expected
    assert "a" in levels(expected)
    assert second.state_dict() == whole.state_dict()


def test_state_is_a_copy():
    watch = OverOptimisation()
    state = watch.state_dict()
    monitored(watch, "saturation", [1.0, 1.0])
    assert state == {"best": {}, "first": {}, "streaks": {}}
    with pytest.raises(ValueError, match="a state has best, first and streaks, not best"):
        watch.load_state_dict({"best": {}})


def test_estimate_of_values():
    assert estimate([1.0, 2.0, 3.0, math.nan])[:2] == pytest.approx((2.0, 1 / 3**0.5))
    assert all(math.isnan(part) for part in estimate([1.0, math.nan])[:2])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="patience must be at least 1 and baseline 2, not 0, 4"):
        OverOptimisation(patience=0)
    with pytest.raises(ValueError, match="must not be negative"):
        OverOptimisation(tolerance=-1)
    with pytest.raises(ValueError, match=r'"up" and "down", not \[\'left\'\]'):
        OverOptimisation(harmful={"x": "left"})
    with pytest.raises(ValueError, match="the standard error of clip is -1"):
        OverOptimisation().update(0, Estimate(0, 1), {"clip": Estimate(0, -1)})


def test_evaluations_of_the_same_samples_are_compared_one_by_one():
    """Samples that differ by 1 and all fall by about 0.05: 0.05 is little beside their spread and much
    beside the spread of the falls. One that failed is left out."""
    before = [index / 20 for index in range(20)]
    after = [value - 0.05 + 0.01 * (index % 2) for index, value in enumerate(before)]
    for paired, level in ((False, "ok"), (True, "alarm")):
        alarm = OverOptimisation(patience=1)
        for step, values in enumerate((before, [*after[:-1], math.nan])):
            mean, stderr, _ = estimate(values)
            given = Estimate(mean, stderr, tuple(values) if paired else ())
            alarm.load_state_dict(json.loads(json.dumps(alarm.state_dict())))
            verdict = alarm.update(step, Estimate(step, 0.0), {"oracle": given})
        assert verdict.level == level, paired

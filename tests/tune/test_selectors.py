import math
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward.tune.steps import AllButLast, Explicit, RandomFraction, SlidingWindow, Window, selector


def places(rule: SlidingWindow, num_steps: int, rounds: int) -> list[tuple[int, int]]:
    """Runs of rounds at one place: (first step of the window, rounds)."""
    starts = [rule.steps(num_steps, round, 0)[0] for round in range(rounds)]
    return [(start, len(list(run))) for start, run in groupby(starts)]


@given(
    num_steps=st.integers(6, 60),
    round=st.integers(0, 10_000),
    seed=st.integers(-5, 2**40),
    rule=st.one_of(
        st.just(AllButLast()),
        st.builds(RandomFraction, st.floats(0.01, 1)),
        st.builds(Window, st.integers(1, 4), st.integers(0, 1), st.none(), st.booleans()),
        st.builds(
            SlidingWindow,
            width=st.integers(1, 4),
            stride=st.integers(1, 5),
            iterations=st.integers(1, 30),
            pace=st.sampled_from(["constant", "decay", "exp_decay"]),
            roll_back=st.booleans(),
        ),
    ),
)
def test_every_selector_is_pure_and_leaves_the_last_step_out(num_steps, round, seed, rule):
    steps = rule.steps(num_steps, round, seed)
    assert steps == rule.steps(num_steps, round, seed)
    assert list(steps) == sorted(set(steps))
    assert steps
    assert steps[0] >= 0
    assert steps[-1] <= num_steps - 2


def test_all_but_last():
    assert AllButLast().steps(5, 3, 9) == (0, 1, 2, 3)


def test_explicit_steps_may_name_the_last():
    assert Explicit((9, 2)).steps(10, 0, 0) == (2, 9)
    with pytest.raises(ValueError, match="step 9 was asked for, but a sampler of 9"):
        Explicit((9, 2)).steps(9, 0, 0)
    for wrong in [(), (1, 1), (-1,)]:
        with pytest.raises(ValueError, match="distinct steps, at least one"):
            Explicit(wrong)


def test_random_fraction_covers_every_step_in_time():
    chosen = [RandomFraction(0.6).steps(16, round, 7) for round in range(200)]
    assert {len(steps) for steps in chosen} == {int(0.6 * 15)}
    counts = [sum(step in steps for steps in chosen) for step in range(15)]
    assert min(counts) > 80
    assert chosen != [RandomFraction(0.6).steps(16, round, 8) for round in range(200)]


def test_window_visits_every_place_of_its_range_alike():
    starts = [Window(3, low=1, high=7).steps(10, round, 0)[0] for round in range(1000)]
    counts = [starts.count(start) for start in range(1, 5)]
    assert sum(counts) == 1000
    assert min(counts) > 200
    assert Window(3, low=1, random=False).steps(10, 5, 0) == (1, 2, 3)
    assert Window(2).steps(3, 5, 0) == (0, 1)


def test_progressive_window_stays_whole_at_the_end():
    assert places(SlidingWindow(4, iterations=25), 11, 400) == [*((p, 25) for p in range(5)), (5, 275)]
    assert SlidingWindow(4).steps(11, 10_000, 0) == (5, 6, 7, 8)  # T - 2 = 9 is the end


def test_stride_never_jumps_over_the_end():
    assert places(SlidingWindow(4, stride=3, iterations=2), 13, 12) == [(0, 2), (3, 2), (6, 2), (7, 6)]


def test_roll_back_starts_again():
    runs = places(SlidingWindow(4, stride=2, iterations=3, roll_back=True), 12, 27)
    assert runs == [(0, 3), (2, 3), (4, 3), (6, 3), (0, 3), (2, 3), (4, 3), (6, 3), (0, 3)]


def test_decay_shortens_the_stay_linearly():
    runs = places(SlidingWindow(4, iterations=10, pace="decay"), 22, 200)
    expected = [(p, math.floor(10 - 9 * p / 20 + 0.5)) for p in range(16)]
    assert runs[:-1] == expected
    assert runs[0] == (0, 10)
    assert runs[10] == (10, 6)  # 5.5 rounded up


def test_exp_decay_shortens_the_stay_behind_its_threshold():
    runs = places(SlidingWindow(4, iterations=25, pace="exp_decay"), 25, 1000)
    assert runs[:14] == [(p, 25) for p in range(14)]
    assert runs[14:19] == [(14, 23), (15, 21), (16, 19), (17, 17), (18, 16)]


def test_by_name():
    assert selector("window", width=3) == Window(3)
    assert selector("sliding_window", pace="decay") == SlidingWindow(pace="decay")
    with pytest.raises(ValueError, match="did you mean 'all_but_last'"):
        selector("all_but_first")
    with pytest.raises(ValueError, match="there are all_but_last, explicit"):
        selector("x")


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\], not 0"):
        RandomFraction(0)
    with pytest.raises(ValueError, match="width must be at least 1"):
        Window(0)
    with pytest.raises(ValueError, match="a window of 5 does not fit between steps 0 and 4 of 5"):
        Window(5).steps(5, 0, 0)
    with pytest.raises(ValueError, match="high 10 takes in the last of 10 steps"):
        Window(2, high=10).steps(10, 0, 0)
    with pytest.raises(ValueError, match="does not fit"):
        SlidingWindow(4).steps(5, 0, 0)
    with pytest.raises(ValueError, match="pace is one of constant, decay, exp_decay"):
        SlidingWindow(pace="random")
    with pytest.raises(ValueError, match="fewest 30 is more than iterations 25"):
        SlidingWindow(fewest=30)
    with pytest.raises(ValueError, match="must be at least 1"):
        SlidingWindow(stride=0)
    with pytest.raises(ValueError, match="rate must not be negative"):
        SlidingWindow(rate=-1.0)
    with pytest.raises(ValueError, match="leave none to train"):
        AllButLast().steps(1, 0, 0)

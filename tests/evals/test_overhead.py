"""The scaling check: streams its samples, and complains about what is out of proportion."""

import pytest

from mmreward import Score
from mmreward.evals import overhead
from mmreward.evals.overhead import Generated, ScalingRow, complaints


def rows(each_20=1e-3, peak_20=1_000):
    made = [ScalingRow(n, n * 1e-3, n * 1e-3, 1_000, 10) for n in (1000, 2000, 5000, 10_000)]
    return [*made, ScalingRow(20_000, 20.0, 20_000 * each_20, peak_20, 10)]


def test_samples_are_drawn_again_and_alike():
    some = Generated(5, seed=1)
    assert len(some) == 5 and [s.id for s in some] == list("01234")
    assert some[3].image is not some[3].image
    assert some[3].image.key == some[3].image.key
    keys = {sample.image.key for sample in [*some, *Generated(5, seed=2)]}
    assert len(keys) == 10
    with pytest.raises(IndexError):
        some[5]


def test_proportion_is_fine_and_excess_is_named():
    assert complaints(rows(each_20=1.14e-3, peak_20=1_149)) == []
    assert "1.20 times" in complaints(rows(each_20=1.2e-3))[0]
    assert "memory" in complaints(rows(peak_20=1_200))[0]


def test_measures_wall_processor_memory_and_cache():
    first, second = overhead.measure([20, 40])
    assert (first.number, second.number) == (20, 40)
    assert first.cpu > 0 and first.wall > 0
    assert second.peak >= first.peak > 1 << 20
    assert 0 < second.cached <= overhead.CACHE


def test_callers_get_what_one_call_gives_and_their_waits_are_theirs(monkeypatch):
    for name, value in {"BESIDE": 3, "STEPS": 2, "STEP": 0.01, "ENGINES": 2}.items():
        monkeypatch.setattr(overhead, name, value)
    rows, wrong = overhead.crowded(12)
    assert wrong == 0 and [len(row.waits) for row in rows] == [1, 12, 12, 12, 12]
    assert all(row.rate > 0 and row.percentile(99) >= row.percentile(50) > 0 for row in rows)


def test_another_value_and_a_failure_are_counted():
    crowd = object.__new__(overhead.Crowd)
    crowd.wanted, crowd.wrong = [0.5, 0.5, 0.5], 0
    for number, score in enumerate((Score(0.50001), Score(0.51), Score.failed("error", "no"))):
        crowd._check(number, {"clipscore": [score]})
    assert crowd.wrong == 2

"""The drift table: what it compares, and that mini-clip's options stay small against what they rank."""

import numpy as np
import pytest

from mmreward import Media, Sample
from mmreward.evals.audits import drift


def test_figures_of_a_known_difference():
    reference = np.arange(16.0).reshape(2, 8)
    changed = reference + 0.5
    changed[1] = changed[1, ::-1]
    row = drift.compare(reference, changed)
    assert row.mean == pytest.approx(np.abs(changed - reference).mean())
    assert row.max == 7.5 and row.rank == 0.0 and row.spread == pytest.approx(np.arange(8.0).std())


def test_every_option_of_mini_clip_is_small_against_the_spread(monkeypatch):
    monkeypatch.setattr(drift, "GROUPS", 1)
    rows = dict(drift.drifts("mini-clip", drift.scenes(), "cpu"))
    assert list(rows) == list(drift.OPTIONS)
    assert rows["bfloat16"].max > rows["batch of 1"].max
    for row in rows.values():
        assert row.rank > 0.95 and row.mean < 0.05 * row.spread
    assert rows["batch of 1"].max < 1e-5 < rows["resize pil"].max


def test_of_a_judge_what_it_answers_is_compared(monkeypatch):
    monkeypatch.setattr(drift, "GROUPS", 1)
    samples = drift.asked(drift.scenes())
    rows = dict(drift.drifts("mini-vlm", samples, "cpu", "checklist", ("bfloat16", "batch of 1")))
    assert rows["bfloat16"].spread == rows["batch of 1"].spread > 0.05, "it answers all alike"
    assert rows["batch of 1"].max < 1e-5 < rows["bfloat16"].max
    assert set(drift.JUDGES) < set(drift.OPTIONS)


def test_a_failed_score_is_not_compared():
    broken = [Sample(prompt="a red circle", image=Media(b"nothing"))] * drift.GROUP
    with pytest.raises(ValueError, match="8 scores failed"):
        drift.scores("mini-clip", broken, "cpu")

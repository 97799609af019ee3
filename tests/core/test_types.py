"""Scores cannot lie about failures, and samples say what they lack."""

import math

import pytest

from mmreward import Sample, Score, Unscorable
from mmreward.errors import STATUSES
from mmreward.limits import Limits
from mmreward.types import lacking, oversized, shortened


@pytest.mark.parametrize("status", [s for s in STATUSES if s != "ok"])
def test_a_failed_score_is_nan_and_keeps_its_reason(status):
    score = Score.failed(status, "why", {"mass": 0.1})
    assert math.isnan(score.value) and not score.ok
    assert (score.status, score.note, score.parts) == (status, "why", {"mass": 0.1})


def test_failures_are_equal_by_their_status_note_and_parts():
    """Also with a NaN of another computation, as read from a file."""
    failed = Score.failed("timeout", "late", {"waited": 2.0})
    assert failed == Score(float("nan"), {"waited": 2.0}, "timeout", "late")
    others = [
        Score.failed("timeout", "later", {"waited": 2.0}),
        Score.failed("error", "late", {"waited": 2.0}),
        Score.failed("timeout", "late"),
        Score(0.0, {"waited": 2.0}, note="late"),
    ]
    assert all(failed != other for other in others) and failed != "late"


@pytest.mark.parametrize(
    ("value", "status"),
    [(math.nan, "ok"), (math.inf, "ok"), (0.0, "error"), (1.0, "na"), (math.inf, "error"), (0.0, "fine")],
)
def test_a_value_and_a_status_that_disagree_are_refused(value, status):
    with pytest.raises(ValueError):
        Score(value, {}, status)


@pytest.mark.parametrize("status", ["ok", "bogus", ""])
def test_a_refusal_has_a_status_of_failure(status):
    with pytest.raises(ValueError, match="status"):
        Unscorable("reason", status)


def test_a_sample_says_everything_it_lacks():
    assert lacking(Sample(prompt="x"), ("prompt",)) == ""
    assert lacking(Sample(), ("prompt", "image", "target")) == (
        "the sample has no prompt and no image and no target"
    )
    assert lacking(Sample(target=[]), ("target",)) == "", "no true boxes is a target"
    assert "blank" in lacking(Sample(prompt=" \n\t"), ("prompt",))
    assert "int, not text" in lacking(Sample(prompt=5), ("prompt",))  # type: ignore[arg-type]
    assert lacking(Sample(inputs=()), ("inputs",)) and lacking(Sample(steps=()), ("steps",))


def test_text_above_the_limit_is_refused_whatever_the_reward_needs():
    assert oversized(Sample(prompt="x" * Limits().text_characters)) == ""
    assert str(Limits().text_characters) in oversized(Sample(prompt="x" * (Limits().text_characters + 1)))
    assert oversized(Sample(response="x" * 1_000_000)) == ""


def test_of_a_long_response_the_end_is_read():
    short = Sample(response="x" * Limits().text_characters)
    assert shortened(short) is short
    assert (
        shortened(Sample(response="a" * Limits().text_characters + "end")).response
        == "a" * (Limits().text_characters - 3) + "end"
    )

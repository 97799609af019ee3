"""A response without an answer is wrong; a sample without a sensible target is not the response's fault."""

import pytest

from mmreward import Unscorable
from mmreward.verifiers.response import Verdict, verified


def refuse(status):
    raise Unscorable("why", status)


def test_a_verdict_becomes_a_score_with_its_parts():
    score = verified(lambda: Verdict(0.5, {"recall": 0.25}, "half"), ("recall",))
    assert (score.value, score.parts, score.status, score.note) == (
        0.5,
        {"parsed": 1.0, "recall": 0.25},
        "ok",
        "half",
    )


def test_what_cannot_be_read_earns_nothing_and_has_the_same_parts():
    score = verified(lambda: refuse("unparsable"), ("recall", "precision"))
    assert (score.value, score.status, score.note) == (0.0, "ok", "why")
    assert score.parts == {"parsed": 0.0, "recall": 0.0, "precision": 0.0}


@pytest.mark.parametrize("status", ["error", "missing", "timeout", "na"])
def test_what_is_not_the_responses_fault_stays_a_failure(status):
    with pytest.raises(Unscorable) as refusal:
        verified(lambda: refuse(status), ("recall",))
    assert refusal.value.status == status

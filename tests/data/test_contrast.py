"""Preference pairs of sound and flawed rollouts (VerIPO)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward.data.contrast import FLAWS, Limits, Rollout, contrast_pairs, flaw_of
from mmreward.data.pairs import Rules


def rollout(id, accuracy=1.0, consistency=1.0, repetition=0.0, group="q", text=None):
    return Rollout(
        id=id,
        group=group,
        text=id if text is None else text,
        accuracy=accuracy,
        consistency=consistency,
        repetition=repetition,
    )


def named(found):
    return {flaw: [(p.chosen.id, p.rejected.id) for p in pairs] for flaw, (pairs, _) in found.items()}


def test_every_flaw_is_contrasted_with_a_sound_rollout():
    group = [
        rollout("sound"),
        rollout("wrong", accuracy=0.0),
        rollout("drifted", consistency=0.1),
        rollout("stuck", repetition=0.9),
    ]
    assert named(contrast_pairs(group)) == {
        "wrong": [("sound", "wrong")],
        "inconsistent": [("sound", "drifted")],
        "repetitive": [("sound", "stuck")],
    }


def test_without_a_sound_rollout_there_is_nothing_to_choose():
    group = [rollout("wrong", accuracy=0.0), rollout("drifted", consistency=0.1)]
    assert not any(named(contrast_pairs(group)).values())


def test_prompts_that_are_all_right_are_dropped_but_for_a_share():
    rollouts = [
        one
        for k in range(1000)
        for one in (rollout(f"{k}a", group=str(k)), rollout(f"{k}b", consistency=0.0, group=str(k)))
    ]
    assert not any(named(contrast_pairs(rollouts)).values())
    kept = named(contrast_pairs(rollouts, keep_solved=0.2))["inconsistent"]
    assert 160 < len(kept) < 240
    assert kept == named(contrast_pairs(rollouts[::-1], keep_solved=0.2))["inconsistent"]
    assert len(named(contrast_pairs(rollouts, keep_solved=1.0))["inconsistent"]) == 1000


def test_a_failed_reward_takes_a_rollout_out_and_is_counted():
    group = [rollout("sound"), rollout("wrong", accuracy=0.0), rollout("unknown", consistency=math.nan)]
    pairs, counts = contrast_pairs(group)["wrong"]
    assert [pair.rejected.id for pair in pairs] == ["wrong"] and counts.failed == 1


def test_one_text_counts_once_and_the_rules_hold():
    group = [rollout("a"), rollout("b", text="a"), rollout("c"), rollout("w", accuracy=0.0)]
    found = contrast_pairs(group, Rules(choose="all"))
    pairs, counts = found["wrong"]
    assert [(p.chosen.id, p.rejected.id) for p in pairs] == [("a", "w"), ("c", "w")]
    assert counts.duplicates == 1 and counts.ties == 1


def test_limits_say_what_a_flaw_is():
    one = rollout("x", accuracy=0.6, consistency=0.6, repetition=0.2)
    assert flaw_of(one) is None
    assert flaw_of(one, Limits(right=0.7)) == "wrong"
    assert flaw_of(one, Limits(consistent=0.7)) == "inconsistent"
    assert flaw_of(one, Limits(repetitive=0.1)) == "repetitive"
    with pytest.raises(ValueError, match="right is 2"):
        Limits(right=2)
    with pytest.raises(ValueError, match="failed"):
        flaw_of(rollout("x", accuracy=math.nan))
    with pytest.raises(ValueError, match="keep_solved"):
        contrast_pairs([], keep_solved=2)


level = st.sampled_from([0.0, 0.4, 0.6, 1.0, math.nan])


@given(st.lists(st.tuples(level, level, level, st.sampled_from("pq")), max_size=10))
def test_the_chosen_is_always_sound_and_the_rejected_has_the_flaw(rows):
    rollouts = [rollout(str(k), *row[:3], group=row[3]) for k, row in enumerate(rows)]
    known = {one.id: one for one in rollouts}
    found = contrast_pairs(rollouts, Rules(choose="all"), keep_solved=1.0)
    assert set(found) == set(FLAWS)
    for flaw, (pairs, _) in found.items():
        for pair in pairs:
            chosen, rejected = known[pair.chosen.id], known[pair.rejected.id]
            assert flaw_of(chosen) is None and flaw_of(rejected) == flaw and chosen.group == rejected.group

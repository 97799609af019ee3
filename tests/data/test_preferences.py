"""Which samples become pairs: what must hold for any scores, and what each choice takes."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward.data.pairs import CHOICES, Candidate, Rules, choose_pairs

NAN = math.nan


def row(name, score, *, group="g", content=None, others=()):
    return Candidate(name, (group,), score, content or name, others)


def rows(*scores, **fields):
    return [row("abcdefgh"[index], score, **fields) for index, score in enumerate(scores)]


def names(pairs):
    return [pair.chosen.id + pair.rejected.id for pair in pairs]


scores = st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN])
some = st.lists(
    st.tuples(scores, st.sampled_from("xy"), st.sampled_from("pqrstu"), st.tuples(scores)), max_size=14
).map(
    lambda drawn: [
        row(f"{index:02d}", score, group=group, content=content, others=others)
        for index, (score, group, content, others) in enumerate(drawn)
    ]
)
rules = st.builds(
    Rules,
    choose=st.sampled_from(CHOICES),
    margin=st.sampled_from([0.0, 0.25, 0.6]),
    per_prompt=st.none() | st.integers(1, 3),
)


@given(some, rules)
def test_every_pair_is_one_that_teaches_something(candidates, rules):
    pairs, counts = choose_pairs(candidates, rules)
    for chosen, rejected in pairs:
        assert chosen.group == rejected.group and chosen.content != rejected.content
        assert chosen.score > rejected.score and chosen.score - rejected.score >= rules.margin
        assert not any(r > c for c, r in zip(chosen.others, rejected.others, strict=True))
        assert all(math.isfinite(value) for one in (chosen, rejected) for value in (one.score, *one.others))
    assert len(set(names(pairs))) == len(pairs) == counts.pairs
    most = Counter(pair.chosen.group for pair in pairs)
    assert rules.per_prompt is None or all(number <= rules.per_prompt for number in most.values())
    assert counts.failed == sum(not all(map(math.isfinite, (c.score, *c.others))) for c in candidates)


@given(some, rules, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(candidates, rules, random):
    shuffled = random.sample(candidates, len(candidates))
    assert repr(choose_pairs(shuffled, rules)) == repr(choose_pairs(candidates, rules))


@given(some, rules)
def test_groups_do_not_know_of_each_other(candidates, rules):
    whole, counts = choose_pairs(candidates, rules)
    halves = [choose_pairs([c for c in candidates if c.group == (g,)], rules) for g in "xy"]
    assert names(whole) == [name for pairs, _ in halves for name in names(pairs)]
    assert counts.ties == sum(counted.ties for _, counted in halves)


def test_what_each_choice_takes():
    five = rows(0.1, 0.9, 0.5, 0.7, 0.2)
    assert names(choose_pairs(five)[0]) == ["ba"]
    assert names(choose_pairs(five, Rules(choose="ends"))[0]) == ["ba", "de"]
    assert names(choose_pairs(five, Rules(choose="all"))[0])[:3] == ["ba", "be", "da"]
    assert len(choose_pairs(five, Rules(choose="all"))[0]) == 10
    assert names(choose_pairs(five, Rules(choose="all", per_prompt=2))[0]) == ["ba", "be"]


def test_what_is_left_out_is_counted():
    _, counts = choose_pairs(rows(0.5, 0.5, 0.6, NAN), Rules(choose="all", margin=0.2))
    assert (counts.failed, counts.ties, counts.close, counts.pairs) == (1, 1, 2, 0)
    same = [row("a", 1.0, content="x"), row("b", 0.0, content="x"), row("c", 0.5)]
    pairs, counts = choose_pairs(same)
    assert counts.duplicates == 1 and names(pairs) == ["ac"]
    split = [row("a", 1.0, others=(0.0,)), row("b", 0.0, others=(1.0,))]
    assert choose_pairs(split)[1].disagreements == 1
    assert names(choose_pairs([replace(one, others=(0.5,)) for one in split])[0]) == ["ab"]


def test_a_picture_whose_score_failed_once_may_still_take_part():
    twice = [row("a", NAN, content="x"), row("b", 1.0, content="x"), row("c", 0.0)]
    assert names(choose_pairs(twice)[0]) == ["bc"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"choose": "bestest"}, "choose is one of best_worst, ends, all, not 'bestest'"),
        ({"margin": -1.0}, "margin is -1.0"),
        ({"margin": NAN}, "margin is nan"),
        ({"per_prompt": 0}, "per_prompt is 0"),
    ],
)
def test_wrong_rules_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Rules(**wrong)

"""UnifiedReward-Flex: golden judgements, sums and winners that contradict each other, hedges, mutations."""

import pytest
from support.judgements import ur_flex
from support.mutations import never_raise_nor_pay

from mmreward import Unscorable
from mmreward.rewards.published.declaring import by_verdict
from mmreward.rewards.published.flex import read_flex

GOOD = ur_flex([(8, 2), (5, 5), (6, 4)], [(4, 6), (5, 5), (4, 6)], [(7, 3), (6, 4), (5, 5)])


def valued(marks):
    return [by_verdict(marks), *marks.parts.values()]


def test_the_winner_and_the_sums():
    marks = read_flex(GOOD, "image")
    assert by_verdict(marks) == 1.0 and marks.parts == {"total": 50 - 40} and not marks.contradiction
    bare = GOOD.removeprefix("```json\n").removesuffix("\n```")
    assert read_flex("<think>hm</think>" + bare, "image") == marks
    clip = ur_flex([(2, 8)], winner="Video 2", noun="Video")
    assert by_verdict(read_flex(clip, "video")) == 0.0
    assert by_verdict(read_flex(ur_flex([(5, 5)], winner="tie"), "image")) == 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [(ur_flex([(8, 3)]), "have the sum 11, not 10"), (ur_flex(([(8, 2)], "Image 2")), "has the smaller sum"),
     (ur_flex([(8, 2)], winner="Image 2"), "with the smaller sum and no majority")],
)  # fmt: skip
def test_what_does_not_add_up_is_a_contradiction(text, words):
    assert words in read_flex(text, "image").contradiction


def test_a_majority_of_the_categories_may_win_with_the_smaller_sum():
    assert not read_flex(ur_flex([(6, 4)], [(6, 4)], [(0, 10)]), "image").contradiction


@pytest.mark.parametrize(
    ("text", "status"),
    [(GOOD[:200], "unparsable"), ("Image 1 is better.", "unparsable"), (GOOD + GOOD, "unparsable"),
     (ur_flex([(8, 2)], winner="Image 1/2"), "unparsable"),
     (ur_flex([(8, 2)], winner="Video 1"), "unparsable"),
     (ur_flex([(8, 2)], winner="both images"), "unparsable"), (ur_flex([(12, -2)]), "out_of_range"),
     (ur_flex(([(8, 2)], "Image 1 or 2")), "unparsable"), ('{"winner": "Image 1"}', "missing"),
     ('{"categories": [], "winner": "Image 1"}', "missing"), (GOOD.replace('"winner"', '"loser"'), "missing"),
     (GOOD.replace('"score_1": 8', '"score_1": "8"'), "unparsable"),
     (GOOD.replace('"score_1": 8', '"x": 8'), "missing"),
     (GOOD.replace('"score_1": 8', '"score_1": 2, "score_1": 8'), "unparsable"),
     ("[1]", "unparsable"),
     (GOOD.replace('"score_1": 8', '"score_1": NaN'), "unparsable"), ("", "missing"),
     ("[" * 9000, "unparsable")],
)  # fmt: skip
def test_what_is_no_judgement(text, status):
    with pytest.raises(Unscorable) as raised:
        read_flex(text, "image")
    assert raised.value.status == status


def test_mutated_judgements_never_raise_and_never_pay_a_hedge():
    texts = [GOOD, ur_flex([(8, 2)]), ur_flex([(8, 2)], winner="Image 1 or 2")]
    never_raise_nor_pay(lambda text: read_flex(text, "image"), texts, [], seed=30, count=1000, finite=valued)

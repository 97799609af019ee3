"""Every published way to game a verifier, or to lose a right answer to one: what the project it was found in
pays, and what is paid here.

Each row names the attack and where it comes from. An attack never earns more than the honest answer beside
it, and what it earns is written down; where the other project's formula is carried for comparison, its number
is reproduced, too.
"""

import time

import pytest
from support.answer_attacks import ANSWERS, FORMS, MATHS
from support.attack import said, worth
from support.box_attacks import BOXES, CAT, objects
from support.growth import assert_linear
from support.pace import allowed

from mmreward import Sample, Score, Unscorable
from mmreward.rewards.judged.thinking import parse_grade
from mmreward.shaping import length_scaled

VECTORS = [*BOXES, *ANSWERS, *MATHS, *FORMS]


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector.name) for vector in VECTORS])
def test_an_attack_earns_no_more_than_the_honest_answer(vector):
    begun = time.monotonic()
    honest, attack = (
        worth(vector.sample(response), vector.reward, **vector.args)
        for response in (vector.honest, vector.attack)
    )
    assert honest.value == pytest.approx(1.0)
    assert attack.value == pytest.approx(vector.wanted, abs=1e-3)
    assert list(attack.parts) == list(honest.parts)  # trainers take their columns from the first sample
    assert time.monotonic() - begun < allowed(5, time.monotonic)


@pytest.mark.parametrize("vector", [pytest.param(one, id=one.name) for one in VECTORS if one.peer])
def test_the_other_project_pays_what_it_is_known_to_pay(vector):
    assert vector.peer(vector.sample(vector.attack)) == pytest.approx(vector.theirs, abs=5e-4)


def test_no_two_vectors_have_one_name():
    assert len({vector.name for vector in VECTORS}) == len(VECTORS)


# --- what judges write, and lengths ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("0.85", 0.85),
        ("0.95", 0.95),
        (".7", 0.7),
        ("85%", 0.85),
        ("7/10", 0.7),
        ("<answer>0.85</answer>", 0.85),
        ("0.8", 0.8),
        (r"\boxes{0.8}", None),
        ("**Total Wrong Steps**: 3", None),
        ("**2 wrong steps**", None),
        ("Step 1 is wrong: 0.2", None),
        ("</think> 0.25", 0.25),
        ("</think> 2.5.5", None),
        ("I cannot tell.", None),
    ],
)
def test_grades_that_sophiavl_r1_misreads(written, wanted):
    """None: no grade is read, and the score fails rather than being 0 or 1. SophiaVL-R1 (a818494) reads one
    decimal at most, any 0 or 1 of the text before the number after the thinking, and three wrong steps as
    1."""
    if wanted is None:
        with pytest.raises(Unscorable):
            parse_grade(written)
    else:
        assert parse_grade(written) == pytest.approx(wanted)


def test_a_short_wrong_answer_is_not_paid_as_a_right_one_as_by_vlm_r1():
    wrong, right = length_scaled([Score(0.0), Score(1.0)], [100, 100], limit=1024)
    assert wrong.value <= 0 < 0.5 <= right.value


def test_an_endless_answer_is_not_paid_as_an_empty_one_as_by_vlm_r1():
    short, long, longer = length_scaled([Score(1.0)] * 3, [0, 1024, 2048], limit=1024)
    assert short.value == 1.0 and long.value == longer.value == 0.5


@pytest.mark.parametrize(
    "units",
    [
        pytest.param(('[{"bbox_2d""label"',), id="108 seconds for 400 in VLM-R1's repetition"),
        pytest.param(("<think>", "</think>"), id="1.4 seconds for 1300 in EasyR1's and verl's format"),
    ],
)
def test_texts_that_choke_an_expression_are_read_in_proportion(units):
    def read(size):
        attack = "".join(unit * size for unit in units)
        for reward in ("repetition", "format"):
            worth(Sample(response=attack), reward)
        worth(Sample(response=said(attack), target=objects(CAT)), "iou")

    assert_linear(read, 12_000)

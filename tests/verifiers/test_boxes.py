"""Boxes: reading, coordinate spaces, and the soft F1 that spam cannot raise."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.drawn_boxes import boxes, founds, truths

from mmreward import Media, Sample, load
from mmreward.verifiers.boxes import Box, boxes_of, iou, normalise_label, ramp, soft_f1, to_unit


def f1(found, truth, **options):
    return soft_f1(found, truth, **options).value


# --- properties -----------------------------------------------------------------------------------


@given(founds, truths, st.randoms(use_true_random=False), st.sampled_from(["exact", "ignore"]))
def test_order_does_not_matter_and_the_score_is_bounded(found, truth, chance, labels):
    score = f1(found, truth, labels=labels)
    mixed_found, mixed_truth = found[:], truth[:]
    chance.shuffle(mixed_found)
    chance.shuffle(mixed_truth)
    assert 0 <= score <= 1
    assert f1(mixed_found, mixed_truth, labels=labels) == pytest.approx(score, abs=1e-12)


@given(founds, truths)
def test_neither_junk_nor_duplicates_ever_raise_the_score(found, truth):
    score = f1(found, truth)
    for junk in (None, Box(0.0, 0.0, 1e-6, 1e-6, "a"), Box(0.0, 0.0, 1.0, 1.0, "other")):
        assert f1([*found, junk], truth) <= score + 1e-12
    perfect = f1(truth, truth)
    for box in truth:
        assert f1([*truth, box], truth) < perfect


@given(founds, truths)
def test_one_exactly_when_perfect(found, truth):
    assert f1(truth, truth) == pytest.approx(1.0)
    perfect = sorted(map(repr, found)) == sorted(map(repr, truth))
    assert (f1(found, truth) > 1 - 1e-9) == perfect


@settings(max_examples=60)
@given(st.lists(boxes(), max_size=4), truths, st.integers(20, 3000), st.integers(20, 3000))
def test_every_coordinate_space_gives_the_same_score(found, truth, width, height):
    scales = {"pixel": (width, height), "norm_1": (1, 1), "norm_100": (100, 100), "norm_1000": (1000, 1000)}
    scores = []
    for w, h in scales.values():
        unit = [to_unit(Box(b.x1 * w, b.y1 * h, b.x2 * w, b.y2 * h, b.label), w, h) for b in found]
        scores.append(f1(unit, truth))
    assert max(scores) - min(scores) < 1e-9


@given(boxes(), boxes())
def test_overlap_is_symmetric_and_bounded(a, b):
    assert iou(a, b) == iou(b, a) and 0 <= iou(a, b) <= 1
    assert iou(a, a) == pytest.approx(1.0)


# --- numbers by hand ------------------------------------------------------------------------------

CAT, DOG, BIRD = Box(0, 0, 0.5, 0.5, "cat"), Box(0.5, 0.5, 1, 1, "dog"), Box(0, 0.5, 0.5, 1, "bird")
JUNK = Box(0.9, 0, 1, 0.1, "cat")


def test_overlaps_by_hand():
    assert iou(CAT, Box(0.25, 0, 0.75, 0.5)) == pytest.approx(1 / 3)
    assert iou(CAT, CAT) == 1.0 and iou(CAT, DOG) == 0.0
    assert iou(Box(0.2, 0.2, 0.2, 0.8), Box(0.2, 0.2, 0.2, 0.8)) == 0.0


def test_the_ramp_is_a_smoothstep_without_jumps():
    assert [ramp(x, 0.9, 0.4) for x in (0.0, 0.5, 0.7, 0.9, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    steps = [ramp(x / 1000, 0.95, 0.5) for x in range(1001)]
    assert max(b - a for a, b in itertools.pairwise(steps)) < 0.004


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ([BIRD, CAT, DOG], [CAT, DOG, BIRD], 1.0),
        ([CAT, JUNK], [CAT], 2 / 3),
        ([CAT, DOG, *[JUNK] * 98], [CAT, DOG], 2 * 2 / 102),
        ([CAT] * 5, [CAT], 2 / 6),
        ([CAT._replace(label="dog")], [CAT], 0.0),
        ([None], [CAT], 0.0),
        ([], [CAT], 0.0),
        ([], [], 1.0),
        ([CAT], [], 0.5),
        ([CAT, None], [], 0.25),
    ],
)
def test_soft_f1_by_hand(found, truth, expected):
    assert f1(found, truth) == pytest.approx(expected)


def test_its_parts_by_hand():
    parts = soft_f1([CAT] * 5, [CAT, DOG]).parts
    assert parts == pytest.approx({"precision": 0.2, "recall": 0.5, "mean_iou": 0.5, "found": 5, "true": 2})


def test_labels_can_be_ignored_and_boxes_on_nothing_forbidden():
    assert f1([CAT._replace(label="dog")], [CAT], labels="ignore") == 1.0
    assert f1([CAT], [], decay=0.0) == 0.0


def test_hundreds_of_boxes_are_no_problem():
    chance = random.Random(0)
    many = [Box(x, y, x + 0.1, y + 0.1) for x, y in ((chance.random(), chance.random()) for _ in range(150))]
    assert f1(many[::-1], many) == pytest.approx(1.0)


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        {"bbox_2d": [1, 2, 3, 4], "label": " CAT"},
        {"bbox": (1, 2, 3, 4), "class": "Cat"},
        {"box": ["1", "2.0", " 3 ", "4"], "name": "cat"},
        {"Position": np.array([1, 2, 3, 4]), "category": "\uff43at"},
        {"box_2d": [2, 1, 4, 3], "label": "cat"},
        {"bbox_2d": None, "bbox": [1, 2, 3, 4], "label": None, "class": "cat"},
        Box(1, 2, 3, 4, "Cat"),
    ],
)
def test_one_box_in_many_forms(item):
    assert boxes_of([item]) == [Box(1, 2, 3, 4, "cat")]


@pytest.mark.parametrize(
    "item",
    [
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [1, 2, 3, True],
        [1, 2, 3, math.nan],
        [1, 2, 3, math.inf],
        [1, 2, 3, 1e8],
        [1, 2, 3, "4px"],
        [1, 2, 3, "1" * 5000],
        [1, 2, 3, 10**400],
        "1234",
        None,
        5,
        {},
        {"label": "cat"},
        {"bbox_2d": "1,2,3,4"},
        {"bbox_2d": {"x1": 1}},
        [[1, 2], [3, 4]],
    ],
)
def test_what_is_no_box_still_counts_as_sent(item):
    assert boxes_of([item]) == [None]


def test_a_single_box_is_a_list_of_one_and_text_is_none():
    assert boxes_of({"bbox": [1, 2, 3, 4]}) == [Box(1, 2, 3, 4)]
    assert boxes_of("text") == boxes_of(5) == boxes_of(None) == [None]
    assert boxes_of([]) == []


def test_unit_boxes_are_clamped_and_never_repaired():
    assert to_unit(Box(-10, 0, 50, 200), 100, 100) == Box(0.0, 0.0, 0.5, 1.0)
    for bad in (Box(50, 0, 10, 20), Box(0, 20, 10, 10), Box(5, 5, 5, 9), Box(200, 200, 300, 300)):
        assert to_unit(bad, 100, 100) is None


def test_labels_ignore_case_and_spacing():
    assert normalise_label("  Traffic\n LIGHT ") == normalise_label("traffic light") != normalise_label("cat")


# --- the reward -----------------------------------------------------------------------------------

TARGET = [{"bbox_2d": [0, 0, 500, 500], "label": "cat"}]


def reply(text):
    return f"<think>look</think><answer>{text}</answer>"


@pytest.mark.parametrize(
    ("response", "target", "status", "value"),
    [
        (reply('[{"bbox_2d": [0, 0, 500, 500], "label": "cat"}]'), TARGET, "ok", 1.0),
        (reply('```json\n[{"bbox_2d": [0, 0, 500, 500], "label": "Cat"}]\n```'), TARGET, "ok", 1.0),
        (reply("[]"), [], "ok", 1.0),
        (reply("[]"), TARGET, "ok", 0.0),
        (reply("[oops"), [], "ok", 0.0),
        (reply(""), [], "ok", 0.0),
        ('<think>cut off [{"bbox_2d": [0, 0, 500, 500], "label": "cat"}]', TARGET, "ok", 0.0),
        (reply('[{"bbox_2d": [0, 0, 500, 500], "label": "cat"}, {"bbox_2d": [1'), TARGET, "ok", 2 / 3),
        (reply('[{"bbox_2d": [500, 500, 0, 0], "label": "cat"}]'), TARGET, "ok", 0.0),
        ("", TARGET, "ok", 0.0),
        (reply("[]"), None, "missing", None),
        (reply("[]"), [{"bbox_2d": [5, 5, 1, 1]}], "error", None),
        (reply("[]"), "cat", "error", None),
        (reply("[]"), "[]", "ok", 1.0),
    ],
)
def test_the_iou_reward_tells_wrong_from_unreadable(engine, response, target, status, value):
    (score,) = engine.score([Sample(response=response, target=target)], "iou")["iou"]
    assert score.status == status, score.note
    assert value is None or score.value == pytest.approx(value)


def test_pixel_boxes_need_a_size_from_somewhere(engine):
    reward = load("iou", space="pixel")
    text = reply('[{"bbox_2d": [0, 0, 50, 20], "label": "cat"}]')
    picture = Media(np.zeros((40, 100, 3), np.uint8))
    samples = [
        Sample(response=text, target=TARGET, meta={"size": [40, 100]}),
        Sample(response=text, target=TARGET, image=picture),
        Sample(response=text, target=TARGET),
    ]
    scores = engine.score(samples, reward)["iou"]
    assert [score.status for score in scores] == ["ok", "ok", "missing"]
    assert scores[0].value == scores[1].value == 1.0


def test_impossible_options_are_refused():
    for args in (
        {"threshold": 0.0},
        {"threshold": 1.1},
        {"width": 0.0},
        {"empty_decay": 1.0},
        {"space": "inch"},
    ):
        with pytest.raises(ValueError, match=next(iter(args))):
            load("iou", **args)

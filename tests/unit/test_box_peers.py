"""What other suites pay, bugs included: the numbers their code gave, and what is paid here instead."""

import json
import random

import pytest

from mmreward import Sample, load
from mmreward.verifiers.boxes import Box, giou, soft_f1
from mmreward.verifiers.peers.average_precision import average_precision
from mmreward.verifiers.peers.v_triune import (
    LEVELS,
    iou_first_broken,
    label_first,
    v_triune_boxes,
    v_triune_detection,
    v_triune_grid,
)
from mmreward.verifiers.peers.vision_r1 import vision_r1_overlaps, vision_r1_precision, vision_r1_recall
from mmreward.verifiers.peers.visual_rft import (
    Confident,
    visual_rft_confidence,
    visual_rft_grounding,
    visual_rft_iou,
)
from mmreward.verifiers.peers.vlm_r1 import vlm_r1_iou, vlm_r1_map, vlm_r1_od_length, vlm_r1_weighted_sum

A, B, C = Box(0, 0, 100, 100, "a"), Box(200, 200, 300, 300, "a"), Box(500, 500, 700, 600, "b")
JUNK = [Box(800, i, 810, i + 10, "a") for i in range(98)]

# --- average precision: fact 3 --------------------------------------------------------------------


def test_false_boxes_after_the_true_ones_are_free():
    assert average_precision([A, B, *JUNK], [A, B]).map == pytest.approx(1.0)
    assert average_precision([A] * 5, [A]).map == pytest.approx(1.0)
    assert average_precision([A, Box(1, 1, 9, 9, "ghost")], [A]).map == pytest.approx(1.0)
    for spam, truth in (([A, B, *JUNK], [A, B]), ([A] * 5, [A])):
        assert soft_f1(spam, truth).value < 0.4


def test_the_same_boxes_in_another_order_are_not():
    assert average_precision([*JUNK, A, B], [A, B]).map == pytest.approx(0.020, abs=5e-4)
    assert average_precision([*JUNK, JUNK[0], JUNK[1], A], [A]).map == 0.0  # A is the 101st


def test_true_boxes_that_are_too_large_leave_nothing_to_count():
    assert average_precision([A], [Box(0, 0, 2e5, 2e5, "a")]) == (-1, -1, -1)


def test_average_precision_by_hand():
    shifted = Box(0, 0, 100, 80, "a")  # IoU 0.8: found at seven of ten levels
    assert average_precision([shifted], [A]) == pytest.approx((0.7, 1.0, 1.0))
    # One of two found: precision 1 up to recall 0.5, which is 51 of the 101 recalls.
    assert average_precision([A], [A, B]) == pytest.approx((51 / 101,) * 3)
    assert average_precision([C, A], [A, C]) == pytest.approx((1.0,) * 3)
    assert average_precision([], [A]) == (0, 0, 0)


def scene():
    """True and found boxes, from a seed, as the golden numbers below were made."""
    chance = random.Random(11)

    def box():
        x, y = chance.randrange(100), chance.randrange(100)
        return Box(x, y, x + chance.randrange(20, 60), y + chance.randrange(20, 60), chance.choice("ab"))

    truth = [box() for _ in range(8)]
    found = [box() for _ in range(4)]
    for t in truth:
        dx, dy = chance.randrange(-6, 7), chance.randrange(-6, 7)
        found.append(Box(t.x1 + dx, t.y1 + dy, t.x2 + dx, t.y2, t.label))
    return found, truth


def test_average_precision_is_that_of_pycocotools():
    """2.0.11, area and iscrowd as the peers set them, every score 1."""
    assert average_precision(*scene()) == pytest.approx(GOLDEN, abs=1e-12)


GOLDEN = (0.2771835219236209, 0.6785714285714285, 0.2599009900990099)

# --- V-Triune -------------------------------------------------------------------------------------

SHARE = {"iou_max_label_first": 1.0, "iou_max_iou_first": 0.0, "iou_completeness": 0.3}


def label_score(found, truth, threshold=0.5):
    return v_triune_detection(found, truth, threshold=threshold, ratios=SHARE)


def test_vector_1_the_iou_first_matcher_loses_perfect_boxes_in_another_order():
    found, truth = [B, C, A], [A, B, C]
    pairs = iou_first_broken(found, truth, 0.5)
    assert [(pair.found, pair.true) for pair in pairs] == [(2, 2), (1, 1)]
    only = {"iou_max_iou_first": 1.0}
    three = [box._replace(label=name) for box, name in zip((A, B, C), "xyz", strict=True)]
    rotated = [three[2], three[0], three[1]]
    scores = v_triune_detection(rotated, three, threshold=0.5, ratios=only)
    assert scores["final_score"] == scores["report_iou_50_iou_match_pure"] == 0.0
    assert scores["report_iou_50_iou_match_precision"] == pytest.approx(2 / 3)  # whatever the label
    assert soft_f1(rotated, three).value == 1.0


def test_vector_2_one_junk_box_at_the_end_takes_the_match():
    """Its label is another; the true box stands first, and is never looked at."""
    junk = Box(900, 900, 950, 950, "z")
    scores = v_triune_detection([A, junk], [A], threshold=0.5, ratios={"iou_max_iou_first": 1.0})
    assert scores["final_score"] == 0.0
    assert soft_f1([A, junk], [A]).value == pytest.approx(2 / 3)


def test_label_first_is_greedy_in_the_order_of_the_truth():
    wide, narrow = Box(0, 0, 100, 100, "a"), Box(0, 0, 100, 60, "a")
    pairs = label_first([Box(0, 0, 100, 80, "a"), wide], [narrow, wide], 0.5)
    assert [(pair.found, pair.true) for pair in pairs] == [(0, 0), (1, 1)]
    assert label_first([narrow], [wide, narrow], 0.5)[0].true == 0  # and not the one it fits


def test_v_triune_s_probe_values():
    two, one = [A, B], [A]
    assert label_score([*two, JUNK[0]], two)["final_score"] == pytest.approx(0.57)
    assert label_score([*two, *JUNK[:10]], two)["final_score"] == pytest.approx(0.005, abs=5e-4)
    assert label_score(one, two)["final_score"] == pytest.approx(0.345)
    assert label_score(two, two)["final_score"] == pytest.approx(1.0)
    assert label_score([], two) == dict.fromkeys(label_score(two, two), 0.0)


def test_vector_7_the_step_from_095_to_099():
    """0.976 and 0 for one side off by a few percent, where the schedule here has no jump."""
    near = Box(0, 0, 100, 96.6, "a")
    assert label_score([near], [A], 0.95)["final_score"] == pytest.approx(0.976, abs=5e-4)
    assert label_score([near], [A], 0.99)["final_score"] == 0.0


def test_the_average_is_over_eleven_levels():
    near = Box(0, 0, 100, 80, "a")
    each = [label_score([near], [A], level)["final_score"] for level in LEVELS]
    assert label_score([near], [A], "average")["final_score"] == pytest.approx(sum(each) / 11)
    assert len(label_score([near], [A])) == 30
    for threshold in (0.42, 2):
        with pytest.raises(ValueError, match="threshold"):
            label_score([A], [A], threshold)


ITEM = '{"bbox_2d": [1, 2, 3, 4], "label": "Cat"}'


@pytest.mark.parametrize(
    ("answer", "boxes"),
    [
        (f"[{ITEM}]", [Box(1, 2, 3, 4, "cat")]),
        (f"[{ITEM}, {ITEM}]", [Box(1, 2, 3, 4, "cat")]),
        (f'[{ITEM}, {{"bbox_2d": [1', [Box(1, 2, 3, 4, "cat")]),
        ('[{"bbox_2d": [true, 2, 3, 4], "label": "cat"}]', [Box(1, 2, 3, 4, "cat")]),
        ('[{"bbox_2d": [3, 4, 1, 2], "label": "cat"}]', None),
        ("[{'bbox_2d': [1, 2, 3, 4], 'label': 'cat's toy'}]", None),  # vector 9
        (f"```json\n[{ITEM}]\n```", None),  # vector 10
        ("[]", None),  # vector 11
        (ITEM, None),
        (f"here: [{ITEM}]", None),
        ("[[1, 2, 3, 4]]", None),
    ],
)
def test_what_v_triune_reads(answer, boxes):
    assert v_triune_boxes(answer) == boxes


def test_v_triune_cuts_the_fraction_off():
    assert v_triune_grid([Box(10, 10, 644, 475)], 644, 476) == [Box(15, 21, 1000, 997)]


# --- VLM-R1 ---------------------------------------------------------------------------------------


def test_vector_24_vlm_r1_s_iou_of_fractions_and_of_one_pixel_is_0():
    half = Box(0, 0, 0.5, 0.5)
    assert vlm_r1_iou(half, half) == vlm_r1_iou(Box(5, 5, 6, 6), Box(5, 5, 6, 6)) == 0.0
    assert vlm_r1_iou(A, A) == 1.0
    assert vlm_r1_iou(A, Box(0, 0, 100, 50)) == pytest.approx(0.5)


def test_vector_25_vlm_r1_s_iou_without_area():
    with pytest.raises(ZeroDivisionError):
        vlm_r1_iou(Box(5, 5, 5, 5), Box(5, 5, 5, 5))
    assert vlm_r1_weighted_sum([Box(5, 5, 5, 5, "a")], [Box(5, 5, 5, 5, "a")]) == 0.0


def test_od_length_curbs_spam_and_no_more():
    assert vlm_r1_map([A, B, *JUNK], [A, B]) == pytest.approx(1.0)
    assert vlm_r1_od_length([A, B, *JUNK], [A, B]) == pytest.approx(0.02)
    assert vlm_r1_od_length([A], [A, B]) == pytest.approx(51 / 101)
    assert [vlm_r1_od_length(*pair) for pair in (([], []), ([A], []), ([], [A]))] == [1, 0, 0]


def test_the_weighted_sum_pays_for_wrong_labels():
    wrong = [box._replace(label="z") for box in (A, B)]
    assert vlm_r1_weighted_sum(wrong, [A, B]) == pytest.approx(0.30)
    assert vlm_r1_weighted_sum([B, A], [A, B]) == pytest.approx(1.0)
    assert vlm_r1_weighted_sum([A], [A, B]) == pytest.approx(0.7 / 2 + 0.3 * 0.75)
    assert soft_f1(wrong, [A, B]).value == 0.0


# --- Visual-RFT -----------------------------------------------------------------------------------


def both(found, truth):
    return visual_rft_iou(found, truth), visual_rft_confidence(found, truth)


def test_visual_rft_s_probe_values():
    assert both([Confident(A, 1.0)], [A]) == (1.0, 1.0)
    assert both([Confident(A, 0.9), Confident(A, 0.9)], [A]) == (1.0, 0.9)
    near = Box(0, 0, 101, 100, "a")
    assert both([Confident(A, 1.0), Confident(near, 1.0)], [A]) == (0.5, 0.5)
    assert both([Confident(Box(0, 0, 100, 50), 1.0)], [A]) == (0.0, 0.0)  # IoU 0.5 is no match
    assert both([], [A]) == (0.0, 0.0)


def test_vector_15_a_junk_box_of_no_confidence_is_paid_in_full():
    assert both([Confident(JUNK[0], 0.0)], [A]) == (0.0, 1.0)
    assert soft_f1([JUNK[0]], [A]).value == 0.0


def test_nothing_keeps_the_confidence_in_its_range():
    assert both([Confident(A, 5.0), Confident(B, 1.0)], [A, B]) == (1.0, 1.0)
    assert both([Confident(A, 1.0), Confident(JUNK[0], 5.0)], [A])[1] == 0.0


def test_the_most_confident_box_chooses_first():
    near = Box(0, 0, 100, 90)
    assert visual_rft_iou([Confident(A, 0.1), Confident(near, 0.9)], [A]) == pytest.approx(0.45)


def test_their_grounding_pays_for_a_miss():
    assert visual_rft_grounding(A, A) == 2.0
    corner, opposite = Box(0, 0, 0.1, 0.1), Box(0.9, 0.9, 1, 1)
    assert visual_rft_grounding(corner, opposite) == pytest.approx(0.02)


# --- Vision-R1 ------------------------------------------------------------------------------------


def test_pixels_drown_labels_and_labels_pay_nothing():
    wrong = [A._replace(label="z"), B._replace(label="z")]
    assert vision_r1_recall(wrong, [A, B], step=0) == vision_r1_precision(wrong, [A, B], step=0) == 1.0
    assert vision_r1_overlaps([B, A], [A, B]) == pytest.approx([1.0, 1.0])


def test_thresholds_rise_at_step_1500():
    near = Box(0, 0, 100, 70, "a")  # generalised IoU 0.7
    assert giou(near, A) == pytest.approx(0.7)
    steps = (0, 1499, 1500, None)
    assert [vision_r1_precision([near], [A], step=step) for step in steps] == pytest.approx(
        [0.7, 0.7, 0, 0.7]
    )
    assert [vision_r1_recall([near], [A], step=step) for step in steps] == [1.0, 1.0, 0.0, 1.0]


def test_recall_is_cut_below_and_filled_above():
    four = [A, B, C, Box(0, 500, 50, 550)]
    shares = [vision_r1_recall(four[:found], four, step=0) for found in (1, 2, 3, 4)]
    assert shares == [0.0, 0.5, 0.75, 1.0]
    assert vision_r1_recall(four[:1], four, step=None) == 0.25


def test_false_boxes_are_free_in_the_first_release():
    spam = [A, *JUNK[:9]]
    assert vision_r1_precision(spam, [A], step=0) == 1.0
    assert vision_r1_precision(spam, [A], step=0, over="found") == pytest.approx(0.1)


def test_boxes_on_an_empty_picture_have_no_value():
    assert vision_r1_recall([], [], step=0) == vision_r1_precision([], [], step=0) == 1.0
    assert vision_r1_recall([], [A], step=0) == vision_r1_precision([], [A], step=0) == 0.0
    for score in (vision_r1_recall, vision_r1_precision):
        with pytest.raises(ValueError, match="empty picture"):
            score([A], [], step=0)


def test_vlm_r1s_rewards_are_its_formulas_and_can_be_gamed(engine):
    """Ninety-eight junk boxes after two perfect ones: free, or paid for by their number."""
    true = [{"bbox_2d": [0, 0, 200, 200], "label": "cat"}, {"bbox_2d": [500, 500, 900, 900], "label": "dog"}]
    junk = [{"bbox_2d": [10 * i, 0, 10 * i + 5, 5], "label": "cat"} for i in range(98)]
    sample = Sample(response=f"<answer>{json.dumps(true + junk)}</answer>", target=true)
    earned = {
        name: engine.score([sample], load(name, **args))[name][0].value
        for name, args in (("vlm_r1", {"formula": "map"}), ("iou", {"bare": False}))
    }
    assert earned["vlm_r1"] == pytest.approx(1.0) and earned["iou"] < 0.05
    (length,) = engine.score([sample], load("vlm_r1"))["vlm_r1"]
    assert length.value == pytest.approx(0.02)
    wrong = [{**box, "label": "cow"} for box in true]
    sample = Sample(response=f"<answer>{json.dumps(wrong)}</answer>", target=true)
    (paid,) = engine.score([sample], load("vlm_r1", formula="weighted_sum"))["vlm_r1"]
    assert paid.value == pytest.approx(0.3)

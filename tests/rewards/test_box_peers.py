"""Rewards of boxes of other suites, bugs included: the numbers their code gave, and those given here
instead."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.drawn_boxes import boxes, truths
from support.growth import assert_linear

from mmreward import Engine, Sample, load
from mmreward.rewards.peers.average_precision import average_precision
from mmreward.rewards.peers.v_triune import (
    LEVELS,
    NAMES,
    detection_scores,
    iou_first_broken,
    label_first,
    read_boxes,
    to_grid,
)
from mmreward.rewards.peers.vlm_r1 import (
    average_precision_at_half,
    inclusive_iou,
    mean_average_precision,
    od_length,
    weighted_sum,
)
from mmreward.verifiers.boxes import Box, iou, soft_f1

A, B, C = Box(0, 0, 100, 100, "a"), Box(200, 200, 300, 300, "a"), Box(500, 500, 700, 600, "b")
JUNK = [Box(800, i, 810, i + 10, "a") for i in range(98)]

# --- average precision ----------------------------------------------------------------------------


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
    return detection_scores(found, truth, threshold=threshold, ratios=SHARE)


def test_the_iou_first_matcher_loses_perfect_boxes_in_another_order():
    found, truth = [B, C, A], [A, B, C]
    pairs = iou_first_broken(found, truth, 0.5)
    assert [(pair.found, pair.true) for pair in pairs] == [(2, 2), (1, 1)]
    only = {"iou_max_iou_first": 1.0}
    three = [box._replace(label=name) for box, name in zip((A, B, C), "xyz", strict=True)]
    rotated = [three[2], three[0], three[1]]
    scores = detection_scores(rotated, three, threshold=0.5, ratios=only)
    assert scores["final_score"] == scores["report_iou_50_iou_match_pure"] == 0.0
    assert scores["report_iou_50_iou_match_precision"] == pytest.approx(2 / 3)  # whatever the label
    assert soft_f1(rotated, three).value == 1.0


def test_label_first_is_greedy_in_the_order_of_the_truth():
    wide, narrow = Box(0, 0, 100, 100, "a"), Box(0, 0, 100, 60, "a")
    pairs = label_first([Box(0, 0, 100, 80, "a"), wide], [narrow, wide], 0.5)
    assert [(pair.found, pair.true) for pair in pairs] == [(0, 0), (1, 1)]
    assert label_first([narrow], [wide, narrow], 0.5)[0].true == 0  # and not the one it fits


@given(st.lists(boxes(), max_size=6), truths, st.sampled_from(LEVELS))
def test_its_matchers_are_those_of_its_loops(found, truth, threshold):
    """As its code does it, pair by pair."""
    by_label, left = [], list(range(len(found)))
    for j, true in enumerate(truth):
        same = [i for i in left if found[i].label == true.label]
        best = max(same, key=lambda i: iou(found[i], true), default=None)
        if best is not None and iou(found[best], true) >= threshold:
            by_label.append((best, j))
            left.remove(best)
    by_iou, rows, columns = [], list(range(len(found))), list(range(len(truth)))
    while rows and columns:
        best = max(iou(found[i], truth[j]) for i in rows for j in columns)
        if best < threshold:
            break
        i, j = rows.pop(), columns.pop()
        by_iou.append((i, j, best if found[i].label == truth[j].label else 0.0))
    assert [(pair.found, pair.true) for pair in label_first(found, truth, threshold)] == by_label
    assert [tuple(pair) for pair in iou_first_broken(found, truth, threshold)] == by_iou


def test_v_triune_s_probe_values():
    two = [A, B]
    assert label_score([*two, JUNK[0]], two)["final_score"] == pytest.approx(0.57)
    assert label_score(two, two)["final_score"] == pytest.approx(1.0)
    assert label_score([], two) == label_score(two, []) == dict.fromkeys(NAMES, 0.0)
    assert tuple(label_score(two, two)) == NAMES


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
        ("[{'bbox_2d': [1, 2, 3, 4], 'label': 'cat's toy'}]", None),
        (f"```json\n[{ITEM}]\n```", None),
        ("[]", None),
        (ITEM, None),
        (f"here: [{ITEM}]", None),
        ("[[1, 2, 3, 4]]", None),
        (f"[{ITEM}, {ITEM.replace('4', '1e999')}]", None),
        (f"[{ITEM}, {ITEM.replace('4', '4' * 400)}]", None),
    ],
)
def test_what_v_triune_reads(answer, boxes):
    assert read_boxes(answer) == boxes


def test_v_triune_cuts_the_fraction_off():
    assert to_grid([Box(10, 10, 644, 475)], 644, 476) == [Box(15, 21, 1000, 997)]


TARGET = [{"bbox_2d": [0, 0, 100, 100], "label": "cat"}]
RIGHT = '[{"bbox_2d": [0, 0, 100, 100], "label": "CAT"}]'


@pytest.mark.parametrize(
    ("response", "value", "form"),
    [
        (f"\n<answer>\n{RIGHT}\n</answer>", 1.0, 1.0),
        (f"<answer>{RIGHT}</answer>", 1 / 1.1, 0.0),
        (f"\n<answer>\n{RIGHT}\n</answer> <answer>\n</answer>", 1 / 1.1, 0.0),
        (f"<answer>{RIGHT}</answer>\n<answer>\n<answer>\n</answer>", 1.0, 1.0),  # opening tags go free
        ("\n<answer>\n[]\n</answer>", 0.0, 0.0),
        (RIGHT, 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_the_reward_v_triune_weighs_accuracy_and_format(engine, response, value, form):
    sample = Sample(response=response, target=TARGET, meta={"step": 1, "total_steps": 2})
    (score,) = engine.score([sample], "v_triune")["v_triune"]
    assert score.value == pytest.approx(value) and score.parts["format"] == form
    assert tuple(score.parts) == ("parsed", "accuracy", "format", *NAMES)
    assert score.parts["parsed"] == float(value > 0)


def test_the_reward_v_triune_takes_its_routes_parameters(engine):
    """By the steps of training, cutting fractions off, with other ratios, and without true boxes."""

    def paid(answer, target=TARGET, meta=None, **args):
        sample = Sample(response=f"\n<answer>\n{answer}\n</answer>", target=target, meta=meta or {})
        return engine.score([sample], load("v_triune", **args))["v_triune"][0]

    near = RIGHT.replace("100, 100", "100, 96.6")
    values = [paid(near, meta={"progress": p}).parts["accuracy"] for p in (0.1, 0.25, 0.26)]
    assert values == pytest.approx([0.9762, 0.9762, 0.0], abs=1e-4)
    assert paid(near).status == "missing" and paid(near, threshold="average").ok
    half = RIGHT.replace("100, 100", "50, 75.9")
    cut = paid(half, threshold=0.5, pixels=True, meta={"size": (759, 500)}, accuracy_ratio=1, format_ratio=0)
    assert cut.value == pytest.approx(1.0)
    assert paid(half, threshold=0.5, pixels=True).status == "missing"
    both = {"ratios": {"map50": 1.0, "map75": 0.5}, "threshold": 0.5}
    low = paid(RIGHT.replace("100, 100", "100, 60"), **both)
    assert low.parts["accuracy"] == pytest.approx(1 / 1.5)
    empty = paid(RIGHT, target=[], threshold=0.5)
    assert empty.parts["accuracy"] == 0.0 and empty.value == pytest.approx(0.1 / 1.1)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"threshold": 0.42}, "threshold"),
        ({"ratios": {"mpa": 1.0}}, "map50"),
        ({"ratios": {"map": 2.0}}, "shares"),
        ({"accuracy_ratio": 0.0, "format_ratio": 0.0}, "nor both 0"),
        ({"format_ratio": -1.0}, "not negative"),
    ],
)
def test_strange_parameters_of_v_triune_are_refused(args, named):
    with pytest.raises(ValueError, match=named):
        load("v_triune", **args)


def test_a_thousand_boxes_against_fifty_take_little_time():
    found = [Box(i, 0, i + 30, 30, "a") for i in range(1400)]
    assert_linear(lambda size: label_score(found[:size], found[:50], "average"), len(found), steps=1)


# --- VLM-R1 ---------------------------------------------------------------------------------------


def test_vlm_r1_s_iou_of_fractions_and_of_one_pixel_is_0():
    half = Box(0, 0, 0.5, 0.5)
    assert inclusive_iou(half, half) == inclusive_iou(Box(5, 5, 6, 6), Box(5, 5, 6, 6)) == 0.0
    assert inclusive_iou(A, A) == 1.0
    assert inclusive_iou(A, Box(0, 0, 100, 50)) == pytest.approx(0.5)


def test_vlm_r1_s_iou_without_area():
    with pytest.raises(ZeroDivisionError):
        inclusive_iou(Box(5, 5, 5, 5), Box(5, 5, 5, 5))
    assert weighted_sum([Box(5, 5, 5, 5, "a")], [Box(5, 5, 5, 5, "a")]) == 0.0


def test_od_length_curbs_spam_and_no_more():
    assert mean_average_precision([A, B, *JUNK], [A, B]) == pytest.approx(1.0)
    assert od_length([A, B, *JUNK], [A, B]) == pytest.approx(0.02)
    assert od_length([A], [A, B]) == pytest.approx(51 / 101)
    for formula in (od_length, mean_average_precision, average_precision_at_half):
        assert [formula(*pair) for pair in (([], []), ([A], []), ([], [A]), ([C], [A]))] == [1, 0, 0, 0]


def test_average_precision_at_one_half_forgives_more():
    shifted = Box(0, 0, 100, 60, "a")
    assert average_precision_at_half([shifted], [A]) == 1.0 and mean_average_precision(
        [shifted], [A]
    ) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("labels", "value"),
    [
        (("a", None), 0.3 + 0.7),  # the label of the match before it, which is right by luck
        (("a", 7), 0.3 + 0.7),
        (("b", None), 0.3),
        ((None, "a"), 0.3 + 0.35),  # theirs fails at a first match without a label
        ((None, None), 0.3),
    ],
)
def test_the_weighted_sum_forgets_to_reset_the_label_of_a_box_without_one(labels, value):
    truth = [{"bbox_2d": [100, 100, 200, 200], "label": "a"}, {"bbox_2d": [500, 500, 600, 600], "label": "a"}]
    boxes = [{"bbox_2d": box["bbox_2d"], "label": label} for box, label in zip(truth, labels, strict=True)]
    response = f"<answer>```json\n{json.dumps(boxes)}\n```</answer>"
    fence = load("vlm_r1", formula="weighted_sum", fence="required")
    with Engine("cpu") as engine:
        (score,) = engine.score([Sample(id="1", response=response, target=truth)], fence)["vlm_r1"]
    assert score.value == pytest.approx(value)


def test_the_weighted_sum_pays_for_wrong_labels():
    wrong = [box._replace(label="z") for box in (A, B)]
    assert weighted_sum(wrong, [A, B]) == pytest.approx(0.30)
    assert weighted_sum([B, A], [A, B]) == pytest.approx(1.0)
    assert weighted_sum([A], [A, B]) == pytest.approx(0.7 / 2 + 0.3 * 0.75)
    assert soft_f1(wrong, [A, B]).value == 0.0


FENCED = "<answer>```json\n{}\n```</answer>"
PERFECT = '{"bbox_2d": [100, 100, 400, 400], "label": "cat"}'


@pytest.mark.parametrize(
    ("response", "paid", "empty"),
    [
        (FENCED.format(f"[{PERFECT}]"), (1.0, 1.0), (0.0, 0.0)),
        (FENCED.format(f"[{PERFECT.replace('cat', 'Cat')}]"), (0.0, 1.0), (0.0, 0.0)),
        (
            FENCED.format(f'[{PERFECT}, {{"bbox_2d": [400, 100, 100, 400], "label": "cat"}}]'),
            (0.5, 0.925),
            (0.0, 0.0),
        ),
        (FENCED.format(f"[{PERFECT}, 5]"), (0.5, 0.925), (0.0, 0.0)),
        (FENCED.format("[oops"), (0.0, 0.0), (1.0, 0.0)),
        (FENCED.format("[]"), (0.0, 0.0), (1.0, 0.0)),
        ("<answer>None</answer>", (0.0, 0.0), (1.0, 1.0)),
        ("<answer>whatever</answer>", (0.0, 0.0), (1.0, 0.0)),
        (f"<answer>[{PERFECT}]</answer>", (0.0, 0.0), (1.0, 0.0)),
        ("None", (0.0, 0.0), (0.0, 1.0)),
    ],
)
def test_vlm_r1_reads_as_its_code_does(engine, response, paid, empty):
    """Numbers of its odLength_reward and of its weighted sum (commit 90052f4), which asks for a fence."""
    for target, values in (([{"bbox_2d": [100, 100, 400, 400], "label": "cat"}], paid), ([], empty)):
        for formula, value in zip(("od_length", "weighted_sum"), values, strict=True):
            reward = load("vlm_r1", formula=formula, fence="required")
            (score,) = engine.score([Sample(response=response, target=target)], reward)["vlm_r1"]
            assert score.value == pytest.approx(value), (formula, target)

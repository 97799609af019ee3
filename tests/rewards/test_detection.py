"""Matching of boxes: an optimum, blind to order, deaf to junk; the fixed evaluation; aliases of labels."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.drawn_boxes import boxes, founds, truths
from support.growth import assert_linear

from mmreward import Sample, load
from mmreward.verifiers.boxes import Box, best_match, giou, iou, label_table, mean_f1, overlaps, ramp, soft_f1


def by_brute_force(worth):
    """The largest one-to-one sum, over all ways to match."""
    worth = worth if worth.shape[0] <= worth.shape[1] else worth.T
    rows, columns = worth.shape
    return max(
        sum(worth[row, column] for row, column in enumerate(chosen))
        for chosen in itertools.permutations(range(columns), rows)
    )


@settings(max_examples=150)
@given(founds, truths, st.sampled_from([(1.0, 1.0), (0.9, 0.4), (0.5, 0.1)]))
def test_the_match_is_the_best_there_is(found, truth, shape):
    threshold, width = shape
    gate = [[bool(b) and b.label == t.label for t in truth] for b in found]
    worth = ramp(overlaps(found, truth), threshold, width) * np.reshape(gate, (len(found), len(truth)))
    expected = 2 * by_brute_force(worth) / (len(found) + len(truth))
    assert soft_f1(found, truth, threshold=threshold, width=width).value == pytest.approx(expected)


@given(founds, truths)
def test_overlaps_of_many_are_those_of_each(found, truth):
    each = [[iou(box, true) if box else 0.0 for true in truth] for box in found]
    assert overlaps(found, truth) == pytest.approx(np.array(each).reshape(len(found), len(truth)))


@given(founds, truths, st.randoms(use_true_random=False))
def test_the_evaluation_is_blind_to_order_and_lowered_by_junk(found, truth, chance):
    score = mean_f1(found, truth).value
    mixed = found[:]
    chance.shuffle(mixed)
    assert 0 <= score <= 1 and mean_f1(mixed, truth[::-1]).value == pytest.approx(score, abs=1e-12)
    for junk in (None, Box(0, 0, 1e-6, 1e-6, "a"), Box(0, 0, 1, 1, "other")):
        assert mean_f1([*found, junk], truth).value <= score
    assert mean_f1(truth, truth).value == 1.0


@given(boxes(), boxes())
def test_generalised_overlap(a, b):
    assert -1 <= giou(a, b) <= iou(a, b) + 1e-12 and giou(a, b) == pytest.approx(giou(b, a))
    assert giou(a, a) == pytest.approx(1.0)


def test_generalised_overlap_by_hand():
    assert giou(Box(0, 0, 1, 1), Box(2, 0, 3, 1)) == pytest.approx(-1 / 3)
    assert giou(Box(0, 0, 2, 2), Box(1, 1, 3, 3)) == pytest.approx(1 / 7 - 2 / 9)
    assert giou(Box(1, 1, 1, 1), Box(1, 1, 1, 1)) == -1.0


A, B = Box(0, 0, 0.1, 0.1, "a"), Box(0.5, 0.5, 0.6, 0.6, "a")
JUNK = [Box(0.2 + i / 1000, 0.8, 0.21 + i / 1000, 0.9, "a") for i in range(98)]


@pytest.mark.parametrize("order", [[A, B, *JUNK], [*JUNK, A, B]])
def test_junk_costs_wherever_it_stands(order):
    for score in (soft_f1, mean_f1):
        assert score(order, [A, B]).value == pytest.approx(4 / 102)


def test_the_same_box_five_times():
    for score in (soft_f1, mean_f1):
        assert score([A] * 5, [A]).parts["precision"] == pytest.approx(0.2)


def test_near_duplicates_are_false_positives():
    near = Box(0.001, 0, 0.101, 0.1, "a")
    for score in (soft_f1, mean_f1):
        assert score([A, near], [A]).parts["precision"] == 0.5
        assert score([A, near], [A]).value == pytest.approx(2 / 3)


def test_the_evaluation_by_hand():
    shifted = Box(0, 0, 0.1, 0.08, "a")  # IoU 0.8: right at seven of ten thresholds
    verdict = mean_f1([shifted], [A])
    assert verdict.value == pytest.approx(0.7)
    assert verdict.parts == pytest.approx(
        {"precision": 0.7, "recall": 0.7, "mean_iou": 0.8, "found": 1, "true": 1}
    )
    assert mean_f1([], []).value == 1.0 and mean_f1([A], []).value == 0.0 and mean_f1([], [A]).value == 0.0


def test_each_true_box_can_have_its_own_threshold():
    near = Box(0, 0, 0.1, 0.08, "a")  # IoU 0.8 with A
    assert soft_f1([near, B], [A, B], threshold=[0.8, 0.99], width=0.1).value == pytest.approx(1.0)
    assert soft_f1([near, B], [A, B], threshold=[0.9, 0.99], width=0.1).value == pytest.approx(0.5)


def test_thousands_of_boxes_take_no_time():
    rng = np.random.default_rng(0)
    corners = rng.random((6000, 2))
    many = [Box(x, y, x + 0.02, y + 0.02, "a") for x, y in corners.tolist()]
    verdict = soft_f1(many, many[:400])
    assert verdict.parts["recall"] == pytest.approx(1.0) and verdict.value == pytest.approx(800 / 6400)
    assert_linear(lambda size: soft_f1(many[:size], many[:400]), 6000, steps=1)


def test_nothing_found_and_nothing_there():
    match = best_match(np.zeros((0, 0)))
    assert (match.f1, match.precision, match.recall) == (1.0, 1.0, 1.0)
    assert best_match(np.zeros((3, 0)), decay=0.5).f1 == 0.125


# --- labels ---------------------------------------------------------------------------------------


def test_aliases_join_labels_and_never_split_one():
    table = label_table({"Person": ["man", " WOMAN "]})
    assert table == {"person": "person", "man": "person", "woman": "person"}
    man, woman, dog = (A._replace(label=label) for label in ("man", "woman", "dog"))
    assert soft_f1([man], [woman], table=table).value == 1.0
    assert soft_f1([man], [woman]).value == soft_f1([dog], [woman], table=table).value == 0.0
    assert mean_f1([man], [woman], table=table).value == 1.0
    with pytest.raises(ValueError, match="both"):
        label_table({"person": ["man"], "male": ["man"]})
    with pytest.raises(ValueError, match="list of names"):
        label_table({"person": "man"})


TARGET = [{"bbox_2d": [0, 0, 500, 500], "label": "person"}]


@pytest.mark.parametrize("name", ["iou", "dynamic_iou", "detection_f1"])
def test_a_reward_s_parts_are_the_same_whatever_the_response(engine, name):
    good = '<answer>[{"bbox_2d": [0, 0, 500, 500], "label": "Man"}]</answer>'
    meta = {"progress": 0.5}
    texts = [good, "<answer>[]</answer>", "<answer>[oops</answer>", "", "<think>cut"]
    samples = [Sample(response=text, target=TARGET, meta=meta) for text in texts]
    scores = engine.score(samples, load(name, aliases={"person": ["man"]}))[name]
    assert [score.value for score in scores] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert [score.parts["parsed"] for score in scores] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert len({tuple(score.parts) for score in scores}) == 1


@pytest.mark.parametrize(("name", "value"), [("dynamic_iou", 0.5), ("detection_f1", 0.0)])
def test_an_empty_picture(engine, name, value):
    said = ("[]", "[[1, 1, 9, 9]]", "none", "No objects.", "oops", "")
    texts = [f"<answer>{text}</answer>" for text in said]
    samples = [Sample(response=text, target=[], meta={"progress": 1}) for text in texts]
    assert [score.value for score in engine.score(samples, name)[name]] == [1.0, value, 1.0, 1.0, 0.0, 0.0]


def test_tags_are_read_by_the_detection_rewards(engine):
    text = "<answer><ref>person</ref><box>[[0, 0, 500, 500]]</box></answer>"
    (score,) = engine.score([Sample(response=text, target=TARGET)], load("iou", space="internvl"))["iou"]
    assert score.value == 1.0

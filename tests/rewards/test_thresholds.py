"""The schedule of Dynamic IoU and its cap by what a rounded answer can reach."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Sample, Unscorable, load
from mmreward.rewards.rules.boxes import attainable, capped, scheduled, v_triune_steps
from mmreward.shaping import progress_of
from mmreward.verifiers.boxes import Box, iou, to_unit

ROWS, COLUMNS = 476, 644


def rounded(box, rows=ROWS, columns=COLUMNS):
    x1, x2 = (round(edge * columns) / columns for edge in (box.x1, box.x2))
    y1, y2 = (round(edge * rows) / rows for edge in (box.y1, box.y2))
    return Box(x1, y1, x2, y2, box.label)


def small_boxes(count, low=30, high=100):
    """On the 0..1000 grid, with sides of 3 to 10 % of the picture."""
    chance = random.Random(0)
    for _ in range(count):
        width, height = chance.randint(low, high), chance.randint(low, high)
        x, y = chance.randint(0, 1000 - width), chance.randint(0, 1000 - height)
        yield to_unit(Box(x, y, x + width, y + height), 1000, 1000)


def test_the_schedule_rises_through_its_knots_without_jumps():
    assert [scheduled(p) for p in (0, 0.1, 0.25, 1)] == [0.5, 0.85, 0.95, 0.99]
    values = [scheduled(step / 1000) for step in range(1001)]
    assert values == sorted(values) and max(b - a for a, b in itertools.pairwise(values)) < 0.004


def test_v_triune_s_steps():
    assert [v_triune_steps(p) for p in (0, 0.1, 0.1001, 0.25, 0.2501, 1)] == [
        0.85,
        0.85,
        0.95,
        0.95,
        0.99,
        0.99,
    ]


def test_what_is_attainable_by_hand():
    on_grid = Box(10 / COLUMNS, 20 / ROWS, 50 / COLUMNS, 60 / ROWS)
    assert attainable(on_grid, ROWS, COLUMNS) == pytest.approx(1.0)
    # Both edges of each side in the middle of two steps: the worst rounding takes a whole step off.
    worst = Box(10.5 / COLUMNS, 20.5 / ROWS, 36.5 / COLUMNS, 39.5 / ROWS)
    assert attainable(worst, ROWS, COLUMNS) == pytest.approx(25 * 18 / (26 * 19))
    assert attainable(Box(0.1001, 0.1001, 0.1002, 0.1002), 10, 10) == 0.0


@given(st.integers(0, 900), st.integers(0, 900), st.integers(1, 100), st.integers(1, 100))
def test_a_rounded_answer_reaches_what_is_attainable(x, y, width, height):
    box = to_unit(Box(x, y, x + width, y + height), 1000, 1000)
    best = attainable(box, ROWS, COLUMNS)
    assert iou(rounded(box), box) >= best - 1e-9
    (threshold,) = capped(0.99, [box], ROWS, COLUMNS)
    assert threshold <= max(best, 0.5)


def test_small_boxes_at_the_final_stage(engine):
    """A correctly rounded pixel answer reaches 0.99 in one case of sixteen; here it is worth 1 in all."""
    boxes = list(small_boxes(300))
    reached = sum(iou(rounded(box), box) >= 0.99 for box in boxes) / len(boxes)
    assert reached < 0.12
    for box in boxes[:60]:
        pixels = [box.x1 * COLUMNS, box.y1 * ROWS, box.x2 * COLUMNS, box.y2 * ROWS]
        answer = f"<answer>{[round(edge) for edge in pixels]}</answer>"
        meta = {"size": (ROWS, COLUMNS), "progress": 1.0}
        sample = Sample(response=answer, target=[[edge * 1000 for edge in box[:4]]], meta=meta)
        (score,) = engine.score([sample], load("dynamic_iou", space="pixel"))["dynamic_iou"]
        assert score.value == pytest.approx(1.0)
        (theirs,) = engine.score([sample], load("dynamic_iou", space="pixel", schedule="v-triune"))[
            "dynamic_iou"
        ]
        assert theirs.value <= score.value and theirs.parts["threshold"] == 0.99


def test_two_pixels_off_costs_little_and_continuously(engine):
    target = [[100, 100, 200, 200]]
    values = []
    for shift in range(6):
        answer = f"<answer>{[100 + shift, 100, 200 + shift, 200]}</answer>"
        sample = Sample(response=answer, target=target, meta={"progress": 1.0})
        values.append(engine.score([sample], "dynamic_iou")["dynamic_iou"][0].value)
    assert values == sorted(values, reverse=True)
    assert values[0] == 1.0 and values[2] > 0.95
    assert max(a - b for a, b in itertools.pairwise(values)) < 0.06


def test_progress_is_read_and_never_guessed(engine):
    assert progress_of({"progress": 0.3}) == 0.3
    assert progress_of({"step": 30, "total_steps": 120}) == 0.25
    assert progress_of({"step": 500, "total_steps": 400}) == 1.0
    for meta in ({}, {"step": 3}, {"total_steps": 3}, {"progress": None}):
        with pytest.raises(Unscorable) as refusal:
            progress_of(meta)
        assert refusal.value.status == "missing"
    for meta in (
        {"progress": -1},
        {"progress": "half"},
        {"step": 1, "total_steps": 0},
        {"progress": float("nan")},
    ):
        with pytest.raises(Unscorable) as refusal:
            progress_of(meta)
        assert refusal.value.status == "error"
    sample = Sample(response="<answer>[[1, 1, 9, 9]]</answer>", target=[[1, 1, 9, 9]])
    assert engine.score([sample], "dynamic_iou")["dynamic_iou"][0].status == "missing"
    (score,) = engine.score([sample], load("dynamic_iou", progress=0.0))["dynamic_iou"]
    assert score.parts["progress"] == 0.0 and score.parts["threshold"] == 0.5
    for progress in (-0.1, 1.1):
        with pytest.raises(ValueError, match="progress"):
            load("dynamic_iou", progress=progress)


def test_the_fixed_evaluation_does_not_follow_the_schedule(engine):
    answer, target = "<answer>[[100, 100, 200, 190]]</answer>", [[100, 100, 200, 200]]
    samples = [Sample(response=answer, target=target, meta={"progress": p}) for p in (0.0, 1.0)]
    early, late = engine.score(samples, "dynamic_iou")["dynamic_iou"]
    assert early.value > late.value
    assert early.parts["mean_f1"] == late.parts["mean_f1"] == pytest.approx(0.9)
    assert engine.score(samples, "detection_f1")["detection_f1"][0].value == pytest.approx(0.9)

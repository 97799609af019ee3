"""Bounds of targets and responses: a row may not take the time or the memory of the others."""

import json
import time
import tracemalloc

import pytest
from support.pace import allowed

from mmreward import Sample
from mmreward.limits import Limits
from mmreward.types import oversized

USUAL = Limits()

MANY = [{"bbox_2d": [0, 0, i % 999 + 1, i // 999 + 1]} for i in range(40_000)]
SPANS = [[i, i + 1] for i in range(40_000)]
LARGE_MASK = {"mask": {"size": [4000, 4000], "counts": [0, 16_000_000]}}
POLYGON = {"polygon": [[i % 999, i % 998] for i in range(USUAL.corners + 1)]}
NESTED = [{"bbox_2d": [0, 0, 100 + i * 0.8, 100 + i * 0.7], "label": "a"} for i in range(USUAL.boxes)]


def answer(items):
    return f"<answer>{json.dumps(items)}</answer>"


@pytest.mark.parametrize(
    ("name", "target", "status"),
    [
        *((name, MANY, "error") for name in ("iou", "detection_f1", "vlm_r1", "v_triune", "pointing")),
        ("dynamic_iou", MANY, "error"),
        ("iou", json.dumps(MANY), "error"),
        ("temporal", SPANS, "error"),
        ("pointing", [LARGE_MASK] * 64, "error"),
        ("pointing", [POLYGON], "error"),
        ("ocr", "word " * 800_000, "error"),
        ("ocr", ["a" * 1000] * 100, "error"),
        ("answer", ["x" * 1000] * 1000, "error"),
        ("math", "1" * 4_000_000, "error"),
    ],
)
def test_a_target_without_end_fails_at_once(engine, name, target, status):
    said = answer(MANY[:900]) if name != "temporal" else answer(SPANS[:900])
    sample = Sample(response=said, target=target, meta={"progress": 0.5, "size": (1000, 1000)})
    engine.score([Sample(response="x", target="y")], name)
    tracemalloc.start()
    begun = time.perf_counter()
    (score,) = engine.score([sample], name)[name]
    taken, (_, peak) = time.perf_counter() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert score.status == status, score
    assert taken < allowed(5, time.perf_counter) and peak < 200 << 20


@pytest.mark.parametrize(
    ("name", "said", "target"),
    [
        ("iou", answer([[1, 2, 3, 4]] * (USUAL.boxes + 1)), [{"bbox_2d": [1, 2, 3, 4]}]),
        ("pointing", answer([[1, 2]] * (USUAL.boxes + 1)), [{"bbox_2d": [1, 2, 3, 4]}] * 2),
        ("temporal", answer([[1, 2]] * (USUAL.boxes + 1)), [[1, 2], [3, 4]]),
    ],
)
def test_a_response_without_end_is_wrong(engine, name, said, target):
    """Whatever is beyond the limit counts as false, so spam earns next to nothing."""
    (score,) = engine.score([Sample(response=said, target=target)], name)[name]
    assert score.status == "ok" and score.value < 0.005


def test_as_many_boxes_as_are_allowed_leave_the_loop_to_others(engine):
    """Nested boxes are the longest to match; a short row beside them does not wait."""
    small = Sample(id="small", response=answer(NESTED[:1]), target=NESTED[:1])
    large = Sample(id="large", response=answer(NESTED[::-1]), target=NESTED)
    done = {}
    begun = time.perf_counter()

    def progress(index, name, score):
        done[index] = time.perf_counter() - begun

    long, short = engine.score([large, small], "iou", progress=progress)["iou"]
    assert short.value == pytest.approx(1.0)
    assert len(large.response) > USUAL.text_characters or long.value == pytest.approx(1.0)
    assert done[1] < done[0]


def test_text_of_a_target_is_counted_wherever_it_is():
    text = "x" * (USUAL.target_characters // 2)
    assert oversized(Sample(target=[text, {"a": text}])) and oversized(Sample(target={text: [text, "x"]}))
    assert oversized(Sample(target=[text, [1.0] * 1_000_000])) == ""

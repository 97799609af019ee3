"""Metrics by source against numbers by hand; nothing is NaN, and the order of the rows does not matter."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreward import Sample, Score
from mmreward.data.routing import Routed
from mmreward.monitor.alarms import gaps, jumps
from mmreward.monitor.by_source import (
    WORDS,
    append_metrics,
    is_metrics_log,
    read_metrics,
    reflections,
    source_metrics,
)
from mmreward.monitor.outcomes import FLAGS, Outcome, hack_flags, outcomes_of


def paid(value, accuracy=None, parsed=1.0, form=0.0):
    accuracy = value if accuracy is None else accuracy
    parts = {"accuracy": accuracy, "format": form, "gate": 1.0, "extra": 0.0, "parsed": parsed}
    return Score(value, parts)


LOST = Score.failed("timeout", "slow", dict.fromkeys(("accuracy", "format", "gate", "extra", "parsed"), 0.0))
BOX = {"mean_iou": 0.8, "precision": 0.5, "recall": 1.0}


def one(source, total, response="", **more):
    return Outcome(source=source, total=total, response=response, **more)


STEP = [
    one("geo", paid(1.0), "Wait, I verify.", id="a", length=10, group="g", chance=0.25, flags=("echo",)),
    one("geo", paid(0.0), "no", id="b", length=30, group="g", chance=0.25, truth=True),
    one("geo", paid(0.75), "await", id="c", length=20, group="h", chance=0.25, truth=False),
    one("geo", paid(0.75), "yet yet", id="d", length=40, group="h", chance=0.25, truth=False),
    one("geo", LOST, "?", id="e", length=40, group="h"),
    one(
        "coco/2017",
        paid(0.0, parsed=0.0),
        "junk",
        id="f",
        length=5,
        scores={"iou": Score(0.0, BOX | {"mean_iou": 0.0})},
    ),
    one("coco/2017", paid(0.9), "[]", id="g", length=5, scores={"iou": Score(0.9, BOX), "form": LOST}),
]


def test_a_source_by_hand():
    found = {
        name.removeprefix("sources/geo/"): value
        for name, value in source_metrics(STEP, max_length=40).items()
        if name.startswith("sources/geo/")
    }
    words = {name: found.pop(name) for name in list(found) if "/word/" in name}
    assert found == pytest.approx(
        {
            "n": 5,
            "status/ok": 4,
            "status/timeout": 1,
            **{f"status/{name}": 0 for name in ("na", "missing", "unparsable", "out_of_range", "error")},
            "failed": 0.2,
            "unread": 0,
            "score": 0.625,
            "score_std": math.sqrt((0.375**2 + 0.625**2 + 2 * 0.125**2) / 4),
            "accuracy": 0.625,
            "format": 0,
            "gate": 1,
            "extra": 0,
            "length/mean": 28,
            "length/clip_ratio": 0.4,
            "length/right/mean": 70 / 3,
            "length/right/clip_ratio": 1 / 3,
            "length/wrong/mean": 30,
            "length/wrong/clip_ratio": 0,
            "reflection/ratio": 0.5,
            "reflection/ratio_in_right": 2 / 3,
            "reflection/ratio_in_wrong": 0,
            "reflection/right_with": 1,
            "reflection/right_without": 0.5,
            "flag/echo": 0.2,
            "chance": 0.25,
            "above_chance": 0.375,
            "false_positives": 1,
            "false_negatives": 1,
            "groups/n": 2,
            "groups/zero_variance": 0.5,
        }
    )
    assert set(words) == {f"reflection/word/{word}" for word in WORDS}
    assert {name: value for name, value in words.items() if value} == {
        "reflection/word/wait": 0.25,
        "reflection/word/verify": 0.25,
        "reflection/word/yet": 0.5,
    }


def test_boxes_are_measured_at_several_thresholds():
    found = source_metrics(STEP)
    prefix = "sources/coco_2017/"
    assert {
        name.removeprefix(prefix): v for name, v in found.items() if name.startswith(f"{prefix}iou/")
    } == {
        "iou/above_50": 0.5,
        "iou/above_75": 0.5,
        "iou/above_90": 0.0,
        "iou/above_95": 0.0,
        "iou/above_99": 0.0,
    }
    assert found[f"{prefix}component/iou"] == pytest.approx(0.45)
    assert found[f"{prefix}component/iou/precision"] == 0.5 and found[f"{prefix}unread"] == 0.5
    assert f"{prefix}component/form" not in found


def test_what_is_empty_is_absent():
    found = source_metrics([one("a", LOST), one("b", paid(1.0), group="alone")])
    assert "sources/a/score" not in found and "sources/a/length/mean" not in found
    assert "sources/b/length/wrong/mean" not in found and "sources/b/reflection/ratio_in_wrong" not in found
    assert "sources/b/groups/zero_variance" not in found and "sources/b/chance" not in found
    assert source_metrics([]) == {}


def test_right_starts_at_the_threshold():
    outcomes = [one("a", paid(0.9), length=1), one("a", paid(0.89), length=3)]
    found = source_metrics(outcomes, right_from=0.9)
    assert found["sources/a/length/right/mean"] == 1 and found["sources/a/length/wrong/mean"] == 3


def test_parts_of_a_total_take_no_metrics_name_and_are_numbers():
    odd = {"n": 7.0, "score": 9.0, "failed": 1.0, "gate": math.nan, "accuracy": math.nan}
    found = source_metrics([one("a", Score(0.5, odd)), one("a", Score(0.7, {"gate": 1.0}))])
    figures = {name: found[f"sources/a/{name}"] for name in ("n", "score", "failed", "gate", "accuracy")}
    assert figures == pytest.approx({"n": 2, "score": 0.6, "failed": 0, "gate": 1, "accuracy": 0.6})


def test_a_sum_that_rounds_is_the_same_in_any_order():
    rows = [one("a", paid(value)) for value in (0.1, 0.2, 0.3)]
    assert source_metrics(rows) == source_metrics(rows[::-1])


def test_the_weights_do_not_move_what_counts_as_right():
    """A shut gate takes the pay, and not the answer."""
    found = source_metrics([one("a", paid(0.0, accuracy=1.0), length=3)])
    assert found["sources/a/length/right/mean"] == 3 and found["sources/a/score"] == 0


totals = st.one_of(st.floats(0, 1).map(paid), st.just(LOST))
outcomes = st.builds(
    one,
    st.sampled_from(["a", "b/c", ""]),
    totals,
    st.sampled_from(["wait", "no", "re-check yet"]),
    length=st.one_of(st.none(), st.integers(0, 9)),
    prompt_length=st.one_of(st.none(), st.integers(0, 9)),
    group=st.one_of(st.none(), st.sampled_from("gh")),
    flags=st.sampled_from([(), ("echo",), ("echo", "spam")]),
    chance=st.one_of(st.none(), st.floats(0, 1)),
    truth=st.sampled_from([None, True, False]),
    figures=st.dictionaries(st.sampled_from(["advantage"]), st.floats()),
    scores=st.dictionaries(st.sampled_from(["iou", "form"]), totals),
)


def test_figures_whose_sum_is_no_float_have_a_mean():
    rows = [one("a", paid(0.5), figures={"advantage": 1.5e308}) for _ in range(3)]
    assert pytest.approx(1.5e308) in source_metrics(rows).values()


@settings(max_examples=40)
@given(st.lists(outcomes, max_size=12), st.integers(0, 99))
def test_no_figure_depends_on_the_order_or_is_nan(rows, seed):
    shuffled = rows[:]
    random.Random(seed).shuffle(shuffled)
    found = source_metrics(rows, max_length=5, max_prompt_length=5)
    assert found == source_metrics(shuffled, max_length=5, max_prompt_length=5)
    assert all(map(math.isfinite, found.values()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Wait, let me re-check. Wait!", {"wait": 2, "re-check": 1}),
        ("I await the yeti, reverify and waiting", {}),
        ("YET; check again, then recheck", {"yet": 1, "check again": 1, "recheck": 1}),
        ("pre-re-think", {}),
        ("reevaluation reevaluate", {"reevaluation": 1, "reevaluate": 1}),
    ],
)
def test_reflection_counts_words_and_not_parts_of_words(text, words):
    assert dict(reflections(text)) == words


@pytest.mark.parametrize(
    ("response", "flags"),
    [
        ("<think>x</think><answer>B</answer>", ()),
        ("  ", ("blank_response",)),
        ("<answer> </answer>", ("empty_answer",)),
        ("<answer>A</answer> or <answer>B</answer>", ("several_answers", "text_after_answer")),
        ("<think><answer>A</answer></think><answer>A</answer>", ("answer_in_thought",)),
        ("<answer>A", ("unclosed_answer",)),
    ],
)
def test_hacks_are_flagged(response, flags):
    assert hack_flags(response) == flags and set(flags) <= set(FLAGS)


def test_a_routed_batch_becomes_outcomes():
    sample = Sample(
        id="a", source="", response="<answer></answer>", group="g", meta={"chance": 0.5, "truth": False}
    )
    routed = Routed([paid(1.0)], [{"iou": Score(1.0)}])
    (found,) = outcomes_of([sample], routed, lengths=[7], prompt_lengths=[3])
    assert (found.source, found.length, found.prompt_length, found.group) == ("unknown", 7, 3, "g")
    assert found.flags == ("empty_answer",) and found.chance == 0.5 and found.truth is False
    with pytest.raises(ValueError):
        outcomes_of([sample], routed, lengths=[7, 8])


@pytest.mark.parametrize(
    ("given", "truth"),
    [(np.False_, False), (1, True), (0.0, False), (None, None), ("a cat", None), (2, None)],
)
def test_whoever_looked_is_believed_in_any_type(given, truth):
    routed = Routed([paid(1.0)], [{}])
    assert outcomes_of([Sample(meta={"truth": given})], routed)[0].truth is truth


def test_the_gap_between_training_and_evaluation():
    training = {
        "sources/a/score": 0.9,
        "sources/b/score": 0.5,
        "sources/a/component/x/score": 1,
        "overall/score": 1,
    }
    evaluation = {"sources/a/score": 0.4, "sources/a/component/x/score": 0.5, "overall/score": 0.5}
    assert gaps(training, evaluation) == pytest.approx({"sources/a/gap": 0.5})


def test_a_jump_is_told_and_a_tremor_is_not():
    quiet = [
        {"sources/a/score": 0.5 + 0.01 * (i % 2), "sources/a/component/x/score": i % 2} for i in range(10)
    ]
    assert jumps([*quiet, {"sources/a/score": 0.53, "sources/a/component/x/score": 99}]) == {}
    assert jumps([*quiet, {"sources/a/score": 0.9}]) == pytest.approx({"sources/a/score": 0.395 / 0.02})
    assert jumps([*quiet, {"sources/a/score": 0.1}])["sources/a/score"] < -4
    assert jumps(quiet[:5]) == {} and jumps([]) == {}
    with pytest.raises(ValueError, match="window 1"):
        jumps(quiet, window=1)


def test_a_log_is_written_and_read_back(tmp_path):
    log = tmp_path / "run" / "metrics.jsonl"
    append_metrics(log, 0, {"overall/score": 0.5, "overall/n": 3, "sources/a/score": math.nan})
    append_metrics(log, 1, {"overall/score": 0.1})
    append_metrics(log, 1, {"overall/score": 0.6})
    with log.open("a") as lines:
        lines.write('{"step": 2, "over')
    assert is_metrics_log(log)
    assert read_metrics(log) == [
        {"step": 0, "overall/score": 0.5, "overall/n": 3},
        {"step": 1, "overall/score": 0.6},
    ]


def test_a_resumed_run_does_not_write_on_a_line_cut_off(tmp_path):
    log = tmp_path / "metrics.jsonl"
    append_metrics(log, 0, {"overall/score": 0.5})
    with log.open("a") as lines:
        lines.write('{"step": 1, "over')
    append_metrics(log, 1, {"overall/score": 0.6})
    append_metrics(log, 2, {"overall/score": 0.7})
    assert [line["overall/score"] for line in read_metrics(log)] == [0.5, 0.6, 0.7]
    log.write_text('{"ste')
    append_metrics(log, 3, {"overall/n": 1})
    assert read_metrics(log) == [{"step": 3, "overall/n": 1}]


@pytest.mark.parametrize("line", ["[]", '{"score": 1}', '{"step": 1, "overall/score": "high"}', "{"])
def test_a_line_that_is_none_of_metrics_is_named(tmp_path, line):
    log = tmp_path / "metrics.jsonl"
    log.write_text(f"{line}\n{json.dumps({'step': 1, 'overall/n': 1})}\n")
    assert not is_metrics_log(log)
    with pytest.raises(ValueError, match="line 1: not an object"):
        read_metrics(log)

"""One box, points and time spans: what is right, what is a hedge, what is unreadable."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreward import Sample, load
from mmreward.errors import Unscorable
from mmreward.rewards.rules.pointing import regions_of
from mmreward.rewards.rules.temporal import Span, read_spans, seconds_of, spans_of, t_ious
from mmreward.verifiers.boxes import Box, iou
from mmreward.verifiers.spaces import Size


def reply(text):
    return f"<think>look</think><answer>{text}</answer>"


def scored(engine, name, text, target, **args):
    meta = args.pop("meta", {})
    return engine.score([Sample(response=text, target=target, meta=meta)], load(name, **args))[name][0]


# --- one box --------------------------------------------------------------------------------------

HERE = [100, 100, 400, 400]
HALF = reply("[100, 100, 400, 250]")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (reply("[100, 100, 400, 400]"), 1.0),
        (reply('{"bbox_2d": [100, 100, 400, 400], "label": "any"}'), 1.0),
        (reply("<|box_start|>(100,100),(400,400)<|box_end|>"), 1.0),
        (reply("(100,100),(400,400)"), 1.0),
        (HALF, 0.5),
        (reply("[[100, 100, 400, 400], [100, 100, 400, 400]]"), 0.0),
        (reply("[100, 100, 400, 400] or [1, 1, 9, 9]"), 0.0),
        (reply("<box>100 100 400 400</box> or [1, 1, 9, 9]"), 0.0),
        (reply("[400, 400, 100, 100]"), 0.0),
        (reply("[500, 500, 900, 900]"), 0.0),
        (reply("[]"), 0.0),
        (reply(""), 0.0),
        ("[100, 100, 400, 400]", 0.0),
        (HALF + "<answer>[1, 1, 9, 9]</answer>", 0.0),
    ],
)
def test_one_box(engine, text, value):
    score = scored(engine, "grounding", text, {"bbox_2d": HERE}, width=1.0)
    assert score.ok and score.value == pytest.approx(value)
    assert set(score.parts) == {"parsed", "iou", "giou", "found"}


@pytest.mark.parametrize(("several", "value"), [("first", 1.0), ("last", 0.5), ("refuse", 0.0)])
def test_of_several_boxes_the_declared_one_counts_and_never_the_best(engine, several, value):
    text = reply("[[100, 100, 400, 400], [100, 100, 400, 250]]")
    assert scored(engine, "grounding", text, [HERE], several=several).value == pytest.approx(value)


def test_a_box_far_away_earns_nothing_with_either_measure(engine):
    far, near = reply("[900, 900, 950, 950]"), reply("[390, 390, 700, 700]")
    for measure in ("iou", "giou"):
        assert scored(engine, "grounding", far, HERE, measure=measure).value == 0.0
    assert 0 < scored(engine, "grounding", near, HERE).value < 0.01
    assert scored(engine, "grounding", near, HERE, measure="giou").value > 0.1
    perfect = reply(str(HERE))
    assert scored(engine, "grounding", perfect, HERE, measure="giou").value == pytest.approx(1.0)


def test_a_target_that_is_not_one_box_is_an_error_of_the_data(engine):
    for target in ([], [HERE, HERE], "box", [400, 400, 100, 100]):
        assert scored(engine, "grounding", HALF, target).status == "error"


# --- points ---------------------------------------------------------------------------------------

SQUARE = {"bbox_2d": [200, 200, 400, 400]}
TRIANGLE = {"polygon": [[0, 0], [400, 0], [0, 400]]}
ROWS = np.zeros((10, 20), dtype=int)
ROWS[2:4, 4:8] = 1
RUNS = {"size": [10, 20], "counts": [42, *[2, 8] * 3, 2, 126]}


@pytest.mark.parametrize(
    ("target", "point", "value"),
    [
        (SQUARE, [300, 300], 1.0),
        (SQUARE, [200, 400], 1.0),
        (SQUARE, [401, 300], 0.0),
        (TRIANGLE, [100, 100], 1.0),
        (TRIANGLE, [200, 200], 1.0),
        (TRIANGLE, [201, 201], 0.0),
        ({"mask": ROWS.tolist()}, [201, 201], 1.0),
        ({"mask": ROWS.tolist()}, [201, 401], 0.0),
        ({"mask": ROWS}, [399, 399], 1.0),
        ({"mask": RUNS}, [399, 399], 1.0),
        ({"mask": RUNS}, [401, 399], 0.0),
        ({"point_2d": [300, 300]}, [300, 350], 1.0),
        ({"point_2d": [300, 300]}, [300, 351], 0.0),
        (SQUARE, [300, 1300], 0.0),
        (SQUARE, [300, -300], 0.0),
    ],
)
def test_a_point_hits_or_not(engine, target, point, value):
    score = scored(engine, "pointing", reply(str(point)), target)
    assert score.ok and score.value == value and score.parts["hits"] == value
    assert set(score.parts) == {"parsed", "hits", "precision", "recall", "found", "true"}


def test_runs_and_rows_are_the_same_mask():
    masks = regions_of([{"mask": RUNS}, {"mask": ROWS}], Size(1, 1), radius=0.1)
    assert (masks[0].pixels == masks[1].pixels).all()


@settings(max_examples=25)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20), st.integers(1, 20))
def test_a_rectangle_is_the_same_as_box_polygon_and_mask(x, y, width, height):
    rows = np.zeros((60, 60), dtype=int)
    rows[y : y + height, x : x + width] = 1
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    items = [{"bbox_2d": [*corners[0], *corners[2]]}, {"polygon": corners}, {"mask": rows}]
    box, polygon, mask = regions_of(items, Size(60, 60), radius=0.1)
    grid = np.stack(np.meshgrid(np.arange(60) + 0.5, np.arange(60) + 0.5), axis=-1).reshape(-1, 2) / 60
    inside = rows.reshape(-1) == 1
    for region in (box, polygon, mask):
        assert ((region.distances(grid) == 0) == inside).all()
    assert box.distances(grid) == pytest.approx(polygon.distances(grid))


def test_distances_are_in_sizes_of_the_region():
    (box,) = regions_of({"bbox_2d": [0.2, 0.2, 0.4, 0.6]}, Size(1, 1), radius=0.1)
    assert box.distances(np.array([[0.6, 0.4], [0.3, 1.0]])) == pytest.approx([1.0, 1.0])
    (around,) = regions_of({"point_2d": [0.5, 0.5]}, Size(1, 1), radius=0.1)
    assert around.distances(np.array([[0.5, 0.8]])) == pytest.approx([1.0])


@pytest.mark.parametrize("target", [SQUARE, TRIANGLE, {"mask": ROWS.tolist()}, {"point_2d": [300, 300]}])
def test_a_near_miss_pays_less_the_farther_it_is(engine, target):
    values = [
        scored(engine, "pointing", reply(f"[{x}, 390]"), target, falloff=0.5).value
        for x in (420, 460, 520, 600, 900)
    ]
    assert values == sorted(values, reverse=True) and 0 < values[-1] < values[0] < 1
    exact = scored(engine, "pointing", reply("[500, 300]"), SQUARE, falloff=0.5).value
    assert exact == pytest.approx(np.exp(-0.5))


def test_points_all_over_the_picture_pay_nothing(engine):
    spam = json.dumps([[x, y] for x in range(50, 1000, 100) for y in range(50, 1000, 100)])
    assert scored(engine, "pointing", reply(spam), SQUARE).value == 0.0
    assert scored(engine, "pointing", reply(spam), SQUARE, several="first").value == 0.0
    two = [SQUARE, {"bbox_2d": [600, 600, 700, 700]}]
    assert scored(engine, "pointing", reply(spam), two).value == pytest.approx(4 / 102)


def test_points_are_matched_one_to_one(engine):
    two = [SQUARE, {"bbox_2d": [600, 600, 700, 700]}]
    for text, value in (
        ("[[650, 650], [300, 300]]", 1.0),
        ("[[300, 300], [301, 301]]", 0.5),
        ("[[300, 300]]", 2 / 3),
        ("[[300, 300], [650, 650], [0, 0]]", 0.8),
    ):
        assert scored(engine, "pointing", reply(text), two).value == pytest.approx(value)


def test_percent_of_molmo_and_nothing_to_point_at(engine):
    text = reply('<point x="30" y="30" alt="cat">cat</point>')
    assert scored(engine, "pointing", text, SQUARE, space="molmo").value == 1.0
    assert scored(engine, "pointing", reply("[]"), []).value == 1.0
    assert scored(engine, "pointing", text, []).value == 0.5
    assert scored(engine, "pointing", reply("nothing"), []).value == 0.0


@pytest.mark.parametrize(
    "target",
    [
        "cat",
        5,
        [{"bbox_2d": [5, 5, 1, 1]}],
        {"polygon": [[0, 0], [1, 1]]},
        {"polygon": [[0, 0], [5, 0], [9, 0]]},
        {"polygon": [[0, 0], [5, 5], ["x", 0]]},
        {"mask": [[0, 0], [0, 0]]},
        {"mask": [[0, 1], [0]]},
        {"mask": {"size": [2, 2], "counts": [1, 1]}},
        {"mask": {"size": [2, 2], "counts": "61X13"}},
        {"mask": {"size": [10**6, 10**6], "counts": [10**12]}},
        {"point_2d": [5000, 0]},
    ],
)
def test_a_region_that_cannot_be_read_is_an_error_of_the_data(target):
    with pytest.raises(Unscorable) as refusal:
        regions_of(target, Size(1000, 1000), radius=0.1)
    assert refusal.value.status == "error"


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "62s - 70s",
        "62 - 70",
        "62.0 seconds to 70.0 seconds",
        "From 62 to 70 seconds.",
        "between 62s and 70s",
        "1:02 to 1:10",
        "01:02 \u2013 01:10",
        "0:01:02 - 0:01:10.0",
        "[62, 70]",
        "[[62, 70]]",
        '["1:02", "70s"]',
        '{"start": 62, "end": 70}',
        '{"start_time": "1:02", "end_time": "1:10"}',
        '```json\n[{"timestamp": [62, 70], "label": "jump"}]\n```',
    ],
)
def test_one_span_in_every_form(text):
    assert read_spans(text) == [Span(62, 70)]


def test_several_spans_and_broken_ones():
    assert read_spans("1s - 2s; 3s - 4s\n5 - 6") == [Span(1, 2), Span(3, 4), Span(5, 6)]
    assert read_spans("1s - 2s; soon") == [Span(1, 2), None]
    assert read_spans("5 - 4") == read_spans("[5, 5]") == read_spans("[-1, 5]") == [None]
    assert read_spans("[]") == []


@pytest.mark.parametrize(
    "text", ["", "soon", "at 5s", "1 - 2 or 3 - 4", "the dog jumps from 1 to 2", "[1, 2] or [3, 4]"]
)
def test_what_is_no_span_is_unparsable(text):
    with pytest.raises(Unscorable) as refusal:
        read_spans(text)
    assert refusal.value.status == "unparsable"


def test_clock_times():
    assert [seconds_of(t) for t in ("1:02", "1:01:01.5", "75:00", "12.5s", 3, "3 sheep")] == [
        62,
        3661.5,
        4500,
        12.5,
        3,
        None,
    ]
    assert [seconds_of(t) for t in ("1:60", "1:60:00", "1:2:3:4", "soon", True, None)] == [None] * 6


@given(*[st.integers(0, 50)] * 4)
def test_temporal_overlap_is_that_of_boxes_of_one_height(a, b, c, d):
    first, second = Span(a, a + b + 1), Span(c, c + d + 1)
    assert t_ious([first], [second])[0, 0] == pytest.approx(
        iou(Box(a, 0, a + b + 1, 1), Box(c, 0, c + d + 1, 1))
    )


@pytest.mark.parametrize(
    ("text", "target", "value"),
    [
        (reply("12s - 20s"), [12, 20], 1.0),
        (reply("12s - 16s"), [12, 20], 0.5),
        (reply("12s - 20s; 0s - 5s"), [12, 20], 0.0),
        (reply("30s - 40s"), [12, 20], 0.0),
        (reply("20s - 12s"), [12, 20], 0.0),
        (reply("0 - 5; 12 - 20"), [[12, 20], {"start": 0, "end": 5}], 1.0),
        (reply("0 - 5"), [[12, 20], [0, 5]], 2 / 3),
        (reply("[]"), [], 1.0),
        (reply("1 - 2"), [], 0.5),
        (reply("never"), [], 0.0),
        ("12s - 20s", [12, 20], 0.0),
    ],
)
def test_the_temporal_reward(engine, text, target, value):
    score = scored(engine, "temporal", text, target)
    assert score.ok and score.value == pytest.approx(value)
    assert set(score.parts) == {"parsed", "t_iou", "precision", "recall", "found", "true"}


def test_naming_the_whole_video_can_be_made_worthless(engine):
    whole = reply("0s - 100s")
    assert scored(engine, "temporal", whole, [40, 69]).value > 0
    assert scored(engine, "temporal", whole, [40, 69], threshold=0.7, width=0.4).value == 0.0


def test_a_target_that_is_no_span_is_an_error_of_the_data(engine):
    for target in ("soon", [20, 12], [[1, 2], [3]], 5):
        assert scored(engine, "temporal", reply("1 - 2"), target).status == "error"


def test_impossible_options_are_refused():
    for name, args in (
        ("grounding", {"threshold": 0}),
        ("grounding", {"several": "best"}),
        ("pointing", {"falloff": -1}),
        ("pointing", {"radius": 0}),
        ("temporal", {"width": 2}),
    ):
        with pytest.raises(ValueError, match=next(iter(args))):
            load(name, **args)


def test_spans_of_a_target():
    assert spans_of([1, 2]) == spans_of([[1, 2]]) == spans_of({"span": ["1", "2s"]}) == [Span(1, 2)]
    assert spans_of("1 - 2") == spans_of(None) == [None]


def test_a_point_is_read_in_its_own_space(engine):
    text = reply("[320, 120]")
    meta = {"size": [480, 640]}
    target = {"bbox_2d": [490, 240, 510, 260]}
    assert scored(engine, "pointing", text, target, space="pixel", meta=meta).value == 1.0
    assert scored(engine, "pointing", text, target, space="pixel").status == "missing"


# --- time, in the dress of models -----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "The event happens from 12s to 20s.",
        "The given query happens in 12 - 20 seconds.",
        "It starts at 12 seconds and ends at 20 seconds.",
        "From second 12 to second 20",
        "from the 12th second to the 20th second",
        "<12> to <20>",
        "<timestamp>12.0 seconds</timestamp> to <timestamp>20.0 seconds</timestamp>",
        "1\n00:00:12,000 --> 00:00:20,000\nA man runs.",
        "12s -> 20s",
        "12s \u2192 20s",
        "0m12s - 0m20s",
        "12, 20",
        "[12s, 20s]",
        "[12 - 20]",
        "\\boxed{12 - 20}",
        "**12s - 20s**",
        "Start time: 12 seconds\nEnd time: 20 seconds",
        '{"t_start": 12, "t_end": "20s"}',
        '{"timestamp": "12 - 20"}',
        '{"events": [{"segment": {"begin": "0:12", "finish": "0:20"}, "tags": ["run"]}]}',
        "\u4ece\u7b2c12\u79d2\u5230\u7b2c20\u79d2",
        "\u5f00\u59cb\u65f6\u95f4\uff1a12\u79d2\uff0c\u7ed3\u675f\u65f6\u95f4\uff1a20\u79d2",
        "0\u520612\u79d2\u81f30\u520620\u79d2",
        "\uff11\uff12\u79d2\uff5e\uff12\uff10\u79d2",
    ],
)
def test_a_span_in_every_dress(engine, text):
    assert read_spans(text) == [Span(12, 20)]
    assert scored(engine, "temporal", reply(text), [12, 20]).value == 1.0


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("1 to 2 minutes", [Span(60, 120)]),
        ("1h2m3s - 1 h 3 min", [Span(3723, 3780)]),
        ("12:34.56 to 12:40", [Span(754.56, 760)]),
        ("1. 1s - 2s\n2. 3s - 4s", [Span(1, 2), Span(3, 4)]),
        ("1s - 2s, 3s - 4s and 5s - 6s", [Span(1, 2), Span(3, 4), Span(5, 6)]),
        ('{"start": 1, "end": 2}\n{"start": 3, "end": 4}', [Span(1, 2), Span(3, 4)]),
        ("1:75 - 2:00", [None]),
        ("None", []),
        ("No such event", []),
        ('{"events": []}', []),
    ],
)
def test_spans_with_units_and_several(text, spans):
    assert read_spans(text) == spans


@pytest.mark.parametrize(
    "text",
    [
        *(
            "12s - 20s or 30s - 40s",
            '{"start": 12, "end": 20} or {"start": 1, "end": 5}',
            "12\u79d2\u621620\u79d2",
        ),
        *(
            "the dog barks at 12s and 20s",
            "12s",
            "12 20 30",
            "frame 12 to frame 20",
            "12% - 20%",
            "[x, x + w]",
        ),
    ],
)
def test_what_may_be_several_things_is_no_span(text):
    with pytest.raises(Unscorable) as refusal:
        read_spans(text)
    assert refusal.value.status == "unparsable"


def test_frames_are_read_where_their_rate_is_declared(engine):
    for text in (
        "frame 24 to frame 40",
        "frames 24-40",
        "\u7b2c24\u5e27\u5230\u7b2c40\u5e27",
        '{"start_frame": 24, "end_frame": 40}',
    ):
        assert scored(engine, "temporal", reply(text), [12, 20]).value == 0.0
        assert scored(engine, "temporal", reply(text), [12, 20], fps=2.0).value == 1.0
    assert scored(engine, "temporal", reply("12s - 20s"), [12, 20], fps=2.0).value == 1.0
    with pytest.raises(ValueError, match="fps"):
        load("temporal", fps=0.0)

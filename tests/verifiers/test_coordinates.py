"""Coordinates as models write them: one reader for every dress, alternatives refused, bounded work."""

import asyncio
import json
import time
import tracemalloc

import pytest
from support.pace import allowed

from mmreward import Sample, Unscorable, load
from mmreward.limits import Limits
from mmreward.verifiers.boxes import Box, boxes_of, soft_f1
from mmreward.verifiers.lists import parse_list
from mmreward.verifiers.markup import box_items, point_items
from mmreward.verifiers.wording import label_in, says_nothing

ONE = [{"bbox_2d": [100, 100, 400, 400], "label": "red circle"}]
TWO = [
    {"bbox_2d": [100, 100, 200, 200], "label": "cat"},
    {"bbox_2d": [500, 500, 800, 800], "label": "dog"},
]


def worth(name, text, target, **args):
    sample = Sample(response=f"<think>look</think><answer>{text}</answer>", target=target)
    score = asyncio.run(load(name, **args)(sample))
    assert score.ok, score.note
    return score.value


@pytest.mark.parametrize(
    "text",
    [
        '[{"label": "red circle", "x1": 100, "y1": 100, "x2": 400, "y2": 400}]',
        '[{"label": "red circle", "bounding_box": {"xmin": 100, "ymin": 100, "xmax": 400, "ymax": 400}}]',
        '[{"label": "red circle", "bbox": {"x": 100, "y": 100, "width": 300, "height": 300}}]',
        '[{"label": "red circle", "bbox_2d": "(100,100),(400,400)"}]',
        "[{bbox_2d: [100, 100, 400, 400], label: red circle}]",
        '[("red circle", (100, 100, 400, 400))]',
        '{"detections": [{"object": "red circle", "box_2d": [100, 100, 400, 400]}], "notes": ["round"]}',
        '{"labels": ["red circle"], "boxes": [[100, 100, 400, 400]]}',
        '{"name": "draw", "arguments": "{\\"label\\": \\"red circle\\", \\"bbox\\": [100, 100, 400, 400]}"}',
        '[{"bbox_2d": [0100, 0100, 0400, 0400], "label": "The red-circle."}]',
        '\u3010{"bbox_2d"\uff1a[\uff11\uff10\uff10\uff0c100\uff0c400\uff0c400], "label": "red circle"}\u3011',
        "| label | x1 | y1 | x2 | y2 |\n|---|---|---|---|---|\n| red circle | 100 | 100 | 400 | 400 |",
        "1. **red circle**: [100, 100, 400, 400]",
        "label: red circle\nbbox: (100, 100), (400, 400)",
        "<name>red circle</name><xmin>100</xmin><ymin>100</ymin><xmax>400</xmax><ymax>400</ymax>",
        "<p>red circle</p> {<100><100><400><400>}",
        "red circle<loc_100><loc_100><loc_400><loc_400>",
        '[{"bbox_2d": [100, 100, 400, 400], "label": "red circle"',
        '{"bbox_2d": [100, 100, 400, 400], "label": "red circle 2"}',
    ],
)
def test_one_labelled_box_in_every_dress(text):
    assert worth("iou", text, ONE) == pytest.approx(1.0)
    assert worth("grounding", text, ONE[0]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(json.dumps(item) for item in TWO),
        "cat:\n```json\n[[100, 100, 200, 200]]\n```\ndog:\n```json\n[[500, 500, 800, 800]]\n```",
        '{"cat": [100, 100, 200, 200], "dog": [[500, 500, 800, 800]]}',
        "The cat is at [100,100,200,200], and the dog is at [500,500,800,800].",
        "<loc_100><loc_100><loc_200><loc_200>cat<loc_500><loc_500><loc_800><loc_800>dog",
    ],
)
def test_several_boxes_in_every_dress(text):
    assert worth("iou", text, TWO) == pytest.approx(1.0)
    assert worth("iou", json.dumps(TWO), text) == pytest.approx(1.0), "and as a target"


@pytest.mark.parametrize(
    "text",
    [
        "None",
        "No objects.",
        "There are no objects in the image.",
        "```json\n[]\n```",
        "{}",
        "\u65e0",
        "No box",
    ],
)
def test_an_empty_picture_is_an_answer_in_words_too(text):
    assert worth("iou", text, []) == 1.0 and worth("iou", text, ONE) == 0.0


@pytest.mark.parametrize(
    "text", ["", "[oops", "[", "{", "oops", "no", "There is no cat but a dog at 5", "[]["]
)
def test_nonsense_is_no_empty_picture(text):
    assert worth("iou", text, []) == (1.0 if text == "[][" else 0.0)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "computer_use", "arguments": {"action": "left_click", "coordinate": [250, 250]}}',
        "<tool_call>{'name': 'mobile_use', 'arguments': {'coordinate': (250, 250)}}</tool_call>",
        "Action: click(start_box='<|box_start|>(250,250)<|box_end|>')",
        "pyautogui.click(x=250, y=250)",
        '<points coords="1 1 250 250">circle</points>',
        "\u70b9\u51fb\uff08\uff12\uff15\uff10\uff0c250\uff09",
        "x: 250, y: 250",
        "(25%, 25%)",
        '{"bbox_2d": [200, 200, 300, 300]}',
        "[250, 250",
    ],
)
def test_a_click_in_every_dress(text):
    assert worth("pointing", text, {"bbox_2d": [240, 240, 260, 260]}) == 1.0


HERE, THERE = "[100, 100, 400, 400]", "[500, 500, 900, 900]"


@pytest.mark.parametrize(
    "text",
    [
        f"{HERE} or {THERE}",
        f"{THERE} or {HERE}",
        f"{THERE}, not {HERE}",
        f"either {HERE} or {THERE}",
        f"red circle: {THERE} \u6216\u8005 {HERE}",
        f'{{"bbox_2d": {THERE}}} or {{"bbox_2d": {HERE}}}',
        f"<box>{THERE}</box> or <box>{HERE}</box>",
        "(500,500),(900,900) or (100,100),(400,400)",
    ],
)
def test_alternatives_pay_nothing(text):
    for name, target in (("iou", [{"bbox_2d": [100, 100, 400, 400]}]), ("grounding", ONE[0])):
        assert worth(name, text, target) == 0.0
    assert worth("pointing", text, ONE[0]) == 0.0


def test_what_is_said_to_be_wrong_is_no_answer_and_a_lone_one_that_is_no_alternative_is():
    assert worth("grounding", f"not {HERE}", ONE[0]) == 0.0
    assert worth("grounding", f"I do not see anything else: {HERE}", ONE[0]) == 1.0


@pytest.mark.parametrize(
    "text", ["[x, y, x + w, y + h]", "[+, -]", "[.]", "[1e, 2]", "[10\u00b2, 5, 6, 7]", "[-]"]
)
def test_signs_and_superscripts_are_no_numbers_and_never_raise(text):
    for read in (parse_list, box_items, point_items):
        with pytest.raises(Unscorable) as refusal:
            read(text)
        assert refusal.value.status == "unparsable"


def test_a_comma_parts_two_coordinates_and_never_thousands():
    assert boxes_of(box_items("1, 200, 3, 400").items) == [Box(1, 200, 3, 400)]
    assert point_items("1, 200").items == [[1, 200]]


def test_paligemma_and_kosmos_count_on_grids_of_their_own():
    (box,) = boxes_of(box_items("<loc0102><loc0205><loc0409><loc0614> cat").items)
    assert box == Box(*(pytest.approx(at / 1.024) for at in (205, 102, 614, 409)), "cat")
    (box,) = boxes_of(box_items("<patch_index_0000><patch_index_1023>").items)
    assert box[:4] == (0, 0, 1000, 1000)


def test_labels_are_compared_as_names():
    def f1(found, true):
        return soft_f1([Box(0, 0, 1, 1, found)], [Box(0, 0, 1, 1, true)]).value

    for label in ("red circle", "red-circle", "Red_Circle", "the red circle", "red circle.", "red circle 3"):
        assert f1(label, "Red circle") == 1.0
    for label in ("circle", "red circles", "red circle blue", ""):
        assert f1(label, "red circle") == 0.0
    assert f1("cat", "") == 1.0, "a true box without a label takes any"
    assert (
        soft_f1([Box(0, 0, 1, 1, "car 2")], [Box(0, 0, 1, 1, "car 1"), Box(0, 0, 1, 1, "car 2")]).value > 0.6
    )
    assert f1("car 2", "car 1") == 0.0


def test_words_before_a_box():
    assert label_in("Here is the bounding box of the red circle: ") == "red circle"
    assert label_in("It is at ") == label_in("```json\n") == ""
    assert says_nothing("none") and not says_nothing("none of them is red, 5 are blue")


# --- bounds ---------------------------------------------------------------------------------------


def many(number):
    return [{"bbox_2d": [at % 900, 0, at % 900 + 50, 50], "label": "a"} for at in range(number)]


@pytest.mark.parametrize("name", ["iou", "detection_f1", "dynamic_iou", "grounding", "pointing", "vlm_r1"])
def test_too_many_true_boxes_cost_their_own_row_at_once(name):
    sample = Sample(response="<answer>[[0, 0, 50, 50]]</answer>", target=many(40_000), meta={"progress": 1})
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(Unscorable, match=f"40000 .*at most {Limits().boxes}") as refusal:
        asyncio.run(load(name)(sample))
    assert time.process_time() - begun < allowed(2) and tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert refusal.value.status == "error"


@pytest.mark.parametrize("name", ["iou", "detection_f1", "dynamic_iou", "vlm_r1"])
def test_boxes_beyond_the_limit_count_as_false_ones(name):
    text = json.dumps([[at % 900, 0, at % 900 + 50, 50] for at in range(3 * Limits().boxes)])
    sample = Sample(response=f"<answer>{text}</answer>", target=many(Limits().boxes), meta={"progress": 1})
    begun = time.process_time()
    score = asyncio.run(load(name)(sample))
    assert score.ok and score.parts["found"] == 3 * Limits().boxes and score.value <= 0.5
    assert time.process_time() - begun < allowed(20)


def test_too_many_spans_corners_and_mask_pixels_are_refused():
    spans = Sample(response="<answer>1 - 2</answer>", target=[[1, 2]] * 40_000)
    corners = {"polygon": [[at, at % 7] for at in range(1000)] * 20}
    masks = [{"mask": {"size": [4000, 4000], "counts": [0, 16_000_000]}}] * 5
    point = "<answer>[5, 5]</answer>"
    for name, sample in (
        ("temporal", spans),
        ("pointing", Sample(response=point, target=corners)),
        ("pointing", Sample(response=point, target=masks)),
    ):
        with pytest.raises(Unscorable, match="at most"):
            asyncio.run(load(name)(sample))

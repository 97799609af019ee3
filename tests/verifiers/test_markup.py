"""Boxes and points in the forms of model families, and that no text takes long."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward import Unscorable
from mmreward.rewards.rules.pointing import Point, points_of
from mmreward.rewards.rules.temporal import read_spans
from mmreward.verifiers.boxes import Box, boxes_of
from mmreward.verifiers.markup import box_items, point_items
from mmreward.verifiers.spaces import Size

CAT = Box(1, 2, 3, 4, "cat")
PLAIN = Box(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("(1,2),(3,4)", [PLAIN]),
        ("(1, 2), (3, 4)\n", [PLAIN]),
        ("1 2 3 4", [PLAIN]),
        ("(1,2),(3,4),(1,2),(3,4)", [PLAIN, PLAIN]),
        ("<box>(1,2),(3,4)</box>", [PLAIN]),
        ("<ref>cat</ref><box>[[1, 2, 3, 4]]</box>", [CAT]),
        ("<ref> Cat </ref><box>[[1,2,3,4],[1,2,3,4]]</box>", [CAT, CAT]),
        ("<box>1 2 3 4</box> and <box>1 2 3 4</box>", [PLAIN, PLAIN]),
        (
            "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>",
            [CAT],
        ),
        ("It is at <|begin_of_box|>[[1,2,3,4]]<|end_of_box|>.", [PLAIN]),
        ("<ref>cat</ref><box>(1,2),(3,4)</box><box>(1,2),(3,4)</box>", [CAT, PLAIN]),
        ("<box>(1,2),(3)</box>", [None]),
        ("<box>(1,2),(3,x)</box>", [None]),
        ("<box></box>", [None]),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]', [CAT]),
        ("[]", []),
    ],
)
def test_boxes_in_every_form(text, boxes):
    parsed = box_items(text)
    assert boxes_of(parsed.items) == boxes and parsed.dropped == 0


def test_a_box_that_is_cut_off_still_counts_as_sent():
    assert box_items("<box>(1,2),(3,4)</box><box>(1,2").dropped == 1


@pytest.mark.parametrize("text", ["", "a box", "(1,2),(3", "(1,2),(3,4),(5,6)", "1e2 2 3 4"])
def test_what_is_no_box_is_unparsable(text):
    with pytest.raises(Unscorable) as refusal:
        box_items(text)
    assert refusal.value.status == "unparsable"


@pytest.mark.parametrize(
    "text",
    ["[1,2,3,4] or [5,6,7,8]", '{"bbox": [1,2,3,4]} {"bbox": [1,2,3,4]}', "<box>1 2 3 4</box> [5,6,7,8]"],
)
def test_a_hedge_is_no_one_answer(text):
    assert box_items(text).items
    with pytest.raises(Unscorable):
        box_items(text, only=True)


HERE = Point(0.25, 0.5)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ('<point x="25" y="50" alt="a cat">a cat</point>', [HERE]),
        ("<point x='25.0' y='50.0'>", [HERE]),
        ('<points x1="25" y1="50" x2="25" y2="50" alt="cats">cats</points>', [HERE, HERE]),
        ('<points x1="25" y1="50" x2="7" alt="half a point"/>', [HERE, None]),
        ('<point x="25" x="1" y="50">', [None]),
        ('<point alt="nothing">', [None]),
        ('<point x="125" y="50">', [None]),
        ("<point>25 50</point>", [HERE]),
        ("<point>[[25, 50]]</point>", [HERE]),
        ("<point>25 50</point><point>25 50</point>", [HERE, HERE]),
        ("<point>none</point>", [None]),
        ("(25, 50)", [HERE]),
        ("(25, 50), (25, 50)", [HERE, HERE]),
        ("[25, 50]", [HERE]),
        ("[[25, 50], [25, 50]]", [HERE, HERE]),
        ('{"point_2d": [25, 50], "label": "cat"}', [HERE]),
        ('```json\n[{"point_2d": [25, 50]}]\n```', [HERE]),
        ('{"x": 25, "y": 50}', [HERE]),
        ('{"coordinate": ["25", "50"]}', [HERE]),
        ('{"point": [25, true]}', [None]),
        ("[]", []),
    ],
)
def test_points_in_every_form(text, points):
    parsed = point_items(text)
    assert points_of(parsed.items, Size(100, 100)) == points and parsed.dropped == 0


def test_named_axes_are_not_swapped():
    for text in ('<point x="25" y="50">', '{"x": 25, "y": 50}', "(50, 25)"):
        assert points_of(point_items(text).items, Size(100, 100), y_first=True) == [HERE]


@pytest.mark.parametrize("text", ["", "left of the cat", "(25)", "(25, 50) or so", "[25, 50] or [1, 2]"])
def test_what_is_no_point_is_unparsable(text):
    with pytest.raises(Unscorable) as refusal:
        point_items(text)
    assert refusal.value.status == "unparsable"


READERS = [box_items, lambda text: box_items(text, only=True), point_items, read_spans]


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(["<box>", "</box>", "<point", ">", "x1=", '"', "1", ",", "(", "[", "s - ", ":"]))
)
def test_broken_text_is_read_or_refused_and_never_anything_else(pieces):
    for read in READERS:
        try:
            read("".join(pieces))
        except Unscorable as refusal:
            assert refusal.status == "unparsable"


def hostile(size):
    chance = random.Random(0)
    yield "<box>" * (size // 5)
    yield "<ref>" * (size // 5) + "<box>1 2 3 4</box>"
    yield "<ref>a</ref><box>1 2 3 4</box>" * (size // 31)
    yield "<box>" + "1 " * (size // 2)
    yield "<point" * (size // 6)
    yield "<point " + 'x1="1" ' * (size // 7) + ">"
    yield "<point " + "x" * size
    yield "<point>" * (size // 7)
    yield "(1,2)," * (size // 6)
    yield "1" * size
    yield "1:02 - 1:10\n" * (size // 12)
    yield "from 1" + " " * size + "2"
    yield "[1,2]" * (size // 5)
    yield "".join(chance.choices("<box>/ptnix1=[](),:-", k=size))


@pytest.mark.parametrize("number", range(14))
def test_time_is_in_proportion_to_length(number):
    texts = {size: list(hostile(size))[number] for size in (3125, 25_000, 200_000)}

    def read_all(size):
        for read in READERS:
            try:
                read(texts[size])
            except Unscorable:
                continue

    assert_linear(read_all, 200_000)

"""The lenient list parser: reads what models write, refuses what it cannot, in linear time."""

import contextlib
import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward import Unscorable
from mmreward.verifiers.boxes import boxes_of
from mmreward.verifiers.lists import parse_list, read_json, read_leniently

BOX = {"bbox_2d": [1, 2, 3, 4], "label": "cat"}


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]',
        '```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]\n```',
        "[{'bbox_2d': [1, 2, 3, 4], 'label': 'cat'}]",
        '[{"bbox_2d": [1, 2, 3, 4,], "label": "cat",},]',
        '{"objects": [{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]}',
        '{"bbox_2d": [1, 2, 3, 4], "label": "cat"}',
        '[[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]]',
        'I found this: [{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]. That is all.',
        'It [maybe] is [{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]',
        '[{"bbox_2d": [+1, 2, \uff13, 4], "label": "cat"}]',
        '[{"bbox_2d":[1,2,3,4],"label":"cat"}',
        '\n[\n{"bbox_2d" : [ 1 , 2 ,\t3, 4 ] ,\n"label":"cat" }\n]',
    ],
)
def test_one_box_however_it_is_written(text):
    assert parse_list(text).items == [BOX]


def test_labels_keep_their_quotes():
    for label in ("cat's toy", 'the "big" one', "it's the dogs', too", "a: b, c] d}", "caf\u00e9 \U0001f431"):
        assert parse_list(json.dumps([{"label": label}], ensure_ascii=False)).items == [{"label": label}]
    assert parse_list("[{'label': 'cat's toy'}]").items == [{"label": "cat's toy"}]


def test_bare_boxes():
    assert parse_list("[1, 2, 3, 4]").items == [[1, 2, 3, 4]]
    assert parse_list("[[1, 2, 3, 4], [5, 6, 7, 8]]").items == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert parse_list("[[\u22121, .5, -.5, 2.]]").items == [[-1, 0.5, -0.5, 2.0]]


def test_numbers_without_a_comma_do_not_run_together():
    for text in ("[[1, 2, 3, 4 5]]", "[1 2 3 4]", '[{"bbox_2d": [1, 2, 3 true, 4]}]'):
        with pytest.raises(Unscorable):
            parse_list(text)


def test_words_of_python():
    assert parse_list("[{'a': True, 'b': None, 'c': False}]").items == [{"a": True, "b": None, "c": False}]


def test_an_empty_list_is_not_an_unreadable_one():
    assert parse_list("[]") == ([], 0) and parse_list('{"objects": []}') == ([], 0)
    for text in ("", "no boxes", "[oops", "[{oops}]", "{", "]", '[{"bbox_2d": NaN}]', "[" + "9" * 100 + "]"):
        with pytest.raises(Unscorable) as refusal:
            parse_list(text)
        assert refusal.value.status == "unparsable"


def test_a_cut_off_tail_is_dropped_and_counted():
    text = json.dumps([BOX, BOX, BOX])
    cut = parse_list(text[: text.rindex("label")])
    assert cut.items == [BOX, BOX] and cut.dropped >= 1


def test_one_bad_item_costs_itself():
    for bad in ('{"bbox_2d": [1, 2, NaN, 4]}', '{"bbox_2d": [1 2]}', "{oops}", '{"n": ' + "1" * 50 + "}"):
        parsed = parse_list(f"[{json.dumps(BOX)}, {bad}, {json.dumps(BOX)}]")
        assert parsed.items == [BOX, BOX] and parsed.dropped == 1


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "1e999", "true", '"1,5"', "null", "1e8"])
def test_a_coordinate_that_is_no_number_makes_no_box(value):
    try:
        assert not any(boxes_of(parse_list(f"[[1, 2, {value}, 4]]").items))
    except Unscorable as refusal:
        assert refusal.status == "unparsable"


def test_nothing_is_evaluated(tmp_path):
    flag = tmp_path / "flag"
    with pytest.raises(Unscorable):
        parse_list(f"[__import__('pathlib').Path({str(flag)!r}).touch()]")
    assert not flag.exists()


def test_deep_nesting_is_refused():
    for text in ("[" * 100_000, '{"a":' * 100_000, "[" * 9 + "]" * 9):
        with pytest.raises(Unscorable, match="deeper"):
            parse_list(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e6, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.lists(st.dictionaries(st.text(max_size=5), values, min_size=2, max_size=4), max_size=4))
def test_valid_json_is_read_as_it_is(items):
    assert parse_list(json.dumps(items)).items == items


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**40), 10**40)
trees = st.recursive(
    numbers | st.text(max_size=8) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(trees, max_size=4), st.booleans(), st.sampled_from([None, 1, "\t"]))
@example([[[[[[[[]]]]]]]], True, None)  # as deep as may be
@example([[[[[[[[[]]]]]]]]], True, None)
@example([1e-30, 1e300, -0.0, 10**31, 10**32], True, None)
def test_json_is_read_as_the_lenient_pass_reads_it(items, ascii_only, indent):
    text = f"so: {json.dumps(items, ensure_ascii=ascii_only, indent=indent)} and [so on]"
    quick = read_json(text, 4)
    with contextlib.suppress(Unscorable):  # deeper than may be
        slow = read_leniently(text, 4)
        assert quick is None or (repr(quick) == repr(slow) and quick.value == items)
        return
    assert quick is None


@pytest.mark.parametrize(
    "text", ["[1e99999]", "[1E-12345]", "[NaN]", f"[{'1' * 33}]", "[" * 5000, "[" * 9 + "]" * 9]
)
def test_what_the_lenient_pass_refuses_is_not_read_as_json(text):
    assert read_json(text, 0) is None


@settings(max_examples=300)
@given(st.lists(values, max_size=5), st.randoms(use_true_random=False), st.booleans())
def test_damaged_json_is_read_or_refused_and_never_anything_else(items, chance, ascii_only):
    text = list(json.dumps(items, ensure_ascii=ascii_only))
    for _ in range(chance.randint(0, 5)):
        at = chance.randrange(len(text) + 1)
        text[at : at + chance.randint(0, 3)] = chance.choice(
            ["", "[", "}", "'", '"', "\\", ",", "\u2212", "1e9", "\ud800"]
        )
    text = "".join(text)[: chance.randint(0, len(text) + 5)]
    try:
        parsed = parse_list(text)
    except Unscorable as refusal:
        assert refusal.status == "unparsable"
    else:
        boxes_of(parsed.items)


def hostile(size):
    chance = random.Random(0)
    yield '[{"bbox_2d""label"' * (size // 18)
    yield "[" + "'" * size
    yield '["' + "\\" * size
    yield '["' + '" ' * (size // 2)
    yield "[a] " * (size // 4)
    yield "[1" + "0" * size
    yield "[" + "{}," * (size // 3)
    yield "{'a" * (size // 3)
    yield "".join(chance.choices("[]{}'\",:1a \\", k=size))
    yield json.dumps([BOX] * (size // 46))


@pytest.mark.parametrize("number", range(10))
def test_a_megabyte_takes_time_in_proportion(number):
    texts = {size: list(hostile(size))[number] for size in (15_625, 125_000, 1_000_000)}

    def read(size):
        with contextlib.suppress(Unscorable):
            parse_list(texts[size])

    assert_linear(read, 1_000_000)

"""Samples and scores go through the wire and come out equal; what does not fit is refused, never bent."""

import dataclasses
import io
import json
import math
import tracemalloc
from collections import OrderedDict, namedtuple
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mmreward import Media, RewardInfo, Sample, Score, Unscorable, list_rewards
from mmreward.errors import STATUSES
from mmreward.isolation.protocol import (
    Largest,
    Message,
    WireError,
    pack,
    pack_info,
    pack_sample,
    pack_score,
    pack_value,
    read_blocking,
    unpack_info,
    unpack_sample,
    unpack_score,
    unpack_value,
)

dtypes = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(),
    hnp.complex_number_dtypes(), hnp.unicode_string_dtypes(max_len=4), hnp.byte_string_dtypes(max_len=4),
    hnp.datetime64_dtypes(),
)  # fmt: skip
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
scalars = hnp.arrays(dtypes, ()).map(lambda array: array[()])
keys = st.text() | st.integers() | st.just("$") | st.tuples(st.integers(), st.text())
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()), st.binary(max_size=9),
    st.dates(), st.datetimes(), st.decimals(allow_nan=False), arrays, scalars,
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=12,
)
pictures = st.one_of(
    st.binary(max_size=30),
    hnp.arrays(st.sampled_from([np.uint8, np.float32, np.float64, np.int64]), (2, 3, 3)),
).map(Media)
samples = st.builds(
    Sample,
    id=st.text(),
    prompt=st.text(),
    image=st.none() | pictures,
    video=st.none() | st.binary(max_size=9).map(lambda data: Media(data, "video")),
    response=st.none() | st.text(),
    inputs=st.lists(pictures, max_size=2).map(tuple),
    steps=st.lists(st.dictionaries(st.text(), leaves | pictures, max_size=2), max_size=2).map(tuple),
    target=values,
    source=st.text(),
    group=st.none() | st.text(),
    meta=st.dictionaries(st.text(), values, max_size=2),
)


def same(one, other):
    """Equal in value, type and, for arrays, shape and byte order; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Media):
        return one.kind == other.kind and same(one.content(), other.content())
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(key, twin) and same(one[key], other[twin]) for key, twin in zip(one, other, strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def there_and_back(value):
    blobs = []
    message = read_blocking(io.BytesIO(pack(Message({"value": pack_value(value, blobs)}, blobs))), Largest())
    return unpack_value(message.header["value"], message.blobs)


@given(values)
def test_every_value_comes_back_as_it_was(value):
    assert same(there_and_back(value), value)


@given(samples)
def test_every_sample_comes_back_as_it_was(sample):
    blobs = []
    message = read_blocking(io.BytesIO(pack(Message(pack_sample(sample, blobs), blobs))), Largest())
    back = unpack_sample(message.header, message.blobs)
    for field in dataclasses.fields(Sample):
        assert same(getattr(back, field.name), getattr(sample, field.name)), field.name


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.one_of(
        st.tuples(finite, st.just("ok")),
        st.tuples(st.just(math.nan), st.sampled_from([s for s in STATUSES if s != "ok"])),
    ),
    st.dictionaries(st.text(), st.floats(), max_size=3),
    st.text(),
)
def test_every_score_comes_back_as_it_was(outcome, parts, note):
    score = Score(outcome[0], parts, outcome[1], note)
    packed = json.loads(json.dumps(pack_score(score), allow_nan=False))
    assert (packed["value"] is None) == (not score.ok)
    back = unpack_score(packed)
    assert same(back.value, score.value) and same(dict(back.parts), parts)
    assert (back.status, back.note) == (score.status, score.note)


def test_a_score_made_of_numpy_numbers_is_one_of_floats():
    back = unpack_score(pack_score(Score(np.float32(0.1), {"n": np.int64(3)})))
    assert back == Score(float(np.float32(0.1)), {"n": 3.0}) and type(back.value) is float


@pytest.mark.parametrize("info", list_rewards(), ids=lambda info: info.name)
def test_what_is_true_of_a_reward_comes_back(info):
    assert unpack_info(json.loads(json.dumps(pack_info(info), allow_nan=False))) == info


def test_a_part_may_have_the_name_of_the_tag():
    assert unpack_score(pack_score(Score(1.0, {"$": 2.0}))).parts == {"$": 2.0}


@pytest.mark.parametrize("example", [{"target": {1, 2}}, {"image": Media(b"")}])
def test_an_example_that_is_not_plain_is_left_out(example):
    info = RewardInfo(name="x", needs=(), range=(0, 1), example=example)
    assert unpack_info(pack_info(info)).example == {}


def test_bounds_may_be_infinite():
    info = RewardInfo(name="x", needs=(), range=(-math.inf, math.inf), example={"target": (1, 2)})
    assert unpack_info(pack_info(info)) == info


Point = namedtuple("Point", "x y")


class Text(str):
    pass


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Point(1, 2),
        Text("x"),
        {1, 2},
        1j,
        len,
        np.array([object()]),
        Image.new("RGB", (2, 2)),
        Sample(),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("field", ["target", "meta", "steps"])
def test_what_cannot_be_sent_is_named_with_its_field(value, field):
    held = {"target": value, "meta": {"deep": [value]}, "steps": ({"action": (value,)},)}[field]
    with pytest.raises(Unscorable, match=rf"{field} holds {type(value).__name__}, which cannot be sent"):
        pack_sample(Sample(**{field: held}), [])


def test_what_goes_round_in_circles_is_refused():
    circle = []
    circle.append(circle)
    with pytest.raises(Unscorable, match="target is nested too deeply"):
        pack_sample(Sample(target=circle), [])


def test_other_mappings_become_dicts():
    assert there_and_back(MappingProxyType({"a": OrderedDict(b=1)})) == {"a": {"b": 1}}


def test_an_array_may_be_changed_and_does_not_change_with_its_source():
    array = np.arange(6)[::2]
    blobs = []
    packed = pack_value(array, blobs)
    array[:] = 0
    back = unpack_value(packed, blobs)
    back[0] = 9
    assert back.tolist() == [9, 2, 4]


def test_a_picture_keeps_its_encoded_bytes_and_its_key(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    picture = Image.open(io.BytesIO(png))
    for media in (
        Media(png),
        Media(tmp_path / "a.png"),
        Media(picture),
        Media([picture, picture], "video", fps=8.0),
    ):
        back = there_and_back(media)
        assert (back.key, back.size, back.kind) == (media.key, media.size, media.kind)
        assert (back.array() == media.array()).all()
    assert there_and_back(Media(tmp_path / "a.png")).source == png


def test_a_picture_that_cannot_be_read_says_so_where_it_is_looked_at(tmp_path):
    for media in (Media(tmp_path / "absent.png"), Media(object()), Media(tmp_path, "video")):
        back = there_and_back(media)
        for look in (Media.array, Media.pixels, Media.picture, Media.content):
            with pytest.raises(Unscorable) as there:
                look(back)
            with pytest.raises(Unscorable) as here:
                look(media)
            assert (str(there.value), there.value.status) == (str(here.value), here.value.status)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"promt": "x"}, "a sample has no promt"),
        ({"prompt": 3}, "prompt is '3' (int), not text"),
        ({"prompt": None}, "prompt is"),
        ({"id": 3}, "id is"),
        ({"group": 3}, "group is"),
        ({"image": "a.png"}, "image is 'a.png' (str), not Media"),
        ({"inputs": "ab"}, "inputs is"),
        ({"inputs": ["a.png"]}, "an item of inputs"),
        ({"steps": [3]}, "an item of steps"),
        ({"meta": []}, "meta is"),
        ({"target": {"$": "pickle", "is": "x"}}, "unknown encoding 'pickle'"),
        ({"target": {"$": []}}, "unknown encoding"),
        ({"target": {"$": "tuple"}}, "malformed"),
        ({"target": {"$": "map", "of": [[[], 1]]}}, "malformed"),
        ({"target": {"$": "decimal", "is": "x"}}, "malformed"),
        ({"target": {"$": "bytes", "blob": 1}}, "there is no blob 1"),
        ({"target": {"$": "bytes", "blob": -1}}, "there is no blob -1"),
        ({"target": {"$": "bytes", "blob": True}}, "there is no blob True"),
        ({"target": {"$": "array", "dtype": "O", "shape": [1], "blob": 0}}, "are not read"),
        ({"target": {"$": "array", "dtype": "V8", "shape": [1], "blob": 0}}, "are not read"),
        ({"target": {"$": "array", "dtype": "U0", "shape": [2**60], "blob": 0}}, "are not read"),
        ({"target": {"$": "array", "dtype": "<f8", "shape": [2], "blob": 0}}, "8 bytes are no array"),
        ({"target": {"$": "array", "dtype": "<f8", "shape": [-1, -1], "blob": 0}}, "is no shape"),
        ({"target": {"$": "array", "dtype": "nonsense", "shape": [], "blob": 0}}, "malformed"),
        ({"image": {"$": "media", "kind": "sound", "blob": 0}}, "malformed"),
        ({"image": {"$": "media", "kind": "image", "pixels": [1]}}, "pixels is"),
        ({"image": {"$": "media", "kind": "image", "failed": ["ok", "x"]}}, "malformed"),
    ],
)
def test_a_malformed_sample_is_refused_with_the_reason(change, reason):
    with pytest.raises(WireError) as refused:
        unpack_sample(change, [bytes(8)])
    assert reason in str(refused.value)


def test_a_blob_that_is_named_often_is_copied_once():
    packed = [{"$": "array", "dtype": "|u1", "shape": [1 << 20], "blob": 0} for _ in range(100)]
    tracemalloc.start()
    with pytest.raises(WireError, match="0 bytes are no array"):
        unpack_value(packed, [bytes(1 << 20)])
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "packed",
    [
        [], {"values": 1.0}, {"value": None}, {"value": 1.0, "status": "fine"}, {"value": True},
        {"value": "1"}, {"value": 1.0, "status": "error"}, {"value": 1.0, "parts": []},
        {"value": 1.0, "parts": {"a": "b"}}, {"value": 1.0, "note": 3}, {"value": 10**400},
        {"value": math.inf}, {"value": 1.0, "parts": {"a": 10**400}},
    ],
)  # fmt: skip
def test_a_malformed_score_is_refused(packed):
    with pytest.raises(WireError):
        unpack_score(packed)


@pytest.mark.parametrize(
    "change",
    [
        {"arity": "trio"},
        {"needs": ["picture"]},
        {"range": [0]},
        {"range": ["a", "b"]},
        {"name": 3},
        {"more": 1},
        {"paper": 3},
    ],
)
def test_a_malformed_description_is_refused(change):
    with pytest.raises(WireError):
        unpack_info({**pack_info(RewardInfo(name="x", needs=(), range=(0, 1))), **change})


def test_dates_and_decimals_are_not_floats():
    for value in (datetime(2026, 1, 2, 3, 4, 5, 6), date(2026, 1, 2), Decimal("0.10")):
        assert same(there_and_back(value), value)

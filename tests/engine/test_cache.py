"""The cache: bounded by bytes, least recently used first, and owning what it holds."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward.engine.cache import ByteLRU, sizeof


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400)), max_size=60), st.integers(0, 1000))
def test_the_bytes_stay_within_the_limit_and_are_counted_exactly(puts, limit):
    cache = ByteLRU(limit)
    for key, size in puts:
        cache.put(key, np.zeros(size, np.uint8))
        assert cache.nbytes <= limit
        assert cache.nbytes == sum(sizeof(cache.get(k)) for k in range(10) if k in cache)


def test_the_least_recently_used_goes_first():
    size = sizeof(np.zeros(100, np.uint8))
    cache = ByteLRU(2 * size)
    for key in "ab":
        cache.put(key, np.zeros(100, np.uint8))
    cache.get("a")
    cache.put("c", np.zeros(100, np.uint8))
    assert "a" in cache and "b" not in cache and "c" in cache


def test_one_value_too_large_evicts_nothing():
    cache = ByteLRU(500)
    cache.put("small", np.zeros(10, np.uint8))
    cache.put("large", np.zeros(1000, np.uint8))
    assert "small" in cache and "large" not in cache


def test_a_cached_none_is_told_from_no_entry():
    cache = ByteLRU(1000)
    cache.put("none", None)
    assert cache.get("none", "absent") is None and cache.get("other", "absent") == "absent"


class Pair(NamedTuple):
    vector: Any
    flag: bool


@dataclass
class Record:
    vector: Any


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: Pair(v, True), lambda v: [v], lambda v: {"v": v}])
def test_an_entry_does_not_keep_its_whole_batch_alive(wrap):
    batch = np.ones((1000, 4), np.float32)
    cache = ByteLRU(10_000)
    cache.put("row", wrap(batch[3]))
    held = cache.get("row")
    row = held if isinstance(held, np.ndarray) else held["v"] if isinstance(held, dict) else held[0]
    assert row.base is None and row.tolist() == [1.0] * 4
    assert type(held) is type(wrap(batch[3]))


@pytest.mark.parametrize("wrap", [lambda v: v, Record, lambda v: Pair(v, True), lambda v: {"v": [v]}])
def test_arrays_count_wherever_they_are(wrap):
    assert sizeof(wrap(np.zeros(10_000, np.uint8))) > 10_000


def test_tensor_like_values_count_by_their_bytes():
    class Tensor:
        nbytes = 5_000

    assert sizeof(Tensor()) >= 5_000


def test_clear_and_refusals():
    cache = ByteLRU(100)
    cache.put("a", 1)
    cache.clear()
    assert len(cache) == cache.nbytes == 0
    with pytest.raises(ValueError, match="-1"):
        ByteLRU(-1)

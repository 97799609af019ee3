"""Caches bounded by bytes: a least-recently-used map, and values computed once for all who wait for them.

`ByteLRU` is the engine's cache of results and the models' of pictures; `SingleFlight` adds that equal keys
share one computation on an event loop. Entries own their storage (a view would keep its whole batch alive),
and a value larger than the limit evicts nothing. Neither takes a lock: each belongs to one thread.
"""

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

import numpy as np


class ByteLRU:
    """Map of keys to values, of at most `limit` bytes together: the least recently used leave first.

    Raises:
        ValueError: the limit is negative.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"a cache limit is 0 or more bytes, not {limit}")
        self.limit = limit
        self.nbytes = 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable, default: Any = None) -> Any:
        entry = self._entries.get(key)
        if entry is None:  # an entry is a pair, so that a cached None is found
            return default
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Hashable, value: Any) -> None:
        value = _owned(value)
        size = sizeof(value)
        if key in self._entries:
            self.nbytes -= self._entries.pop(key)[1]
        if size > self.limit:
            return
        self._entries[key] = (value, size)
        self.nbytes += size
        while self.nbytes > self.limit:
            _, (_, freed) = self._entries.popitem(last=False)
            self.nbytes -= freed

    def clear(self) -> None:
        self._entries.clear()
        self.nbytes = 0


def sizeof(value: Any) -> int:
    """Bytes of a result: arrays by their buffer, containers and dataclasses by their content."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes) + 112
    if isinstance(value, dict):
        return sys.getsizeof(value) + sum(sizeof(k) + sizeof(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return sys.getsizeof(value) + sum(sizeof(v) for v in value)
    if is_dataclass(value):
        return sys.getsizeof(value) + sum(sizeof(getattr(value, field.name)) for field in fields(value))
    nbytes = getattr(value, "nbytes", 0)  # a tensor's storage
    return sys.getsizeof(value) + (nbytes if isinstance(nbytes, int) else 0)


def _owned(value: Any) -> Any:
    """The value, its views of larger arrays replaced by copies."""
    if isinstance(value, np.ndarray):
        return value if value.base is None else value.copy()
    if isinstance(value, dict):
        return {key: _owned(inner) for key, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_owned, value))
    if type(value) in (list, tuple):
        return type(value)(map(_owned, value))
    return value


V = TypeVar("V")


class SingleFlight(Generic[V]):
    """Values computed once per key, however many coroutines of one event loop wait for them.

    A computation that fails raises in all of its waiters, and is not kept.

    Args:
        limit: bytes of values that are kept; the least recently used leave first.
    """

    def __init__(self, limit: int = 1 << 20) -> None:
        self._values = ByteLRU(limit)
        self._running: dict[Hashable, asyncio.Task[V]] = {}

    async def get(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The value of this key, by `make` if there is none. It runs on even when all its waiters are
        cancelled."""
        value = self._values.get(key, self)
        if value is not self:
            return cast(V, value)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.get_running_loop().create_task(make())
            task.add_done_callback(partial(self._settle, key))
        return await asyncio.shield(task)

    def _settle(self, key: Hashable, task: asyncio.Task[V]) -> None:
        del self._running[key]
        if not task.cancelled() and task.exception() is None:
            self._values.put(key, task.result())

"""A least-recently-used cache bounded by bytes. Entries own their storage; one too large to hold evicts
nothing."""

# FOLDED mmreward/models/once.py: Values that are made once however many wait for them, on one event loop.

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

import numpy as np


class ByteLRU:
    """Maps keys to values until their bytes exceed `limit`; then the least recently used go first.

    Owned by one thread (the engine's loop), so it takes no lock.
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
        if entry is None:
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
    """Bytes a result holds: arrays by their buffer, containers by what is in them."""
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
    """The value with views replaced by copies: a view would keep its whole batch alive."""
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
    """Maps keys to values. A failure to make one reaches all who waited for it, and is not kept.

    Args:
        limit: bytes of values that are kept; the least recently used go first.
    """

    def __init__(self, limit: int = 1 << 20) -> None:
        self._kept = ByteLRU(limit)
        self._making: dict[Hashable, asyncio.Task[V]] = {}

    async def get(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The value of this key, made if need be. Making it goes on even when all who wait are cancelled."""
        kept = self._kept.get(key, self)
        if kept is not self:
            return cast(V, kept)
        task = self._making.get(key)
        if task is None:
            task = self._making[key] = asyncio.get_running_loop().create_task(make())
            task.add_done_callback(partial(self._settle, key))
        return await asyncio.shield(task)

    def _settle(self, key: Hashable, task: asyncio.Task[V]) -> None:
        del self._making[key]
        if not task.cancelled() and task.exception() is None:
            self._kept.put(key, task.result())

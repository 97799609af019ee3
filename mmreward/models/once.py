"""Values that are made once however many wait for them, on one event loop."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar, cast

from ..cache import ByteLRU

V = TypeVar("V")


class Once(Generic[V]):
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

"""One result for several functions that are called with the same batch."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Remembers the result for the last batch, which is known by the identity of its list of completions:
    trainers hand the same list to every function of a step, and a new one in the next."""

    def __init__(self) -> None:
        self._batch: Any = None  # held, so that no other list can get its identity
        self._result: T | None = None
        self._task: asyncio.Future[T] | None = None
        self._lock = threading.Lock()  # async GRPO calls sync functions in several threads; one computes

    def __reduce__(self) -> Any:
        return Once, ()

    def get(self, batch: Any, compute: Callable[[], T]) -> T:
        with self._lock:
            if self._batch is not batch:
                self._result = compute()
                self._batch = batch
            assert self._result is not None, "nothing was computed"
            return self._result

    async def aget(self, batch: Any, compute: Callable[[], Awaitable[T]]) -> T:
        """On one event loop; the first caller starts the work, and all wait for it."""
        if self._batch is not batch or self._task is None:
            self._task = asyncio.ensure_future(compute())
            self._batch = batch
        return await self._task

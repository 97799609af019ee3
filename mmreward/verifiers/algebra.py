"""Computer algebra under a deadline: two expressions compared by math-verify and sympy in processes that are
killed when they run out of time or memory.

This is the parent's side, and it never hangs. It serves any thread and any event loop. The workers
(`verifiers.algebra_worker`) are shared by the whole process and start with the first answer that needs them.
What reaches them was screened by `verifiers.math`; nothing is evaluated here.
"""

import asyncio
import os
import threading
import time
from collections import Counter, OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple, get_args

from ..errors import Unscorable
from ..isolation.killable import Killable, Killed
from ..registry import record_network
from ..tracing import noted
from .expressions import Tree, shown
from .math import Open, algebraic, stage_verdict, truth_of
from .response import Verdict

Exceeded = Literal["failed", "wrong"]
"""Treatment of an answer whose algebra runs out of time or memory: a failed score, or 0."""
MAX_DEADLINE = 600.0
MOST_WORKERS = 8
MEMORY = 1 << 30
"""Bytes of address space of one worker."""
GOLDS = 4096
"""Truths whose readability is remembered."""
RETRY = 300.0
"""Seconds after which a truth that took too long is tried again: the machine may have been busy."""


class Algebra:
    """Comparisons by one set of worker processes.

    Args:
        workers: processes at most; 0 for one per core, up to `MOST_WORKERS`.
    """

    def __init__(self, workers: int = 0) -> None:
        count = workers or min(MOST_WORKERS, os.cpu_count() or 1)
        self.workers = Killable("mmreward.verifiers.algebra_worker", workers=count, memory=MEMORY)
        self._golds: OrderedDict[tuple[str, float], tuple[Future[Any], float]] = OrderedDict()
        self._readers: Counter[Future[Any]] = Counter()
        self._lock = threading.Lock()  # guards _golds, which any thread reads and fills

    def read(self, gold: Tree, seconds: float) -> "Future[Any]":
        """Readability of a truth: a future of "read" or "unread", shared by all callers with the same truth.

        A truth that hangs does so once, and not for each of its answers.
        """
        name, now = (repr(gold), seconds), time.monotonic()
        with self._lock:
            known, since = self._golds.get(name, (None, now))
            if known is not None and not (now - since > RETRY and _late(known)):
                self._golds.move_to_end(name)
                return known
            reply = self.workers.submit({"gold": gold}, seconds)
            self._golds[name] = reply, now
            if len(self._golds) > GOLDS:
                self._golds.popitem(last=False)
        # Outside the lock: a future that is done already calls back at once, and the callback takes the lock.
        reply.add_done_callback(partial(self._forget_accident, name))
        return reply

    async def readable(self, gold: Tree, seconds: float) -> Any:
        """`read`, awaited. A cancelled caller does not cancel it for the others; the last one does."""
        while True:
            reply = self.read(gold, seconds)
            with self._lock:
                self._readers[reply] += 1
            try:
                return await asyncio.shield(asyncio.wrap_future(reply))
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling() or not reply.cancelled():
                    raise
                # The caller before gave it up at the moment at which this one came.
            finally:
                with self._lock:
                    self._readers[reply] -= 1
                    left = self._readers[reply]
                    if not left:
                        del self._readers[reply]
                if not left:
                    reply.cancel()  # does nothing to one that is there

    def compare(self, pair: Open, seconds: float) -> "Future[Any]":
        """Comparison of an answer with its truth: a future of "equal", "different" or "unread". Cancelled, it
        frees its worker.

        The future raises TimeoutError and `Killed` as in `Killable.submit`.
        """
        return self.workers.submit({"gold": pair.gold, "answer": pair.answer}, seconds)

    def _forget_accident(self, name: tuple[str, float], reply: "Future[Any]") -> None:
        # A worker that was killed beside this truth says nothing about it: the next caller tries again.
        if reply.cancelled() or isinstance(reply.exception(), Killed):
            with self._lock:
                self._golds.pop(name, None)


def _late(reply: "Future[Any]") -> bool:
    return reply.done() and not reply.cancelled() and isinstance(reply.exception(), TimeoutError)


@dataclass(frozen=True, slots=True)
class Effort:
    """Limits of the algebra of one answer.

    Args:
        deadline: seconds.
        exceeded: "failed" or "wrong", for an answer that takes longer, or more memory than a worker has.
        workers: processes at most; 0 for one per core, up to `MOST_WORKERS`.
    """

    deadline: float
    exceeded: Exceeded
    workers: int

    def __post_init__(self) -> None:
        if not 0 < self.deadline <= MAX_DEADLINE:
            raise ValueError(f"deadline {self.deadline} is in seconds, above 0 and up to {MAX_DEADLINE:g}")
        if self.exceeded not in get_args(Exceeded):
            raise ValueError(f"exceeded {self.exceeded!r} is one of {', '.join(get_args(Exceeded))}")
        if self.workers < 0:
            raise ValueError(f"workers {self.workers}: give a number of processes, or 0 for one per core")


async def decide(pair: Open, effort: Effort) -> Verdict | Unscorable:
    """Compare two expressions by algebra; the truth is read first, once for all its answers.

    Returns:
        The verdict, or the reason for which the answer could not be read.

    Raises:
        Unscorable: the truth cannot be read, or ("failed") the comparison did not end: "timeout" or "error".
    """
    algebra, deadline = shared(effort.workers), effort.deadline
    try:
        read = await algebra.readable(pair.gold, deadline)
    except (TimeoutError, Killed) as error:
        raise Unscorable(f"the target {shown(pair.gold)[:80]!r} could not be read: {error}") from None
    if read != "read":
        raise Unscorable(f"the target {shown(pair.gold)[:80]!r} cannot be read as mathematics; correct it")
    try:
        reply = await asyncio.wrap_future(algebra.compare(pair, deadline))
        noted("algebra", f"math-verify replies that they are {reply}")
    except TimeoutError as error:
        return _exceeded(pair, f"{error}", "timeout", effort.exceeded)
    except Killed as error:
        return _exceeded(pair, f"{error}", "error", effort.exceeded)
    match reply:
        case "equal" | "different":
            return stage_verdict("symbolic" if reply == "equal" else "")
        case "unread":
            return Unscorable(f"{shown(pair.answer)[:80]!r} cannot be read as mathematics", "unparsable")
        case _:
            return _exceeded(pair, f"it ended with {reply}", "error", effort.exceeded)


async def why_unreadable(target: Any, effort: Effort) -> str:
    """Reason for which no answer to this target can be judged by its value; "" where one can.

    What is text, and what exact arithmetic can read, needs no algebra; the rest is read once, in a worker.
    """
    try:
        truth = truth_of(target)
    except Unscorable as failure:
        return str(failure)
    gold = algebraic(truth)
    if gold is None:
        return ""
    algebra = shared(effort.workers)
    try:
        read = await algebra.readable(gold, effort.deadline)
    except (TimeoutError, Killed) as error:
        return f"the target {truth.text[:80]!r} could not be read: {error}"
    return (
        "" if read == "read" else f"the target {truth.text[:80]!r} cannot be read as mathematics; correct it"
    )


def _exceeded(pair: Open, why: str, status: Literal["timeout", "error"], policy: Exceeded) -> Verdict:
    reason = f"comparing {shown(pair.answer)[:80]!r} with {shown(pair.gold)[:80]!r}: {why}"
    if policy == "failed":
        raise Unscorable(reason, status)
    return stage_verdict("")._replace(note=reason)


@lru_cache(None)
def shared(workers: int) -> Algebra:
    """Algebra of this process with at most so many workers; 0 for one per core, up to `MOST_WORKERS`."""
    return Algebra(workers)


os.register_at_fork(after_in_child=shared.cache_clear)  # a fork has none of the threads that would answer


def use_math_verify() -> None:
    """Record the release of math-verify in the fingerprint of the reward that is being loaded.

    Raises:
        ValueError: it is not installed; the message says how to get it.
    """
    try:
        record_network(_Library("math-verify", version("math-verify")))
    except PackageNotFoundError:
        raise ValueError("mathematics needs math-verify: pip install 'mmreward[math]'") from None


class _Library(NamedTuple):
    name: str
    release: str

    @property
    def fingerprint(self) -> str:
        return f"{self.name} {self.release}"

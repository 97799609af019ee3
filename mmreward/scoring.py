"""Scoring: every sample by every reward, with a failure as the status and note of its own row.

Point rewards take a sample, pair rewards play a tournament within each group, group rewards take the group
whole. Runs on the engine's loop, and knows nothing of networks or batches.

A reward is somebody's code: whatever it raises, blocks or ignores, its own rows fail and the others do not.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .evaluation import evaluate, failure, its_own, media_in
from .examining import examine_at_hand
from .registry import Reward
from .types import Sample, Score

Progress = Callable[[int, str, Score], None]
Unit = tuple[str, Reward, tuple[int, ...]]
"""One evaluation: the reward's name, the reward, and the samples' indices (one, two in order, or a whole
group)."""

WINDOW = 4096
"""Evaluations under way at once: enough to fill batches, few enough that 100,000 samples stay small in
memory."""
GRACE = 0.5
"""Seconds beyond its deadline after which an evaluation that was cancelled and does not end is given up."""
log = logging.getLogger("mmreward.scoring")


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One unit under way: of which reward, for which samples, since when, and by which deadline."""

    name: str
    reward: Reward
    indices: tuple[int, ...]
    timeout: float | None
    begun: float = field(default_factory=time.monotonic)

    def late(self, now: float) -> float:
        """Seconds since the deadline, negative before it."""
        return -math.inf if self.timeout is None else now - self.begun - self.timeout


class Scoring:
    """Scoring of samples by rewards: what is done, under way and still to do; see `Engine.score`.

    `run` does the work on the running event loop. When that loop cannot go on, because a reward blocks its
    thread, `leave` takes the work off it, and `run` on another loop finishes it.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        rewards: Mapping[str, Reward],
        *,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        refuse_others(samples)
        for reward in rewards.values() if samples else ():
            reward.make()
        self._samples, self._rewards = samples, rewards
        self._timeout, self._progress = timeout, progress
        self._scores: dict[str, list[Score | None]] = {name: [None] * len(samples) for name in rewards}
        self._left = len(samples) * len(rewards)
        self._units = _units(samples, rewards)
        self._again: deque[Unit] = deque()
        self._under_way: dict[asyncio.Task[Any], Evaluation] = {}
        self._forsaken: dict[str, str] = {}
        self._lock = threading.RLock()  # a thread that was left behind may wake up beside the next one
        self._turn = 0
        self._named: set[str] = set()
        self._error: BaseException | None = None

    async def run(self) -> dict[str, list[Score]]:
        """The scores, by reward and in the samples' order. A reward costs its own rows, whatever it does."""
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()
        workers: set[asyncio.Task[None]] = set()
        overdue: set[Evaluation] = set()
        with self._lock:
            if self._error is not None:
                raise self._error
            self._turn += 1
            turn = self._turn

        timer: asyncio.TimerHandle | None = None

        def start() -> None:
            worker = loop.create_task(self._work(turn))
            workers.add(worker)
            worker.add_done_callback(ended)

        def ended(worker: asyncio.Task[None]) -> None:
            workers.discard(worker)
            error = None if worker.cancelled() else worker.exception()  # looked at, so that it is not logged
            if finished.done():
                return
            if self._error is not None:  # of `progress`
                finished.set_exception(self._error)
            elif worker.cancelled():  # by the reward itself, for nobody else knows the task
                self._settle(
                    worker, Score.failed("error", "CancelledError: the reward cancelled its own task")
                )
                start()
            elif error is not None:
                finished.set_exception(error)
            elif not workers or not self._left:
                finished.set_result(None)

        def sweep() -> None:
            """Give up what ignores its cancellation. Seen twice, so that a late loop is not taken for it."""
            nonlocal overdue, timer
            now = time.monotonic()
            late = {one: worker for worker, one in self._under_way.items() if one.late(now) > GRACE}
            for one in late.keys() & overdue:
                workers.discard(late[one])
                self._give_up(late[one], one)
                start()
            if self._error is not None and not finished.done():
                finished.set_exception(self._error)
            overdue = set(late)
            timer = loop.call_later(GRACE / 2, sweep)

        if self._timeout is not None and self._left:
            timer = loop.call_later(GRACE, sweep)
        for _ in range(min(WINDOW, self._left)):
            start()
        try:
            if workers:
                await finished
        finally:
            if timer is not None:
                timer.cancel()
            if not finished.done():
                finished.cancel()
            for worker in workers:
                worker.cancel()
            if workers:
                await asyncio.wait(workers, timeout=GRACE)
        if turn != self._turn:  # nobody waits here any more
            raise asyncio.CancelledError
        done = {
            name: [score for score in column if score is not None] for name, column in self._scores.items()
        }
        assert all(len(column) == len(self._samples) for column in done.values()), "a score was lost"
        return done

    # --- for other threads ------------------------------------------------------------------------

    def under_way(self, task: "asyncio.Task[Any]") -> Evaluation | None:
        """The evaluation that this task is at, if any."""
        return self._under_way.get(task)

    def leave(self, blocking: Evaluation, reason: str, *, forsake: bool = False) -> None:
        """Take the work off its loop: the evaluation that blocks it has timed out, the others begin again.

        Args:
            blocking: the evaluation; it may be another scoring's.
            reason: for the note of its rows.
            forsake: fail the rows of its reward that have not begun, too.
        """
        with self._lock:
            self._turn += 1
            if forsake:
                self._forsaken[blocking.name] = (
                    f"not tried, for {blocking.name} blocks wherever it runs: {reason}"
                )
            for worker, one in list(self._under_way.items()):
                if one is blocking:
                    self._settle(
                        worker, Score.failed("timeout", f"no score within {one.timeout} s: {reason}")
                    )
                else:
                    del self._under_way[worker]
                    self._again.append((one.name, one.reward, one.indices))

    def stop(self) -> None:
        """Accept no more scores; after this `progress` is not called any more."""
        with self._lock:
            self._turn += 1
            self._under_way.clear()

    # --- on the loop ------------------------------------------------------------------------------

    async def _work(self, turn: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        while (one := self._next(task, turn)) is not None:
            if one.name in self._forsaken:
                self._settle(task, Score.failed("timeout", self._forsaken[one.name]))
                continue
            try:
                members = [one.reward.view(self._samples[index]) for index in one.indices]
                results = await evaluate(one.reward, members, self._timeout)
            except BaseException as error:  # of a sample that cannot even be looked at
                if not its_own(error, task):
                    raise
                results = [failure(error, self._timeout)] * len(one.indices)
            self._settle(task, *results)
            if self._error is not None:
                raise self._error

    def _next(self, task: "asyncio.Task[Any]", turn: int) -> Evaluation | None:
        with self._lock:
            if turn != self._turn:
                return None
            unit = self._again.popleft() if self._again else next(self._units, None)
            if unit is None:
                return None
            one = self._under_way[task] = Evaluation(*unit, self._timeout)
            return one

    def _settle(self, worker: "asyncio.Task[Any]", *results: Score) -> None:
        """Store the scores of what the worker is at, one each or one for all, unless it was given up."""
        with self._lock:
            one = self._under_way.pop(worker, None)
            if one is None:
                return
            each = results if len(results) == len(one.indices) else results[:1] * len(one.indices)
            for index, score in zip(one.indices, each, strict=True):
                self._scores[one.name][index] = score
                self._left -= 1
                if self._progress is None or self._error is not None:
                    continue
                try:
                    self._progress(index, one.name, score)
                except BaseException as error:  # ends the scoring, on whichever thread this is
                    self._error = error

    def _give_up(self, worker: "asyncio.Task[Any]", one: Evaluation) -> None:
        if one.name not in self._named:
            self._named.add(one.name)
            log.warning(
                "reward %s does not end when it is cancelled at its deadline, and is left behind", one.name
            )
        late = f"no score within {one.timeout} s: it ignores its cancellation"
        self._settle(worker, Score.failed("timeout", late))


def examine_ahead(samples: Sequence[Sample], rewards: Mapping[str, Reward]) -> None:
    """Name and measure on this thread, which waits for the scores anyway, those pictures in memory that the
    loop's thread would name before the first batch: the loop is every caller's."""
    fields = frozenset[str]().union(*(reward.info.looked_at for reward in rewards.values()))
    if fields.isdisjoint(("image", "video", "shown", "inputs")) or not isinstance(samples, list | tuple):
        return  # a sequence that makes its samples when asked makes them anew for the loop
    examine_at_hand(media for sample in samples[:WINDOW] for media in media_in(sample, fields))


def refuse_others(samples: Any) -> None:
    """Refuse what is no sequence of samples.

    Raises:
        TypeError: with what to give in its place.
    """
    if isinstance(samples, Sample):
        raise TypeError("samples is one Sample: give a list, [sample]")
    if isinstance(samples, str | bytes | Mapping):
        raise TypeError(f"samples is {type(samples).__name__}: give a list of Sample")
    for index, sample in enumerate(samples):
        if not isinstance(sample, Sample):
            fix = "make it Sample(**row)" if isinstance(sample, Mapping) else "make it a Sample"
            raise TypeError(f"samples[{index}] is {type(sample).__name__}, not a Sample: {fix}")


def _units(samples: Sequence[Sample], rewards: Mapping[str, Reward]) -> Iterator[Unit]:
    """Sample by sample, so that the rewards of one picture run close together and share what they can."""
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group if sample.group is not None else f"\0{index}", []).append(index)
    for index in range(len(samples)):
        for name, reward in rewards.items():
            if reward.info.arity == "point":
                yield name, reward, (index,)
    for members in groups.values():
        for name, reward in rewards.items():
            if reward.info.arity != "point":
                yield name, reward, tuple(members)

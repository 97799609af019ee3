"""One workload as four contenders: what is prepared for each, and what is timed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from mmreward import Engine, Sample

from .bench_contest import Variants
from .bench_tasks import Run, Task, Values

BATCHES = (8, 16)
"""Sizes of a fixed batch; the faster one competes."""
BARE = (1, 2, 4, 8, 16)
"""Pictures or rows in one bare forward; the fastest competes."""

Draw = Callable[[int], list[Sample]]
"""A round's samples, with media nobody has opened."""


@dataclass(frozen=True)
class Workload:
    """Tasks over the samples of a round."""

    name: str
    tasks: tuple[Task, ...]
    draw: Draw

    def contenders(self, engine: Engine) -> dict[str, Sequence[Variants]]:
        """name -> parts for `contest`; the engine gets all tasks in one call."""
        most = len(self.draw(0))
        return {
            "loop": [{"one by one": partial(self._loop, task)} for task in self.tasks],
            "batches": [_sizes(self._batches, task, BATCHES) for task in self.tasks],
            "bare": [_sizes(self._bare, task, [s for s in BARE if s <= most]) for task in self.tasks],
            "engine": [{"engine": partial(self._engine, engine)}],
        }

    def _loop(self, task: Task, number: int) -> Run:
        return partial(task.loop, self.draw(number))

    def _batches(self, task: Task, size: int, number: int) -> Run:
        return partial(task.batches, self.draw(number), size)

    def _bare(self, task: Task, size: int, number: int) -> Run:
        return task.bare(self.draw(number), size)

    def _engine(self, engine: Engine, number: int) -> Run:
        engine.run(_clear(engine))
        samples = self.draw(number)
        rewards = {name: reward for task in self.tasks for name, reward in task.rewards.items()}

        def run() -> Values:
            scores = engine.score(samples, rewards)
            return [value for task in self.tasks for value in task.values(scores)]

        return run


def _sizes(way: Callable[[Task, int, int], Run], task: Task, sizes: Sequence[int]) -> Variants:
    return {f"batch {size}": partial(way, task, size) for size in sizes}


async def _clear(engine: Engine) -> None:
    """On the engine's loop, which owns the cache."""
    engine.cache.clear()

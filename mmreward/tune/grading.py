"""Scores of a round, computed while the next samples are drawn, and what becomes of failures. Knows no network."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..engine import Engine
from ..registry import Reward
from ..types import Sample, Score
from .journal import Timeline

FINE = ("ok", "na")
"""Statuses that do not count against the failure budget."""


class TooManyFailuresError(RuntimeError):
    """More scores failed than the run's budget allows; the message names the first few."""


@dataclass(frozen=True)
class Grades:
    """The scores of some rows: `values` holds a column (N,) per reward, NaN where it failed."""

    index: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    statuses: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()

    @staticmethod
    def join(parts: "Sequence[Grades]") -> "Grades":
        """All rows of several, in the order of their index."""
        index = np.concatenate([part.index for part in parts])
        order = np.argsort(index, kind="stable")
        values = {
            name: np.concatenate([part.values[name] for part in parts])[order] for name in parts[0].values
        }
        statuses: Counter[str] = sum((part.statuses for part in parts), Counter())
        notes = tuple(note for part in parts for note in part.notes)
        return Grades(index[order], values, statuses, notes)

    def check(self, budget: float) -> None:
        """Raises TooManyFailuresError when more than this share of the scores failed."""
        number = sum(self.statuses.values())
        failed = sum(count for status, count in self.statuses.items() if status not in FINE)
        if number and failed / number > budget:
            shown = "\n  ".join(self.notes[:5])
            raise TooManyFailuresError(
                f"{failed} of {number} scores failed, more than the budget of {budget:.1%}:\n  {shown}"
            )


class Grading:
    """Hands finished samples to the engine and goes on; `collect` waits for all of them.

    Args:
        engine: where rewards run.
        rewards: by your name.
        timeout: seconds for one score.
        timeline: notes when scoring was under way.
    """

    def __init__(
        self, engine: Engine, rewards: Mapping[str, Reward], timeout: float | None, timeline: Timeline
    ) -> None:
        self._engine, self._rewards, self._timeout, self._timeline = engine, rewards, timeout, timeline
        self._begun: list[tuple[Sequence[int], Sequence[Sample], Future[dict[str, list[Score]]]]] = []

    def begin(self, index: Sequence[int], samples: Sequence[Sample]) -> None:
        """Start scoring samples; `index` names their rows."""
        begun = time.perf_counter()
        future = self._engine.begin(samples, self._rewards, timeout=self._timeout)
        future.add_done_callback(lambda _: self._timeline.add("score", begun, time.perf_counter()))
        self._begun.append((index, samples, future))

    def collect(self) -> Grades:
        """Everything that was begun since the last time."""
        parts = [_grades(index, samples, future.result()) for index, samples, future in self._begun]
        self._begun = []
        return Grades.join(parts)


def _grades(index: Sequence[int], samples: Sequence[Sample], scores: Mapping[str, Sequence[Score]]) -> Grades:
    values = {name: np.array([score.value for score in column]) for name, column in scores.items()}
    statuses = Counter(score.status for column in scores.values() for score in column)
    notes = tuple(
        f"{name} on {sample.prompt!r}: {score.status}, {score.note}"
        for name, column in scores.items()
        for sample, score in zip(samples, column, strict=True)
        if score.status not in FINE
    )
    return Grades(np.array(index, dtype=np.int64), values, statuses, notes)

"""Grading of finished samples: scores computed while the next samples are drawn, and the failure budget.
Knows no network."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..compose import Recipe, Shaping, facts_of, shaped_columns
from ..engine.engine import Engine
from ..errors import FINE
from ..registry import Reward
from ..types import Sample, Score
from .journal import Timeline


class TooManyFailuresError(RuntimeError):
    """More scores failed than the run's budget allows; the message names the first few."""


@dataclass(frozen=True)
class Grades:
    """Scores of some rows: `values` holds a column (N,) per reward, NaN where it failed; `uncertainty` (N,)
    is that of one of them, NaN where it is not known."""

    index: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    uncertainty: NDArray[np.float64]
    statuses: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()

    @staticmethod
    def join(parts: "Sequence[Grades]") -> "Grades":
        """The rows of all parts, in the order of their index."""
        index = np.concatenate([part.index for part in parts])
        order = np.argsort(index, kind="stable")
        values = {
            name: np.concatenate([part.values[name] for part in parts])[order] for name in parts[0].values
        }
        uncertainty = np.concatenate([part.uncertainty for part in parts])[order]
        statuses: Counter[str] = sum((part.statuses for part in parts), Counter())
        notes = tuple(note for part in parts for note in part.notes)
        return Grades(index[order], values, uncertainty, statuses, notes)

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
    """Scoring in the background: hands finished samples to the engine and goes on; `collect` waits for all.

    Args:
        engine: where rewards run.
        rewards: by your name.
        timeout: seconds for one score.
        timeline: notes when scoring was under way.
        uncertainty: name of a reward, and of the one of its `Score.parts` that holds its uncertainty.
        shaping: steps that rewrite the scores, none of which compares groups.
    """

    def __init__(
        self,
        engine: Engine,
        rewards: Mapping[str, Reward],
        timeout: float | None,
        timeline: Timeline,
        uncertainty: tuple[str, str] | None = None,
        shaping: Sequence[Shaping] = (),
    ) -> None:
        self.rewards = rewards
        self._engine, self._timeout, self._timeline = engine, timeout, timeline
        self._uncertainty = uncertainty
        self._shaping = shaping
        self._begun: list[tuple[Sequence[int], Sequence[Sample], Future[dict[str, list[Score]]]]] = []

    def begin(self, index: Sequence[int], samples: Sequence[Sample]) -> None:
        """Start scoring samples; `index` names their rows."""
        begun = time.perf_counter()
        future = self._engine.begin(samples, self.rewards, timeout=self._timeout)
        future.add_done_callback(lambda _: self._timeline.add("score", begun, time.perf_counter()))
        self._begun.append((index, samples, future))

    def collect(self) -> Grades:
        """Grades of everything that was begun since the last time.

        Raises:
            ValueError: a score that worked has no such part for its uncertainty.
        """
        parts = [
            _grades(index, samples, self._shaped(samples, future.result()), self._uncertainty)
            for index, samples, future in self._begun
        ]
        self._begun = []
        return Grades.join(parts)

    def _shaped(
        self, samples: Sequence[Sample], scores: Mapping[str, Sequence[Score]]
    ) -> Mapping[str, Sequence[Score]]:
        recipe = Recipe(weights={}, shaping=self._shaping)
        facts = [facts_of(recipe, sample) for sample in samples]
        _, shaped = shaped_columns(scores, self._shaping, (), facts)
        return shaped


def _grades(
    index: Sequence[int],
    samples: Sequence[Sample],
    scores: Mapping[str, Sequence[Score]],
    uncertainty: tuple[str, str] | None,
) -> Grades:
    values = {name: np.array([score.value for score in column]) for name, column in scores.items()}
    statuses: Counter[str] = Counter(score.status for column in scores.values() for score in column)
    notes = tuple(
        f"{name} on {sample.prompt!r}: {score.status}, {score.note}"
        for name, column in scores.items()
        for sample, score in zip(samples, column, strict=True)
        if score.status not in FINE
    )
    doubts = (
        [_uncertainty(score, *uncertainty) for score in scores[uncertainty[0]]]
        if uncertainty
        else [np.nan] * len(index)
    )
    return Grades(np.array(index, dtype=np.int64), values, np.array(doubts), statuses, notes)


def _uncertainty(score: Score, name: str, part: str) -> float:
    if score.ok and part not in score.parts:
        known = ", ".join(score.parts) or "none"
        raise ValueError(f"no part {part!r} says how unsure the scores of {name} are; their parts: {known}")
    return score.parts[part] if score.ok else np.nan

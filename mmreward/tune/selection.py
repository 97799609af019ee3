"""The reward a search selects by: several rewards through the engine, and their weighted total."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..compose import Recipe, combine
from ..engine import Engine
from ..registry import Reward
from ..types import Sample, Score


class Judged(NamedTuple):
    """Scores of pictures: a column per reward, and the total that decides."""

    columns: Mapping[str, Sequence[Score]]
    totals: Sequence[Score]

    def row(self, index: int) -> dict[str, Score]:
        return {name: column[index] for name, column in self.columns.items()}


@dataclass(frozen=True, slots=True)
class Selection:
    """What "better" means.

    Args:
        engine: runs the rewards.
        rewards: by name.
        recipe: how their scores become the total.
        timeout: seconds one score may take.
    """

    engine: Engine
    rewards: Mapping[str, Reward]
    recipe: Recipe
    timeout: float | None = None

    def __call__(self, samples: Sequence[Sample]) -> Judged:
        """Judge samples that have a picture. A failed score fails its row's total."""
        columns = self.engine.score(samples, self.rewards, timeout=self.timeout)
        return Judged(columns, combine(columns, self.recipe, [sample.group for sample in samples]))


def best_of(totals: Sequence[Score]) -> int | None:
    """Index of the largest total, the first of equals; None when every one failed."""
    valid = [index for index, total in enumerate(totals) if total.ok]
    return max(valid, key=lambda index: totals[index].value) if valid else None

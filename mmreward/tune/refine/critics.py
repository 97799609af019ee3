"""What critics have against a picture, from their scores. Knows no reward's inside beyond its parts.

A critic is a reward whose `parts` are the dimensions it judges (`critique`: aspects on the judge's scale;
`checklist`: questions, 1 for the right answer); one without parts has its value as its only dimension.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ...registry import Reward
from ...types import Sample, Score
from .wishes import wishes_of


@dataclass(frozen=True, slots=True)
class Critic:
    """A reward that criticises.

    Args:
        reward: of arity "point".
        threshold: a dimension below it is a complaint; on the dimensions' own scale, which for `critique` is
            from its `low` to its `high`, for `checklist` 0 to 1.

    Raises:
        ValueError: a reward that compares samples, or a threshold that is no number.
    """

    reward: Reward
    threshold: float = 1.0

    def __post_init__(self) -> None:
        name = self.reward.info.name
        if self.reward.info.arity != "point":
            raise ValueError(f"{name} compares samples; a critic looks at one picture at a time")
        if not math.isfinite(self.threshold):
            raise ValueError(f"the threshold of {name} is {self.threshold}; give a finite number")


class Complaint(NamedTuple):
    """One dimension below its threshold."""

    dimension: str
    value: float
    wish: str
    """What should have been there, in words that may stand in a prompt; empty when that is not known."""


@dataclass(frozen=True, slots=True)
class Critique:
    """What all critics say of one picture."""

    scores: Mapping[str, Score]
    complaints: tuple[Complaint, ...]

    @property
    def failed(self) -> dict[str, Score]:
        """The critics that failed, by name; one to whom the picture does not apply ("na") has not."""
        return {name: score for name, score in self.scores.items() if not score.ok and score.status != "na"}

    @property
    def content(self) -> bool:
        """Whether some critic spoke, none failed and none complains."""
        spoke = any(score.ok for score in self.scores.values())
        return spoke and not self.failed and not self.complaints

    @property
    def words(self) -> str:
        """The critics' own words."""
        return "\n".join(score.note for score in self.scores.values() if score.ok and score.note)


def criticised(sample: Sample, scores: Mapping[str, Score], critics: Mapping[str, Critic]) -> Critique:
    """The critique that these scores of the sample's picture amount to, one score per critic."""
    wishes = wishes_of(sample)
    complaints = []
    for name, critic in critics.items():
        if scores[name].ok:
            dimensions = scores[name].parts or {name: scores[name].value}
            complaints += [
                Complaint(dimension, value, wishes.get(dimension, ""))
                for dimension, value in dimensions.items()
                if value < critic.threshold
            ]
    return Critique(scores, tuple(complaints))

"""Shaping steps: the functions of `shaping` as options of `compose:` and `routes:` in YAML, by name.

    shaping:
      - {name: trusted, accuracy: answer, thinking: thinking}
      - {name: length_scaled, accuracy: answer, limit: 1024}

Every step rewrites one column before it is summed: that of the reward which it calls accuracy, or rule. Steps
apply in order, each to what the one before it made. They are the closed list `STEPS`: frozen dataclasses
whose fields are the options, checked when they are made, and by pydantic where they come from YAML.

Besides scores a step may need a fact of each sample: how far training is, how long a response is, how far a
rule can decide. A sample without it, or without a group where groups are compared, has no shaped score: it
fails, and counts for nothing in the others of its group.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .compose import Columns, Fact, Groups, Interval, Policy, Ranges
from .errors import Unscorable
from .shaping import (
    ALPHA,
    LengthUnit,
    consistent,
    evidence_bonus,
    hybrid,
    length_of,
    length_scaled,
    length_shares,
    progress_of,
    trusted,
)
from .types import Sample, Score

STRICT: dict[str, Any] = {"extra": "forbid"}
"""Pydantic's configuration of a step: an unknown option is an error, as in `config.Strict`."""
Column = Sequence[Score]


class Step(ABC):
    """A step: rows that lack a fact or a group are set aside and fail, the others go through `apply`."""

    compares: ClassVar[bool] = False
    measures: ClassVar[bool] = False

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """The rewards whose columns `apply` takes, in this order; the first is rewritten."""

    @property
    def rewrites(self) -> str:
        return self.reads[0]

    def fact(self, sample: Sample) -> Fact:
        return None

    @abstractmethod
    def range(self, ranges: Ranges) -> Interval:
        """The range of its results, from the ranges of the rewards it reads."""

    @abstractmethod
    def apply(self, *columns: Column, groups: Sequence[str], facts: Sequence[float]) -> list[Score]:
        """The new column of rows that have all they need."""

    def __call__(self, columns: Columns, groups: Groups, facts: Sequence[Fact]) -> list[Score]:
        result = list(columns[self.rewrites])
        known = groups or [None] * len(result)
        rows = []
        for row, (score, fact) in enumerate(zip(result, facts, strict=True)):
            if not (score.ok or self.measures):
                continue  # a failed accuracy stays as it is
            if fact is not None and not fact.ok:
                result[row] = fact
            elif self.compares and known[row] is None:
                result[row] = Score.failed("missing", "shaping compares groups, and this sample has none")
            else:
                rows.append(row)
        shaped = self.apply(
            *([columns[name][row] for row in rows] for name in self.reads),
            groups=[str(known[row]) for row in rows],
            facts=[math.nan if (fact := facts[row]) is None else fact.value for row in rows],
        )
        for row, score in zip(rows, shaped, strict=True):
            result[row] = score
        return result


@dataclass(frozen=True, kw_only=True)
class Trusted(Step):
    """`shaping.trusted`: a thinking reward by the trust it deserves in each group, annealed over training.

    Args:
        accuracy, thinking: rewards.
        alpha: weight of the thinking reward at the first step.
        right: accuracies from here up count as right.
        progress: 0 to 1, for data that does not say how far training is (see `shaping.progress_of`), as in an
            evaluation; without it such a sample fails.

    Raises:
        ValueError: a negative alpha, or a progress outside [0, 1].
    """

    __pydantic_config__: ClassVar = STRICT
    compares: ClassVar[bool] = True

    accuracy: str
    thinking: str
    name: Literal["trusted"] = "trusted"
    alpha: float = ALPHA
    right: float = 0.5
    progress: float | None = None

    def __post_init__(self) -> None:
        _amount("alpha", self.alpha)
        if self.progress is not None and not 0 <= self.progress <= 1:
            raise ValueError(f"progress is {self.progress}; it lies in [0, 1]")

    @property
    def reads(self) -> tuple[str, ...]:
        return self.accuracy, self.thinking

    def fact(self, sample: Sample) -> Fact:
        given = any(sample.meta.get(key) is not None for key in ("progress", "step", "total_steps"))
        if not given and self.progress is not None:
            return Score(self.progress)
        try:
            return Score(progress_of(sample.meta))
        except Unscorable as error:
            return Score.failed(error.status, str(error))

    def range(self, ranges: Ranges) -> Interval:
        (low, high), (least, most) = ranges[self.accuracy], ranges[self.thinking]
        return low + self.alpha * min(0.0, least), high + self.alpha * max(0.0, most)

    def apply(self, *columns: Column, groups: Sequence[str], facts: Sequence[float]) -> list[Score]:
        accuracy, thinking = columns
        return trusted(accuracy, thinking, groups, facts, alpha=self.alpha, right=self.right)


@dataclass(frozen=True, kw_only=True)
class EvidenceBonus(Step):
    """`shaping.evidence_bonus`: a bonus for right answers whose reasoning is grounded.

    Args:
        accuracy, evidence: rewards.
        bonus, right, grounded, failed: as there.

    Raises:
        ValueError: a negative bonus.
    """

    __pydantic_config__: ClassVar = STRICT

    accuracy: str
    evidence: str
    name: Literal["evidence_bonus"] = "evidence_bonus"
    bonus: float = 0.3
    right: float = 0.5
    grounded: float = 0.5
    failed: Policy = "propagate"

    def __post_init__(self) -> None:
        _amount("bonus", self.bonus)

    @property
    def reads(self) -> tuple[str, ...]:
        return self.accuracy, self.evidence

    def range(self, ranges: Ranges) -> Interval:
        low, high = ranges[self.accuracy]
        return low, high + self.bonus

    def apply(self, *columns: Column, groups: Sequence[str], facts: Sequence[float]) -> list[Score]:
        accuracy, evidence = columns
        options = {"bonus": self.bonus, "right": self.right, "grounded": self.grounded}
        return evidence_bonus(accuracy, evidence, **options, failed=self.failed)


@dataclass(frozen=True, kw_only=True)
class Consistent(Step):
    """`shaping.consistent`: an accuracy that is raised by consistent reasoning and lowered by the contrary.

    Args:
        accuracy, consistency: rewards.
        weight, failed: as there.

    Raises:
        ValueError: a weight outside [0, 1].
    """

    __pydantic_config__: ClassVar = STRICT

    accuracy: str
    consistency: str
    name: Literal["consistent"] = "consistent"
    weight: float = 0.5
    failed: Policy = "drop"

    def __post_init__(self) -> None:
        self.apply([], [], groups=[], facts=[])

    @property
    def reads(self) -> tuple[str, ...]:
        return self.accuracy, self.consistency

    def range(self, ranges: Ranges) -> Interval:
        low, high = ranges[self.accuracy]
        return low * (1 + math.copysign(self.weight, -low)), high * (1 + math.copysign(self.weight, high))

    def apply(self, *columns: Column, groups: Sequence[str], facts: Sequence[float]) -> list[Score]:
        accuracy, consistency = columns
        return consistent(accuracy, consistency, weight=self.weight, failed=self.failed)


@dataclass(frozen=True, kw_only=True)
class Hybrid(Step):
    """`shaping.hybrid`: a rule where it can decide, a model where it cannot; rewrites the rule.

    Args:
        rule, model: rewards in one range.
        confidence: how far the rule can decide, 0 to 1: a number for all samples, or the key of `Sample.meta`
            that holds each question's.
        sure: the model's part that says how sure it is, such as "confidence" of a judge that votes: its
            weight is times that; "" takes every score of it for sure.

    Raises:
        ValueError: a number outside [0, 1].
    """

    __pydantic_config__: ClassVar = STRICT
    measures: ClassVar[bool] = True

    rule: str
    model: str
    name: Literal["hybrid"] = "hybrid"
    confidence: float | str = "confidence"
    sure: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.confidence, str) and not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence is {self.confidence}; it lies in [0, 1]")

    @property
    def reads(self) -> tuple[str, ...]:
        return self.rule, self.model

    def fact(self, sample: Sample) -> Fact:
        if not isinstance(self.confidence, str):
            return Score(self.confidence)
        given = sample.meta.get(self.confidence)
        if given is None:
            return Score.failed("missing", f"the sample has no meta[{self.confidence!r}]")
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
            return Score.failed("error", f"meta[{self.confidence!r}] is {given!r}, not a number from 0 to 1")
        return Score(float(given))

    def range(self, ranges: Ranges) -> Interval:
        (low, high), (least, most) = ranges[self.rule], ranges[self.model]
        return min(low, least), max(high, most)

    def apply(self, *columns: Column, groups: Sequence[str], facts: Sequence[float]) -> list[Score]:
        rule, model = columns
        return hybrid(rule, model, facts, sure=self.sure)


@dataclass(frozen=True, kw_only=True)
class LengthScaled(Step):
    """`shaping.length_scaled`: a right answer by its length on a cosine, a wrong one below nothing.

    Args:
        accuracy: a reward.
        limit, right, wrong, threshold: as there.
        unit: what is counted, see `shaping.length_of`.

    Raises:
        ValueError: as there.
    """

    __pydantic_config__: ClassVar = STRICT

    accuracy: str
    limit: float
    name: Literal["length_scaled"] = "length_scaled"
    right: Interval = (1.0, 0.5)
    wrong: Interval = (-0.5, 0.0)
    threshold: float = 0.5
    unit: LengthUnit = "tokens"

    def __post_init__(self) -> None:
        self.apply([], groups=[], facts=[])

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.accuracy,)

    def fact(self, sample: Sample) -> Fact:
        return _length(sample, self.unit)

    def range(self, ranges: Ranges) -> Interval:
        return min(self.wrong), max(self.right)

    def apply(self, *columns: Column, groups: Sequence[str], facts: Sequence[float]) -> list[Score]:
        ends = {"right": self.right, "wrong": self.wrong}
        return length_scaled(columns[0], facts, limit=self.limit, **ends, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True)
class LengthShares(Step):
    """`shaping.length_shares`, added with a weight: the shortest right answers of a group above its longest.

    Args:
        accuracy: a reward.
        weight: of the share, which lies in [-0.5, 0.5]; below the worth of being right.
        right: accuracies from here up count as right.
        unit: what is counted, see `shaping.length_of`.

    Raises:
        ValueError: a negative weight.
    """

    __pydantic_config__: ClassVar = STRICT
    compares: ClassVar[bool] = True

    accuracy: str
    weight: float
    name: Literal["length_shares"] = "length_shares"
    right: float = 0.5
    unit: LengthUnit = "tokens"

    def __post_init__(self) -> None:
        _amount("weight", self.weight)

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.accuracy,)

    def fact(self, sample: Sample) -> Fact:
        return _length(sample, self.unit)

    def range(self, ranges: Ranges) -> Interval:
        low, high = ranges[self.accuracy]
        return low - self.weight / 2, high + self.weight / 2

    def apply(self, *columns: Column, groups: Sequence[str], facts: Sequence[float]) -> list[Score]:
        shares = length_shares(facts, columns[0], groups, right=self.right)
        return [
            Score(score.value + self.weight * share, {"accuracy": score.value, "length": self.weight * share})
            for score, share in zip(columns[0], shares, strict=True)
        ]


AnyStep = Trusted | EvidenceBonus | Consistent | Hybrid | LengthScaled | LengthShares
STEPS = ("trusted", "evidence_bonus", "consistent", "hybrid", "length_scaled", "length_shares")
"""Names in YAML, one per class of `AnyStep`."""


def _amount(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}; it is at least 0")


def _length(sample: Sample, unit: LengthUnit) -> Score:
    try:
        return Score(float(length_of(sample.response or "", sample.meta, unit)))
    except Unscorable as error:
        return Score.failed(error.status, str(error))

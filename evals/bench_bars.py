"""What the speed comparison must show, and whether it does. Knows nothing of networks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .bench_contest import Outcome

Rival = Literal["loop", "batches", "bare"]
TOLERANCE = 1e-4
"""Values may differ from the loop's by this much in float32; other types round more coarsely."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The engine must be at least `times` as fast as the rival on workloads whose name matches."""

    workload: str
    rival: Rival
    times: float

    def __str__(self) -> str:
        if self.rival == "bare":
            return f"at least {self.times:.0%} of the bare forward's speed"
        return f"{self.times:g}x over {'the loop' if self.rival == 'loop' else 'batches'}"


BARS = (
    Bar("checklist K=8", "loop", 6.0),
    Bar("checklist K=8", "batches", 5.0),
    Bar("listener G=8", "loop", 4.0),
    Bar("five CLIP rewards", "batches", 3.0),
    Bar("checklist K=8|listener G=8|five CLIP rewards", "bare", 0.95),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar, and the ratio that was measured."""

    bar: Bar
    measured: float

    @property
    def met(self) -> bool:
        return self.measured >= self.bar.times

    def __str__(self) -> str:
        measured = f"{self.measured:.0%}" if self.bar.rival == "bare" else f"{self.measured:.1f}x"
        return f"{self.bar}: {measured} {'met' if self.met else 'MISSED'}"


def ratio(outcomes: Mapping[str, Outcome], rival: Rival) -> float:
    """How many times as fast as the rival the engine is, by the medians."""
    return outcomes[rival].median / outcomes["engine"].median


def verdicts(workload: str, outcomes: Mapping[str, Outcome]) -> list[Verdict]:
    """The bars of this workload, measured."""
    return [Verdict(bar, ratio(outcomes, bar.rival)) for bar in BARS if re.fullmatch(bar.workload, workload)]


def equal(outcomes: Mapping[str, Outcome], tolerance: float = TOLERANCE) -> bool:
    """Whether every contender computed what the loop did."""
    return all(outcome.difference <= tolerance for outcome in outcomes.values())

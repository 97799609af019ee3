"""Which samples of a prompt make preference pairs: pure functions over scores. Knows no pictures, no files.

The outcome does not depend on the order of the samples: among equals the smaller id comes first.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

Choice = Literal["best_worst", "ends", "all"]
CHOICES: tuple[Choice, ...] = ("best_worst", "ends", "all")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample that may become half of a pair.

    Args:
        id: names the sample.
        group: samples with the same one are compared.
        score: higher is better; NaN where it failed.
        content: hash of the picture; samples of a group that share it are one.
        others: scores of the rewards that must not disagree, higher is better, NaN where they failed.
    """

    id: str
    group: tuple[str, ...]
    score: float
    content: str
    others: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How pairs are chosen.

    Args:
        choose: "best_worst" takes the best against the worst sample of a group; "ends" goes on with the
            second best against the second worst and so on; "all" takes any two, those farthest apart first.
        margin: the smallest difference that counts, in units of the score. Equal scores never make a pair.
        per_prompt: pairs of one group at most; None for no limit.

    Raises:
        ValueError: an unknown choice, a margin that is negative or no number, or a limit below 1.
    """

    choose: Choice = "best_worst"
    margin: float = 0.0
    per_prompt: int | None = None

    def __post_init__(self) -> None:
        if self.choose not in CHOICES:
            raise ValueError(f"choose is one of {', '.join(CHOICES)}, not {self.choose!r}")
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(f"margin is {self.margin}; it is a number from 0 up")
        if self.per_prompt is not None and self.per_prompt < 1:
            raise ValueError(f"per_prompt is {self.per_prompt}; it is at least 1")


BEST_AGAINST_WORST = Rules()


class Pair(NamedTuple):
    """Two samples of one group, the first of which has the higher score."""

    chosen: Candidate
    rejected: Candidate

    @property
    def margin(self) -> float:
        return self.chosen.score - self.rejected.score


@dataclass(slots=True)
class Counts:
    """What became of the samples, and of the pairs that were looked at."""

    groups: int = 0
    failed: int = 0
    """Samples without a score, of the reward itself or of one that must not disagree."""
    duplicates: int = 0
    """Samples whose picture another one of the group has."""
    ties: int = 0
    close: int = 0
    """Pairs closer than the margin."""
    disagreements: int = 0
    pairs: int = 0

    def add(self, other: "Counts") -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def choose_pairs(
    candidates: Iterable[Candidate], rules: Rules = BEST_AGAINST_WORST
) -> tuple[list[Pair], Counts]:
    """The pairs of every group, groups in the order of their names."""
    groups: dict[tuple[str, ...], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    pairs: list[Pair] = []
    counts = Counts()
    for _, members in sorted(groups.items()):
        found, counted = _choose_within(members, rules)
        pairs += found
        counts.add(counted)
    return pairs, counts


def _choose_within(members: Sequence[Candidate], rules: Rules) -> tuple[list[Pair], Counts]:
    usable = [one for one in members if all(map(math.isfinite, (one.score, *one.others)))]
    ranked = sorted(_distinct(usable), key=lambda one: (-one.score, one.id))
    counts = Counts(groups=1, failed=len(members) - len(usable), duplicates=len(usable) - len(ranked))
    found: list[Pair] = []
    for pair in _proposed(ranked, rules.choose):
        if pair.margin == 0:
            counts.ties += 1
        elif pair.margin < rules.margin:
            counts.close += 1
        elif any(r > c for c, r in zip(pair.chosen.others, pair.rejected.others, strict=True)):
            counts.disagreements += 1
        elif rules.per_prompt is None or len(found) < rules.per_prompt:
            found.append(pair)
    counts.pairs = len(found)
    return found, counts


def _distinct(members: Iterable[Candidate]) -> list[Candidate]:
    """One sample per picture."""
    first: dict[str, Candidate] = {}
    for one in sorted(members, key=lambda one: one.id):
        first.setdefault(one.content, one)
    return list(first.values())


def _proposed(ranked: Sequence[Candidate], choose: Choice) -> Iterator[Pair]:
    """Pairs of samples that are ordered from best to worst, in the order they are taken."""
    if choose == "all":
        every = itertools.starmap(Pair, itertools.combinations(ranked, 2))
        yield from sorted(every, key=lambda pair: (-pair.margin, pair.chosen.id, pair.rejected.id))
        return
    number = len(ranked) // 2 if choose == "ends" else min(1, len(ranked) // 2)
    for place in range(number):
        yield Pair(ranked[place], ranked[-1 - place])

"""Failures of a run: grouped by reason for the reader, and the probe for what no row can be blamed for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import FINE, UNAVAILABLE, Status, Unavailable
from ..registry import Reward
from ..types import Score
from .rows import Row

FIRST = 4
"""Rows that are scored before the others, to see whether the rewards can be computed at all."""
SHOWN = 160
"""Characters of a reason that are printed."""
VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*|\d[\d.,]*")
"""Names, paths and numbers, in which reasons of one kind differ."""


@dataclass(frozen=True, slots=True)
class Group:
    """Failed scores of one reward for one reason; `example` is the id of one of them."""

    reward: str
    status: Status
    reason: str
    number: int
    example: str

    def __str__(self) -> str:
        reason = " ".join(self.reason.split())
        shown = reason if len(reason) <= SHOWN else reason[: SHOWN - 3] + "..."
        return f"{self.number} x {self.reward}: {self.status}, {shown} (such as {self.example})"

    @property
    def remedy(self) -> str:
        """The words that say when such a score is computed again."""
        if self.status == "error" and UNAVAILABLE in self.reason:
            return "what was unavailable is tried again by the next run"
        if self.status == "timeout":
            return "give timeouts more seconds with --timeout, and --retry-failed"
        return "a row is scored again when it has changed, or with --retry-failed"


def grouped(ids: Sequence[str], columns: Mapping[str, Sequence[Score]]) -> list[Group]:
    """Failures by reward, status and reason, the most frequent first; names and numbers may differ.

    Args:
        ids: of the rows.
        columns: by reward, a score for each row.
    """
    found: dict[tuple[str, Status, str], Group] = {}
    for name, column in columns.items():
        for row, score in zip(ids, column, strict=True):
            if score.status not in FINE:
                key = (name, score.status, VARYING.sub("*", score.note)[:SHOWN])
                known = found.get(key)
                if known is None:
                    found[key] = Group(name, score.status, score.note, 1, row)
                else:
                    found[key] = Group(name, score.status, known.reason, known.number + 1, known.example)
    return sorted(found.values(), key=lambda group: -group.number)


def lines(failures: Sequence[Group], limit: int = 8) -> Iterator[str]:
    """The groups as text: one line each, how many more there are, and what would compute them again."""
    for group in failures[:limit]:
        yield f"  {group}"
    if more := failures[limit:]:
        yield f"  {sum(group.number for group in more)} more, for {len(more)} other reasons"
    yield from (f"  {remedy}" for remedy in dict.fromkeys(group.remedy for group in failures))


class Probe:
    """A few rows scored before all others; a reward that is unavailable for each of them stops the run.

    Rows that fail for a reason of their own say nothing about a reward, so the next ones are looked at.

    Args:
        rewards: of the run.
    """

    def __init__(self, rewards: Mapping[str, Reward]) -> None:
        self._rewards = rewards
        self._open = dict.fromkeys(rewards)
        self._troubles: dict[str, list[str]] = {}

    def open(self, names: Sequence[str]) -> bool:
        """True while nothing is known of one of these rewards."""
        return any(name in self._open for name in names)

    def parts(self, rows: list[Row], names: Sequence[str]) -> Iterator[list[Row]]:
        """The rows in parts: small ones that grow as long as nothing is known, then all that are left.

        A reward that compares samples gets its groups whole.
        """
        size = FIRST
        compares = any(self._rewards[name].info.arity != "point" for name in names)
        while rows and self.open(names):
            first = rows[:size]
            if compares:
                groups = {row.sample.group for row in first if row.sample is not None}
                first = [row for row in rows if row.sample is not None and row.sample.group in groups]
            yield first
            taken = {row.id for row in first}
            rows = [row for row in rows if row.id not in taken]
            size *= 4
        if rows:
            yield rows

    def look(self, name: str, score: Score) -> None:
        """Take note of a score of the probe."""
        if score.status == "error" and UNAVAILABLE in score.note:
            self._troubles.setdefault(name, []).append(score.note)
        elif score.ok:
            self._open.pop(name, None)

    def check(self) -> None:
        """Stop the run where a reward has failed for every row that could have told.

        Raises:
            Unavailable: with the first reason.
        """
        for name, notes in self._troubles.items():
            if name in self._open:
                reason = " ".join(notes[0].replace(UNAVAILABLE, "").split())
                raise Unavailable(f"{name} can be computed for no row, so nothing was scored: {reason}")
        self._troubles.clear()

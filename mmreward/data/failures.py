"""Failures of a run, grouped by reason for the reader, with the words that say what computes them again."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import FINE, UNAVAILABLE, Status
from ..types import Score

SHOWN = 160
"""Characters of a reason that are printed."""
VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*|\d[\d.,]*")
"""Names, paths and numbers, in which reasons of one kind differ."""
LACKING = re.compile(r"the sample has no (?P<name>[a-z_]+)$")
"""The reason of `types.lacking` where one field is empty and no column is nearly called so."""


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
        """The words that say what helps, and when such a score is computed again."""
        if self.status == "error" and UNAVAILABLE in self.reason:
            return "what was unavailable is tried again by the next run"
        if self.status == "timeout":
            return "give timeouts more seconds with --timeout, and --retry-failed"
        if self.status == "missing" and (lacks := LACKING.match(self.reason)):
            name = lacks["name"]
            beside = ", a .txt file beside each picture or metadata.jsonl" if name == "prompt" else ""
            return (
                f"a row's {name} comes from a column of this name (--map {name}=COLUMN takes another)"
                f"{beside}; it is scored again when it has changed"
            )
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

"""Findings of a search or a refinement, read from its folder: gains of the chosen pictures, revisions.

The page of scores shows them above the samples, where history.jsonl lies beside the results. Knows nothing of
HTML, and nothing of how the search was done.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmreward.monitor.intervals import Measured, paired_change

from .scored import Column, ScoredRun

HISTORY = "history.jsonl"


class Gain(NamedTuple):
    """A reward's means over the first and the chosen picture of each prompt, and the paired change."""

    column: Column
    first: float
    chosen: float
    change: Measured
    prompts: int
    decided: bool
    """True where the reward had a say in the choice, as far as the history tells."""

    @property
    def direction(self) -> str:
        """ "better" or "worse" beyond chance, else "unknown"."""
        between = self.change.interval
        if between is None or between.low <= 0 <= between.high:
            return "unknown"
        return "better" if (between.low > 0) == self.column.higher_is_better else "worse"


class Link(NamedTuple):
    """One picture of a chain: what it was drawn from, its total, and what was said about it."""

    name: str
    round: int
    prompt: str
    changed: bool
    total: float
    kept: bool
    complaints: tuple[str, ...]
    trouble: str


@dataclass(frozen=True)
class Chain:
    """The best picture of every round of one prompt, in order, and why it ended."""

    prompt: str
    stopped: str
    links: Sequence[Link]


@dataclass(frozen=True)
class Search:
    """The lines of a history, one for each prompt."""

    lines: Sequence[Mapping[str, Any]]

    @property
    def forwards(self) -> float:
        """Mean passes of the generator's network for a prompt."""
        known = [float(line["forwards"]) for line in self.lines if "forwards" in line]
        return math.fsum(known) / len(known) if known else math.nan

    def gains(self, run: ScoredRun) -> list[Gain]:
        """A gain for each column; empty where no prompt has a chosen picture among these samples."""
        places = {name: index for index, name in enumerate(run.ids)}
        pairs = []
        for line in self.lines:
            first, best = f"{line.get('id')}-000", line.get("best")
            if first in places and best in places:
                pairs.append((places[first], places[best]))
        if not pairs:
            return []
        deciding = {name for line in self.lines for one in line.get("attempts", ()) for name in one["scores"]}
        return [_gain(column, pairs, deciding) for column in run.columns]

    def chains(self, limit: int) -> list[Chain]:
        """Chains of revisions of the first prompts; empty where nothing was revised."""
        return [_chain(line) for line in self.lines if line.get("attempts")][:limit]


def search_of(run: ScoredRun) -> Search | None:
    """The search that made a run, if its folder holds a history."""
    path = run.path.parent / HISTORY
    if run.path.stem != "scores" or not path.is_file():
        return None
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError:  # of another program: the page is that of scores alone
        return None
    return Search([line for line in lines if isinstance(line, dict)])


def _gain(column: Column, pairs: Sequence[tuple[int, int]], deciding: set[str]) -> Gain:
    values = [(float(column.values[first]), float(column.values[best])) for first, best in pairs]
    known = [(a, b) for a, b in values if math.isfinite(a) and math.isfinite(b)]
    before, after = [a for a, _ in known], [b for _, b in known]
    n = len(known)
    means = (math.fsum(before) / n, math.fsum(after) / n) if n else (math.nan, math.nan)
    return Gain(column, *means, paired_change(before, after), n, column.name in deciding)


def _chain(line: Mapping[str, Any]) -> Chain:
    by_round: dict[int, tuple[int, Mapping[str, Any]]] = {}
    for index, attempt in enumerate(line["attempts"]):
        best = by_round.get(attempt["round"])
        if best is None or _total(attempt) > _total(best[1]) or "critique" in attempt:
            by_round[attempt["round"]] = (index, attempt)
    links, before = [], str(line.get("prompt", ""))
    for number, (index, attempt) in sorted(by_round.items()):
        name, prompt = f"{line['id']}-{index:03d}", str(attempt["prompt"])
        complaints = tuple(
            f"{one['dimension']} ({one['value']:.3g})" + (f": {one['wish']}" if one.get("wish") else "")
            for one in attempt.get("critique", {}).get("complaints", ())
        )
        revision = attempt.get("revision", {})
        failed = revision.get("note", "") if revision.get("status", "ok") != "ok" else ""
        kept = name == line.get("best")
        links.append(
            Link(name, number, prompt, prompt != before, _total(attempt), kept, complaints, str(failed))
        )
        before = prompt
    return Chain(str(line.get("prompt", "")), str(line.get("stopped", "")), links)


def _total(attempt: Mapping[str, Any]) -> float:
    total = attempt.get("total")
    return float(total) if isinstance(total, int | float) else -math.inf

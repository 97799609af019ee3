"""Best of k: of the candidates for one step or question the one that a judge ranks first.

Rows are candidates, those of one step as `mmreward pairs --responses` groups them: the same group, goal,
screens and history. A reward of one sample scores each; a judge of pairs compares every two in both orders,
and a candidate's score is the share of the others that it leads. Candidates with the same words are one, and
among equals the first row is taken. A step of which nothing could be judged is not chosen for.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..engine.engine import Engine
from ..files import whole_file
from ..registry import Reward
from ..types import Sample
from .columns import Columns
from .pair_columns import Column, Drawn, Judging, content_of, group_of
from .rows import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Outcome of one step.

    Args:
        group: what its candidates have in common, as it is named in the data, or the goal.
        id: of the row that is chosen; "" where none could be judged.
        response: its words.
        score: by which it is the best; NaN where none could be judged.
        margin: to the next one; NaN where there is no other.
        candidates: how many there were, those with the same words counted once.
        judged: how many of them could be judged.
        parts: what the judge says of the score.
    """

    group: str
    id: str
    response: str
    score: float
    margin: float
    candidates: int
    judged: int
    parts: Mapping[str, float]

    @property
    def tied(self) -> bool:
        """True where another one is as good, so that the order of the rows decided."""
        return self.margin == 0

    def record(self) -> dict[str, Any]:
        """The outcome as JSON, where what is not known is null."""
        known = {"score": self.score, "margin": self.margin}
        numbers = {name: None if math.isnan(value) else value for name, value in known.items()}
        told = {"group": self.group, "id": self.id or None, "response": self.response or None}
        counts = {"candidates": self.candidates, "judged": self.judged, "tied": self.tied}
        return {**told, **numbers, **counts, "parts": dict(self.parts)}


def best_of(rows: Sequence[Drawn], judge: Judging) -> list[Chosen]:
    """The best candidate of each step, in the order in which the steps come, by the only reward of `judge`.

    Raises:
        ValueError: a step with more candidates than a judge of pairs compares; several rewards.
    """
    if len(judge.rewards) != 1:
        raise ValueError(f"candidates are ranked by one reward, not by {', '.join(judge.rewards) or 'none'}")
    steps: dict[tuple[str, ...], dict[str, Drawn]] = {}
    for row in rows:
        steps.setdefault(row.group, {}).setdefault(content_of(row.sample, "responses"), row)
    members = [row for step in steps.values() for row in step.values()]
    ((_, column),) = judge.judged(members).items()
    return [_chosen(list(step.values()), column) for step in steps.values()]


def _chosen(rows: Sequence[Drawn], column: Column) -> Chosen:
    named = rows[0].sample.group or rows[0].sample.prompt
    worth = [column.worth(row.id) for row in rows]
    # Of a pair the order of its rows decides nothing: `max` takes the first of equals.
    known = [place for place, value in enumerate(worth) if math.isfinite(value)]
    if not known:
        return Chosen(group=named, id="", response="", score=math.nan, margin=math.nan,
                      candidates=len(rows), judged=0, parts={})  # fmt: skip
    best = max(known, key=lambda place: worth[place])
    others = [worth[place] for place in known if place != best]
    chosen = rows[best]
    return Chosen(
        group=named,
        id=chosen.id,
        response=chosen.sample.response or "",
        score=column.values[chosen.id],
        margin=worth[best] - max(others) if others else math.nan,
        candidates=len(rows),
        judged=len(known),
        parts=column.parts.get(chosen.id, {}),
    )


def choose(
    samples: Sequence[Sample], reward: Reward, engine: Engine, *, timeout: float | None = None
) -> Chosen:
    """The best of samples that are candidates of one step, whatever group they name; the id of the chosen one
    is its number among them.

    Raises:
        ValueError: none of them has words; see also `best_of`.
    """
    rows = [
        Drawn(str(number), replace(sample, group="step"), ("step",))
        for number, sample in enumerate(samples)
        if content_of(sample, "responses")
    ]
    if not rows:
        raise ValueError("no candidate has a response, and a goal in its prompt")
    if len({content_of(row.sample, "responses") for row in rows}) == 1:
        return Chosen(group="step", id=rows[0].id, response=rows[0].sample.response or "", score=math.nan,
                      margin=math.nan, candidates=1, judged=0, parts={})  # fmt: skip
    (found,) = best_of(rows, Judging(engine, {reward.info.name: reward}, timeout))
    return found


def choose_file(data: Path, out: Path, judge: Judging, columns: Columns | None = None) -> list[Chosen]:
    """Choose for every step of a data set and write a JSON line for each.

    Raises:
        ValueError: rows that cannot be read, or none with a response.
    """
    rows = [
        Drawn(row.id, row.sample, group_of(row.sample, "responses"))
        for row in read_rows(data, columns or {})
        if row.sample is not None and content_of(row.sample, "responses")
    ]
    if not rows:
        raise ValueError(f"{data} has no row with a prompt and a response")
    found = best_of(rows, judge)
    with whole_file(out) as part:
        lines = [json.dumps(one.record(), ensure_ascii=False) for one in found]
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return found

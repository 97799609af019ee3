"""Credit of the steps of finished episodes, `mmreward credit`: what `step_credit` computes from marks,
preferences or outcomes, for the rows of a data set.

| by | what it reads | what a step gets |
| --- | --- | --- |
| salt | outcomes of trajectories, and groups | the mean advantage of all that share the step (SALT) |
| oprl | the same, and log-probabilities of two models | its trajectory's advantage, its implicit reward |
| clip | marks of steps | what the mark is below a threshold |
| delta | marks of steps | the mark less the next one |
| pure | marks of steps | the mark by its weight in the softest minimum (PURE) |

Marks and outcomes come from the steps and rows themselves or out of stored scores. A trajectory that lacks
one has no credit, with its reason, and counts for nothing in its group's.
"""

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ..errors import Unscorable
from ..files import whole_file
from ..media import Media
from ..step_credit import (
    blended,
    clipped,
    delta,
    implicit_rewards,
    soft_min_credit,
    step_advantages,
)
from ..trajectories import column
from ..types import Sample, Score
from .columns import Columns
from .results import Result, read
from .rows import read_rows

By = Literal["salt", "oprl", "clip", "delta", "pure"]
BYS: tuple[By, ...] = get_args(By)
OUTCOMES = ("salt", "oprl")
"""Those that compare the trajectories of a group by their outcomes; the others read marks of steps."""
Advantage = Literal["grpo", "mean", "none"]
ENDINGS = (".jsonl", ".parquet")
SHOWN = 5
"""Reasons that a summary shows."""


@dataclass(frozen=True, slots=True)
class Crediting:
    """How steps are credited.

    Args:
        by: see the top of this file.
        outcome: key of `meta`, or "target", that holds a trajectory's outcome, where no scores are given.
        marks: key of a step that holds its mark, where no scores are given.
        advantage: of an outcome in its group: "grpo", less the mean and by the deviation; "mean", less the
            mean; "none", as it is.
        same: keys by which steps are the same, of salt; an observation is compared by its content.
        history: equal steps before it that salt asks for; None: all of them.
        threshold: of clip; None: four fifths of all marks lie below.
        answered: the last step is the answer, which delta does not credit.
        temperature: of pure.
        chosen, before: keys of a step with its log-probability under the model that was trained on
            preferences, and under the policy, of oprl.
        beta, weight: of oprl.

    Raises:
        ValueError: no such way, no keys, or a number that is none.
    """

    by: By
    outcome: str = "target"
    marks: str = "reward"
    advantage: Advantage = "grpo"
    same: tuple[str, ...] = ("observation", "action")
    history: int | None = None
    threshold: float | None = None
    answered: bool = False
    temperature: float = 0.1
    chosen: str = "logprob_chosen"
    before: str = "logprob"
    beta: float = 0.05
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.by not in BYS:
            raise ValueError(f"by is {self.by!r}: {', '.join(BYS)}")
        if self.advantage not in get_args(Advantage):
            raise ValueError(f"advantage is {self.advantage!r}: {', '.join(get_args(Advantage))}")
        if not self.same or not all(self.same):
            raise ValueError("steps are the same by one key at least, such as action")
        if not math.isfinite(self.weight):
            raise ValueError(f"weight is {self.weight}: a number")


Credited = list[float] | str
"""Credit of each step; or the reason why there is none."""


def credits_of(
    samples: Sequence[Sample], how: Crediting, scores: Sequence[Score | None] | None = None
) -> list[Credited]:
    """Credit of the steps of trajectories, for trainers and scripts that have them in memory.

    Args:
        samples: with `steps`; those of one `group`, or of one prompt where there is none, are compared.
        how: see there.
        scores: of the samples, in their order: the value is the outcome, `frame_N` of the parts the mark of
            step N. None: outcomes and marks are the rows' own.

    Raises:
        ValueError: not as many scores, or settings that the numbers do not go with.
    """
    if scores is not None and len(scores) != len(samples):
        raise ValueError(f"{len(scores)} scores for {len(samples)} samples: give one for each")
    given: Sequence[Score | None] = [None] * len(samples) if scores is None else scores
    found: list[Credited | None] = [None] * len(samples)
    ready: list[tuple[int, Any]] = []
    for place, (sample, score) in enumerate(zip(samples, given, strict=True)):
        try:
            ready.append((place, _facts(sample, how, score, scores is not None)))
        except Unscorable as error:
            found[place] = str(error)
    for place, credit in _compared(samples, ready, how) if how.by in OUTCOMES else _alone(ready, how):
        found[place] = credit
    return [one if one is not None else "it has no steps" for one in found]


def _facts(sample: Sample, how: Crediting, score: Score | None, stored: bool) -> Any:
    """What a trajectory is credited by.

    Raises:
        Unscorable: it lacks it.
    """
    if not sample.steps:
        raise Unscorable("it has no steps", "missing")
    if stored and (score is None or not score.ok):
        raise Unscorable("it has no score" if score is None else f"its score failed: {score.note}", "missing")
    if how.by not in OUTCOMES:
        if score is None:
            return _column(sample, how.marks)
        names = [f"frame_{number}" for number in range(len(sample.steps))]
        return [_number(score.parts.get(name), "the score", name) for name in names]
    own = sample.target if how.outcome == "target" else sample.meta.get(how.outcome)
    outcome = score.value if score is not None else _number(own, "the row", how.outcome)
    if how.by == "salt":
        return outcome, [_same(step, how.same, number) for number, step in enumerate(sample.steps)]
    return outcome, [_column(sample, key) for key in (how.chosen, how.before)]


def _column(sample: Sample, key: str) -> list[float]:
    """The number of each step under a key."""
    found = column(sample.steps, key)
    return [_number(value, f"step {number}", key) for number, value in enumerate(found)]


def _number(value: Any, of: str, key: str) -> float:
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise Unscorable(f"{of} has {value!r} in {key!r}, where a number is", "missing")
    return float(value)


def _same(step: Any, keys: Sequence[str], number: int) -> Hashable:
    """What makes a step the same as another.

    Raises:
        Unscorable: it has none of the keys, so that it would be the same as every other such step.
    """
    if isinstance(step, str):
        return step
    found = {key: _content(step[key]) for key in keys if step.get(key) is not None}
    if not found:
        raise Unscorable(
            f"step {number} has none of {', '.join(keys)}, by which steps are the same", "missing"
        )
    return json.dumps(found, sort_keys=True)


def _content(value: Any) -> Any:
    if isinstance(value, Media):
        return value.key
    if isinstance(value, Mapping):
        return {str(key): _content(one) for key, one in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_content(one) for one in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _alone(ready: Sequence[tuple[int, Any]], how: Crediting) -> list[tuple[int, Credited]]:
    """Credit by marks, each trajectory by itself."""
    if not ready:
        return []
    if how.by == "clip":
        every = np.concatenate([marks for _, marks in ready])
        threshold = float(np.quantile(every, 0.8)) if how.threshold is None else how.threshold
        return [(place, clipped(marks, threshold).tolist()) for place, marks in ready]
    if how.by == "delta":
        return [(place, delta(marks, answered=how.answered).tolist()) for place, marks in ready]
    soft = how.temperature
    return [(place, soft_min_credit(marks, temperature=soft).rewards.tolist()) for place, marks in ready]


def _compared(
    samples: Sequence[Sample], ready: Sequence[tuple[int, Any]], how: Crediting
) -> list[tuple[int, Credited]]:
    """Credit by outcomes, within groups."""
    groups: dict[Hashable, list[tuple[int, Any]]] = defaultdict(list)
    for place, facts in ready:
        group = samples[place].group
        name = ("prompt", samples[place].prompt) if group is None else ("group", group)
        groups[name].append((place, facts))
    found: list[tuple[int, Credited]] = []
    for members in groups.values():
        outcomes = _advantages(np.array([facts[0] for _, facts in members]), how.advantage)
        if how.by == "salt":
            rows = step_advantages(outcomes, [facts[1] for _, facts in members], history=how.history)
        else:
            rewards = [implicit_rewards(*facts[1], beta=how.beta) for _, facts in members]
            rows = blended(outcomes, rewards, weight=how.weight)
        found += [(place, row.tolist()) for (place, _), row in zip(members, rows, strict=True)]
    return found


def _advantages(outcomes: "np.ndarray[Any, Any]", kind: Advantage) -> "np.ndarray[Any, Any]":
    if kind == "none":
        return outcomes
    centred = outcomes - outcomes.mean()
    deviation = outcomes.std()
    found: np.ndarray[Any, Any] = centred if kind == "mean" or deviation < 1e-12 else centred / deviation
    return found


# --- files --------------------------------------------------------------------------------------------------


class CreditSummary(NamedTuple):
    """Counts of a run, and the reason of each trajectory without credit."""

    by: str
    trajectories: int
    steps: int
    without: tuple[str, ...]
    out: Path

    @property
    def failure_rate(self) -> float:
        return len(self.without) / max(self.trajectories + len(self.without), 1)

    def __str__(self) -> str:
        lines = [f"{self.by}: {self.trajectories} trajectories with {self.steps} steps credited"]
        if self.without:
            lines += [f"without credit: {len(self.without)}", *(f"  {one}" for one in self.without[:SHOWN])]
        return "\n".join([*lines, f"-> {self.out}"])


def credit_file(
    data: Path,
    out: Path,
    how: Crediting,
    *,
    scores: Path | None = None,
    reward: str = "",
    columns: Columns | None = None,
) -> CreditSummary:
    """Credit the steps of a data set and write them to the new file `out`, a row for each trajectory: `id`,
    `group`, `by`, `credit` (a number for each step), and `note`, why there is none.

    Args:
        data: as `mmreward score` reads it; rows have steps.
        out: ends in .jsonl or .parquet.
        how: see there.
        scores: as `mmreward score` wrote them of the same rows; None where the rows have their own numbers.
        reward: whose scores; "" for the only one.
        columns: see `read_rows`.

    Raises:
        ValueError: data or scores that cannot be read, several rewards and none named, an `out` that is there
            or of another ending, or settings that the numbers do not go with.
    """
    if out.suffix not in ENDINGS:
        raise ValueError(f"{out} ends in none of {', '.join(ENDINGS)}")
    if out.exists():
        raise ValueError(f"{out} is there already: give another name")
    rows = list(read_rows(data, columns))
    samples = [row.sample for row in rows if row.sample is not None]
    known = None if scores is None else _stored(read(scores), reward, scores)
    found = credits_of(samples, how, None if known is None else [known.get(sample.id) for sample in samples])
    problems = [f"{row.id}: {row.problem}" for row in rows if row.sample is None]
    written = [
        {
            "id": sample.id,
            "group": sample.group,
            "by": how.by,
            "credit": None if isinstance(credit, str) else credit,
            "note": credit if isinstance(credit, str) else "",
        }
        for sample, credit in zip(samples, found, strict=True)
    ]
    _write(out, written)
    lists = [credit for credit in found if not isinstance(credit, str)]
    problems += [f"{row['id']}: {row['note']}" for row in written if row["note"]]
    return CreditSummary(how.by, len(lists), sum(map(len, lists)), tuple(problems), out)


def _stored(results: Sequence[Result], reward: str, path: Path) -> dict[str, Score]:
    names = sorted({result.reward for result in results})
    if not reward and len(names) != 1:
        raise ValueError(f"{path} has scores of {', '.join(names) or 'no reward'}: name one with --reward")
    if reward and reward not in names:
        raise ValueError(f"{path} has no scores of {reward!r}: there are {', '.join(names)}")
    return {result.id: result.score for result in results if result.reward == (reward or names[0])}


def _write(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with whole_file(out) as part:
        if out.suffix == ".jsonl":
            part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        text, numbers = pa.string(), pa.list_(pa.float64())
        kinds = {"id": text, "group": text, "by": text, "credit": numbers, "note": text}
        table = {name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
        pq.write_table(pa.table(table), part)

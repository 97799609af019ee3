"""Explanations: how one response was read, step by step, and why it earned what it earned.

A reward is scored as ever, by the engine, while somebody listens to the steps that its readers note (see
`tracing`). So an explanation is an account of the scoring itself, and never a second opinion: the score in it
is the score that a run stores.
"""

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..compose import Recipe, total_of
from ..engine.engine import Engine
from ..loading import load
from ..registry import Reward, find
from ..tracing import Note, listening, shown, within
from ..trajectories import told
from ..types import RewardInfo, Sample, Score
from .columns import Columns
from .results import TOTAL
from .rows import read_rows

GIVEN = ("prompt", "image", "video", "inputs", "steps", "response", "target", "source", "group", "meta")
"""Fields of a sample that an explanation shows, where they are filled."""
NEAR = 4096
"""Rows among which one of nearly the same id is looked for."""


@dataclass(frozen=True)
class Explanation:
    """One score with the way to it; as text, `str()`.

    Args:
        name: of the score in its run.
        info: facts about the reward.
        args: those that differ from the reward's defaults.
        sample: as the reward saw it.
        steps: what the readers noted, in order; those of a member of a combined reward carry its name.
        score: what came of it.
    """

    name: str
    info: RewardInfo
    args: Mapping[str, Any]
    sample: Sample
    steps: Sequence[Note]
    score: Score = field(repr=False)

    @property
    def why(self) -> str:
        """Reason of the score in one line: its note, or the step that decided."""
        score = self.score
        if not score.ok:
            return f"no score ({score.status}), which no trainer takes for a wrong answer: {score.note}"
        if score.parts.get("parsed") == 0:
            return f"the response could not be read, which is worth as little as a wrong one: {score.note}"
        if score.note:
            return score.note
        own = [step for step in self.steps if not step.member]
        return f"{own[-1].name}: {own[-1].words}" if own else "its parts say"

    def record(self) -> dict[str, Any]:
        """The same for programs, as JSON takes it."""
        score = self.score
        return {
            "id": self.sample.id,
            "name": self.name,
            "reward": self.info.name,
            "args": {key: shown(value) for key, value in self.args.items()},
            "given": dict(self._given()),
            "steps": [step._asdict() for step in self.steps],
            "value": score.value if score.ok else None,
            "range": [end if math.isfinite(end) else None for end in self.info.range],
            "status": score.status,
            "parts": {name: float(part) for name, part in score.parts.items() if math.isfinite(part)},
            "note": score.note,
            "why": self.why,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        title = self.name if self.name == self.info.name else f"{self.name} = {self.info.name}"
        given = ", ".join(f"{key}={shown(value)}" for key, value in self.args.items())
        row = f" on row {self.sample.id}" if self.sample.id else ""
        yield title + (f"({given})" if given else "") + row
        yield "given"
        yield from _columns(self._given())
        yield "read"
        yield from _columns((step.name, step.words) for step in self.steps if not step.member)
        for member in dict.fromkeys(step.member for step in self.steps if step.member):
            yield f"  {member}"
            mine = ((step.name, step.words) for step in self.steps if step.member == member)
            yield from _columns(mine, indent=4)
        if not self.steps:
            yield "  no step: the reward was not called, or notes none"
        yield from self._earned()

    def _earned(self) -> Iterator[str]:
        score, (low, high) = self.score, self.info.range
        if score.ok:
            better = "higher" if self.info.higher_is_better else "lower"
            scale = f" of [{low:g}, {high:g}], {better} is better" if math.isfinite(low) else ""
            yield f"earned {score.value:.6g}{scale}"
        else:
            yield f"earned nothing: {score.status}"
        parts = ((name, f"{value:.6g}") for name, value in score.parts.items())
        yield from _columns([*parts, ("why", self.why)])

    def _given(self) -> Iterator[tuple[str, str]]:
        for name in GIVEN:
            value = getattr(self.sample, name)
            if value or (name in ("target", "response") and value is not None):
                yield name, told(value, shown) if name == "steps" else shown(value)


def _columns(pairs: Iterable[tuple[str, str]], indent: int = 2) -> Iterator[str]:
    """Names and words as two columns; words of several lines stay in theirs."""
    rows = list(pairs)
    width = min(max((len(name) for name, _ in rows), default=0), 24)
    for name, words in rows:
        first, *rest = words.splitlines() or [""]
        yield f"{' ' * indent}{name:<{width}}  {first}".rstrip()
        yield from (f"{' ' * (indent + width + 2)}{line}".rstrip() for line in rest)


def explain(
    sample: Sample, reward: str | Reward, *, engine: Engine | None = None, others: Sequence[Sample] = ()
) -> Explanation:
    """Score one sample and tell how.

    Args:
        sample: what is scored.
        reward: a loaded one, such as `Router(...).reward`, or the name of one with its defaults.
        engine: what runs it; default: one of this call's own, on the CPU.
        others: the rest of its group, for a reward that compares samples.

    Raises:
        ValueError: no such reward, or one that compares and has nothing to compare with.
    """
    loaded = load(reward) if isinstance(reward, str) else reward
    if engine is not None:
        return explain_row(sample, {loaded.info.name: loaded}, engine, others=others)[0]
    with Engine("cpu") as own:
        return explain_row(sample, {loaded.info.name: loaded}, own, others=others)[0]


def explain_row(
    sample: Sample,
    rewards: Mapping[str, Reward],
    engine: Engine,
    *,
    recipe: Recipe | None = None,
    others: Sequence[Sample] = (),
) -> list[Explanation]:
    """Score one sample by several rewards and tell how, each and, with a recipe, their total.

    Args:
        sample: what is scored.
        rewards: by the names that their scores have in the run.
        engine: what runs them.
        recipe: of the total.
        others: the rest of its group; they are scored where a reward or the recipe compares.

    Raises:
        ValueError: a reward or a recipe that compares, and nothing to compare with, or two of the samples
            with one id.
    """
    comparing = [name for name, reward in rewards.items() if reward.info.arity != "point"]
    if recipe is not None and (recipe.compares or comparing):
        comparing.append(TOTAL)
    if comparing and not others:
        raise ValueError(
            f"{', '.join(comparing)} compares the samples of a group: explain a row of a data set with its "
            "group, as in --data DATA --id ID"
        )
    samples = [sample, *others] if comparing else [sample]
    if len({one.id for one in samples}) < len(samples):
        raise ValueError(f"two samples of the group of {sample.id!r} have one id: give each its own")
    heard: dict[str, list[Note]] = {name: [] for name in rewards}
    columns = engine.score(
        samples, {name: _listened(reward, sample, heard[name]) for name, reward in rewards.items()}
    )
    rest = [one.id for one in others]
    for name, reward in rewards.items():
        if reward.info.arity == "group":  # it was called with all of them
            kept = (step for step in heard[name] if not _begins(step.member, rest))
            heard[name] = [_of_own(step, sample.id) for step in kept]
    found = [
        Explanation(
            name,
            reward.info,
            _changed(reward),
            reward.view(sample),
            [*_elsewhere(reward), *heard[name]],
            columns[name][0],
        )
        for name, reward in rewards.items()
    ]
    if recipe is not None:
        total = total_of(columns, recipe, samples)[0]
        info = RewardInfo(name=TOTAL, needs=(), range=(-math.inf, math.inf))
        scores = {name: column[0] for name, column in columns.items()}
        found.append(Explanation(TOTAL, info, {}, sample, list(_summed(recipe, scores)), total))
    return found


def _listened(reward: Reward, sample: Sample, into: list[Note]) -> Reward:
    """The reward, with the steps of its calls that are about this sample."""
    own, arity = sample.id, reward.info.arity

    async def score(*given: Any) -> Any:
        steps: list[Note]
        if arity == "pair":
            first, second = (one.id for one in given)
            with listening() as steps, within(f"{first} before {second}"):
                return await _noting(reward, given, steps, into if own in (first, second) else [])
        with listening() as steps:
            mine = into if arity == "group" or given[0].id == own else []
            return await _noting(reward, given, steps, mine)

    return replace(reward, fn=score)


async def _noting(reward: Reward, given: Sequence[Any], steps: list[Note], into: list[Note]) -> Any:
    try:
        return await reward.fn(*given)
    finally:
        into += steps


def _begins(member: str, names: Sequence[str]) -> bool:
    return any(member == name or member.startswith(f"{name}/") for name in names)


def _of_own(step: Note, own: str) -> Note:
    """The step of a group reward without the name of the row, which is the only one that is left."""
    return step._replace(member=step.member[len(own) :].strip("/")) if _begins(step.member, [own]) else step


def _changed(reward: Reward) -> dict[str, Any]:
    """Arguments that are not the reward's defaults; `routed` has none."""
    try:
        known = inspect.signature(find(reward.info.name).factory).parameters
    except ValueError:
        return {}
    return {
        key: value
        for key, value in reward.args.items()
        if key not in known or known[key].default is inspect.Parameter.empty or known[key].default != value
    }


def _elsewhere(reward: Reward) -> Iterator[Note]:
    if reward.release:
        yield Note("elsewhere", "it runs in another interpreter, whose steps are not heard here")


def _summed(recipe: Recipe, scores: Mapping[str, Score]) -> Iterator[Note]:
    """Steps of a weighted sum: its shaping, summands and gates."""
    for step in recipe.shaping:
        yield Note("shaped", f"{step.rewrites} by {type(step).__name__}, from {', '.join(step.reads)}")
    scale = ", as its z-score in the group" if recipe.normalise == "group" else ""
    for name, weight in recipe.weights.items():
        yield Note("summand", f"{weight:g} x {name}{scale}, which earned {_value(scores[name])}")
    for name, least in recipe.gates.items():
        shut = "" if scores[name].ok and scores[name].value >= least else ": shut, the total is 0"
        yield Note("gate", f"{name} earned {_value(scores[name])}, and needs {least:g}{shut}")


def _value(score: Score) -> str:
    return f"{score.value:.6g}" if score.ok else f"nothing ({score.status})"


def row_of(
    data: str | Path, name: str, columns: Columns | None = None, *, group: bool = False
) -> tuple[Sample, list[Sample]]:
    """A row of a data set by its id, and the rest of its group where that is asked for.

    Args:
        data: see `rows.read_rows`.
        name: the id, as `score` stores it.
        columns: see `rows.read_rows`.
        group: read on to the end for the others.

    Raises:
        ValueError: no such row, with the nearest ids, or one that cannot be read, with the reason.
    """
    seen: list[str] = []
    for row in read_rows(data, columns):
        if row.id == name:
            break
        seen.append(row.id)
    else:
        near = get_close_matches(name, seen[:NEAR], n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it begins with {seen[:3]}"
        raise ValueError(f"{data} has no row {name!r}: {hint}")
    if row.sample is None:
        raise ValueError(f"row {name!r} of {data} cannot be read: {row.problem}")
    found = replace(row.sample, id=name)
    if not group or found.group is None:
        return found, []
    rest = (one for one in read_rows(data, columns) if one.id != name and one.sample is not None)
    return found, [
        replace(one.sample, id=one.id) for one in rest if one.sample and one.sample.group == found.group
    ]

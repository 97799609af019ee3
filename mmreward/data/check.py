"""Targets that can never be paid, found before a training: which, by which reward, and why.

A policy that is asked for an answer that its reward cannot read, or cannot recognise, learns nothing from the
row, and nothing in its curves says so. Every rule reward of a row (one that needs a response and a target
alone) is asked about the row's target in two ways. A reward with a reader of targets (`target_problem`, as
`math` has) says why it cannot read this one. Then the target itself is dressed as the ideal answer, as the
reward's own example shows the dress, and must earn what an ideal answer earns: nine tenths of the range, or
of `right_value`, what the reward says that a right answer earns, its form aside.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.engine import Engine
from ..errors import Unscorable
from ..loading import load
from ..registry import Reward
from ..types import Sample, Score
from .columns import Columns
from .routing import Router
from .rows import read_rows

CHUNK = 512
NEEDED = {"response", "target"}
IDEAL = 0.9
"""Share of a reward's range that an ideal answer earns at least; format may be paid beside the answer."""
ANSWER = re.compile(r"(<(answer|class)>).*(</\2>)", re.DOTALL)
EXAMPLES = 3
"""Ids shown for each reason."""
VALUE = re.compile(r"'[^']*'|\"[^\"]*\"")


class Unpaid(NamedTuple):
    """A target that earns nothing, whatever the answer."""

    reward: str
    row: str
    target: str
    why: str


@dataclass
class Checked:
    """What a check found.

    Args:
        rows: read.
        targets: looked at, by reward.
        unpaid: targets that can never be paid.
        problems: rows that could not be read or have no route, by id.
        skipped: rewards that read no target by rule, which cannot be checked.
    """

    rows: int = 0
    targets: dict[str, int] = field(default_factory=dict)
    unpaid: list[Unpaid] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)

    def report(self) -> str:
        """Text for a terminal: by reward, the reasons with counts and the first ids."""
        lines = []
        for reward, count in sorted(self.targets.items()):
            unpaid = [one for one in self.unpaid if one.reward == reward]
            lines.append(f"{reward}: {count} targets, {len(unpaid)} can never be paid")
            lines += _grouped((one.why, f"{one.row} ({one.target})") for one in unpaid)
        if self.problems:
            lines.append(f"{len(self.problems)} rows cannot be scored")
            lines += _grouped((why, row) for row, why in self.problems.items())
        if self.skipped:
            lines.append(f"not checked, as no rule reads their target: {', '.join(sorted(self.skipped))}")
        return "\n".join(lines or ["no row"])


def _grouped(found: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One line per reason, the values in it aside: its count, the first of its kind, and where it is."""
    kinds: dict[str, tuple[str, list[str]]] = {}
    for why, where in found:
        kinds.setdefault(VALUE.sub("...", why), (why, []))[1].append(where)
    for why, places in sorted(kinds.values(), key=lambda kind: -len(kind[1])):
        more = ", ..." if len(places) > EXAMPLES else ""
        yield f"  {len(places)} x {why}: {', '.join(places[:EXAMPLES])}{more}"


def check_targets(
    data: str | Path,
    engine: Engine,
    *,
    rewards: Mapping[str, Reward] | None = None,
    router: Router | None = None,
    columns: Columns | None = None,
    progress: Callable[[int], None] | None = None,
) -> Checked:
    """Look at the target of every row with the rules that would score it.

    Args:
        data: see `rows.read_rows`.
        engine: what runs the rewards; no model is asked.
        rewards: for every row, by name.
        router: beside them, the rewards of each row's route.
        columns: see `rows.read_rows`.
        progress: called with the number of rows so far.

    Raises:
        ValueError: the data cannot be read.
    """
    checked = Checked()
    source = read_rows(data, columns)
    while rows := list(islice(source, CHUNK)):
        asked: dict[int, tuple[str, Reward, list[Sample]]] = {}
        for row in rows:
            checked.rows += 1
            if row.sample is None:
                checked.problems[row.id] = row.problem
                continue
            mine = dict(rewards or {})
            if router is not None:
                try:
                    mine |= router.route(row.sample).rewards
                except ValueError as error:
                    checked.problems[row.id] = str(error)
            for name, reward in mine.items():
                if "target" not in reward.info.needs or not set(reward.info.needs) <= NEEDED:
                    checked.skipped.add(name)
                    continue
                asked.setdefault(id(reward), (name, reward, []))[2].append(replace(row.sample, id=row.id))
        for name, given, samples in asked.values():
            reward = _in_targets_space(given)
            checked.targets[name] = checked.targets.get(name, 0) + len(samples)
            checked.unpaid += _unpaid(name, reward, samples, engine)
        if progress is not None:
            progress(checked.rows)
    return checked


def _unpaid(name: str, reward: Reward, samples: list[Sample], engine: Engine) -> Iterator[Unpaid]:
    """Targets of one reward that are not paid in any dress."""
    dressed = [_dressed(reward, reward.view(sample).target) for sample in samples]
    best: list[Score | None] = [None] * len(samples)
    left = list(range(len(samples)))
    for attempt in range(max(map(len, dressed), default=0)):
        tried = [at for at in left if attempt < len(dressed[at])]
        answers = [replace(samples[at], response=dressed[at][attempt]) for at in tried]
        for at, score in zip(tried, engine.score(answers, {name: _probe(reward)})[name], strict=True):
            known = best[at]
            if known is None or (score.ok and not (known.ok and known.value >= score.value)):
                best[at] = score
        left = [at for at in left if not _ideal(reward, best[at])]
    for at in left:
        target = reward.view(samples[at]).target
        yield Unpaid(name, samples[at].id, _short(target), _why(best[at]))


def _in_targets_space(reward: Reward) -> Reward:
    """The reward as it reads answers in the space of its targets, so that a target can be its own answer;
    one of another interpreter as it is."""
    args = dict(reward.args)
    if reward.release or args.get("space") == args.get("target_space", args.get("space")):
        return reward
    return replace(load(reward.info.name, **{**args, "space": args["target_space"]}), columns=reward.columns)


def _probe(reward: Reward) -> Reward:
    """The reward, which first asks its reader of targets where it has one."""
    problem = getattr(reward.fn, "target_problem", None)
    if problem is None:
        return reward

    async def score(sample: Sample) -> Any:
        if why := await problem(sample):
            raise Unscorable(why)
        return await reward.fn(sample)

    return replace(reward, fn=score)


def _ideal(reward: Reward, score: Score | None) -> bool:
    low, high = reward.info.range
    high = getattr(reward.fn, "right_value", high)  # of one formula among several that share a range
    return score is not None and score.ok and score.value >= low + IDEAL * (high - low)


def _why(score: Score | None) -> str:
    if score is None:
        return "there is no target"
    if not score.ok:
        return score.note
    return f"the target itself, as the answer, earns {score.value:g}" + (
        f": {score.note}" if score.note else ""
    )


def _dressed(reward: Reward, target: Any) -> list[str]:
    """Ideal responses, in the dress of the reward's example."""
    example = str((reward.info.example or {}).get("response", "<answer></answer>"))
    boxed = "\\boxed{" in example
    found = []
    for answer in dict.fromkeys(_answers(target)):
        inner = f"\\boxed{{{answer}}}" if boxed and "\\boxed" not in answer else answer
        tags = ANSWER.search(example)
        if tags:
            found.append(example[: tags.end(1)] + inner + example[tags.start(3) :])
    return found


def _answers(target: Any) -> Iterator[str]:
    """Spellings of a target as an answer, the likeliest first."""
    if target is None:
        return
    if isinstance(target, bool):
        yield "yes" if target else "no"
    elif isinstance(target, str | int | float):
        yield str(target)
        if isinstance(target, str):
            yield from _within_tags(target)
    elif isinstance(target, Mapping):
        yield from _answers(target.get("answer"))
        yield json.dumps(target, default=str)
        yield from _placed(target)
        box = target.get("bbox_2d")
        if isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(x, int | float) for x in box):
            yield f"[{(box[0] + box[2]) / 2:g}, {(box[1] + box[3]) / 2:g}]"
    elif isinstance(target, list | tuple):
        yield json.dumps(target, default=str)
        yield ", ".join(map(str, target))
        if target and isinstance(target[0], str | Mapping):
            yield from _answers(target[0])
        if len(target) == 2 and all(isinstance(end, int | float) for end in target):
            yield f"{target[0]}s - {target[1]}s"
        if target and isinstance(target[0], Mapping):
            yield json.dumps([point for box in target for point in _centres(box)])


def _placed(target: Mapping[str, Any]) -> Iterator[str]:
    """An action beside its boxes, done in the middle of the first where it says no place itself."""
    action, boxes = target.get("action"), target.get("boxes")
    if isinstance(action, Mapping):
        yield json.dumps(action, default=str)
        if isinstance(boxes, list | tuple) and boxes:
            yield from (json.dumps({**action, "point": at}) for at in _centres({"bbox_2d": boxes[0]}))


def _within_tags(target: str) -> Iterator[str]:
    if found := ANSWER.search(target):
        yield target[found.end(1) : found.start(3)].strip()


def _centres(box: Any) -> Iterator[list[float]]:
    spot = box.get("bbox_2d") if isinstance(box, Mapping) else None
    if isinstance(spot, list | tuple) and len(spot) == 4 and all(isinstance(x, int | float) for x in spot):
        yield [(spot[0] + spot[2]) / 2, (spot[1] + spot[3]) / 2]


def _short(target: Any) -> str:
    text = target if isinstance(target, str) else json.dumps(target, default=str)
    return repr(text[:40] + "..." if len(text) > 40 else text)

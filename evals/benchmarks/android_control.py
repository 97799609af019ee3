"""AndroidControl (arXiv:2406.03679) and other sets of right actions by step, under every published rule.

Labels are the published TFRecord files (`android_control-*`, in GZIP: episode_id, goal, actions,
step_instructions, screenshot_widths and _heights), or JSONL with a step in each row: {episode, step, size
[width, height], action, boxes, nodes}, action as for the reward `gui_action` and coordinates in pixels. Ids
are "EPISODE/STEP". The published files have no boxes; a row of JSONL may bring those of the element that is
meant and all elements (`nodes`), which the rules "a11y" and "aitz" need: without them they are undefined.

A prediction is `raw_text` (or `response`, `prediction`) in any grammar, or `action` as JSON, with its `space`
as for ScreenSpot. Measure the predictions for high-level goals and those with low-level instructions apart.

Per rule there are: *step*, *grounding* (of all steps at a place) and *episode* (all its steps right), and in
the table *type* and *grounding given type* besides. Nothing that is missing leaves a denominator, except in
the reading `valid`, which is what some authors print.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmreward.data.rlds import examples_in
from mmreward.errors import Unscorable
from mmreward.rewards.gui.rules import RULES as MATCHES
from mmreward.rewards.gui.rules import Matched, best
from mmreward.rewards.gui.targets import Gold, gold_of, view_of
from mmreward.types import Sample
from mmreward.verifiers.action_names import POINTED
from mmreward.verifiers.actions import Action, action_of, read_actions
from mmreward.verifiers.spaces import Size, space_of

from .benchmark import COPY, Answers, Benchmark, Cells, Columns, Item, Rule, Table
from .clicks import PIXEL, meta_of, rows_of, sized, space_of_record, text_of
from .figures import codes, mean_of_known

NODES = ("a11y", "aitz")
"""Rules that look at the elements of the screen."""
WRONG = Matched(False, False, False, False)


# --- labels -------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Item]:
    """The steps of all episodes of a file or folder.

    Raises:
        ValueError: no such file, a row that is not of its form, or a step twice.
    """
    files = sorted(path.glob("android_control-*")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path} has no android_control-* files; give a .jsonl of steps, or those")
    items: dict[str, Item] = {}
    for file in files:
        for row in _episodes(file) if file.suffix not in (".json", ".jsonl") else _steps(file):
            item = _item(row, str(file))
            if item.id in items:
                raise ValueError(f"{file}: the step {item.id} is there twice")
            items[item.id] = item
    return list(items.values())


def _steps(file: Path) -> Iterable[Mapping[str, Any]]:
    return (row for _, row in rows_of(file))


def _episodes(file: Path) -> Iterable[Mapping[str, Any]]:
    """The steps of a published file: actions are as many as screenshots, less the last."""
    for example in examples_in(file):
        try:
            (episode,) = example["episode_id"]
            actions, widths = example["actions"], example["screenshot_widths"]
            heights = example["screenshot_heights"]
        except (KeyError, ValueError):
            raise ValueError(f"{file} has no episode_id, actions, screenshot_widths and _heights") from None
        for step, action in enumerate(actions):
            words = action.decode("utf-8") if isinstance(action, bytes) else str(action)
            yield {"episode": episode, "step": step, "size": [widths[step], heights[step]], "action": words}


def _item(row: Mapping[str, Any], where: str) -> Item:
    size, episode, step = sized(row.get("size")), row.get("episode"), row.get("step")
    if size is None or episode is None or step is None or row.get("action") is None:
        raise ValueError(
            f"{where}: a step has episode, step, size [width, height] and action: {str(row)[:80]}"
        )
    target = {key: row[key] for key in ("action", "boxes", "bbox", "nodes") if row.get(key) is not None}
    return step_item(episode, step, size, target if len(target) > 1 else row["action"], where)


def step_item(
    episode: Any,
    step: Any,
    size: tuple[float, float],
    target: Any,
    where: str,
    space: str = PIXEL,
    group: str = "",
) -> Item:
    """An item of a benchmark of steps.

    Raises:
        ValueError: its right action cannot be read.
    """
    about = Sample(target=target, meta={"size": size})
    try:
        gold = gold_of(target, space_of(space), about)
    except Unscorable as failure:
        raise ValueError(f"{where}, step {episode}/{step}: {failure}") from None
    facts: dict[str, Any] = {"size": size, "type": gold.actions[0].type, "group": group}
    return Item(id=f"{episode}/{step}", gold=gold, unit=str(episode), facts=facts)


# --- answers ------------------------------------------------------------------------------------------------


def answer(record: Mapping[str, Any], item: Item) -> tuple[Matched, ...]:
    """Matches of a prediction with the right action, by every rule in the order of `rules.RULES`.

    Raises:
        Unscorable: none, several, or one that cannot be read; or no space.
    """
    sample = Sample(meta=meta_of(record, item))
    view = view_of(space_of_record(record), sample)
    given = record.get("action")
    if isinstance(given, Mapping):
        action: Action = action_of(given, view)
    else:
        actions = read_actions(text_of(record), view)
        if len(actions) != 1:
            raise Unscorable(f"{len(actions)} actions where one is expected", "unparsable")
        action = actions[0]
    size = Size(*item.facts["size"])
    return tuple(best(action, item.gold, rule, size) for rule in MATCHES.values())


# --- columns and rules --------------------------------------------------------------------------------------


def columns(
    items: Sequence[Item], answers: Sequence[tuple[Matched, ...] | None]
) -> dict[str, np.ndarray[Any, Any]]:
    """Tables with a column for each rule of `rules.RULES`: "type", "grounding", "given type" and "step"."""
    golds: list[Gold] = [item.gold for item in items]
    pointed = np.array([gold.actions[0].type in POINTED - {"drag"} for gold in golds])[:, None]
    elements = np.array([bool(gold.nodes) for gold in golds])[:, None]
    there = np.array([one is not None for one in answers])[:, None]
    known = elements | ~np.isin(list(MATCHES), NODES)[None]
    lost = (WRONG,) * len(MATCHES)
    rows = [lost if one is None else one for one in answers]
    typed = np.array([[one.type for one in row] for row in rows])
    placed = np.array([[one.type and one.place for one in row] for row in rows], dtype=np.float64)
    right = np.array([[one.right for one in row] for row in rows], dtype=np.float64)
    return {
        "episode": codes([item.unit for item in items]),
        "group": codes([item.facts["group"] for item in items]),
        "type": np.where(known, typed, math.nan),
        "grounding": np.where(known & pointed, placed, math.nan),
        "given type": np.where(known & pointed & there & typed, placed, math.nan),
        "step": np.where(known, right, math.nan),
    }


PLACE = {name: place for place, name in enumerate(MATCHES)}
"""Column of a rule."""


def of_rule(table: str, name: str) -> Callable[[Columns], float]:
    """The mean of a rule's column."""
    return lambda found: mean_of_known(found[table][:, PLACE[name]])


def episodes(name: str) -> Callable[[Columns], float]:
    """The share of episodes all of whose steps are right; NaN where a step is undefined."""

    def of(found: Columns) -> float:
        right = found["step"][:, PLACE[name]]
        if np.isnan(right).any():
            return math.nan
        copies = found[COPY]
        key = found["episode"] * (int(copies.max()) + 1) + copies
        steps = np.bincount(key)
        wrong = np.bincount(key, weights=1 - right)
        return float((wrong[steps > 0] == 0).mean())

    return of


RULES = tuple(
    rule
    for name in MATCHES
    for rule in (
        Rule(name=f"{name}/step", words="steps that are right altogether", of=of_rule("step", name)),
        Rule(
            name=f"{name}/grounding", words="of steps at a place, right ones", of=of_rule("grounding", name)
        ),
        Rule(name=f"{name}/episode", words="episodes without a wrong step", of=episodes(name)),
    )
)


def tables(items: Sequence[Item], found: Columns) -> list[Table]:
    """Every rule's shares side by side, and the steps by type under ours."""
    shares: list[Cells] = [
        (
            name,
            *(of_rule(one, name)(found) for one in ("type", "grounding", "given type", "step")),
            episodes(name)({**found, COPY: np.zeros(len(items), dtype=np.int64)}),
            rule.note,
        )
        for name, rule in MATCHES.items()
    ]
    kinds = np.array([item.facts["type"] for item in items])
    by_type: list[Cells] = [
        (str(kind), int((kinds == kind).sum()), float(found["step"][kinds == kind, PLACE["box"]].mean()))
        for kind in sorted(set(kinds.tolist()))
    ]
    heads = ("rule", "type", "grounding", "grounding given type", "step", "episode", "of")
    return [
        Table("by rule", heads, shares),
        Table("by type of the right action, rule box", ("type", "steps", "step"), by_type),
    ]


def cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    """What to mind before the figures are compared."""
    found = ["one number means nothing without its rule: the same clicks are right by some alone"]
    if not all(item.gold.boxes for item in items if item.facts["type"] in POINTED):
        found.append("labels without boxes: rules of boxes count by their distances alone")
    if any(name in MATCHES for name in NODES) and not all(item.gold.nodes for item in items):
        found.append(f"labels without elements: {' and '.join(NODES)} are undefined there")
    return found


BENCHMARK = Benchmark(
    name="androidcontrol",
    summary="actions on Android by step and episode, under every published rule of a match",
    paper="arXiv:2406.03679",
    unit="episode",
    labels="the files android_control-* as published, or a .jsonl of steps",
    read=read,
    answer=answer,
    columns=columns,
    rules=RULES,
    cautions=cautions,
    tables=tables,
)

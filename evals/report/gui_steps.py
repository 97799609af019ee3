"""Steps of a GUI agent on a page: what was read, clicked and meant, and why a step is wrong.

`marks` is of one response, `trajectory` of every step of an episode. Where a response or target cannot be
read, the reason stands in the place of the drawing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmreward.errors import Unscorable
from mmreward.rewards.gui.action import step_action
from mmreward.rewards.gui.click import answer_of, clicked
from mmreward.rewards.gui.rules import RULES, best
from mmreward.rewards.gui.targets import Gold, gold_of, known_size, target_of, view_of
from mmreward.types import Sample, Score
from mmreward.verifiers.actions import Action, Point, read_actions
from mmreward.verifiers.boxes import Box, boxes_of, to_unit
from mmreward.verifiers.coordinates import Axes
from mmreward.verifiers.markup import box_items
from mmreward.verifiers.spaces import Space, extent, space_of

from .pictures import Marks

WORDS = 90
"""Characters of an action."""
ACTIONS = ("gui_action", "gui_step")
CLICKS = ("click", "gui_grounding", *ACTIONS)
"""Rewards whose responses hold a place on the picture."""
EPISODES = ("gui_episode",)
"""Rewards that compare each step of an episode with a right one."""


def short(value: Any) -> str:
    """A value as text, or as JSON, with its end cut off where it is long."""
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return words if len(words) <= WORDS else words[: WORDS - 1] + "\u2026"


# --- one response -----------------------------------------------------------------------------------------


def marks(sample: Sample, kind: str, args: Mapping[str, Any], score: Score | None = None) -> Marks:
    """Where a response clicks and what it should have clicked, by the arguments of the reward that says so.

    Args:
        sample: with response and target.
        kind: the reward, one of `CLICKS`.
        args: its arguments.
        score: its own, of which it is told why it is no better.
    """
    space = space_of(args.get("space", "norm_1000"))
    truth = space_of(args.get("target_space", "norm_1000"))
    drawn = (_of_action if kind in ACTIONS else _of_click)(sample, space, truth, kind, score)
    inside = [point for point in drawn.points if math.isfinite(point.x) and point.inside]
    words = list(drawn.words)
    if len(inside) < len(drawn.points):
        words.append(f"{len(drawn.points) - len(inside)} beside the picture")
    right = score.value == 1 if score is not None and score.ok and kind in ("click", "gui_action") else None
    return drawn._replace(points=inside, words=words, right=right)


def _of_action(sample: Sample, space: Space, truth: Space, kind: str, score: Score | None) -> Marks:
    actions: list[Action] = []
    gold = Gold((), (), ())
    words: list[str] = []
    try:
        actions = read_actions(sample.response or "", view_of(space, sample))
        words += [f"read as {short(action.facts())}" for action in actions[:3]]
    except Unscorable as failure:
        words.append(f"no place in the response: {failure}")
    try:
        gold = gold_of(sample.target, truth, sample)
        words += [f"right: {short(action.facts())}" for action in gold.actions[:3]]
    except Unscorable as failure:
        words.append(f"the target is not drawn: {failure}")
    if kind == "gui_action" and _poor(score) and actions and gold.actions:
        words.append(why(actions, gold, score.parts if score is not None else {}))
    points = [action.point for action in actions if action.point is not None]
    found = [action.box for action in actions if action.box is not None]
    return Marks(points, list(gold.boxes), words, found)


def _of_click(sample: Sample, space: Space, truth: Space, kind: str, score: Score | None) -> Marks:
    points: list[Point] = []
    boxes: Sequence[Box] = ()
    refused, nothing, words = False, False, []
    read = target = False
    try:
        click = clicked(sample.response or "", space, sample)
        points = [point for point in click.points if point is not None]
        refused, read = click.refused, True
        words += ["read as a refusal"] if refused else []
    except Unscorable as failure:
        words.append(f"no place in the response: {failure}")
    try:
        meant = target_of(sample, truth, radius=0.05)
        boxes, nothing, target = meant.boxes, meant.refusal, True
        words += ["right: nothing is to be clicked"] if nothing else []
    except Unscorable as failure:
        words.append(f"the target is not drawn: {failure}")
    if kind == "click" and _poor(score) and read and target:
        if refused or nothing:
            words.append("wrong: " + ("there is nothing to click" if nothing else "it is on the picture"))
        else:
            words.append(f"wrong: {_place(points, boxes)}")
    return Marks(points, boxes, words, _boxes_in(sample, space) if read else ())


def _boxes_in(sample: Sample, space: Space) -> list[Box]:
    """Boxes of a response in fractions of the picture, whose centres are clicked."""
    size = extent(space, sample)
    try:
        items = box_items(answer_of(sample.response or ""), axes=Axes(size.width, size.height, space.y_first))
    except Unscorable:
        return []
    given = boxes_of(items.items, y_first=space.y_first)
    units = [to_unit(box, size.width, size.height) for box in given if box is not None]
    return [unit for unit in units if unit is not None]


def _poor(score: Score | None) -> bool:
    return score is not None and score.ok and score.value < 1


# --- reasons ----------------------------------------------------------------------------------------------


def why(actions: Sequence[Action], gold: Gold, parts: Mapping[str, float]) -> str:
    """The reason why an action is wrong: the first of type, place and words that a rule says is.

    Args:
        actions: that were read.
        gold: the right one.
        parts: "type", "place" and "words", 0 for what is wrong.
    """
    if len(actions) > 1:
        return f"wrong: {len(actions)} actions, of which one is asked for"
    found, right = actions[0], gold.actions[0]
    if not parts.get("type", 1):
        return f"wrong: {found.type}, and {right.type} is right"
    if not parts.get("place", 1):
        return f"wrong: {_place([found.point] if found.point else [], gold.boxes)}"
    if not parts.get("words", 1):
        said, meant = ({**one.facts(), "point": None, "box": None} for one in (found, right))
        differ = [key for key in {**said, **meant} if said.get(key) != meant.get(key)]
        told = "; ".join(
            f"{key} {short(said.get(key, ''))!r}, not {short(meant.get(key, ''))!r}" for key in differ
        )
        return f"wrong: {told or 'other words'}"
    return "wrong under the rule"


def _place(points: Sequence[Point], boxes: Sequence[Box]) -> str:
    """Words about where a point lies beside the nearest of the boxes."""
    if len(points) != 1:
        return f"{len(points)} places, and one is asked for" if points else "no place that can be read"
    point = points[0]
    if not boxes or not math.isfinite(point.x + point.y):
        return "not the place"
    across, down = min(
        ((_beyond(point.x, box.x1, box.x2), _beyond(point.y, box.y1, box.y2)) for box in boxes),
        key=lambda gap: math.hypot(*gap),
    )
    far = [
        f"{100 * abs(gap):.3g} % {ends[gap > 0]}"
        for gap, ends in ((across, ("to the left", "to the right")), (down, ("above", "below")))
        if gap
    ]
    return f"beside the element, {' and '.join(far)}" if far else "on the element, yet not as the rule asks"


def _beyond(value: float, low: float, high: float) -> float:
    """How far a value lies outside of an interval: below zero before it."""
    return min(0.0, value - low) + max(0.0, value - high)


# --- episodes ---------------------------------------------------------------------------------------------


def trajectory(sample: Sample, args: Mapping[str, Any]) -> dict[int, Marks]:
    """Every step of an episode beside the right one, by its number, those that are missing too; empty where
    the target is none.

    Args:
        sample: with steps and, as target, the list of right ones.
        args: of the reward, one of `EPISODES`.
    """
    space = space_of(args.get("space", "norm_1000"))
    truth = space_of(args.get("target_space", "norm_1000"))
    swipe, rule = args.get("swipe", "finger"), RULES[args.get("rule", "box")]
    targets = sample.target if isinstance(sample.target, list | tuple) else ()
    found: dict[int, Marks] = {}
    for number, step in enumerate(sample.steps if targets else ()):
        own = _screen_of(sample, step)
        try:
            # In the sizes that the reward itself takes: of the whole sample.
            action = step_action(step, view_of(space, sample, swipe))
            gold = gold_of(targets[number], truth, sample) if number < len(targets) else None
        except Unscorable as failure:
            found[number] = Marks(words=[f"not drawn: {failure}"])
            continue
        points = [action.point] if action is not None and action.point is not None else []
        inside = [point for point in points if point.inside] if own else []
        boxes = list(gold.boxes) if gold is not None and own else []
        if gold is None:
            found[number] = Marks(inside, boxes, ["wrong: one step too many"], right=False)
        elif action is None:
            found[number] = Marks(inside, boxes, ["wrong: missing or unreadable"], right=False)
        else:
            match = best(action, gold, rule, known_size(sample))
            parts = {name: float(value) for name, value in match._asdict().items()}
            words = ["right"] if match.right else [why([action], gold, parts)]
            given = [action.box] if action.box is not None and own else []
            found[number] = Marks(inside, boxes, words, given, match.right)
    for number in range(len(sample.steps), len(targets)):
        found[number] = Marks(words=[f"wrong: missing, and {_meant(targets[number])} is right"], right=False)
    return found


def _meant(target: Any) -> str:
    given = target.get("action", target) if isinstance(target, Mapping) else target
    return short(given)


def _screen_of(sample: Sample, step: Any) -> bool:
    """True where a step shows one screen, on which places can be drawn."""
    seen = step.get("observation") if isinstance(step, Mapping) else None
    return seen is not None and not isinstance(seen, Mapping)

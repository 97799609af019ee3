"""Actions of GUI agents: one canonical form of what model families write, and the grammars they write it in.

`read_actions` takes a response apart: calls of pyautogui, Aguvis, UI-TARS and GLM, tool calls of Qwen's
computer_use and mobile_use, JSON as in AndroidControl, AndroidWorld and GUI-R1, and the words of OS-Atlas and
GUI-Odyssey. Nothing is evaluated. What cannot be read is Unscorable("...", "unparsable") with the reason,
never a point at (0, 0). Coordinates are in the declared space (`spaces`), come out as fractions of the
picture, and are not clipped: a point beside the picture hits nothing.

A direction is that of the content: "down" shows what lies further down, which a finger does by moving up. So
a swipe's direction is turned round, and a scroll's is not.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from ..errors import Unscorable, nearest
from ..tracing import heard, noted
from .action_forms import MAX_ACTIONS, MAX_NESTING, Grammar, of_call, parsed_actions
from .action_names import (
    AMOUNTS,
    APPS,
    DIRECTIONS,
    FROM,
    KEYS,
    MODULES,
    NAMES,
    OPPOSITE,
    PLACELESS,
    POINTED,
    PRESS,
    PRESSED,
    SIDEWAYS,
    STATUSES,
    TEXTS,
    TO,
    WORDED,
    Type,
)
from .boxes import Box
from .calls import found_calls
from .coordinates import Axes, items_of, number, plain_key
from .lists import found_lists
from .response import segment
from .wording import plain

MAX_TEXT = 20_000
LONGEST = 10_000
"""Largest coordinate over the side of the picture: beyond it nothing is meant."""


class Point(NamedTuple):
    """A point in fractions of the picture; outside [0, 1] it lies beside it."""

    x: float
    y: float

    @property
    def inside(self) -> bool:
        return 0 <= self.x <= 1 and 0 <= self.y <= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action of an agent.

    Args:
        type: canonical, see `action_names.Type`.
        point: where it is done, or where a drag or swipe begins; of a box its centre.
        point2: where a drag or swipe ends.
        box: the box that was given in place of a point.
        direction: "up", "down", "left" or "right", of the content.
        text: what is typed or answered.
        keys: that are pressed together, in one spelling; ("enter",) where typed text is submitted.
        app: that is opened.
        status: of "finish": "success", "failure" or "infeasible".
    """

    type: Type
    point: Point | None = None
    point2: Point | None = None
    box: Box | None = None
    direction: str = ""
    text: str = ""
    keys: tuple[str, ...] = ()
    app: str = ""
    status: str = ""

    def facts(self) -> dict[str, Any]:
        """What is known of it, as JSON: the canonical form."""
        known: dict[str, Any] = {"type": self.type}
        for name in ("point", "point2"):
            if (point := getattr(self, name)) is not None:
                known[name] = [round(point.x, 6), round(point.y, 6)]
        if self.box is not None:
            known["box"] = [round(side, 6) for side in self.box[:4]]
        known |= {
            name: value for name in ("direction", "text", "app", "status") if (value := getattr(self, name))
        }
        return known | ({"keys": list(self.keys)} if self.keys else {})


class View(NamedTuple):
    """The picture that an action is done on, as a response counts it.

    Args:
        axes: extent of the picture in the declared space.
        aspect: its height over its width, for the main axis of a swipe.
        swipe: how the direction of a "swipe" is meant where it is given in a word.
    """

    axes: Axes = Axes()
    aspect: float = 1.0
    swipe: Literal["finger", "content"] = "finger"


WHOLE = View()
"""Coordinates from 0 to 1000."""


def read_actions(response: str, view: View = WHOLE, *, grammar: Grammar = "any") -> list[Action]:
    """Actions of a response in their order; reasoning before them is passed over.

    Args:
        response: the whole text, with or without `<think>` and `<answer>` tags.
        view: the picture in the response's coordinates.
        grammar: the one declared, or "any" for the one whose marks the text has.

    Raises:
        Unscorable: "unparsable" when there is none, when one cannot be read, or there are more than
            `MAX_ACTIONS`.
    """
    text = plain(segment(response, bare=True).answer)
    given = parsed_actions(text, grammar)
    if not given:
        raise Unscorable(f"no action in {text[:80]!r}", "unparsable")
    actions = action_list(given, view)
    for at, action in enumerate(actions if heard() else (), start=1):
        noted(f"action {at}", "{}", action.facts())
    return actions


def action_list(given: Sequence[Mapping[str, Any]], view: View = WHOLE) -> list[Action]:
    """Canonical actions of parsed ones: mappings with a name and arguments under any usual keys.

    A pointer that is moved and then clicks, or drags, does so where it was moved to.
    """
    if len(given) > MAX_ACTIONS:
        raise Unscorable(f"{len(given)} actions; {MAX_ACTIONS} at most are read", "unparsable")
    actions: list[Action] = []
    for one in given:
        action = action_of(one, view)
        moved = actions[-1] if actions and actions[-1].type == "move" else None
        if action.type in POINTED and action.point is None:
            if moved is None:
                raise Unscorable(f"a {action.type} without a point", "unparsable")
            actions[-1] = replace(action, point=moved.point)
        else:
            actions.append(action)
    return actions


def action_of(given: Mapping[str, Any], view: View = WHOLE) -> Action:
    """Canonical form of one parsed action.

    Raises:
        Unscorable: "unparsable" where its name is not known, or an argument that it needs is missing or
            cannot be read.
    """
    name, arguments = _named(given, 0)
    kind, fixed = _kind(name, arguments)
    swiped = fixed.pop("swiped", "") == "yes" or "swipe" in plain_key(name)
    action = Action(type=kind, **fixed)
    if kind in PLACELESS:
        return action
    if kind in WORDED:
        return _worded(action, arguments, view)
    if kind == "scroll":
        return _scrolled(action, arguments, view, swiped)
    if kind == "drag":
        return _dragged(action, arguments, view)
    point, box = _place(arguments, FROM, view, kind)
    return replace(action, point=point, box=box)


# --- arguments ------------------------------------------------------------------------------------


def _first(arguments: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((arguments[name] for name in names if arguments.get(name) is not None), None)


def _place(
    arguments: Mapping[str, Any], names: Sequence[str], view: View, kind: str
) -> tuple[Point | None, Box | None]:
    """Point that an argument names, in fractions, and the box where it is one."""
    x, y = ("x2", "y2") if names is TO else ("x", "y")
    given: Any = _first(arguments, names)
    if x in arguments and y in arguments and not ({"w", "h"} <= arguments.keys()):
        given = {"x": arguments[x], "y": arguments[y]}
    elif names is FROM and {"x1", "y1"} <= arguments.keys():
        corners = {"x": arguments["x1"], "y": arguments["y1"]}
        given = (
            corners if kind in ("drag", "scroll") else {k: arguments.get(k) for k in ("x1", "y1", "x2", "y2")}
        )
    if given is None:
        return None, None
    items = items_of(given, 2, view.axes)
    point = point_of(items[0], view.axes) if len(items) == 1 else None
    if point is None:
        raise Unscorable(f"the place of a {kind} cannot be read: {str(given)[:80]}", "unparsable")
    return point, _box(given, view)


def point_of(item: Any, axes: Axes) -> Point | None:
    """Point of an item of `coordinates.items_of`, in fractions and not clipped; None for one that is none, or
    beyond any picture."""
    if item is None:
        return None
    pair = [item["x"], item["y"]] if isinstance(item, Mapping) else item[::-1] if axes.y_first else item
    x, y = (number(value) for value in pair)
    if x is None or y is None:
        return None
    point = Point(x / axes.width, y / axes.height)
    return point if max(abs(point.x), abs(point.y)) <= LONGEST else None


def _box(given: Any, view: View) -> Box | None:
    items = [item for item in items_of(given, 4, view.axes) if item is not None]
    if len(items) != 1:
        return None
    sides = items[0][:4] if isinstance(items[0], Box) else items[0]["bbox_2d"]
    if view.axes.y_first and not isinstance(items[0], Box):
        sides = [sides[1], sides[0], sides[3], sides[2]]
    width, height = view.axes.width, view.axes.height
    return Box(sides[0] / width, sides[1] / height, sides[2] / width, sides[3] / height)


def _worded(action: Action, arguments: Mapping[str, Any], view: View) -> Action:
    """An action that needs words: text, keys, an app, a status."""
    if action.type == "key":
        keys = action.keys or _keys(_first(arguments, PRESSED))
        if not keys:
            raise Unscorable("a key without a name", "unparsable")
        return replace(action, keys=keys)
    if action.type == "finish":
        words = _text(_first(arguments, STATUSES))
        plain_words = plain_key(words)
        status = action.status or (
            "infeasible"
            if plain_words in ("infeasible", "impossible")
            else "failure"
            if plain_words in ("failure", "fail", "failed", "incomplete", "unsuccessful")
            else "success"
        )
        return replace(action, status=status, text=_text(_first(arguments, TEXTS)))
    if action.type == "open_app":
        app = _text(_first(arguments, APPS)).strip()
        if not app:
            raise Unscorable("open_app without the name of an app", "unparsable")
        return replace(action, app=app)
    text = _text(_first(arguments, TEXTS))
    submits = action.type == "type" and text.endswith("\n")
    point = None
    if action.type == "type":
        try:  # where the field is, which many leave out and some fill with [-100, -100]
            point, _ = _place(arguments, FROM, view, "type")
        except Unscorable:
            point = None
    keys = ("enter",) if submits or arguments.get("pressenter") is True else ()
    return replace(action, text=text.rstrip("\n"), keys=keys, point=point)


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or isinstance(value, Mapping | list | tuple):
        return ""
    return str(value)[:MAX_TEXT]


def _keys(value: Any) -> tuple[str, ...]:
    """Names of keys in one spelling: "Ctrl+C", "ctrl c" and ["ctrl", "c"] are the same."""
    parts = value if isinstance(value, list | tuple) else [value]
    if len(parts) == 1 and isinstance(parts[0], str) and len(parts[0]) > 1:
        parts = re.split(r"\s*\+\s*|\s+|(?<=\w)-(?=\w)", parts[0].strip())
    names = [plain_key(part) or str(part).strip() for part in parts[:16] if part not in (None, "")]
    names = [name.removeprefix("keycode") or name for name in names]
    return tuple(KEYS.get(name, name)[:32] for name in names)


def _direction(words: Any) -> str:
    return DIRECTIONS.get(plain_key(words), "") if isinstance(words, str) else ""


def _main_axis(start: Point, end: Point, view: View) -> str:
    """Direction in which a finger moved.

    Raises:
        Unscorable: "unparsable" where it did not move, or as far across as down.
    """
    x, y = end.x - start.x, (end.y - start.y) * view.aspect
    if abs(abs(x) - abs(y)) < 1e-9:
        raise Unscorable(
            "a swipe without a direction: it is as long across as down, or does not move", "unparsable"
        )
    if abs(x) > abs(y):
        return "right" if x > 0 else "left"
    return "down" if y > 0 else "up"


def _scrolled(action: Action, arguments: Mapping[str, Any], view: View, swiped: bool) -> Action:
    try:
        start, _ = _place(arguments, FROM, view, "scroll")
    except Unscorable:  # [-100, -100] and the like: where it is done matters to no rule
        start = None
    said = action.direction or _direction(_first(arguments, ("direction", "scrolldirection", "dir")))
    said = said or _direction(_first(arguments, ("text", "inputtext", "value", "content", "to")))
    if said:
        turned = swiped and view.swipe == "finger"
        return replace(action, direction=OPPOSITE[said] if turned else said, point=start)
    end, _ = _place(arguments, TO, view, "scroll")
    if start is not None and end is not None:
        return replace(action, direction=OPPOSITE[_main_axis(start, end, view)], point=start, point2=end)
    for counts, (less, more) in ((SIDEWAYS, ("left", "right")), (AMOUNTS, ("down", "up"))):
        for name, sign in counts.items():
            amount = number(arguments.get(name)) if name in arguments else None
            if amount:
                return replace(action, direction=more if amount * sign > 0 else less, point=start)
    raise Unscorable("a scroll without a direction", "unparsable")


def _dragged(action: Action, arguments: Mapping[str, Any], view: View) -> Action:
    start, box = _place(arguments, FROM, view, "drag")
    end, _ = _place(arguments, TO, view, "drag")
    if end is None:
        start, end = None, start  # dragTo(x, y), and Qwen's left_click_drag, give the end alone
    if end is None:
        raise Unscorable("a drag without its end", "unparsable")
    return replace(action, point=start, point2=end, box=box)


# --- names ----------------------------------------------------------------------------------------


def _named(given: Mapping[str, Any], depth: int) -> tuple[str, dict[str, Any]]:
    """Name of an action and its arguments with plain keys, out of a tool call's wrappers."""
    keys = {plain_key(key): value for key, value in given.items()}
    if depth > MAX_NESTING:
        raise Unscorable(f"an action nests deeper than {MAX_NESTING}", "unparsable")
    for wrapper in ("function", "toolcall", "functioncall"):
        if isinstance(keys.get(wrapper), Mapping):
            return _named(keys[wrapper], depth + 1)
    inner = next((keys[key] for key in ("arguments", "args", "parameters", "params", "actioninputs", "input")
                  if isinstance(keys.get(key), Mapping | str)), None)  # fmt: skip
    if isinstance(inner, str) and inner.lstrip()[:1] == "{":
        inner = next((found.value for found in found_lists(inner)), None)
    inner = inner if isinstance(inner, Mapping) else {}
    name = next((keys[key] for key in ("actiontype", "action", "type", "name", "function", "tool", "func")
                 if keys.get(key) is not None), None)  # fmt: skip
    if isinstance(name, Mapping):
        return _named(
            {**name, **{k: v for k, v in keys.items() if k != "action"}} if "point" in keys else name,
            depth + 1,
        )
    if not isinstance(name, str) or not name.strip():
        raise Unscorable(f"an action without a name: {str(dict(given))[:80]}", "unparsable")
    if inner and plain_key(name) not in NAMES and _has_name(inner):
        return _named(inner, depth + 1)
    if "(" in name and name.rstrip().endswith(")"):
        calls = found_calls(name)
        if len(calls) != 1:
            raise Unscorable(f"no one action in {name[:80]!r}", "unparsable")
        return _named(of_call(calls[0]), depth + 1)
    used = ("actiontype", "action", "type", "function", "tool", "func", "arguments", "args", "parameters")
    rest = {key: value for key, value in keys.items() if key not in used or value != name}
    return name.strip(), {**rest, **{plain_key(key): value for key, value in inner.items()}}


def _has_name(inner: Mapping[str, Any]) -> bool:
    return any(plain_key(key) in ("action", "actiontype", "type", "name") for key in inner)


def _kind(name: str, arguments: Mapping[str, Any]) -> tuple[Type, dict[str, Any]]:
    """Canonical type of a name, and what the name alone says: a direction, a key, a status."""
    word = plain_key(name.rsplit(".", 1)[-1])
    module = name.rpartition(".")[0].lower()
    if module and module not in MODULES:
        raise Unscorable(
            f"no action is named {name[:60]!r}: {module[:40]} is no module of actions", "unparsable"
        )
    if word in ("systembutton", "pressbutton", "navigate"):
        word = plain_key(_text(_first(arguments, ("button", "direction", "to", "key"))))
        if word not in ("back", "home", "recent", "recents", "appswitch", "overview"):
            return "key", {"keys": _keys(word)}
    for stem in ("scroll", "swipe"):
        side = _direction(word.removeprefix(stem)) if word.startswith(stem) else ""
        if side:
            return "scroll", {"direction": side}
    if word.startswith(PRESS) and word not in NAMES:
        key = word[len(PRESS) :].removeprefix("key")
        return "key", {"keys": (KEYS.get(key, key)[:32],)}
    if word not in NAMES:
        raise Unscorable(
            f"no action is named {name[:60]!r}: {nearest(word, sorted(NAMES), limit=2)}", "unparsable"
        )
    kind, fixed = NAMES[word]
    if kind == "click":
        clicks, button = number(arguments.get("clicks", 1)), plain_key(_text(arguments.get("button")))
        if button in ("right", "middle"):
            kind = "right_click" if button == "right" else "middle_click"
        elif clicks in (2, 3):
            kind = "double_click" if clicks == 2 else "triple_click"
    return kind, dict(fixed)

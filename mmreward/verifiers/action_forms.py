"""Forms of GUI actions in a text: calls, JSON and lines of words, as mappings with a name and arguments.

`parsed_actions` chooses the grammar by its marks unless one is declared. What the names mean is in `actions`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ..errors import Unscorable
from ..tracing import noted
from .action_names import DIRECTIONS, NAMES, POINTED
from .calls import Call, found_calls
from .coordinates import plain_key
from .lists import found_lists

Grammar = Literal[
    "any", "pyautogui", "aguvis", "ui-tars", "glm", "qwen", "androidcontrol", "json", "os-atlas", "odyssey"
]
CALLS = frozenset({"pyautogui", "aguvis", "ui-tars", "glm"})
LINES = frozenset({"os-atlas", "odyssey"})
MAX_ACTIONS = 64
MAX_NESTING = 8

MARKER = re.compile(r"(?:^|\n)[ \t#*]{0,8}(?:grounded )?actions?[ \t*]{0,4}:[ \t*]{0,4}", re.IGNORECASE)
LINE = re.compile(
    r"^[ \t]{0,8}(?P<name>[A-Z]{3,10}(?:_[A-Z]{2,10}){0,2})[ \t]{0,4}(?P<colon>:?)"
    r"[ \t]{0,4}(?P<rest>[^\n]{0,20000})$",
    re.MULTILINE,
)
TOOL = re.compile(r"<tool_call>|<\|tool_call", re.IGNORECASE)


def parsed_actions(text: str, grammar: Grammar = "any") -> list[Mapping[str, Any]]:
    """Parsed actions of an answer, in their order.

    Raises:
        Unscorable: "unparsable" where a call or an object is broken, cut off or nested too deep.
    """
    form = _form(text) if grammar == "any" else grammar
    noted("grammar", "{}", form)
    if form in LINES:
        return list(_of_lines(text))
    if form in CALLS and not (form == "glm" and _opens_json(text)):
        return [of_call(call) for call in found_calls(_behind_marker(text))]
    return list(_of_json(text))


def _form(text: str) -> Grammar:
    """Grammar whose marks a text has: tool calls, calls, words, JSON, in this order."""
    body = _behind_marker(text)
    if TOOL.search(text) or _opens_json(body):
        return "json"
    lines = (line for line in LINE.finditer(body) if line["colon"] or line["rest"][:1] != "(")
    if any(plain_key(line["name"]) in NAMES for line in lines):
        return "os-atlas"
    return "json" if "{" in body and not re.search(r"(?:^|[\n;])[^\n(]{0,64}\w\(", body) else "ui-tars"


def _opens_json(text: str) -> bool:
    return text.lstrip(" \n\t`").removeprefix("json").lstrip()[:1] in ("{", "[")


def _behind_marker(text: str) -> str:
    """Text behind the first "Action:" of a line; every further one begins a line of its own."""
    found = MARKER.search(text)
    return MARKER.sub("\n", text[found.end() :]) if found else text


def _of_json(text: str) -> Iterator[Mapping[str, Any]]:
    """Parsed actions of all objects in a text."""
    for found in found_lists(_behind_marker(text)):
        if found.dropped:
            raise Unscorable("an action is broken or cut off", "unparsable")
        yield from _of_value(found.value, 0)


def _of_value(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if depth > MAX_NESTING:
        raise Unscorable(f"an action nests deeper than {MAX_NESTING}", "unparsable")
    if isinstance(value, list):
        for one in value[: MAX_ACTIONS + 1]:
            yield from _of_value(one, depth + 1)
    elif isinstance(value, Mapping):
        several = next(
            (value[key] for key in ("tool_calls", "actions") if isinstance(value.get(key), list)), None
        )
        if several is not None:
            yield from _of_value(several, depth + 1)
        else:
            yield value


def _of_lines(text: str) -> Iterator[Mapping[str, Any]]:
    """Parsed actions of lines such as `CLICK <point>[[x,y]]</point>`, `TYPE [text]` and `SCROLL: UP`."""
    for line in LINE.finditer(_behind_marker(text)):
        name = plain_key(line["name"])
        if name not in NAMES:
            raise Unscorable(f"no action is named {line['name']!r}", "unparsable")
        rest = line["rest"].strip().removesuffix("<|im_end|>").strip()
        kind = NAMES[name][0]
        pointed = kind in POINTED or "<point" in rest
        inner = rest[1:-1] if rest[:1] == "[" and rest[-1:] == "]" and not pointed else rest
        if kind == "click" and plain_key(rest) in ("keyhome", "keyback", "keyappselect"):
            yield {"action": rest}  # GUI-Odyssey writes system keys as clicks
        elif pointed and rest:
            yield {"action": name, "point": inner}
        else:  # "SCROLL: UP" is GUI-Odyssey's finger, "SCROLL [UP]" OS-Atlas's content
            finger = kind == "scroll" and line["colon"]
            yield {"action": "swipe" if finger else name, "text": inner, "direction": inner}


def of_call(call: Call) -> dict[str, Any]:
    """Parsed action of a call, its places under the names that they have."""
    word = plain_key(call.name.rsplit(".", 1)[-1])
    given: dict[str, Any] = dict(call.names)
    if word in ("do", "act", "action") and isinstance(given.get("action"), str):
        return given
    kind = NAMES[word][0] if word in NAMES else ""
    texts = [place for place in call.places if isinstance(place, str)]
    numbers = [
        place for place in call.places if isinstance(place, int | float) and not isinstance(place, bool)
    ]
    lists = [place for place in call.places if isinstance(place, list)]
    if kind == "key":
        keys = [key for place in call.places for key in (place if isinstance(place, list) else [place])]
        given |= {"keys": keys} if keys else {}
    elif kind == "scroll":
        given |= _scroll_places(word, texts, numbers, lists)
    elif kind == "drag" and len(numbers) >= 4:
        given |= {"point": numbers[:2], "point2": numbers[2:4]}
    elif kind in POINTED or kind == "move":
        if lists or (texts and not numbers):
            given |= dict(zip(("point", "point2"), lists or texts, strict=False))
        elif len(numbers) >= 2:
            given |= {"point": numbers[:2]} | ({"clicks": numbers[2]} if len(numbers) > 2 else {})
    elif texts:
        given |= {"text": texts[0]}
    if word == "dragto" and "point" not in given and {"x", "y"} <= given.keys():
        given |= {"point2": [given.pop("x"), given.pop("y")]}
    return {"action": call.name, **given}


def _scroll_places(word: str, texts: list[str], numbers: list[Any], lists: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = dict(zip(("point", "point2"), lists, strict=False))
    for text in texts:
        found["direction" if DIRECTIONS.get(plain_key(text)) else "point"] = text
    if len(numbers) >= 4:
        found |= {"point": numbers[:2], "point2": numbers[2:4]}
    elif numbers:
        found["hclicks" if word == "hscroll" else "clicks"] = numbers[0]
    return found

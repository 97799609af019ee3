"""Lists of objects in a model's answer, read whatever quotes, fences, commas or cut-off tail they came with.

One linear pass rewrites the text from an opening bracket on as strict JSON, which `json` then reads; nothing
is evaluated, no text is tried twice. Where the whole does not parse, its items are parsed one by one, so one
broken object costs one object, and the tail that a token limit cut off counts as dropped. Deep nesting and
endless numbers are refused. Box and point tags are in `markup`.
"""

import json
import re
from typing import Any, NamedTuple

from ..errors import Unscorable
from .text import nfkc

MAX_DEPTH = 8
MAX_DIGITS = 32
MAX_LISTS = 64
"""Lists of numbers or words that are skipped before the first list of objects."""
OPEN, CLOSE = "[{", "]}"
OPENING = re.compile(r"[\[{]")
WORDS = {"true": "true", "false": "false", "null": "null", "none": "null"}


class Parsed(NamedTuple):
    """Items of a list, and the number of those that could not be read (a cut-off last item counts)."""

    items: list[Any]
    dropped: int


class _Scan(NamedTuple):
    """One list rewritten as JSON: the whole, its items one by one, the position after it, and its
    completeness."""

    json: str
    items: list[str]
    end: int
    complete: bool


def parse_list(text: str, *, only: bool = False) -> Parsed:
    """Read the first list of objects (or single object) in a text; "[1]" before it is skipped.

    Args:
        text: a model's answer.
        only: refuse a text with several lists, which is no one answer.

    Raises:
        Unscorable: "unparsable" when there is none, which is not the same as an empty one.
    """
    position = 0
    lists: list[Parsed] = []
    while (start := _first(text, position)) >= 0:
        scan = _scan(text, start)
        parsed = _load(scan)
        if parsed is not None:
            lists.append(parsed)
            if not only and (not parsed.items or any(map(_object, parsed.items))):
                return parsed
            if only and len(lists) > 1:
                raise Unscorable("several lists where one is expected", "unparsable")
            if len(lists) > MAX_LISTS:
                raise Unscorable(f"more than {MAX_LISTS} lists, none of them of objects", "unparsable")
        position = scan.end  # behind the list, never inside it again: the scans together are linear
    if not lists:
        raise Unscorable(f"no list in {text[:80]!r}", "unparsable")
    return lists[0]


def _first(text: str, position: int) -> int:
    found = OPENING.search(text, position)
    return found.start() if found else -1


def _load(scan: _Scan) -> Parsed | None:
    if scan.complete:
        value = _loads(scan.json)
        if value is not None:
            return Parsed(_unwrap(value), 0)
    values = [_loads(item) for item in scan.items]
    good = [value for value in values if value is not None]
    dropped = len(values) - len(good) + (not scan.complete)
    return Parsed(_unwrap(good), dropped) if good else None


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _unwrap(value: Any) -> list[Any]:
    """List of items in a parsed value: {"objects": [...]} gives its list, one object or four bare numbers a
    list of one."""
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        return lists[0] if len(lists) == 1 and not _four(lists[0]) else [value]
    if _four(value):
        return [value]
    if len(value) == 1 and isinstance(value[0], list) and not _four(value[0]):
        return list(value[0])
    return list(value)


def _object(value: Any) -> bool:
    return isinstance(value, dict) or _four(value)


def _four(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(v, int | float) for v in value)


def _scan(text: str, start: int) -> _Scan:
    """Rewrite the text from `start` to the matching bracket as JSON, with the items directly inside it.

    `out` holds JSON tokens. `items` are its slices that end where a bracket closes back to the outer list, so
    each is one object or inner list and can be parsed without the others. A closing bracket counts whichever
    kind it is: `json` refuses a mismatch, in that item alone.
    """
    out: list[str] = []
    items: list[str] = []
    stack: list[str] = []
    mark, at, size = 1, start, len(text)
    while at < size:
        char = text[at]
        if char in OPEN:
            stack.append(char)
            if len(stack) > MAX_DEPTH:
                raise Unscorable(f"brackets nest deeper than {MAX_DEPTH}", "unparsable")
            out.append(char)
        elif char in CLOSE:
            _drop_comma(out)  # [1, 2,] is what many write
            out.append(char)
            stack.pop()
            if len(stack) == 1:
                items.append("".join(out[mark:]).lstrip(","))
                mark = len(out)
            if not stack:
                return _Scan("".join(out), items, at + 1, True)
        elif char in "\"'" and out and out[-1] in "[{,:":  # elsewhere a quote is an apostrophe
            literal, at = _string(text, at)  # either kind of quote becomes a JSON string
            out.append(literal)
            continue
        elif char.isalpha():
            word, at = _run(text, at, str.isalpha)  # True and None become JSON; others fail its item
            _keep_apart(out)
            out.append(WORDS.get(word.lower(), word))
            continue
        elif char.isdecimal() or char in "+-.\u2212":
            number, at = _run(text, at, lambda c: c.isalnum() or c in "+-.\u2212")
            _keep_apart(out)
            out.append(_number(number))
            continue
        elif not char.isspace():
            out.append(char)
        at += 1
    return _Scan("".join(out), items, size, False)


def _drop_comma(out: list[str]) -> None:
    if out[-1] == ",":
        out.pop()


def _keep_apart(out: list[str]) -> None:
    """Put a space between two words or numbers: spaces are dropped, but `4 5` must not become 45."""
    if out[-1][-1].isalnum():
        out.append(" ")


def _string(text: str, start: int) -> tuple[str, int]:
    """Read a quoted string as a JSON string, and the position after it.

    It ends at its quote only where a comma, colon or bracket follows, so the label of 'cat's toy' survives in
    single quotes. Looking past the spaces stays linear, as the search goes on from where the look ended.
    """
    quote, at = text[start], start + 1
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        if text[at] == quote:
            after = at + 1
            while after < len(text) and text[after].isspace():
                after += 1
            if after == len(text) or text[after] in ",:]}":
                break
            at = after
            continue
        at += 1
    raw = text[start + 1 : at]
    try:
        content = json.loads(f'"{raw}"')
    except ValueError:
        content = raw
    return json.dumps(content), at + 1


def _run(text: str, start: int, inside: Any) -> tuple[str, int]:
    end = start + 1
    while end < len(text) and inside(text[end]):
        end += 1
    return text[start:end], end


def _number(text: str) -> str:
    """Number in ASCII digits; one that is too long, or malformed, fails the JSON parse of its item."""
    plain = nfkc(text).removeprefix("+")
    sign, plain = ("-", plain[1:]) if plain.startswith("-") else ("", plain)
    plain = f"{sign}{'0' * plain.startswith('.')}{plain}{'0' * plain.endswith('.')}"  # .5 and 2. are not JSON
    return plain if len(plain) <= MAX_DIGITS else "too long a number"

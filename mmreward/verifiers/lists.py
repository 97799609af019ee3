"""Lists of objects in a model's answer, read whatever quotes, fences, commas or cut-off tail they came with.

What is JSON is read as such. Anything else is rewritten as JSON by one linear pass from an opening bracket
on, and then read; nothing is evaluated. Tuples are lists, names without quotes are keys, leading zeros are
dropped, and where nothing but the last brackets is missing they are put there. Where the whole does not
parse, its items are parsed one by one, so one broken object costs one object, and the tail that a token limit
cut off counts as dropped. Deep nesting and endless numbers are refused. Box and point tags are in `markup`,
what coordinates a parsed value holds in `coordinates`.
"""

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from ..errors import Unscorable
from .text import nfkc

MAX_DEPTH = 8
MAX_DIGITS = 32
MAX_LISTS = 64
"""Lists of numbers or words that are skipped before the first list of objects."""
MISSES = 4
"""Lists that are no JSON until that is no longer tried: each error of `json` counts the lines of the text
before it, which for many lists is quadratic."""
OPEN, CLOSE = {"[": "[", "{": "{", "(": "["}, {"]": "]", "}": "}", ")": "]"}
"""Brackets as JSON writes them; a tuple counts as a list inside one, and opens none in prose."""
PARTNERS = {"[": "]", "{": "}", "(": "]"}
OPENING = re.compile(r"[\[{]")
WORDS = {"true": "true", "false": "false", "null": "null", "none": "null"}
NUMBERS = frozenset({"nan", "inf", "infinity"})
NUMBER = re.compile(r"([+-]?)0*(\d*\.?\d*(?:[eE][+-]?\d{1,4})?)")


ENDLESS = re.compile(rf"[0-9.eE+-]{{{MAX_DIGITS + 1}}}|[eE][+-]?[0-9]{{5}}")
"""Numbers that JSON has, and an answer may not."""


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


STRICT = json.JSONDecoder(parse_constant=_refuse)


class Parsed(NamedTuple):
    """Items of a list, and the number of those that could not be read (a cut-off last item counts)."""

    items: list[Any]
    dropped: int


class Found(NamedTuple):
    """One list or object in a text: its value, the number of items that were lost, and where it stands."""

    value: Any
    dropped: int
    start: int
    end: int


class _Scan(NamedTuple):
    """One list rewritten as JSON: the whole, its items one by one, the position after it, its completeness,
    and the brackets that are missing with the text since the last item."""

    json: str
    items: list[str]
    end: int
    complete: bool
    missing: str = ""
    tail: str = ""


def parse_list(text: str, *, only: bool = False) -> Parsed:
    """Read the first list of objects (or single object) in a text; "[1]" before it is skipped.

    Args:
        text: a model's answer.
        only: refuse a text with several lists, which is no one answer.

    Raises:
        Unscorable: "unparsable" when there is none, which is not the same as an empty one.
    """
    lists: list[Parsed] = []
    for found in found_lists(text):
        parsed = Parsed(_unwrap(found.value), found.dropped)
        lists.append(parsed)
        if not only and (not parsed.items or any(map(_object, parsed.items))):
            return parsed
        if only and len(lists) > 1:
            raise Unscorable("several lists where one is expected", "unparsable")
        if len(lists) > MAX_LISTS:
            raise Unscorable(f"more than {MAX_LISTS} lists, none of them of objects", "unparsable")
    if not lists:
        raise Unscorable(f"no list in {text[:80]!r}", "unparsable")
    return lists[0]


def found_lists(text: str) -> Iterator[Found]:
    """Lists and objects of a text in their order; what cannot be read at all is passed over.

    Raises:
        Unscorable: "unparsable" where brackets nest deeper than `MAX_DEPTH`.
    """
    opening, misses = OPENING.search(text), 0
    while opening:
        found = read_json(text, opening.start()) if misses < MISSES else None
        if found is None:
            misses += 1
            found = read_leniently(text, opening.start())
        if found.value is not None:
            yield found
        opening = OPENING.search(text, found.end)  # behind it, never inside it again: linear all together


def read_json(text: str, start: int) -> Found | None:
    """JSON as it stands, in a fraction of the time; None where `read_leniently` might read something else."""
    try:
        value, end = STRICT.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    if ENDLESS.search(text, start, end):
        return None
    inside = [value]
    for _ in range(MAX_DEPTH):
        members = chain.from_iterable(one.values() if isinstance(one, dict) else one for one in inside)
        inside = [one for one in members if isinstance(one, dict | list)]
        if not inside:
            return Found(value, 0, start, end)
    return None


def read_leniently(text: str, start: int) -> Found:
    """Whatever can be read of the list; its value is None where nothing can."""
    scan = _scan(text, start)
    value, dropped = _load(scan) or (None, 0)
    return Found(value, dropped, start, scan.end)


def _load(scan: _Scan) -> tuple[Any, int] | None:
    """Value of a list and the number of items that it lost; None where nothing of it can be read."""
    value = _loads(scan.json) if scan.complete else _closed(scan)
    if value is not None:
        return value, 0
    values = [_loads(item) for item in scan.items]
    good = [value for value in values if value is not None]
    cut = not scan.complete and bool(scan.tail.strip(",`*."))
    return (good, len(values) - len(good) + cut) if good else None


def _closed(scan: _Scan) -> Any:
    """Value of a list whose text ends before its last brackets; None where more is missing than these.

    An opening bracket alone is no empty list, which would be an answer.
    """
    value = _loads(scan.json + scan.missing)
    items = _unwrap(value) if isinstance(value, list | dict) else []
    whole = any((isinstance(item, dict) and item) or (isinstance(item, list) and item) for item in items)
    pair = len(items) == 2 and all(isinstance(item, int | float) for item in items)
    return value if whole or pair else None


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return None


def _unwrap(value: Any) -> list[Any]:
    """List of items in a parsed value: {"objects": [...]} gives its list, one object or four bare numbers a
    list of one."""
    if isinstance(value, dict):
        if not value:
            return []
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
            out.append(OPEN[char])
        elif char in CLOSE:
            _drop_comma(out)  # [1, 2,] is what many write
            out.append(CLOSE[char])
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
        elif char.isalpha() or char == "_":
            word, at = _word(text, at, stack[-1] == "{" and out[-1])
            _keep_apart(out)
            out.append(word)
            continue
        elif char.isdecimal() or char in "+-.\u2212":
            number, at = _run(text, at, lambda c: c.isalnum() or c in "+-.\u2212")
            _keep_apart(out)
            out.append(_number(number))
            continue
        elif char == "=" and out[-1].startswith('"'):  # {"x"=1}, and names such as {x=1}
            out.append(":")
        elif not char.isspace():
            out.append(char)
        at += 1
    tail = "".join(out[mark:])
    while out and out[-1] in (",", "`"):  # a comma or a code fence behind the last item
        out.pop()
    missing = "".join(PARTNERS[bracket] for bracket in reversed(stack))
    return _Scan("".join(out), items, size, False, missing, tail)


def _word(text: str, start: int, before: str | bool) -> tuple[str, int]:
    """Word as JSON, and the position after it: a name before a colon is a key, words after one are text; True
    and None are JSON's, and any other word fails its item.

    Args:
        text: the whole text.
        start: where the word begins.
        before: the token before it, directly inside an object; False elsewhere.
    """
    word, at = _run(text, start, lambda c: c.isalnum() or c == "_")
    if before in ("{", ","):
        after = at
        while after < len(text) and text[after].isspace():
            after += 1
        return (json.dumps(word), after) if text[after : after + 1] in (":", "=") else (word, after)
    known = WORDS.get(word.lower())
    if before != ":" or known or word.lower() in NUMBERS:
        return known or word, at
    words, at = _run(text, start, lambda c: c not in ',;[]{}()\n:="')
    return json.dumps(words.strip()), at


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


def _run(text: str, start: int, inside: Callable[[str], bool]) -> tuple[str, int]:
    end = start + 1
    while end < len(text) and inside(text[end]):
        end += 1
    return text[start:end], end


def _number(text: str) -> str:
    """Number in ASCII digits as JSON writes it; one that is too long, or malformed, fails the JSON parse of
    its item. A sign alone ("x + w") is no number."""
    match = NUMBER.fullmatch(nfkc(text)) if len(text) <= MAX_DIGITS else None
    decimal = any(map(str.isdecimal, text)) and not any(c.isdigit() and not c.isdecimal() for c in text)
    if match is None or not decimal:  # a superscript is no digit
        return "no number"
    sign, digits = match.groups()
    if not digits[:1].isdecimal():  # .5, and 0 without its zeros
        digits = f"0{digits}"
    digits = f"{digits}0" if digits.endswith(".") else digits.replace(".e", ".0e").replace(".E", ".0E")
    return f"{'-' * (sign == '-')}{digits}"

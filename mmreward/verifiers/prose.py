"""Coordinates in prose: numbers in brackets, in groups, or under the names of their axes.

"cat: (1, 2), (3, 4)", "x: 1, y: 2", "click(start_box='(1,2)')", "1 2 3 4", tables and Markdown lists. One
pass over tokens, so a megabyte costs a linear scan.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .coordinates import Axes, Size, flat_item, named_item, number, plain_key
from .wording import NOT, OR, label_in

TOKEN = re.compile(
    r"(?P<number>(?<![A-Za-z0-9_.])[-+]?\d{1,9}(?:\.\d{1,20})?(?: ?%| ?px\b)?(?!\.?[A-Za-z0-9_]))"
    r"|(?P<comma>[,\s|]|and\b|\u548c|>\s{0,3}<(?=\s{0,3}\d))|(?P<open>[\[({<])|(?P<close>[\])}>])|(?P<end>;)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*|.)",
    re.DOTALL,
)
JOINT = re.compile(
    r"(?:[\s\[\](){}<>,;:|\u2013\u2014\u2192~&.'\"=-]|and|to|at|is|the|bottom|lower|top|right|corner|point|start|end|_|box"
    r"|\u53f3\u4e0b|\u89d2|\u70b9|\u5750\u6807|\u4e3a|\u662f|\u5230|\u81f3|\u548c|\u4e0e)*"
)
"""Text between the two corners of one box."""
NAMED = re.compile(
    r"(?<![A-Za-z0-9_])([xy][012]?|[xy][_ ]?(?:min|max)|left|top|right|bottom|width|height|[wh])"
    r"[\"'* ]{0,3}[=:>]\s{0,3}[\"']?([-+]?\d{1,9}(?:\.\d{1,20})?(?: ?%)?)(?!\.?[A-Za-z0-9_])",
    re.IGNORECASE,
)
MAX_JOINT = 80


class Group(NamedTuple):
    """Numbers that stand together, and where."""

    numbers: list[float]
    start: int
    end: int
    bracketed: bool


class Prose(NamedTuple):
    """Items of a text; `hedged` where alternatives are offered, or one is denied."""

    items: list[Any]
    hedged: bool


def prose_items(text: str, size: Size, axes: Axes) -> Prose:
    """Items of a text without lists: under the names of their axes, in brackets, or nothing but numbers."""
    named = _named_items(text, size, axes)
    if named.items:
        return named
    groups = list(_groups(text))
    if any(group.bracketed and len(group.numbers) > 1 for group in groups):
        groups = [group for group in groups if group.bracketed]
    return _grouped(text, [group for group in groups if len(group.numbers) > 1], size, axes, "")


def _named_items(text: str, size: Size, axes: Axes) -> Prose:
    items: list[Any] = []
    seen: dict[str, Any] = {}
    label, end, hedged = "", 0, False
    for match in NAMED.finditer(text):
        key = plain_key(match[1])
        between = text[end : match.start()]
        if items and not seen:
            hedged |= bool(OR.search(between))
        if key in seen:  # half an item, and the next one begins
            items.append(None)
            seen = {}
        if not seen:
            label = label_in(between)
        seen[key] = match[2]
        end = match.end()
        full = {"x", "y"} <= seen.keys() if size == 2 else False
        item = named_item(seen, size, label, axes) if full or len(seen) == 4 else None
        if item is not None:
            items.append(item)
            seen = {}
    if items and OR.match(text[end:].lstrip(" ,.;)]}'\"")):
        hedged = True
    if seen and items:
        items.append(None)
    return Prose(items if any(items) else [], hedged)


def _groups(text: str) -> Iterator[Group]:
    """Numbers between which stand only commas and spaces; a bracket, a semicolon or a word ends a group."""
    numbers: list[float] = []
    start = end = 0
    opened = before = False
    for token in TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "number":
            value = number(token[0].replace(" ", ""))
            if value is not None:
                if not numbers:
                    start, opened = token.start(), before
                numbers.append(value)
                end = token.end()
                continue
        if kind == "comma" or (kind == "end" and len(numbers) == 1):
            continue
        if numbers:
            yield Group(numbers, start, end, opened and kind in ("close", "end"))
            numbers = []
        before = kind == "open" or (kind == "end" and opened)
    if numbers:
        yield Group(numbers, start, end, opened)


def _grouped(text: str, groups: Sequence[Group], size: Size, axes: Axes, label: str) -> Prose:
    """Items of groups of numbers: pairs that only a joint parts are the corners of one box."""
    items: list[Any] = []
    labels: list[str] = []
    after: list[str] = []
    hedged = False
    at = end = 0
    while at < len(groups):
        chain = [groups[at]]
        while size == 4 and len(chain[-1].numbers) == 2 and at + len(chain) < len(groups):
            following = groups[at + len(chain)]
            joint = text[chain[-1].end : following.start]
            if len(following.numbers) != 2 or len(joint) > MAX_JOINT or not JOINT.fullmatch(joint):
                break
            chain.append(following)
        before = text[end : chain[0].start]
        hedged |= bool((items and OR.search(before)) or NOT.search(before[-40:].rstrip(" ([{<")))
        numbers = [x for group in chain for x in group.numbers]
        found = _pieces(numbers, size, axes, chain[0].bracketed)
        name = label or (label_in(before) if size == 4 else "")
        items += found
        labels += [name] * len(found)
        at += len(chain)
        end = chain[-1].end
        following_text = text[end : groups[at].start] if at < len(groups) else text[end:]
        after += [label_in(following_text.lstrip(" )]}>.,\"'").partition("\n")[0])] * len(found)
    hedged |= bool(items and OR.match(text[end:].lstrip(" ,.;)]}'\"")))
    if size == 4 and not any(labels) and len(items) == len(after):
        labels = after
    for item, name in zip(items, labels, strict=True):
        if isinstance(item, dict) and not item.get("label"):
            item["label"] = name
    return Prose(items if any(item is not None for item in items) else [], hedged)


def _pieces(numbers: list[float], size: Size, axes: Axes, bracketed: bool) -> list[Any]:
    if len(numbers) in (2, 4) and (size == 4 or bracketed or len(numbers) == 2):
        return [flat_item(numbers, size, axes, "")]
    if len(numbers) % size or (bracketed and size == 2):
        return [None]
    return [flat_item(numbers[at : at + size], size, axes, "") for at in range(0, len(numbers), size)]

"""Calls in a text: `click(start_box='(1,2)')`, `pyautogui.hotkey('ctrl', 'c')`, read without evaluating
anything.

A call stands at the start of a line or behind `;`; prose between calls is passed over. Arguments are numbers,
quoted text, lists, tuples, mappings, True, False and None; anything that would have to be computed (a name, a
call in a call, a sum) is a failure that names it. A quote inside a quoted text is part of it unless a comma
with the next argument, or the call's end, follows: that is how models write "it's". One pass, bounded look
ahead, so a megabyte costs a linear scan.
"""

import re
from typing import Any, NamedTuple

from ..errors import Unscorable

MAX_CALLS = 64
MAX_DEPTH = 6
MAX_ARGUMENTS = 64
START = re.compile(
    r"(?:^|(?<=[\n;]))[ \t`>*-]{0,16}(?:\d{1,2}[.)][ \t]{1,4})?(?P<name>[A-Za-z_][\w.]{0,63})[ \t]{0,4}\(",
    re.ASCII,
)
SPACE = re.compile(r"\s*")
KEYWORD = re.compile(r"([A-Za-z_]\w{0,63})\s{0,8}=(?!=)", re.ASCII)
NUMBER = re.compile(r"[+-]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(?:[eE][+-]?\d{1,2})?(?![\w.])", re.ASCII)
WORD = re.compile(r"[\w.]{1,64}")
WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
ENDS = re.compile(
    r"\s{0,64}(?:,\s{0,64}(?:[A-Za-z_]\w{0,63}\s{0,8}=|['\"\[({\d+-])|\)\s{0,64}\.?\s{0,64}(?:\Z|[;\n`<#]))",
    re.ASCII,
)
"""What follows the quote that closes an argument: the next one, or the end of the statement."""
INSIDE = re.compile(r"\s{0,64}[,\])}:]")
"""What follows a quote that closes a text inside a list."""
TAIL = re.compile(r"[ \t]{0,64}\.?[ \t]{0,64}(?:\Z|[;\n`<#\r])")
QUOTES = {"'": "'", '"': '"', "\u2018": "\u2019"}
"""Marks that open and close a text."""
PADDED = re.compile(r"[+-]?0\d")
"""Beginning of a number that is more likely the end of "1,000"."""
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "'": "'", '"': '"', "\\": "\\", "(": "(", ")": ")"}


class Call(NamedTuple):
    """A call: its name as written, what stands by place, and what stands by name."""

    name: str
    places: tuple[Any, ...]
    names: dict[str, Any]


def found_calls(text: str) -> list[Call]:
    """Calls of a text in their order.

    Raises:
        Unscorable: "unparsable" where one cannot be read, has more than `MAX_ARGUMENTS` arguments or an
            argument that is computed, and where there are more than `MAX_CALLS`.
    """
    calls: list[Call] = []
    opening = START.search(text)
    while opening:
        call, at = _call(text, opening["name"], opening.end())
        calls.append(call)
        if len(calls) > MAX_CALLS:
            raise Unscorable(f"more than {MAX_CALLS} calls", "unparsable")
        opening = START.search(text, at)
    return calls


def _call(text: str, name: str, at: int) -> tuple[Call, int]:
    """Arguments of a call from behind its opening bracket on, and the position after it."""
    places: list[Any] = []
    names: dict[str, Any] = {}
    while True:
        at = _skip(text, at)
        if text[at : at + 1] == ")":
            break
        if len(places) + len(names) >= MAX_ARGUMENTS:
            raise Unscorable(f"{name}: more than {MAX_ARGUMENTS} arguments", "unparsable")
        keyword = KEYWORD.match(text, at)
        value, at = _value(text, _skip(text, keyword.end()) if keyword else at, name, 0)
        if keyword and keyword[1] in names:
            raise Unscorable(f"{name}: {keyword[1]} is given twice", "unparsable")
        if keyword:
            names[keyword[1]] = value
        elif names:
            raise Unscorable(f"{name}: an argument without a name behind one with a name", "unparsable")
        else:
            places.append(value)
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != ")":
            raise Unscorable(f"{name}: no end of its arguments at {text[at : at + 24]!r}", "unparsable")
    if not TAIL.match(text, at + 1):
        raise Unscorable(f"{name}: {text[at + 1 : at + 25]!r} behind the call", "unparsable")
    return Call(name, tuple(places), names), at + 1


def _skip(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, name: str, depth: int) -> tuple[Any, int]:
    char = text[at : at + 1]
    if char in QUOTES and char:
        return _quoted(text, at, name, depth)
    if char in ("r", "R") and text[at + 1 : at + 2] in ("'", '"'):
        return _quoted(text, at + 1, name, depth)
    if char in ("[", "(", "{") and char:
        return _bracket(text, at, name, depth)
    number = NUMBER.match(text, at)
    if number and PADDED.match(number[0]):
        raise Unscorable(f"{name}: the number {number[0]!r} has leading zeros", "unparsable")
    if number:
        value = float(number[0])
        return (int(value) if value.is_integer() else value), number.end()
    word = WORD.match(text, at)
    if word and word[0] in WORDS:
        return WORDS[word[0]], word.end()
    raise Unscorable(
        f"{name}: the argument {text[at : at + 32]!r} is no number, text or list; nothing is computed",
        "unparsable",
    )


def _bracket(text: str, at: int, name: str, depth: int) -> tuple[Any, int]:
    """List, tuple (as a list) or mapping."""
    if depth >= MAX_DEPTH:
        raise Unscorable(f"{name}: brackets nest deeper than {MAX_DEPTH}", "unparsable")
    close = {"[": "]", "(": ")", "{": "}"}[text[at]]
    items: list[Any] = []
    keys: list[str] = []
    at += 1
    while True:
        at = _skip(text, at)
        if text[at : at + 1] == close:
            break
        if len(items) >= MAX_ARGUMENTS:
            raise Unscorable(f"{name}: a list of more than {MAX_ARGUMENTS}", "unparsable")
        if close == "}":
            key, at = _value(text, at, name, depth + 1)
            at = _skip(text, at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                raise Unscorable(f"{name}: no key at {text[at : at + 24]!r}", "unparsable")
            keys.append(key)
            at = _skip(text, at + 1)
        value, at = _value(text, at, name, depth + 1)
        items.append(value)
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != close:
            raise Unscorable(f"{name}: no {close} at {text[at : at + 24]!r}", "unparsable")
    return (dict(zip(keys, items, strict=True)) if close == "}" else items), at + 1


def _quoted(text: str, at: int, name: str, depth: int) -> tuple[str, int]:
    """Quoted text from its first quote on, and the position after it."""
    quote = QUOTES[text[at]]
    if text.startswith(quote * 3, at):
        end = text.find(quote * 3, at + 3)
        if end < 0:
            raise Unscorable(f"{name}: a quoted text does not end", "unparsable")
        return text[at + 3 : end], end + 3
    ends = INSIDE if depth else ENDS
    out: list[str] = []
    at += 1
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            out.append(ESCAPES.get(text[at + 1], char + text[at + 1]))
            at += 2
            continue
        if char == quote and ends.match(text, at + 1):
            return "".join(out), at + 1
        out.append(char)
        at += 1
    raise Unscorable(f"{name}: a quoted text does not end", "unparsable")

"""Trees of mathematical answers: lists, sets, points, intervals, matrices, ratios, equations; what is left at
the leaves is one expression each.

`tree_of` reads a tidied text into a tree, by the first of `READERS` that recognises it. `equality` compares
two trees.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Union

from .arithmetic import exact
from .latex import TEXTS, alternatives_as_list, split_outside
from .numbers import read_quantity

MAX_ITEMS = 64
"""Items of a list, and cells of a matrix."""
MAX_NESTING = 6


class Node(NamedTuple):
    """What has parts.

    Args:
        kind: list, set, tuple, row, matrix, interval, union, ratio, base, equation, record, point, chain, or
            a sign that joins sets.
        items: its parts, in order.
        text: the whole, as it was written.
        mark: brackets of a tuple or interval, then the variable of an interval; the name of an equation, or
            the names of a record.
    """

    kind: str
    items: "list[Tree]"
    text: str
    mark: str = ""


Tree = Union[str, Node]  # noqa: UP007 - a forward reference


def tree_of(text: str, nesting: int = 0) -> Tree:
    """Tree of a tidied answer; a leaf for what has no parts."""
    text = text.strip()
    if nesting > MAX_NESTING or not text or read_quantity(text):
        return text
    for read in READERS:
        found = read(text, nesting + 1)
        if found is not None:
            return found
    return text


def shown(tree: Tree) -> str:
    """The text of a tree."""
    return tree if isinstance(tree, str) else tree.text


def leaves(tree: Tree) -> Iterator[str]:
    """Leaves of a tree, from left to right."""
    if isinstance(tree, str):
        yield tree
    else:
        for item in tree.items:
            yield from leaves(item)


def with_leaves(tree: Tree, change: Callable[[str], str]) -> Tree:
    """Tree with every leaf, and every text, changed."""
    if isinstance(tree, str):
        return change(tree)
    items = [with_leaves(item, change) for item in tree.items]
    return tree._replace(items=items, text=change(tree.text))


def from_json(tree: Any) -> Tree:
    """A tree that was sent to another process."""
    if isinstance(tree, str):
        return tree
    kind, items, text, mark = tree
    return Node(kind, [from_json(item) for item in items], text, mark)


def kind_of(tree: Tree) -> str:
    """Kind of a node; "" for a leaf."""
    return "" if isinstance(tree, str) else tree.kind


def items_of(tree: Tree) -> "list[Tree]":
    """Parts of a node, or the leaf itself."""
    return [tree] if isinstance(tree, str) else tree.items


def as_interval(tree: Tree) -> Node | None:
    """Tree as an interval, which a pair in brackets may be; None for any other."""
    if isinstance(tree, Node) and tree.kind == "interval":
        return tree
    if isinstance(tree, Node) and tree.kind == "tuple" and len(tree.items) == 2:
        return tree._replace(kind="interval")
    return None


# --- reading --------------------------------------------------------------------------------------

SIGN = re.compile(r"<|>|\\(?:le|ge|ne)(?![A-Za-z])")
AND = re.compile(r"(?:\\text\{\s?|\b)and(?:\s?\}|\b)|\\(?:land|wedge)(?![A-Za-z])|[\u4e14\u548c]")
OR = re.compile(r"(?:\\text\{\s?|\b)or(?:\s?\}|\b)|\\(?:lor|vee)(?![A-Za-z])|\u6216")
BRACE_OR_EQUALS = re.compile(r"\\[A-Za-z]+|\\.|[{}]|(?<![<>!:])=")
MATRIX = re.compile(
    r"\A(?:[(\[]\s?)?\\begin\{([pbB]?matrix|smallmatrix|array)\}(?:\s?\{[clr| ]*\})?(.*)"
    r"\\end\{\1\}(?:\s?[)\]])?\Z",
    re.DOTALL,
)
CASES = re.compile(r"\A(?:\\\{\s?)?\\begin\{(cases|array|aligned)\}(?:\s?\{[clr| ]*\})?(.*)\\end\{\1\}\Z")
BUILDER = re.compile(r"\A\\\{\s?[A-Za-z]\s?(?:\\in\s?\\mathbb\{R\}\s?)?(?:\||:|\\mid)(.*)\\\}\Z")
MEMBER = re.compile(r"\A(\S{1,24})\s?\\in(?![A-Za-z])(.+)\Z")
BASE = re.compile(r"\A[({]?([0-9A-Fa-f]+)[)}]?_ ?\{? ?(?:\\text\{)?(\d{1,2}|[a-z]{3,12})[} ]*\Z", re.ASCII)
BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8"}
BASES |= {"nine": "9", "ten": "10", "twelve": "12", "sixteen": "16"}
POINT = re.compile(r"\A([A-Z])'?\s?(\(.*,.*\))\Z")
RATIO_WORD = re.compile(r"(?<=\d) to (?=\d)")
DECORATION = re.compile(
    r"\\(?:angle|triangle|overline|vec|hat|bar|widehat|overrightarrow|boldsymbol|parallel|Delta)(?![A-Za-z])"
    r"|[{} |]|'"
)
NAME = re.compile(
    r"(?:[A-Za-z]|m?[A-Z]{2,4}|\\(?!(?:frac|sqrt|pi|infty)(?![A-Za-z]))[A-Za-z]+)(?:_\w{1,12})?(?:\([A-Za-z0-9,+=-]{1,12}\))?"
    r"|\\(?:sin|cos|tan|cot|sec|csc)(?:\\[A-Za-z]+|[A-Z]{1,3}|[a-z]|\([A-Za-z]\))"
)
WORDS = re.compile(r"[A-Za-z]{3,}(?: [A-Za-z]{1,}){0,5}|[\u4e00-\u9fff]{1,12}[A-Z]{0,4}")
ROOTS = re.compile(r"(.+)_\d{1,2}")
NAMES_OF_POINT = re.compile(r"\A\(\s?(?:[a-z]|\\[a-z]+)(?:\s?,\s?(?:[a-z]|\\[a-z]+)){1,3}\s?\)\Z")


COMMAND = re.compile(r"\\[A-Za-z]+|(?<=\d)\s?[A-Za-z%]{1,12}\Z")
UNKNOWN = re.compile(r"[A-Za-z<>]")
PLAIN_NUMBER = re.compile(r"[-+]?[\d.,\s]+")


def name_of(side: str) -> str | None:
    """Name that stands on the left of "= value": "x", "AB", "\\angle ABC", "f(2)", "Area"; None for other
    expressions, and "" for words, which name nothing that another spelling could contradict."""
    words = " ".join(re.sub(TEXTS, r" \1 ", side).split())
    bare = DECORATION.sub("", side)
    if all(NAME.fullmatch(part) for part in bare.split(":", 1)):  # a ratio of two, S_1:S
        return bare
    return "" if WORDS.fullmatch(words) else None


def sides_of(text: str) -> list[str]:
    """Split at the equality signs that are not in braces, as that of a sum's index is, and at "approximately
    equal"."""
    sides, depth, begun = [], 0, 0
    for found in BRACE_OR_EQUALS.finditer(text):
        if found[0] in ("=", "\\approx") and not depth:
            sides.append(text[begun : found.start()].strip())
            begun = found.end()
        depth += {"{": 1, "}": -1}.get(found[0], 0)
    return [*sides, text[begun:].strip()]


def _matrix(text: str, nesting: int) -> Node | None:
    found = MATRIX.match(text)
    if not found or "\\begin" in found[2]:
        return None
    rows = [row.strip() for row in found[2].split("\\\\")]
    cells = [[cell.strip() for cell in row.split("&")] for row in rows if row and row != "\\hline"]
    if not cells or len(cells) * len(cells[0]) > MAX_ITEMS or "=" in text:
        return None
    return Node("matrix", [Node("row", [*row], " & ".join(row)) for row in cells], text)


def _cases(text: str, nesting: int) -> Tree | None:
    if found := CASES.match(text):
        rows = [row.strip(" ,&").replace("&", "") for row in found[2].split("\\\\")]
        return tree_of(" , ".join(row for row in rows if row), nesting)
    return None


def _built(text: str, nesting: int) -> Tree | None:
    if found := BUILDER.match(text):
        return _relations(found[1].strip(), nesting) or None
    if (found := MEMBER.match(text)) and (name := name_of(found[1])) is not None:
        return Node("equation", [tree_of(found[2], nesting)], text, name)
    return None


def _relations(text: str, nesting: int) -> Node | None:
    """Inequalities in one variable as intervals: those joined by "or" unite, by "and" they intersect, and by
    a comma they do what leaves something."""
    if not SIGN.search(text):
        return None
    parts: list[Node] = []
    for alternative in OR.split(text):
        joined = AND.sub(" , ", alternative)
        chains = [_chain(piece) for piece in split_outside(joined, ",;") if piece]
        if not chains or any(chain is None for chain in chains):
            return None
        found = [interval for chain in chains if chain for interval in chain]
        if len(found) > 1 and len(chains) > 1:
            met = _intersection(found)
            if met is None:
                return None
            found = met
        parts += found
    if len({part.mark[2:] for part in parts}) > 1 or not parts:
        return None
    return parts[0] if len(parts) == 1 else Node("union", [*parts], text)


def _chain(text: str) -> list[Node] | None:
    signs = SIGN.findall(text)
    sides = [side.strip() for side in SIGN.split(text)]
    if len(signs) not in (1, 2) or not all(sides) or "=" in text:
        return None
    at = next((at for at in (0, 1) if NAME.fullmatch(sides[at]) and exact(sides[at]) is None), None)
    if len(signs) == 2:
        at = 1
    if at is None or not NAME.fullmatch(sides[at]):
        return None
    name = sides[at]
    if any(
        re.search(rf"(?<![A-Za-z\\]){re.escape(name)}(?![A-Za-z])", side)
        for side in sides[:at] + sides[at + 1 :]
    ):
        return None
    if signs == ["\\ne"]:
        end = sides[1 - at]
        low = Node("interval", ["-\\infty", end], text, f"(){name}")
        return [low, Node("interval", [end, "\\infty"], text, f"(){name}")]
    if "\\ne" in signs:
        return None
    upward = [sign in ("<", "\\le") for sign in signs]
    closed = [sign.startswith("\\") for sign in signs]
    if len(signs) == 2:
        if upward[0] != upward[1]:
            return None
        ends, shut = (sides[0], sides[2]), (closed[0], closed[1])
        if not upward[0]:
            ends, shut = ends[::-1], shut[::-1]
    elif upward[0] == (at == 0):  # x < 5, 5 > x
        ends, shut = ("-\\infty", sides[1 - at]), (False, closed[0])
    else:
        ends, shut = (sides[1 - at], "\\infty"), (closed[0], False)
    return [Node("interval", [*ends], text, "(["[shut[0]] + ")]"[shut[1]] + name)]


def _intersection(intervals: list[Node]) -> list[Node] | None:
    """What two intervals share; both where they share nothing; None where their ends cannot be ordered."""
    if len(intervals) != 2 or intervals[0].mark[2:] != intervals[1].mark[2:]:
        return None
    (low, high), (other_low, other_high) = ([_place(end) for end in one.items] for one in intervals)
    if None in (low, high, other_low, other_high):
        return None
    first, second = intervals
    bottom = first if low > other_low else second
    top = first if high < other_high else second
    if max(low, other_low) >= min(high, other_high):
        return intervals
    mark = bottom.mark[0] + top.mark[1] + first.mark[2:]
    return [Node("interval", [bottom.items[0], top.items[1]], first.text, mark)]


def _place(end: Tree) -> Any:
    text = shown(end).replace(" ", "")
    if text in ("\\infty", "+\\infty", "-\\infty"):
        return float("-inf") if text[0] == "-" else float("inf")
    return exact(text)


def _joined(text: str, nesting: int) -> Node | None:
    for sign in ("\\cup", "\\cap"):
        parts = re.split(rf"\{sign}(?![A-Za-z])", text)
        if 1 < len(parts) <= MAX_ITEMS and all(part.strip() for part in parts):
            items = [tree_of(part, nesting) for part in parts]
            plain = sign == "\\cup" and all(as_interval(item) for item in items)
            return Node("union" if plain else sign, items, text)
    return None


def _bracketed(text: str, nesting: int) -> Tree | None:
    for spelling, bracket in (("\\langle", "("), ("\\rangle", ")")):
        text = text.replace(spelling, bracket)
    if "," in text and (text[0] == "]" or text[-1] == "["):  # ]0, 1[
        text = {"]": "("}.get(text[0], text[0]) + text[1:-1] + {"[": ")"}.get(text[-1], text[-1])
    if text.startswith("\\{") and text.endswith("\\}") and _closes(text[1:-2] + "}"):
        items = [piece for piece in split_outside(alternatives_as_list(text[2:-2]), ",;") if piece]
        return Node("set", [tree_of(item, nesting) for item in items], text)
    if text[0] not in "([" or text[-1] not in ")]" or not _closes(text):
        return None
    items = split_outside(text[1:-1], ",;")
    if len(items) == 1:
        return tree_of(text[1:-1], nesting) if items[0] else None
    listed = _listed(items, text, nesting)
    if isinstance(listed, Node) and listed.kind == "list":
        return Node("tuple", [tree_of(item, nesting) for item in items], text, text[0] + text[-1])
    return listed


def _closes(text: str) -> bool:
    """True where the last character closes the bracket of the first."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if not depth:
            return at == len(text) - 1
    return False


def _list(text: str, nesting: int) -> Tree | None:
    text = alternatives_as_list(text)
    separators = ";" if len(split_outside(text, ";")) > 1 else ","  # a = 1, b = 2; a = 3, b = 4
    pieces = [piece for piece in split_outside(text, separators) if piece]
    return _listed(pieces, text, nesting) if 1 < len(pieces) <= MAX_ITEMS else None


def _listed(pieces: list[str], text: str, nesting: int) -> Tree | None:
    """A list, whose items may all be values of one unknown, or a record of several unknowns."""
    names, values = [], []
    if any("=" in value for value in pieces) and all(len(split_outside(piece, ",")) > 1 for piece in pieces):
        records = [tree_of(piece, nesting) for piece in pieces]
        return Node("list", records, text) if all(kind_of(one) == "record" for one in records) else None
    for piece in pieces:
        *sides, value = sides_of(piece)
        given = [name_of(side) for side in sides]
        if any(name is None for name in given):
            return None
        names += given[:1]
        values.append(tree_of(value, nesting))
    roots = {found[1] if (found := ROOTS.fullmatch(name or "")) else name for name in names}
    if len(roots) > 1 and len(set(names)) == len(pieces):
        ordered = sorted(zip(names, values, strict=True), key=lambda part: str(part[0]))
        return Node(
            "record", [value for _, value in ordered], text, ",".join(str(name) for name, _ in ordered)
        )
    if len(roots) > 1:
        return None
    flat = [part for value in values for part in (value.items if kind_of(value) == "list" else [value])]  # type: ignore[union-attr]
    listing = Node("list", flat, text)
    return Node("equation", [listing], text, str(roots.pop())) if roots else listing


def _ratio(text: str, nesting: int) -> Node | None:
    parts = split_outside(RATIO_WORD.sub(":", text), ":")
    if 1 < len(parts) <= MAX_ITEMS and all(parts) and "=" not in text:
        return Node("ratio", [*parts], text)
    return None


def _equation(text: str, nesting: int) -> Tree | None:
    sides = sides_of(text)
    if len(sides) == 1:
        return None
    names = []
    while len(sides) > 1 and (
        not sides[0] or NAMES_OF_POINT.match(sides[0]) or name_of(sides[0]) is not None
    ):
        names.append(name_of(sides.pop(0)) or "")
    value: Tree | None
    if len(sides) == 1:
        value = tree_of(sides[0], nesting)
    elif names or "\\approx" in text:
        value = Node("chain", [tree_of(side, nesting) for side in sides], text)
    else:
        return None
    return Node("equation", [value], text, names[0]) if names else value


def worked_out(tree: Tree) -> Tree:
    """Arithmetic with its result, "10^3 = 1000", as a chain whose sides must agree; any other tree as it is.

    An equation with a letter in it says more than a value, and one of numbers alone, "5 = 5", works nothing
    out: both stay what they are.
    """
    if not isinstance(tree, str):
        return tree
    sides = [_unbracketed(side) for side in sides_of(tree)]
    if len(sides) == 1 or not all(sides) or all(PLAIN_NUMBER.fullmatch(side) for side in sides):
        return tree
    if any(UNKNOWN.search(COMMAND.sub(" ", side)) for side in sides):
        return tree
    return Node("chain", [*sides], tree)


def _unbracketed(side: str) -> str:
    return side[1:-1].strip() if side[:1] == "[" and side[-1:] == "]" and _closes(side) else side


def _plus_minus(text: str, nesting: int) -> Node | None:
    if not re.search(r"\\[pm][pm](?![A-Za-z])", text) or "=" in text:
        return None
    both = []
    for upper, lower in (("+", "-"), ("-", "+")):
        one = re.sub(r"\\pm(?![A-Za-z])", upper, re.sub(r"\\mp(?![A-Za-z])", lower, text)).strip()
        both.append(tree_of(one.removeprefix("+").strip(), nesting))
    return Node("list", both, text)


def _based(text: str, nesting: int) -> Node | None:
    found = BASE.match(text)
    if found is None or ((not found[2].isascii() or not found[2].isdecimal()) and found[2] not in BASES):
        return None
    if not any(char.isdecimal() for char in found[1]):
        return None  # a_2 is a variable
    return Node("base", [], text, f"{found[1].upper().lstrip('0') or '0'}_{BASES.get(found[2], found[2])}")


def _point(text: str, nesting: int) -> Node | None:
    found = POINT.match(text)
    if not found or not _closes(found[2]):
        return None
    return Node("point", [tree_of(found[2], nesting)], text, found[1])


def _reals(text: str, nesting: int) -> Node | None:
    if text in ("\\mathbb{R}", "\\mathbb R", "all real numbers", "all reals"):
        return Node("interval", ["-\\infty", "\\infty"], text, "()")
    return None


READERS: tuple[Callable[[str, int], Tree | None], ...] = (
    _reals,
    _matrix,
    _cases,
    _built,
    _relations,
    _bracketed,
    _joined,
    _list,
    _equation,
    _plus_minus,
    _ratio,
    _based,
    _point,
)

"""Equality of two mathematical answers, piece by piece: a vector entry by entry, a set without order, an
interval with its ends, a ratio by proportion.

`same` compares two trees (`expressions`) with a comparator of leaves that knows or does not. It serves twice:
in the caller's process, where leaves are text and numbers (`math`), and in a worker, where they are computer
algebra (`algebra_worker`).
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from .arithmetic import exact
from .expressions import MAX_ITEMS, Node, Tree, as_interval, items_of, kind_of, shown, sides_of
from .numbers import read_quantity

Leaf = Callable[[str, str], bool | None]
"""Comparator of a true leaf with an answer's: None where it does not know."""


def same(gold: Tree, answer: Tree, leaf: Leaf) -> bool | None:
    """Compare an answer with the truth: True, False, or None where a leaf that matters is not known.

    Not symmetric: a truth in brackets has an order, a truth without may be answered in brackets.
    """
    if isinstance(gold, str) and isinstance(answer, str):
        return leaf(gold, answer)
    known, given = kind_of(gold), kind_of(answer)
    if "equation" in (known, given):
        return _same_equation(gold, answer, leaf)
    if given == "chain":
        return _same_chain(gold, answer, leaf)  # type: ignore[arg-type]
    if given == "point" and known != "point":
        return same(gold, answer.items[0] if known == "tuple" else answer.text, leaf)  # type: ignore[union-attr]
    if known == "point" and given != "point":
        return same(gold.items[0], answer, leaf)  # type: ignore[union-attr]
    if "base" in (known, given):
        return known == given and gold.mark == answer.mark  # type: ignore[union-attr]
    if "interval" in (known, given) or "union" in (known, given):
        return _same_intervals(gold, answer, leaf)
    if "matrix" in (known, given):
        return _same_matrix(gold, answer, leaf)
    if "ratio" in (known, given):
        return _same_ratio(gold, answer, leaf)
    if known == "record" or given == "record":
        return _same_record(gold, answer, leaf)
    known_items, given_items = items_of(gold), items_of(answer)
    if known in ("set", "list") and len(known_items) == 1 and isinstance(answer, str):
        return same(known_items[0], answer, leaf)
    if given in ("set", "list") and len(given_items) == 1 and isinstance(gold, str):
        return same(gold, given_items[0], leaf)
    if not isinstance(gold, Node) or not isinstance(answer, Node):
        return False
    if known in ("tuple", "point") and given == known:
        brackets = gold.mark == answer.mark
        return _in_order(known_items, given_items, leaf) if brackets else False
    if (known == "list" and given in ("list", "set", "tuple")) or (
        known == "set" and given in ("list", "set")
    ):
        return _in_any_order(known_items, given_items, leaf)
    return _in_any_order(known_items, given_items, leaf) if known == given else False


def _all(results: Iterable[bool | None]) -> bool | None:
    """False where any is False, else None where any is not known."""
    unknown = False
    for result in results:
        if result is False:
            return False
        unknown |= result is None
    return None if unknown else True


def _in_order(gold: "list[Tree]", answer: "list[Tree]", leaf: Leaf) -> bool | None:
    if len(gold) != len(answer):
        return False
    return _all(same(one, other, leaf) for one, other in zip(gold, answer, strict=True))


def _in_any_order(gold: "list[Tree]", answer: "list[Tree]", leaf: Leaf) -> bool | None:
    """Equal as multisets. Equality is transitive, so that the first match of an item is as good as any."""
    if len(gold) != len(answer) or len(gold) > MAX_ITEMS:
        return False
    left, unknown = list(answer), False
    for one in gold:
        results = [same(one, other, leaf) for other in left]
        if True in results:
            del left[results.index(True)]
        elif None in results:
            unknown = True
        else:
            return False
    return None if unknown else True


def _same_equation(gold: Tree, answer: Tree, leaf: Leaf) -> bool | None:
    if isinstance(gold, Node) and isinstance(answer, Node) and gold.kind == answer.kind:
        if gold.mark and answer.mark and gold.mark != answer.mark:
            # y = 2x + 1 may be solved for another unknown; x = 5 is not y = 5.
            both = isinstance(gold.items[0], str) and isinstance(answer.items[0], str)
            apart = both and not (_constant(shown(gold.items[0])) or _constant(shown(answer.items[0])))
            return leaf(gold.text, answer.text) if apart else False
        return same(gold.items[0], answer.items[0], leaf)
    if isinstance(gold, Node) and gold.kind == "equation":
        if isinstance(answer, str) and len(sides_of(answer)) > 1:
            return leaf(gold.text, answer)
        return same(gold.items[0], answer, leaf)
    assert isinstance(answer, Node)
    if isinstance(gold, str) and len(sides_of(gold)) > 1:
        return leaf(gold, answer.text)
    return same(gold, answer.items[0], leaf)


def _constant(text: str) -> bool:
    return not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", text))


def _same_chain(gold: Tree, answer: Node, leaf: Leaf) -> bool | None:
    """Equal to one side of a = b, or of b = a rounded, whose sides must agree: two values are no answer."""
    first, *others = answer.items
    results = [same(gold, side, leaf) for side in answer.items]
    if not any(result is None or result for result in results):
        return False
    consistent = _all(_near(shown(first), shown(other), leaf) for other in others)
    if consistent is False:
        return False
    return True if consistent and True in results else None


def _near(value: str, rounded: str, leaf: Leaf) -> bool | None:
    """True where a value, rounded to as many digits, is the other."""
    number, other = exact(value), read_quantity(rounded)
    if number is None or other is None:
        near: Any = getattr(leaf, "near", None)
        return bool(near(value, rounded)) if near else None
    digits = len(rounded.partition(".")[2])
    return bool(abs(number - other.value) * 10**digits <= (0.5000001 if digits else 0))


def _same_intervals(gold: Tree, answer: Tree, leaf: Leaf) -> bool | None:
    pair = []
    for tree in (gold, answer):
        parts = tree.items if isinstance(tree, Node) and tree.kind == "union" else [tree]
        intervals = [as_interval(part) for part in parts]
        if None in intervals:
            return leaf(shown(gold), shown(answer))
        pair.append(intervals)
    if len(pair[0]) != len(pair[1]):
        return False
    left, unknown = list(pair[1]), False
    for one in pair[0]:
        assert one is not None
        results = [_same_interval(one, other, leaf) for other in left]  # type: ignore[arg-type]
        if True in results:
            del left[results.index(True)]
        elif None in results:
            unknown = True
        else:
            return False
    return None if unknown else True


def _same_interval(gold: Node, answer: Node, leaf: Leaf) -> bool | None:
    known, given = gold.mark, answer.mark
    if known[:2] != given[:2] or (known[2:] and given[2:] and known[2:] != given[2:]):
        return False
    return _in_order(gold.items, answer.items, leaf)


def _same_matrix(gold: Tree, answer: Tree, leaf: Leaf) -> bool | None:
    """Entry by entry; a column may be given as a tuple, a matrix as a list of lists."""
    known, given = _rows(gold), _rows(answer)
    if known is None or given is None or [*map(len, known)] != [*map(len, given)]:
        return False
    return _all(
        same(one, other, leaf)
        for a, b in zip(known, given, strict=True)
        for one, other in zip(a, b, strict=True)
    )


def _rows(tree: Tree) -> "list[list[Tree]] | None":
    if not isinstance(tree, Node) or tree.kind not in ("matrix", "tuple"):
        return None
    if tree.kind == "tuple" and not all(kind_of(item) == "tuple" for item in tree.items):
        return [[item] for item in tree.items]
    return [items_of(row) for row in tree.items]


def _same_ratio(gold: Tree, answer: Tree, leaf: Leaf) -> bool | None:
    """Proportional; a ratio of two is also their fraction."""
    known, given = items_of(gold), items_of(answer)
    if len(known) <= 2 and len(given) <= 2:
        return leaf(_quotient(known), _quotient(given))
    if len(known) != len(given):
        return False
    values = [[exact(shown(item)) for item in side] for side in (known, given)]
    if None in values[0] or None in values[1] or not values[0][0] or not values[1][0]:
        return _in_order(known, given, leaf)
    factor = values[1][0] / values[0][0]
    return all(one * factor == other for one, other in zip(*values, strict=True))


def _quotient(items: "list[Tree]") -> str:
    return f"\\frac{{{shown(items[0])}}}{{{shown(items[1])}}}" if len(items) == 2 else shown(items[0])


def _same_record(gold: Tree, answer: Tree, leaf: Leaf) -> bool | None:
    """By name; a point gives the values of several unknowns in alphabetical order."""
    if kind_of(gold) == kind_of(answer):
        named = gold.mark == answer.mark  # type: ignore[union-attr]
        return _in_order(items_of(gold), items_of(answer), leaf) if named else False
    other = answer if kind_of(gold) == "record" else gold
    if kind_of(other) not in ("tuple", "list"):
        return leaf(shown(gold), shown(answer))
    return _in_order(items_of(gold), items_of(answer), leaf)

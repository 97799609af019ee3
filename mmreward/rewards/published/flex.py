"""Grammar of UnifiedReward-Flex (arXiv:2602.02380): one JSON object of categories that the judge chooses.

    {"prompt": "...", "categories": [{"name": "...", "dims": [{"name": "...", "reason_1": "...",
     "reason_2": "...", "score_1": 8, "score_2": 2}], "cat_reason": "...", "cat_winner": "Image 1"}],
     "reason": "...", "winner": "Image 1"}

The two marks of a dimension have the sum 10, a category's winner has the larger sum of it, and the winner the
larger sum of all or most of the categories: what does not is a contradiction. The prompt is in
`unifiedreward_pair`, form "flex".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import Unscorable
from .declaring import PairMarks
from .grammar import body_of, json_mark, object_in, preferred

SUM = 10.0
NEAR = 1e-6
MOST = 64
"""Categories, and dimensions of one, at most."""


def read_flex(text: str, noun: str) -> PairMarks:
    """Winner of a comparison, and the two sums of marks.

    Raises:
        Unscorable: "unparsable" for anything but one such object; "missing" without a winner or categories;
            "out_of_range" for a mark below 0 or above 10.
    """
    found = object_in(body_of(text))
    winner = _winner(found, "winner", noun)
    sums: list[tuple[float, float]] = []
    wrong = ""
    for category in _listed(found, "categories"):
        first, second, off = _marks(category)
        sums.append((first, second))
        wrong = wrong or off
        if "cat_winner" in category:
            said = _winner(category, "cat_winner", noun)
            if _against(said, first - second):
                wrong = wrong or f"the winner of {_name(category)!r} has the smaller sum"
    total = (sum(first for first, _ in sums), sum(second for _, second in sums))
    balance = sum((first > second) - (first < second) for first, second in sums)
    if _against(winner, total[0] - total[1]) and not _against(winner, -balance):
        wrong = wrong or f"{noun} {winner} wins, with the smaller sum and no majority of the categories"
    return PairMarks({"total": total[0]}, {"total": total[1]}, winner, wrong)


def _against(verdict: str, difference: float) -> bool:
    return (verdict == "1" and difference < -NEAR) or (verdict == "2" and difference > NEAR)


def _listed(found: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    items = found.get(name)
    if not isinstance(items, list) or not items:
        raise Unscorable(f"there are no {name}", "missing")
    if len(items) > MOST or not all(isinstance(item, Mapping) for item in items):
        raise Unscorable(f"{name} is no list of at most {MOST} objects", "unparsable")
    return items


def _marks(category: Mapping[str, Any]) -> tuple[float, float, str]:
    """Sums of both candidates in a category, and words about marks with another sum than 10."""
    first, second, wrong = 0.0, 0.0, ""
    for dimension in _listed(category, "dims"):
        one, other = (_mark(dimension, f"score_{place}") for place in "12")
        first, second = first + one, second + other
        if abs(one + other - SUM) > NEAR:
            wrong = wrong or f"the marks of {_name(dimension)!r} have the sum {one + other:g}, not 10"
    return first, second, wrong


def _mark(dimension: Mapping[str, Any], field: str) -> float:
    mark = dimension.get(field)
    if mark is None:
        raise Unscorable(f"{_name(dimension)!r} has no {field}", "missing")
    return json_mark(mark, 0.0, SUM, f"{field} of {_name(dimension)!r}")


def _winner(found: Mapping[str, Any], field: str, noun: str) -> str:
    said = found.get(field)
    if not isinstance(said, str):
        raise Unscorable(f"there is no {field}", "missing")
    if noun not in said.casefold() and said.strip().casefold() != "tie":
        raise Unscorable(f"{field} is {said[:40]!r}, neither {noun} 1 nor {noun} 2", "unparsable")
    return preferred(said)


def _name(item: Mapping[str, Any]) -> str:
    return str(item.get("name", ""))[:40]

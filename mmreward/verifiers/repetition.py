"""How much of a text repeats itself, by its n-grams: linear in the text."""

from typing import Literal, NamedTuple

from ..failures import Unscorable
from .verdict import Verdict

Unit = Literal["words", "characters"]
PARTS = ("ngrams", "repeated")


class Ngrams(NamedTuple):
    """How many n-grams a sequence has, and how many different ones."""

    total: int
    unique: int


def ngrams(items: tuple[str, ...] | str, size: int) -> Ngrams:
    """Count the runs of `size` neighbours; a sequence that is shorter has none."""
    total = max(0, len(items) - size + 1)
    return Ngrams(total, len({items[at : at + size] for at in range(total)}))


def judge(text: str, *, size: int = 6, unit: Unit = "words", allowed: float = 0.0) -> Verdict:
    """1 for a text in which no n-gram occurs twice, falling to 0 as all are the same.

    The value is min(1, unique / ((1 - allowed) * total)), where `allowed` is the share of repetition that
    costs nothing; 1 where the text is too short for one n-gram.

    Raises:
        Unscorable: "unparsable" when the text holds nothing.
    """
    lowered = text.casefold()
    items = tuple(lowered.split()) if unit == "words" else "".join(lowered.split())
    if not items:
        raise Unscorable("the response is empty", "unparsable")
    total, unique = ngrams(items, size)
    value = min(1.0, unique / ((1 - allowed) * total)) if total else 1.0
    return Verdict(value, {"ngrams": float(total), "repeated": float(total - unique)})

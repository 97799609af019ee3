"""Whether a short answer is the true one, by the kind of the truth: text, a number, or a sequence.

For charts, puzzles and science. Nothing here guesses: text is equal or not, and an answer that holds the
truth among other things is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..failures import Unscorable
from .latex import WHOLE_TEXT, tidy
from .numbers import Likeness, Number, read_number
from .plain import plain
from .verdict import Verdict

Kind = Literal["auto", "text", "number", "sequence", "math"]
PARTS = ("text", "number", "math", "items")
"""Text, number and math: as which the answer was recognised as right. Items: the share of a sequence that
is."""
MAX_ANSWER = 4096
MAX_ITEMS = 1024
SIGNS_OF_MATH = ("\\", "^", "=")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A truth, read once.

    Args:
        kind: how answers are compared with it; never "auto".
        texts: the spellings that are right, as `unwrapped` gives them.
        number: of kind "number".
        items: of kind "sequence".
        given: the target itself, for kind "math".
    """

    kind: Kind
    texts: frozenset[str] = frozenset()
    number: Number | None = None
    items: "tuple[Wanted, ...]" = ()
    given: Any = None


def wanted(target: Any, kind: Kind = "auto", aliases: Sequence[str] = ()) -> Wanted:
    """Read a target.

    Args:
        target: text, a number, a bool (yes or no), or a list of them.
        kind: "auto" takes a list for a sequence, what reads as a number for a number, text with a backslash,
            ^ or = for mathematics, and the rest for text.
        aliases: other spellings of a text that are right.

    Raises:
        Unscorable: "error", a fault of the data, when the target is empty or not of this kind.
    """
    if kind == "auto":
        kind = _kind(target)
    if kind == "math":
        return Wanted("math", given=target)
    if kind == "sequence":
        items = split(target) if isinstance(target, str) else target
        if not isinstance(items, list | tuple) or not 0 < len(items) <= MAX_ITEMS:
            raise Unscorable(
                f"the target {str(target)[:80]!r} is no sequence; give a list of 1 to {MAX_ITEMS}"
            )
        return Wanted("sequence", items=tuple(_item(item) for item in items))
    number = read_number(target)
    if kind == "number":
        if number is None:
            raise Unscorable(
                f"the target {str(target)[:80]!r} is no number; correct it or choose another kind"
            )
        return Wanted("number", number=number)
    if isinstance(target, bool):
        target = "yes" if target else "no"
    texts = frozenset(unwrapped(str(text)) for text in (target, *aliases))
    if not isinstance(target, str | int | float) or "" in texts:
        raise Unscorable(f"the target {str(target)[:80]!r} is no text; give some that is not empty")
    return Wanted("text", texts)


def match(truth: Wanted, answer: str, likeness: Likeness) -> Verdict:
    """1 when the answer is the truth, else 0; for kinds other than "math".

    Raises:
        Unscorable: "unparsable" when the answer is empty, too long, or no number or sequence where one is
            expected.
    """
    if not answer.strip() or len(answer) > MAX_ANSWER:
        raise Unscorable(
            "the answer is empty" if not answer.strip() else "the answer is too long", "unparsable"
        )
    if truth.kind == "sequence":
        items = split(answer)
        hits = sum(map(_same, truth.items, items, [likeness] * len(items)))
        right = float(hits == len(items) == len(truth.items))
        share = hits / max(len(items), len(truth.items))
        return judged(right, items=share)
    if truth.kind == "number" and read_number(answer) is None:
        raise Unscorable(f"{answer[:80]!r} is no number", "unparsable")
    right = float(_same(truth, answer, likeness))
    return judged(right, **{truth.kind: right})


def judged(value: float, **parts: float) -> Verdict:
    """A verdict with these parts and the others at 0."""
    return Verdict(value, {name: parts.get(name, 0.0) for name in PARTS})


def unwrapped(text: str) -> str:
    """Text without case, width, outer quotes, \\text{} and closing full stop; single spaces.

    Inner signs stay: a puzzle's strings are exact.
    """
    text = plain(text)
    if whole := WHOLE_TEXT.fullmatch(text):
        text = whole[1].strip()
    if len(text) > 1 and text.endswith(".") and text[-2].isalnum():
        text = text[:-1]
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'`*":
        text = text[1:-1].strip()
    return text


def split(text: str) -> list[str]:
    """The items of "a, b, c", "[a; b]", "a -> b" or "a b c", in the first of these ways that splits it."""
    text = tidy(text).strip()
    if len(text) > 2 and text[0] + text[-1] in ("[]", "()", "{}"):
        text = text[1:-1]
    for separator in (",", ";", "->"):
        if separator in text:
            return [item.strip().strip("\"'") for item in text.split(separator, MAX_ITEMS)]
    return text.split(None, MAX_ITEMS)


def _kind(target: Any) -> Kind:
    if isinstance(target, list | tuple):
        return "sequence"
    if read_number(target):
        return "number"
    if isinstance(target, str) and any(sign in target for sign in SIGNS_OF_MATH):
        return "math"
    return "text"


def _item(item: Any) -> Wanted:
    return wanted(item, "number" if read_number(item) else "text")


def _same(truth: Wanted, answer: str, likeness: Likeness) -> bool:
    if truth.number is None:
        return unwrapped(answer) in truth.texts
    number = read_number(answer)
    return number is not None and likeness.same(truth.number, number)

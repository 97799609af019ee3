"""Mathematical answers compared with their truth: as text, as numbers, and only then by computer algebra.

The first two stages are here, and settle most answers in microseconds. What they leave is an `Open` question,
screened and spelled so that math-verify's known faults cannot be used; `algebra` decides it in a process that
can be killed. `too_large` refuses what no algebra system should be handed, from the text alone: an upper
bound of the size of every power is computed in logarithms, so that nothing grows with the numbers it bounds.
What passes may still take for ever, which the deadline bounds.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from ..errors import Unscorable
from .numbers import (
    Likeness,
    Number,
    Unit,
    alternatives_as_list,
    braces_match,
    comparison_key,
    has_words,
    read_number,
    tidy,
    typeset_unit,
)
from .response import Verdict, inside_box, segment

# --- the size of an expression --------------------------------------------------------------------

MAX_CHARS = 512
MAX_DIGITS = 32
"""Digits in a row."""
MAX_DEPTH = 16
"""Nested brackets of all kinds."""
MAX_EXPONENT = 64
"""Exponent of anything but a number: the expansion could have as many terms."""
MAX_POWER_DIGITS = 4000
"""Digits of a number raised to a power: 2^2023 has 609."""
MAX_TERMS = 1000
"""Terms of a sum or product."""
MAX_TOWER = 2
"""Powers in an exponent: e^{x^2} has one."""
MAX_FACTORIAL = 50
MAX_BINOMIAL = 1000
OPEN, CLOSE = "([{", ")]}"
TOKEN = re.compile(r"\d+|\\[A-Za-z]+|\\.|\*\*|.", re.DOTALL)
DIGITS = re.compile(rf"[0-9]{{{MAX_DIGITS + 1},}}")
FACTORIAL = re.compile(r"(?<![!\d])(\d*)\s?!(?!=)")
GROUP_FACTORIAL = re.compile(r"([^()\[\]{}]{0,16})[)\]}]\s?!(?!=)")
BINOMIAL = re.compile(r"\\[dt]?binom")
NUMBER = re.compile(r"\d+")


class _TooLarge(Exception):  # noqa: N818 - never leaves this file
    pass


def too_large(text: str) -> str:
    """Reason for which an expression is refused; "" when it may be computed under a deadline."""
    if len(text) > MAX_CHARS:
        return f"{len(text)} characters; the limit is {MAX_CHARS}"
    if DIGITS.search(text):
        return f"a number of more than {MAX_DIGITS} digits"
    if _depth(text) > MAX_DEPTH:
        return f"brackets nest deeper than {MAX_DEPTH}"
    if _large_factorial(text):
        return f"a factorial above {MAX_FACTORIAL}!, or of a factorial"
    if BINOMIAL.search(text) and any(len(n) > 4 or int(n) > MAX_BINOMIAL for n in NUMBER.findall(text)):
        return f"a binomial coefficient with numbers above {MAX_BINOMIAL}"
    try:
        _Bound(text).whole()
    except _TooLarge as reason:
        return str(reason)
    return ""


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        if char in OPEN:
            depth += 1
            deepest = max(deepest, depth)
        elif char in CLOSE:
            depth -= 1
    return deepest


def _large_factorial(text: str) -> bool:
    """True for a factorial that is too large, or of something whose size is not known without computing
    it."""
    if "!!" in text.replace(" ", "").replace(")", "").replace("}", ""):
        return True
    if any(number and int(number) > MAX_FACTORIAL for number in FACTORIAL.findall(text)):
        return True
    for inside in GROUP_FACTORIAL.findall(text):
        # A factorial of a bracket: a power, product, factorial or command in it, or more than 15 characters,
        # is refused unseen; what is left is a sum, which its terms bound.
        if any(sign in inside for sign in "^*!\\") or len(inside) == 16:
            return True
        if sum(int(number) for number in NUMBER.findall(inside)) > MAX_FACTORIAL:
            return True
    return False


class _Bound:
    """Upper bound of an expression's size by recursive descent over atoms and powers.

    A size is the decimal logarithm of the product of all numbers in a run. Signs between numbers are ignored,
    for a sum is never larger than the product of its terms, each taken as 2 at least; so a bound costs one
    pass whatever the numbers are, where computing 9^(9^9) to look at it would never end. "Numeric" runs, made
    of numbers alone, may become large numbers; anything with a symbol in it expands into terms, and has a
    lower limit.
    """

    def __init__(self, text: str) -> None:
        self._tokens = [token for token in TOKEN.findall(text) if not token.isspace()]
        self._at = 0

    def whole(self) -> None:
        """Bound the whole text; raises `_TooLarge`."""
        while self._at < len(self._tokens):
            self._run(0)
            self._at += 1  # a bracket that closes nothing

    def _run(self, tower: int) -> tuple[float, bool]:
        """Size of a run up to its closing bracket, and True for one made of numbers alone."""
        size, numeric = 0.0, True
        while self._at < len(self._tokens) and self._tokens[self._at] not in CLOSE:
            more, number = self._power(tower)
            size, numeric = size + more, numeric and number
        return size, numeric

    def _power(self, tower: int) -> tuple[float, bool]:
        size, numeric = self._atom(tower)
        if self._at < len(self._tokens) and self._tokens[self._at] in ("^", "**"):
            self._at += 1
            if tower >= MAX_TOWER:
                raise _TooLarge(f"powers nest deeper than {MAX_TOWER}")
            exponent, _ = self._exponent(tower + 1)
            # The exponent's own size first: 10**exponent below would overflow a float.
            if exponent > math.log10(MAX_POWER_DIGITS * 4):
                raise _TooLarge("an exponent that is too large")
            times = 10**exponent
            if not numeric and times > MAX_EXPONENT:
                raise _TooLarge(f"an exponent above {MAX_EXPONENT}")
            if size * times > MAX_POWER_DIGITS:
                raise _TooLarge(f"a power of more than {MAX_POWER_DIGITS} digits")
            size = size * times
        return size, numeric

    def _exponent(self, tower: int) -> tuple[float, bool]:
        while self._at < len(self._tokens) and self._tokens[self._at] in "+-":
            self._at += 1
        return self._power(tower)

    def _atom(self, tower: int) -> tuple[float, bool]:
        if self._at == len(self._tokens):
            return 0.0, True
        token = self._tokens[self._at]
        self._at += 1
        if token.isdigit():
            return math.log10(max(int(token), 2)), True
        if token == "_":
            self._subscript(tower)
            return 0.0, False
        if token in OPEN:
            inside = self._run(tower)
            self._at += 1
            return inside
        return 0.0, not (token.isalpha() or token.startswith("\\"))

    def _subscript(self, tower: int) -> None:
        """An index, or the limits of a sum, whose upper one stands in the place of a power."""
        self._atom(tower)
        if self._at < len(self._tokens) and self._tokens[self._at] == "^":
            self._at += 1
            limit, _ = self._exponent(tower + 1)
            if limit > math.log10(MAX_TERMS):
                raise _TooLarge(f"a limit above {MAX_TERMS}")


# --- comparison -----------------------------------------------------------------------------------

STAGES = ("exact", "numeric", "symbolic")
"""Parts of a verdict: 1 for the stage by which a right answer was recognised."""
MAX_BOXES = 64
MAX_DECIMALS = 40
NUMBERED = re.compile(r"\d ?_")
JUXTAPOSED = re.compile(r"\d \d")
ASSIGNED = re.compile(r"([A-Za-z]|\\[A-Za-z]+)(?:_(?:\w|\{\w{1,8}\}))?(?:\([A-Za-z]\))?")
BRACE_OR_EQUALS = re.compile(r"\\.|[{}]|(?<![<>!:])=")
RELATION = re.compile(r"[<>=&]|\\(?:le|ge|in|cup|begin)(?![A-Za-z])")
MISMATCHED = {("tuple", "set"), ("set", "tuple"), ("tuple", "bare")}
"""Bracket kinds of truth and answer that math-verify does not tell apart; items in brackets have an order."""
SYMBOL = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
GREEK = (
    " alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi"
    " chi psi omega "
)
SPARE = "kqvwujhnmlpzyxtsrgfcba"
"""Letters that stand in for others, those least likely to be in use first; not d, e, i and o, which mean
something."""


@dataclass(frozen=True, slots=True)
class Truth:
    """A true answer, read once.

    Args:
        text: tidied, without a typeset unit.
        key: for comparison as text.
        number: None where it is no number.
        unit: typeset at the end of an expression that is no number.
        words: True for text, where only equal text is right.
    """

    text: str
    key: str
    number: Number | None
    unit: Unit | None
    words: bool


class Open(NamedTuple):
    """Two expressions that only computer algebra can compare, the truth first."""

    gold: str
    answer: str


def truth_of(target: Any) -> Truth:
    """Read a target: a number, or text in plain notation or LaTeX, which may be boxed.

    Raises:
        Unscorable: "error", a fault of the data, when it is empty, no text, unbalanced, or too large to be
            computed with.
    """
    if isinstance(target, bool) or not isinstance(target, str | int | float):
        raise Unscorable(f"the target {str(target)[:80]!r} is {type(target).__name__}; give text or a number")
    given = str(target)
    boxed = inside_box(given)
    text = tidy(given if boxed is None else boxed)
    if not text:
        raise Unscorable(f"the target {given[:80]!r} is empty; leave the row out or give the true answer")
    number = read_number(text)
    listing = alternatives_as_list(text)
    words = number is None and (has_words(listing) or bool(JUXTAPOSED.search(listing)))
    reason = (
        ""
        if number or words
        else too_large(listing) or ("" if braces_match(listing) else "unbalanced braces")
    )
    if reason:
        raise Unscorable(f"the target {given[:80]!r} cannot be compared with anything: {reason}")
    rest, unit = (text, None) if number or words else typeset_unit(listing)
    return Truth(rest, comparison_key(text), number, unit, words)


def answer_of(
    response: str, *, bare: bool = False, boxes: Literal["last", "agree"] = "last", only_boxed: bool = False
) -> str:
    """Read the answer of a response, tidied: the last `\\boxed{}` inside `<answer>`, or else all of it.

    Args:
        response: the whole response.
        bare: take the text after the thinking where there are no answer tags; only a box counts there.
        boxes: "last" takes the last of several boxes, "agree" asks that all hold the same.
        only_boxed: an answer without a box is none.

    Raises:
        Unscorable: "unparsable" when there is no answer, none that is not empty, or boxes disagree.
    """
    tagged = "<answer>" in response.rpartition("</think>")[2]
    text = segment(response, bare=bare).answer
    boxed = inside_box(text)
    if boxed is None and (only_boxed or not tagged):
        raise Unscorable("there is no \\boxed{} answer", "unparsable")
    if boxes == "agree" and len({comparison_key(tidy(box)) for box in _boxes(text)}) > 1:
        raise Unscorable("several boxed answers that disagree", "unparsable")
    answer = text if boxed is None else boxed
    if len(answer) > 4096:
        raise Unscorable(f"an answer of {len(answer)} characters", "unparsable")
    answer = tidy(answer)
    if not answer:
        raise Unscorable("the answer is empty", "unparsable")
    return answer


def settle(truth: Truth, answer: str, likeness: Likeness) -> Verdict | Open:
    """Judge as text and as numbers; what remains open is fit for computer algebra.

    Raises:
        Unscorable: "unparsable" when the answer is prose, malformed, an equation where the truth is none, or
            too large to be computed with.
    """
    if comparison_key(answer) == truth.key:
        return stage_verdict("exact")
    number = read_number(answer, letters=truth.number is not None and truth.number.unit is not None)
    if truth.number and number:
        return stage_verdict("numeric" if likeness.same(truth.number, number) else "")
    if truth.words or (len(comparison_key(answer)) == 1 and len(truth.key) == 1):
        return stage_verdict("")
    text, unit = (latex_of(number), number.unit) if number else typeset_unit(_screened(answer))
    if not _units_agree(truth, unit, likeness):
        return stage_verdict("")
    pair = _aligned(latex_of(truth.number) if truth.number else truth.text, text)
    if pair is None or NUMBERED.findall(pair.answer) != NUMBERED.findall(pair.gold):
        return stage_verdict("")
    if (_enclosed(pair.gold), _enclosed(pair.answer)) in MISMATCHED:
        return stage_verdict("")
    known, number = truth.number or read_number(pair.gold), read_number(pair.answer)
    if known and number:  # values of assignments, such as x = 3
        return stage_verdict("numeric" if likeness.same(known, number) else "")
    return _apart(pair)


def stage_verdict(stage: str) -> Verdict:
    """Verdict of a right answer, recognised by this stage; of a wrong one for ""."""
    return Verdict(float(bool(stage)), {name: float(name == stage) for name in STAGES})


def latex_of(number: Number) -> str:
    """A number in LaTeX that leaves nothing to guess: no percent sign, unit, currency or separator."""
    value, digits = number.value, 0
    while value.denominator != 1 and digits < MAX_DECIMALS:
        value, digits = value * 10, digits + 1
    if value.denominator != 1:
        return f"\\frac{{{number.value.numerator}}}{{{number.value.denominator}}}"
    return f"{Decimal(value.numerator).scaleb(-digits):f}"


def _boxes(text: str) -> Iterator[str]:
    """Contents of the boxes, the last first."""
    for _ in range(MAX_BOXES):
        boxed = inside_box(text)
        if boxed is None:
            return
        yield boxed
        text = text[: max(text.rfind("\\boxed"), text.rfind("\\fbox"))]


def _screened(answer: str) -> str:
    """Answer with alternatives as a list, if it may be handed to computer algebra."""
    text = alternatives_as_list(answer)
    reason = too_large(text)
    if not reason and has_words(typeset_unit(text)[0]):
        reason = "words where mathematics is expected"
    if not reason and ("$" in text or "\\boxed" in text or not braces_match(text)):
        reason = "delimiters or braces that do not match"
    if not reason and JUXTAPOSED.search(text):  # math-verify adds them up
        reason = "numbers side by side"
    if reason:
        raise Unscorable(f"{answer[:80]!r} is no answer: {reason}", "unparsable")
    return text


def _units_agree(truth: Truth, given: Unit | None, likeness: Likeness) -> bool:
    known = truth.unit or (truth.number.unit if truth.number else None)
    if known and given:
        return known == given
    return not (known and likeness.units == "required")


def _aligned(gold: str, answer: str) -> Open | None:
    """Bring two expressions to both with or both without "x =" in front; None for different variables.

    math-verify takes the right side of any equation for the answer, so 1 = 5 would be 5.
    """
    known, given = _assigned(gold), _assigned(answer)
    if given is None and len(_sides(gold)) == 1:
        raise Unscorable(f"{answer[:80]!r} is an equation, and the true answer is none", "unparsable")
    if known is None or given is None:
        return Open(gold, answer)
    if known.name and given.name and known.name != given.name:
        return None
    return Open(known.value, given.value)


class _Assigned(NamedTuple):
    name: str
    value: str


def _assigned(text: str) -> _Assigned | None:
    """Read "x = 3, x = 4" as 3, 4; the name is empty where nothing is assigned. None for other equations."""
    names, values = set(), []
    for part in text.split(","):
        *sides, value = (side.strip() for side in _sides(part))
        if not all(map(ASSIGNED.fullmatch, sides)):
            return None
        names.update(sides)
        values.append(value)
    if len(names) > 1:
        return None
    return _Assigned("".join(names), ",".join(values))


def _enclosed(text: str) -> str:
    """Bracket kind of several items: "tuple" (an interval too), "set", "bare", or "" for anything else."""
    text = text.strip()
    if "," not in text or RELATION.search(text):
        return ""
    if text[0] in "([" and text[-1] in ")]":
        return "tuple"
    return "set" if text.startswith("\\{") and text.endswith("\\}") else "bare"


def _sides(text: str) -> list[str]:
    """Split at the equality signs that are not in braces, as that of a sum's index is."""
    sides, depth, begun = [], 0, 0
    for found in BRACE_OR_EQUALS.finditer(text):
        if found[0] == "=" and not depth:
            sides.append(text[begun : found.start()])
            begun = found.end()
        depth += {"{": 1, "}": -1}.get(found[0], 0)
    return [*sides, text[begun:]]


def _apart(pair: Open) -> Open:
    """Give a capital another letter where its small letter is in use too, as math-verify lowers all."""
    used = {found for text in pair for found in SYMBOL.findall(text)}
    names = {name for name in used if len(name) == 1 or f" {name[1:].lower()} " in GREEK}
    clashing = sorted(name for name in names if name.lower() in names and name != name.lower())
    spare = (letter for letter in SPARE if letter not in used and letter.upper() not in used)
    other = dict(zip(clashing, spare, strict=False))
    gold, answer = (SYMBOL.sub(lambda found: other.get(found[0], found[0]), text) for text in pair)
    return Open(gold, answer)

"""Bounds of an expression's size, from its text alone, for what no algebra system should be handed.

An upper bound of the size of every power is computed in logarithms, so that nothing grows with the numbers it
bounds. What passes may still take for ever, which a deadline bounds (`algebra`).
"""

import math
import re
from typing import NamedTuple

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
MAX_EXPANSION = 5000
"""Terms of a power of a sum, when it is multiplied out."""
MAX_TOWER = 2
"""Powers in an exponent: e^{x^2} has one."""
MAX_FACTORIAL = 50
MAX_BINOMIAL = 1000
OPEN, CLOSE = "([{", ")]}"
TOKEN = re.compile(r"[0-9]+|\\[A-Za-z]+|\\.|\*\*|.", re.DOTALL)
DIGITS = re.compile(rf"[0-9]{{{MAX_DIGITS + 1},}}")
FACTORIAL = re.compile(r"(?<![!0-9])([0-9]*)\s?!(?!=)")
GROUP_FACTORIAL = re.compile(r"([^()\[\]{}]{0,16})[)\]}]\s?!(?!=)")
BINOMIAL = re.compile(r"\\[dt]?binom")
NUMBER = re.compile(r"[0-9]+")
GAMMA = re.compile(r"\\Gamma\s?(?:[({]([^(){}]*)[)}]|\()")


class _TooLarge(Exception):  # noqa: N818 - never leaves this file
    pass


def too_large(text: str) -> str:
    """Reason for which an expression is refused; "" when it may be computed under a deadline."""
    if len(text) > MAX_CHARS:
        return f"{len(text)} characters; the limit is {MAX_CHARS}"
    if DIGITS.search(text):
        return f"a number of more than {MAX_DIGITS} digits"
    if depth_of(text) > MAX_DEPTH:
        return f"brackets nest deeper than {MAX_DEPTH}"
    if _large_factorial(text):
        return f"a factorial above {MAX_FACTORIAL}!, or of a factorial"
    if BINOMIAL.search(text) and (
        "^" in text or any(len(n) > 4 or int(n) > MAX_BINOMIAL for n in NUMBER.findall(text))
    ):
        return f"a binomial coefficient with powers, or numbers above {MAX_BINOMIAL}"
    if any(_large_gamma(found[1]) for found in GAMMA.finditer(text)):
        return f"a gamma function above {MAX_FACTORIAL}, or of a power"
    try:
        _Bound(text).whole()
    except _TooLarge as reason:
        return str(reason)
    return ""


def depth_of(text: str) -> int:
    """Depth to which brackets of all kinds nest."""
    depth = deepest = 0
    for char in text:
        if char in OPEN:
            depth += 1
            deepest = max(deepest, depth)
        elif char in CLOSE:
            depth -= 1
    return deepest


def _large_gamma(inside: str | None) -> bool:
    return inside is None or "^" in inside or any(int(n) > MAX_FACTORIAL for n in NUMBER.findall(inside))


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

    def _run(self, tower: int) -> "_Size":
        """Size of a run up to its closing bracket."""
        size, numeric, terms = 0.0, True, 1
        while self._at < len(self._tokens) and self._tokens[self._at] not in CLOSE:
            terms += self._tokens[self._at] in ("+", "-")
            more = self._power(tower)
            size, numeric = size + more.digits, numeric and more.numeric
            terms = max(terms, more.terms)
        return _Size(size, numeric, terms)

    def _power(self, tower: int) -> "_Size":
        size, numeric, terms = self._atom(tower)
        if self._at < len(self._tokens) and self._tokens[self._at] in ("^", "**"):
            self._at += 1
            if tower >= MAX_TOWER:
                raise _TooLarge(f"powers nest deeper than {MAX_TOWER}")
            exponent = self._exponent(tower + 1).digits
            # The exponent's own size first: 10**exponent below would overflow a float.
            if exponent > math.log10(MAX_POWER_DIGITS * 4):
                raise _TooLarge("an exponent that is too large")
            times = 10**exponent
            if not numeric and times > MAX_EXPONENT:
                raise _TooLarge(f"an exponent above {MAX_EXPONENT}")
            if size * times > MAX_POWER_DIGITS:
                raise _TooLarge(f"a power of more than {MAX_POWER_DIGITS} digits")
            if not numeric and math.comb(terms - 1 + round(times), round(times)) > MAX_EXPANSION:
                raise _TooLarge(f"a power of more than {MAX_EXPANSION} terms")
            size = size * times
        return _Size(size, numeric, terms)

    def _exponent(self, tower: int) -> "_Size":
        while self._at < len(self._tokens) and self._tokens[self._at] in "+-":
            self._at += 1
        return self._power(tower)

    def _atom(self, tower: int) -> "_Size":
        if self._at == len(self._tokens):
            return _Size(0.0, True)
        token = self._tokens[self._at]
        self._at += 1
        if NUMBER.fullmatch(token):
            return _Size(math.log10(max(int(token), 2)), True)
        if token == "_":
            self._subscript(tower)
            return _Size(0.0, False)
        if token in OPEN:
            inside = self._run(tower)
            self._at += 1
            return inside
        return _Size(0.0, not (token.isalpha() or token.startswith("\\")))

    def _subscript(self, tower: int) -> None:
        """An index, or the limits of a sum, whose upper one stands in the place of a power."""
        self._atom(tower)
        if self._at < len(self._tokens) and self._tokens[self._at] == "^":
            self._at += 1
            if self._exponent(tower + 1).digits > math.log10(MAX_TERMS):
                raise _TooLarge(f"a limit above {MAX_TERMS}")


class _Size(NamedTuple):
    """Size of a part.

    Args:
        digits: decimal logarithm of the product of its numbers.
        numeric: made of numbers alone.
        terms: of the largest sum in it.
    """

    digits: float
    numeric: bool
    terms: int = 1

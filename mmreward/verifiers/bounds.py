"""What is too large to be handed to a computer algebra system, told from the text alone.

An upper bound of the size of every power is computed in logarithms, ignoring the signs between numbers, so
that nothing here grows with the numbers it bounds. What passes may still take for ever: a deadline bounds it.
"""

import math
import re

MAX_CHARS = 512
MAX_DIGITS = 32
"""In a row."""
MAX_DEPTH = 16
"""Of brackets of all kinds."""
MAX_EXPONENT = 64
"""Of anything but a number, whose expansion could have as many terms."""
MAX_POWER_DIGITS = 4000
"""Of a number raised to a power: 2^2023 has 609."""
MAX_TERMS = 1000
"""Of a sum or product."""
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
    """Why the expression is refused; empty when it may be computed under a deadline."""
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
    if "!!" in text.replace(" ", "").replace(")", "").replace("}", ""):
        return True
    if any(number and int(number) > MAX_FACTORIAL for number in FACTORIAL.findall(text)):
        return True
    for inside in GROUP_FACTORIAL.findall(text):
        if any(sign in inside for sign in "^*!\\") or len(inside) == 16:
            return True
        if sum(int(number) for number in NUMBER.findall(inside)) > MAX_FACTORIAL:
            return True
    return False


class _Bound:
    """A recursive descent over atoms and powers. Sizes are decimal logarithms of a product of all numbers."""

    def __init__(self, text: str) -> None:
        self._tokens = [token for token in TOKEN.findall(text) if not token.isspace()]
        self._at = 0

    def whole(self) -> None:
        while self._at < len(self._tokens):
            self._run(0)
            self._at += 1  # a bracket that closes nothing

    def _run(self, tower: int) -> tuple[float, bool]:
        """Up to the closing bracket: size, and whether it is made of numbers alone."""
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
        """An index, or the limits of a sum, whose upper one stands where a power would."""
        self._atom(tower)
        if self._at < len(self._tokens) and self._tokens[self._at] == "^":
            self._at += 1
            limit, _ = self._exponent(tower + 1)
            if limit > math.log10(MAX_TERMS):
                raise _TooLarge(f"a limit above {MAX_TERMS}")

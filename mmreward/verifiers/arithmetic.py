"""Exact values of arithmetic: integers, decimals, + - x / ^ !, fractions, binomials and roots of squares.

A recursive descent in rational numbers, so that 2^100 is the integer it is, and 2^-61 is half of 2^-60 where
a comparison in floating point takes both for 0. Anything with a symbol in it, and any number that would be
larger than `MAX_BITS`, is left to others: nothing is computed before its size is known to fit.
"""

import math
import re
from fractions import Fraction

MAX_BITS = 1 << 16
"""Of a numerator or denominator: some 20,000 digits."""
MAX_FACTORIAL = 4000
MAX_CHARS = 512
TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+|\\[A-Za-z]+|\*\*|.)", re.ASCII | re.DOTALL)
TIMES = ("*", "\\cdot", "\\times", "/", "\\div")
CLOSING = {"(": ")", "[": "]", "{": "}"}


class _Other(Exception):  # noqa: N818 - never leaves this file
    """What is no arithmetic, or too large."""


def exact(text: str) -> Fraction | None:
    """Value of an arithmetic expression; None for anything else, and beyond the limits."""
    if len(text) > MAX_CHARS:
        return None
    reader = _Reader(TOKEN.findall(text))
    try:
        value = reader.sum(0)
    except (_Other, ZeroDivisionError):
        return None
    return value if reader.done else None


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [token for token in tokens if not token.isspace()]
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._tokens)

    @property
    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._next
        self._at += 1
        return token

    def sum(self, depth: int) -> Fraction:
        if depth > 16:
            raise _Other
        sign = self._take() if self._next in ("+", "-") else "+"
        value = self._product(depth)
        if sign == "-":
            value = -value
        while self._next in ("+", "-"):
            sign = self._take()
            term = self._product(depth)
            value = _fits(value + term if sign == "+" else value - term)
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._signed(depth)
        while True:
            if self._next in TIMES:
                by = self._take()
                factor = self._signed(depth)
                value = _fits(value / factor if by in ("/", "\\div") else value * factor)
            elif self._next in ("(", "{"):  # 2(3+4)
                value = _fits(value * self._power(depth))
            else:
                return value

    def _signed(self, depth: int) -> Fraction:
        if self._next in ("+", "-"):
            sign = self._take()
            return -self._power(depth) if sign == "-" else self._power(depth)
        return self._power(depth)

    def _power(self, depth: int) -> Fraction:
        base = self._factorial(depth)
        if self._next not in ("^", "**"):
            return base
        self._take()
        exponent = self._signed(depth + 1)
        if exponent.denominator != 1 or (not base and exponent < 0):
            raise _Other
        times = exponent.numerator
        if (
            abs(base) != 1
            and abs(times) * max(base.numerator.bit_length(), base.denominator.bit_length()) > MAX_BITS
        ):
            raise _Other
        return base ** (times if abs(base) != 1 else times % 2 + 2 * (times % 2 == 0))

    def _factorial(self, depth: int) -> Fraction:
        number = self._next.isdecimal()
        value = self._atom(depth)
        if self._next == "!":
            self._take()
            # Of a number alone: the size of anything else, (3!)! or (9*9)!, is not seen before.
            if not number or value > MAX_FACTORIAL or self._next == "!":
                raise _Other
            value = Fraction(math.factorial(value.numerator))
        return value

    def _atom(self, depth: int) -> Fraction:
        token = self._take()
        if token[:1].isascii() and (token[:1].isdecimal() or token[:1] == "." != token):
            if len(token) > MAX_CHARS or self._next[:1].isdecimal() or self._next[:5] == "\\frac":
                raise _Other  # numbers side by side, and a mixed number, which `numbers` reads
            return Fraction(token)
        if token in CLOSING:
            value = self.sum(depth + 1)
            if self._take() != CLOSING[token]:
                raise _Other
            return value
        if token == "\\frac":
            above, below = self._group(depth), self._group(depth)
            return _fits(above / below)
        if token in ("\\binom", "\\dbinom", "\\tbinom"):
            return self._binomial(depth)
        if token == "\\sqrt" and self._next == "{":
            return _root(self._group(depth))
        raise _Other

    def _group(self, depth: int) -> Fraction:
        if self._next != "{":
            raise _Other
        return self._atom(depth + 1)

    def _binomial(self, depth: int) -> Fraction:
        of, chosen = self._group(depth), self._group(depth)
        if of.denominator != 1 or chosen.denominator != 1 or not 0 <= chosen <= of <= MAX_FACTORIAL:
            raise _Other
        return Fraction(math.comb(of.numerator, chosen.numerator))


def _fits(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _Other
    return value


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise _Other
    above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if above * above != value.numerator or below * below != value.denominator:
        raise _Other
    return Fraction(above, below)

"""Worker process of the math verifier: equality of two expressions by math-verify and sympy.

Run as `python -m mmreward.verifiers.algebra_worker FD BYTES` by `killable.Killable`, only there: sympy may
never come back. math-verify's own time-outs are off, for they are signals that not every thread can take.

Jobs and answers:
    {"gold": tree}                    "read" or "unread"
    {"gold": tree, "answer": tree}    "equal", "different", or "unread" when the answer cannot be parsed

A tree is an expression, or a node of them (`expressions`).
"""

import logging
from functools import lru_cache
from typing import Any

from ..isolation.killable import answer_jobs
from .equality import same
from .expressions import from_json, leaves

GOLDS = 1024
"""Parsed truths that are kept: a group of answers shares one."""
NAMELESS = ("\\ldots", "")
"""Leaves that are compared as text."""
DIGITS = 50
EXACTLY = 1e-40
CLOSELY = 1e-6


def compare(job: dict[str, Any]) -> str:
    """Reply to one job; see the top of this file."""
    gold = from_json(job["gold"])
    if "answer" not in job:
        return "read" if all(_gold(leaf) or leaf in NAMELESS for leaf in leaves(gold)) else "unread"
    answer = from_json(job["answer"])
    if isinstance(gold, str) and isinstance(answer, str) and not _parse(answer):
        return "unread"
    return "equal" if same(gold, answer, _Leaf()) else "different"


class _Leaf:
    """Comparator of two expressions by computer algebra."""

    def __call__(self, gold: str, answer: str) -> bool:
        if gold.replace(" ", "") == answer.replace(" ", ""):
            return True
        known, given = _gold(gold), _parse(answer)
        return bool(known and given) and _equal(list(known), given)

    def near(self, value: str, rounded: str) -> bool:
        """True where `rounded` is the value to as many digits as it has."""
        known, given = _number(_gold(value)), _number(_gold(rounded))
        if known is None or given is None:
            return self(value, rounded)
        digits = len(rounded.strip().partition(".")[2]) if "." in rounded else DIGITS
        return bool(abs(known - given) <= abs(known) * 0.5 ** (DIGITS * 3) + 0.5001 / 10**digits)


def _equal(gold: list[Any], answer: list[Any]) -> bool:
    """Equality by math-verify, but for two numbers, which it rounds to 6 decimals: those by 50 digits."""
    from math_verify import verify

    known, given = _number(tuple(gold)), _number(tuple(answer))
    if known is not None and given is not None:
        if not _rounded(gold) and not _rounded(answer):
            return bool(abs(known - given) <= abs(known) * EXACTLY)
        if abs(known - given) > abs(known) * CLOSELY:
            return False
    elif _differ(gold, answer):
        return False
    # Never the other way round: verify(gold, answer) is not symmetric.
    try:
        return bool(verify(gold, answer, timeout_seconds=None, raise_on_error=True))
    except (MemoryError, RecursionError):
        raise
    except Exception:  # what sympy cannot relate to the truth at all is not the truth
        return False


def _number(parsed: tuple[Any, ...]) -> Any:
    """Value of an expression without symbols to 50 digits; None for any other, and where there is none."""
    from sympy import Expr

    found = parsed[0] if parsed else None
    if not isinstance(found, Expr) or found.free_symbols or found.has(*_unbounded()):
        return None
    try:
        value = found.evalf(DIGITS)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # sympy has no one error for what it cannot evaluate
        return None
    return value if value.is_number and value.is_finite else None


def _rounded(parsed: list[Any]) -> bool:
    from sympy import Float

    return bool(parsed[0].has(Float))


def _differ(gold: list[Any], answer: list[Any]) -> bool:
    """True for two expressions with symbols whose values differ at a point, which costs no simplification."""
    from sympy import Expr, Rational

    known, given = gold[0], answer[0]
    if (
        not isinstance(known, Expr)
        or not isinstance(given, Expr)
        or known.has(*_unbounded())
        or given.has(*_unbounded())
    ):
        return False
    names = sorted(known.free_symbols | given.free_symbols, key=str)
    if not names or _rounded(gold) or _rounded(answer):
        return False
    at = {name: Rational(1000 + 37 * place, 731 + 11 * place) for place, name in enumerate(names)}
    try:
        first, second = known.subs(at).evalf(20), given.subs(at).evalf(20)
        if not (first.is_number and second.is_number and first.is_finite and second.is_finite):
            return False
        return bool(abs(first - second) > (abs(first) + abs(second)) * 1e-9)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # a point at which it has no value shows nothing
        return False


@lru_cache(1)
def _unbounded() -> tuple[Any, ...]:
    from sympy import Integral, Limit, Product, Sum, nan, zoo

    return Integral, Limit, Product, Sum, nan, zoo


def warm() -> None:
    """Import sympy and fill the caches that every expression needs."""
    logging.disable(logging.CRITICAL)
    for text in (
        r"\frac{1}{2}",
        r"x^2+\sqrt{3}=\pi",
        r"\{1,2\}",
        r"[1,2)",
        r"\begin{pmatrix}1\\2\end{pmatrix}",
    ):
        compare({"gold": text, "answer": text})


@lru_cache(GOLDS)
def _gold(text: str) -> tuple[Any, ...]:
    return tuple(_parse(text))


def _parse(text: str) -> list[Any]:
    """Candidates that math-verify reads in one expression; empty when it reads none.

    Boxes and units are taken off before: math-verify would take the m of 3m for metres.
    """
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    clean = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    config = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=clean)
    parsed: list[Any] = parse(
        f"${text}$",
        [config],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return parsed


if __name__ == "__main__":
    answer_jobs(compare, warm)

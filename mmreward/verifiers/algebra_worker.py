"""Worker process of the math verifier: equality of two expressions by math-verify and sympy.

Run as `python -m mmreward.verifiers.algebra_worker FD BYTES` by `killable.Killable`, only there: sympy may
never come back. math-verify's own time-outs are off, for they are signals that not every thread can take.

Jobs and answers:
    {"gold": text}                    "read" or "unread"
    {"gold": text, "answer": text}    "equal", "different", or "unread" when the answer cannot be parsed
"""

import logging
from functools import lru_cache
from typing import Any

from ..isolation.killable import answer_jobs

GOLDS = 1024
"""Parsed truths that are kept: a group of answers shares one."""


def compare(job: dict[str, str]) -> str:
    """Reply to one job; see the top of this file."""
    gold = _gold(job["gold"])
    if "answer" not in job:
        return "read" if gold else "unread"
    answer = _parse(job["answer"])
    if not answer:
        return "unread"
    from math_verify import verify

    # Never the other way round: verify(gold, answer) is not symmetric.
    try:
        equal = verify(list(gold), answer, timeout_seconds=None, raise_on_error=True)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # what sympy cannot relate to the truth at all is not the truth
        equal = False
    return "equal" if equal else "different"


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

"""One-to-one matching of what was found with what is there, and the F1 of the match.

Every found thing counts, so a duplicate, a near-duplicate and an unreadable one are false positives. The
match is optimal, so order does not matter.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


class Match(NamedTuple):
    """The F1 and what it is made of, in [0, 1]; found `rows` are matched with true `columns`."""

    f1: float
    precision: float
    recall: float
    rows: NDArray[Any]
    columns: NDArray[Any]


def best_match(worth: Matrix, *, decay: float = 0.5) -> Match:
    """2 * tp / (found + true), tp being the largest one-to-one sum of `worth` (found x true, in [0, 1]).

    Adding something pays only if it gains more than half the present F1. Where nothing is true the value is
    `decay` to the power of the number found.
    """
    from scipy.optimize import linear_sum_assignment  # an import that `mmreward list` does not need

    found, true = worth.shape
    nothing = np.zeros(0, dtype=np.intp)
    if not true:
        return Match(float(decay**found), float(not found), 1.0, nothing, nothing)
    useful = np.flatnonzero(worth.any(axis=1))  # thousands of boxes on nothing cost no matching
    rows, columns = linear_sum_assignment(worth[useful], maximize=True)
    rows = useful[rows]
    tp = float(worth[rows, columns].sum())
    return Match(2 * tp / (found + true), tp / found if found else 0.0, tp / true, rows, columns)


def ramp(value: Any, threshold: Any, width: float) -> Any:
    """Smoothstep: 0 up to threshold - width, 1 from threshold on. Numbers or arrays."""
    x = np.clip((value - threshold + width) / width, 0.0, 1.0)
    return x * x * (3 - 2 * x)

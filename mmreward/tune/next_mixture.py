"""Optimal mixture of sources under a surrogate: the exact maximum of a quadratic over the simplex."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .mixture import Array, Surrogate

MOST_SOURCES = 14
"""Every subset of the sources is looked at, so 14 of them are 16,383 small systems of equations."""
TINY = 1e-9


@dataclass(frozen=True)
class Proposal:
    """The next mixture to train on.

    Args:
        weights: source -> share.
        expected: the outcome the surrogate expects.
        deviation: its standard deviation; when it is larger than `gain`, a pilot near here is worth more than
            a long training.
        gain: by how much more than equal parts are expected to give.
    """

    weights: dict[str, float]
    expected: float
    deviation: float
    gain: float


def propose(surrogate: Surrogate, floor: float = 0.0) -> Proposal:
    """The best mixture in which no source has less than `floor`.

    A maximum lies inside some face of the simplex (a subset of sources above the floor), where the gradient
    is the same for all of them; so the best of these points over all faces is the maximum.

    Raises:
        ValueError: a floor that is negative or leaves nothing to choose, or more than 14 sources.
    """
    number = len(surrogate.sources)
    if not 0 <= floor * number < 1:
        raise ValueError(f"a floor of {floor} for {number} sources: it lies in [0, {1 / number:.3g})")
    if number > MOST_SOURCES:
        raise ValueError(
            f"{number} sources, of which every subset would be looked at: at most {MOST_SOURCES}"
        )
    best = max(_candidates(surrogate, floor), key=surrogate.value)
    even = np.full(number, 1 / number)
    return Proposal(
        weights=dict(zip(surrogate.sources, map(float, best), strict=True)),
        expected=surrogate.value(best),
        deviation=surrogate.deviation(best),
        gain=surrogate.value(best) - surrogate.value(even),
    )


def _candidates(surrogate: Surrogate, floor: float) -> Iterator[Array]:
    number = len(surrogate.sources)
    for size in range(1, number + 1):
        for face in combinations(range(number), size):
            point = _stationary(surrogate, list(face), floor)
            if point is not None:
                yield point


def _stationary(surrogate: Surrogate, face: list[int], floor: float) -> Array | None:
    """The point of a face, the other sources at the floor, where moving along it changes nothing; None where
    there is no single one, as then a smaller face is as good."""
    point = np.full(len(surrogate.sources), floor)
    rest = 1.0 - floor * (len(surrogate.sources) - len(face))
    point[face] = 0.0
    gradient = surrogate.b[face] + 2 * (surrogate.c @ point)[face]
    size = len(face)
    system = np.zeros((size + 1, size + 1))
    system[:size, :size] = 2 * surrogate.c[np.ix_(face, face)]
    system[:size, size], system[size, :size] = -1.0, 1.0
    try:
        inner = np.linalg.solve(system, np.append(-gradient, rest))[:size]
    except np.linalg.LinAlgError:
        return None
    if not (inner >= floor - TINY).all():  # outside of the face, or NaN
        return None
    inner = np.maximum(inner, floor)
    point[face] = inner * (rest / inner.sum())
    return point

"""Marks of single steps into one mark of a response, and credit back to the steps. Pure functions.

Sums of step marks are gamed by taking more steps. The min form (PURE, arXiv:2504.15275) holds a response to
its worst step.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Aggregate = Literal["min", "product", "mean", "last"]
Floats = NDArray[np.float64]

_HOW: dict[str, Callable[[Floats], float]] = {
    "min": lambda steps: float(steps.min()),
    "product": lambda steps: float(steps.prod()),
    "mean": lambda steps: float(steps.mean()),
    "last": lambda steps: float(steps[-1]),
}


class Credit(NamedTuple):
    """What each step is worth: `rewards` = `weights` * marks, and the weights add up to 1."""

    weights: Floats
    rewards: Floats


def check_aggregate(how: str) -> None:
    """Raises ValueError for an unknown aggregation."""
    if how not in get_args(Aggregate):
        raise ValueError(f"how is one of {', '.join(get_args(Aggregate))}, not {how!r}")


def aggregate(marks: Sequence[float] | Floats, how: Aggregate = "min") -> float:
    """One mark of the steps' (T,): the smallest, the product, the mean or the last.

    The product takes probabilities in [0, 1]; the others any scale, which they keep.

    Raises:
        ValueError: no steps, a mark that is not finite, an unknown aggregation, or a product of marks
            outside [0, 1].
    """
    check_aggregate(how)
    steps = _steps(marks)
    if how == "product" and (steps.min() < 0 or steps.max() > 1):
        raise ValueError(f"a product takes probabilities; the marks go from {steps.min()} to {steps.max()}")
    return _HOW[how](steps)


def soft_min_credit(
    marks: ArrayLike, *, temperature: float = 0.1, is_step: ArrayLike | None = None
) -> Credit:
    """PURE's credit: weights softmax(-marks / temperature), so that the rewards add up to about the minimum.

    Args:
        marks: (T,) per step or per token, for instance P(good) - P(bad).
        temperature: from 0 up, in units of the marks; towards 0 the worst step takes all.
        is_step: (T,) which entries are marks; the others get weight and reward 0, whatever they hold.

    Raises:
        ValueError: no step, a mark of a step that is not finite, or a temperature not above 0.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature}; it is above 0")
    given = np.asarray(marks, dtype=np.float64)
    mask = np.ones(given.shape, bool) if is_step is None else np.asarray(is_step, dtype=bool)
    if mask.shape != given.shape:
        raise ValueError(f"is_step has shape {mask.shape} and marks {given.shape}")
    steps = _steps(given[mask])
    exponents = np.exp((steps.min() - steps) / temperature)
    weights, rewards = np.zeros(given.shape), np.zeros(given.shape)
    weights[mask] = exponents / exponents.sum()
    rewards[mask] = weights[mask] * steps
    return Credit(weights, rewards)


def _steps(marks: ArrayLike) -> Floats:
    steps = np.asarray(marks, dtype=np.float64)
    if steps.ndim != 1 or not len(steps):
        raise ValueError(f"marks have shape {steps.shape}; give one per step, (T,), and at least one")
    if not np.isfinite(steps).all():
        raise ValueError(f"step {int(np.flatnonzero(~np.isfinite(steps))[0])} has a mark that is not finite")
    return steps

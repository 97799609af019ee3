"""Credit of the steps of a finished episode: from marks of its steps, from preferences between whole
trajectories, or from outcomes alone.

Marks of steps, added up, pay for taking more of them. `clipped` and `delta` bound what they add up to, and
`soft_min_credit` (PURE) makes it about the worst step. `implicit_rewards` (OPRL) gets marks from a model that
was trained on trajectories that are preferred to others, and `step_advantages` (SALT) takes from an outcome
what other trajectories with the same step did not share.

Pure functions; a mark that is not finite is refused with its step, and never filled in. Rewards of steps from
the values of states are `potentials`.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Credit(NamedTuple):
    """Credit of each step, (T,): `rewards` = `weights` * marks, and the weights add up to 1."""

    weights: Floats
    rewards: Floats


def marks_of(marks: ArrayLike) -> Floats:
    """Marks of steps as (T,) float64.

    Raises:
        ValueError: another shape, no steps, or a mark that is not finite.
    """
    steps = np.asarray(marks, dtype=np.float64)
    if steps.ndim != 1 or not len(steps):
        raise ValueError(f"marks have shape {steps.shape}; give one per step, (T,), and at least one")
    if not np.isfinite(steps).all():
        raise ValueError(f"step {int(np.flatnonzero(~np.isfinite(steps))[0])} has a mark that is not finite")
    return steps


# --- from marks ---------------------------------------------------------------------------------------------


def clipped(marks: ArrayLike, threshold: float) -> Floats:
    """Marks below a threshold as a loss, the others as nothing: min(mark - threshold, 0).

    However many steps are taken, they add up to at most 0 (Gao et al., arXiv:2410.15115).

    >>> clipped([0.9, 0.6, 0.7, 0.8], 0.65).round(2).tolist()
    [0.0, -0.05, 0.0, 0.0]

    Args:
        marks: (T,), of any scale.
        threshold: a high quantile of the marks, so that most steps pay nothing.

    Raises:
        ValueError: marks that are none, or a threshold that is not finite.
    """
    if not math.isfinite(threshold):
        raise ValueError(f"threshold is {threshold}; it is a mark")
    return np.minimum(marks_of(marks) - threshold, 0.0)


def delta(marks: ArrayLike, *, answered: bool = False) -> Floats:
    """Each mark less the next one, so that the steps add up to the first mark alone (arXiv:2410.15115).

    The sum from a step on is its own mark. `clipped` marks may be given.

    >>> delta([0.9, 0.6, 0.7, 0.8]).round(2).tolist()
    [0.3, -0.1, -0.1, 0.8]
    >>> delta([0.9, 0.6, 0.7, 0.8], answered=True).round(2).tolist()
    [0.3, -0.1, 0.7, 0.0]

    Args:
        marks: (T,).
        answered: the last step is the answer, which an outcome pays: it earns nothing here, and the step
            before it keeps its mark.

    Raises:
        ValueError: marks that are none.
    """
    steps = marks_of(marks)
    if answered:
        steps = np.append(steps[:-1], 0.0)
    found: Floats = steps - np.append(steps[1:], 0.0)
    return found


def soft_min_credit(
    marks: ArrayLike, *, temperature: float = 0.1, is_step: ArrayLike | None = None
) -> Credit:
    """PURE's credit (arXiv:2504.15275): weights softmax(-marks / temperature), so that the rewards add up to
    about the minimum.

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
    steps = marks_of(given[mask])
    exponents = np.exp((steps.min() - steps) / temperature)
    weights, rewards = np.zeros(given.shape), np.zeros(given.shape)
    weights[mask] = exponents / exponents.sum()
    rewards[mask] = weights[mask] * steps
    return Credit(weights, rewards)


# --- from preferences ---------------------------------------------------------------------------------------


def implicit_rewards(preferring: ArrayLike, before: ArrayLike, *, beta: float = 0.05) -> Floats:
    """Rewards of steps in a model that was trained on preferred trajectories (OPRL, arXiv:2509.19199):
    beta * (log-probability of the step's action under that model - under the policy before).

    They add up to beta times the log-ratio of the whole trajectory, which is what `preferred` compares. By
    the paper's theorem they are a potential-based shaping, which leaves the best policy what it is.

    Args:
        preferring: (T,) log-probabilities under the model; those of a step's tokens, added up.
        before: (T,) under the policy that took the steps.
        beta: above 0; that of the training.

    Raises:
        ValueError: unequal numbers of steps, a value that is not finite, or a beta not above 0.
    """
    if not (math.isfinite(beta) and beta > 0):
        raise ValueError(f"beta is {beta}; it is above 0")
    one, other = marks_of(preferring), marks_of(before)
    if len(one) != len(other):
        raise ValueError(f"{len(one)} steps under the model and {len(other)} under the policy: give both")
    return beta * (one - other)


def preferred(chosen: ArrayLike, rejected: ArrayLike) -> float:
    """Probability that the first of two trajectories is preferred, by the rewards of their steps: the
    logistic function of the difference of their sums. Its negative logarithm is the loss of OPRL's model.

    >>> round(preferred([0.5, 0.5], [0.2, 0.8]), 3)
    0.5

    Raises:
        ValueError: rewards that are none.
    """
    apart = float(marks_of(chosen).sum() - marks_of(rejected).sum())
    return 1 / (1 + math.exp(-apart)) if apart >= 0 else math.exp(apart) / (1 + math.exp(apart))


def blended(outcomes: ArrayLike, steps: Sequence[ArrayLike], *, weight: float = 1.0) -> list[Floats]:
    """Advantages of steps: each trajectory's own, plus weight times its steps' rewards as z-scores over all
    steps of the group (OPRL). Steps that are all alike add nothing.

    Args:
        outcomes: (G,) advantages of the trajectories of one group.
        steps: rewards of the steps of each.
        weight: of the steps.

    Raises:
        ValueError: not as many trajectories, or values that are none.
    """
    own = marks_of(outcomes)
    rows = [marks_of(one) for one in steps]
    if len(own) != len(rows):
        raise ValueError(f"{len(own)} outcomes for {len(rows)} trajectories: give one for each")
    every = np.concatenate(rows)
    spread = float(every.std())
    if spread <= 1e-12 * float(np.abs(every).max()):  # what rounding leaves of equal rewards
        return [np.full(len(row), value) for row, value in zip(rows, own, strict=True)]
    return [value + weight * (row - every.mean()) / spread for row, value in zip(rows, own, strict=True)]


# --- from outcomes ------------------------------------------------------------------------------------------


def step_advantages(
    outcomes: ArrayLike, steps: Sequence[Sequence[Hashable]], *, history: int | None = None
) -> list[Floats]:
    """Advantages of steps from those of whole trajectories (SALT, arXiv:2510.20022): a step that several
    trajectories of one group share has the mean of theirs, and a step that one alone took keeps its own.

    Shared are equal steps after equal `history`. So what leads to success and to failure alike, such as
    opening the drawer that both trajectories open, is neither praised nor blamed.

    >>> [one.tolist() for one in step_advantages([1.0, -1.0], [["open", "take"], ["open", "drop"]])]
    [[0.0, 1.0], [0.0, -1.0]]

    Args:
        outcomes: (G,) advantages of the trajectories of one group.
        steps: what makes a step of each the same as another: (observation, action, next observation), say.
        history: steps before it that have to be the same; None: all of them, from the first on.

    Raises:
        ValueError: not as many trajectories as outcomes, one without steps, a negative history, or an
            outcome that is not finite.
    """
    own = marks_of(outcomes)
    if len(own) != len(steps):
        raise ValueError(f"{len(own)} outcomes for {len(steps)} trajectories: give one for each")
    if history is not None and history < 0:
        raise ValueError(f"history is {history}; it counts steps, or is None for all")
    if empty := [row for row, one in enumerate(steps) if not len(one)]:
        raise ValueError(f"trajectory {empty[0]} has no steps")
    edges: dict[Hashable, int] = {}
    numbered = [_edges(one, history, edges) for one in steps]
    sums, sizes = np.zeros(len(edges)), np.zeros(len(edges))
    for value, numbers in zip(own, numbered, strict=True):
        np.add.at(sums, numbers, value)
        np.add.at(sizes, numbers, 1)
    return [(sums / sizes)[numbers] for numbers in numbered]


def _edges(steps: Sequence[Hashable], history: int | None, edges: dict[Hashable, int]) -> NDArray[np.int64]:
    """Numbers of the steps of one trajectory, equal for steps that are shared."""
    found = []
    before = -1  # the number of the step before stands for all before it
    for place, step in enumerate(steps):
        if history is None:
            key: Hashable = (before, step)
        else:
            key = tuple(steps[max(0, place - history) : place + 1])
        before = edges.setdefault(key, len(edges))
        found.append(before)
    return np.array(found, dtype=np.int64)

"""StableReinforce (R1-Reward, arXiv:2505.02835): two guards for a policy gradient. Pure numpy in float64.

A ratio that overflows before it is clipped is infinite, and its gradient with it; one outlier among the
rewards sets the scale of all advantages.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from .advantages import Advantages, Floats


def pre_clipped_ratio(
    logp: ArrayLike, logp_old: ArrayLike, *, low: float = 1e-3, high: float = 1e3
) -> Floats:
    """exp(clip(logp - logp_old, ln low, ln high)): a ratio that stays within [low, high] and finite.

    The usual clip of PPO comes after it. An infinite log-ratio ends at the bound on its side.

    Args:
        logp, logp_old: of one shape, under the new and the old policy.
        low, high: the paper's 1e-3 and 1e3.

    Raises:
        ValueError: unequal shapes, or bounds that are not 0 < low <= 1 <= high.
    """
    new, old = np.asarray(logp, np.float64), np.asarray(logp_old, np.float64)
    if new.shape != old.shape:
        raise ValueError(f"logp has shape {new.shape} and logp_old {old.shape}")
    if not (0 < low <= 1 <= high and math.isfinite(high)):
        raise ValueError(f"bounds {low} and {high}: 0 < low <= 1 <= high")
    ratio: Floats = np.exp(np.clip(new - old, math.log(low), math.log(high)))
    return ratio


def sigma_filtered(values: ArrayLike, *, sigmas: float = 3.0) -> Advantages:
    """z-scores over the whole buffer; rows further than `sigmas` from the mean are not usable.

    An outlier is left out and not set to 0, which would claim that it is average. Mean and std are those of
    all scores that worked. `stats`: `missing` (failed), `outliers`, `mean` and `std`.

    Args:
        values: (N,) rewards or returns; NaN is a failed one.
        sigmas: 3 in the paper. With n rows no |z| exceeds sqrt(n - 1), so up to 10 rows 3 filters nothing.

    Raises:
        ValueError: another shape than (N,), an infinite value, or sigmas not above 0.
    """
    column = _column(values)
    if not sigmas > 0:
        raise ValueError(f"sigmas is {sigmas}; it is above 0")
    valid = ~np.isnan(column)
    mean, std = _moments(column[valid])
    z = np.zeros(len(column))
    z[valid] = (column[valid] - mean) / std if std > 0 else 0.0
    usable = valid & (np.abs(z) <= sigmas)
    stats = {
        "missing": float((~valid).sum()),
        "outliers": float((valid & ~usable).sum()),
        "mean": mean,
        "std": std,
    }
    return Advantages(np.where(usable, z, 0.0), usable, stats)


def r1_reward_filtered(values: ArrayLike) -> Floats:
    """What R1-Reward's code does, for comparison; it compares z-scores with bounds in units of the values.

    z-scores outside [mean - 3, mean + 3] of the raw values become 0, and so does what is NaN or beyond 10.
    With a mean above 3 + sqrt(n - 1) everything becomes 0.

    Raises:
        ValueError: another shape than (N,), or an infinite value.
    """
    column = _column(values)
    mean, std = _moments(column[~np.isnan(column)])
    z = (column - mean) / std if std > 0 else np.zeros(len(column))
    kept = (z >= mean - 3) & (z <= mean + 3) & (np.abs(z) <= 10)
    return np.where(kept, z, 0.0)


def _column(values: ArrayLike) -> Floats:
    column = np.asarray(values, np.float64)
    if column.ndim != 1:
        raise ValueError(f"values have shape {column.shape}; they are (N,)")
    infinite = np.flatnonzero(np.isinf(column))
    if len(infinite):
        raise ValueError(f"values[{infinite[0]}] is {column[infinite[0]]}; a failed score is NaN")
    return column


def _moments(column: Floats) -> tuple[float, float]:
    return (float(column.mean()), float(column.std())) if len(column) else (0.0, 0.0)

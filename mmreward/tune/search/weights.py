"""Weights of particles, in log space: a reward of 500 times its strength is as good as any other."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def logsumexp(values: Floats) -> float:
    """ln(sum(exp(values))); -inf for none."""
    top = values.max(initial=-np.inf)
    return float(top + np.log(np.exp(values - top).sum())) if np.isfinite(top) else float(top)


def normalised(log_weights: Floats) -> Floats:
    """Log weights whose exponentials add up to 1; all -inf when there is no weight at all."""
    total = logsumexp(log_weights)
    return log_weights - total if np.isfinite(total) else np.full_like(log_weights, -np.inf)


def effective_size(log_weights: Floats) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2, between 1 and the number of particles."""
    return float(np.exp(2 * logsumexp(log_weights) - logsumexp(2 * log_weights)))


def systematic(log_weights: Floats, offset: float) -> NDArray[np.int64]:
    """Which particle each slot continues, by systematic resampling (Kitagawa 1996).

    Every particle is taken floor(N w) or ceil(N w) times, w its normalised weight, and N w times on average
    over uniform offsets.

    Args:
        log_weights: (N,), not all -inf.
        offset: in [0, 1).
    """
    number = len(log_weights)
    edges = np.cumsum(np.exp(normalised(log_weights)))
    edges /= edges[-1]
    positions = (np.arange(number) + offset) / number
    return np.searchsorted(edges, positions, side="right").astype(np.int64).clip(max=number - 1)

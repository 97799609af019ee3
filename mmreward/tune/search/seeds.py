"""Seeds from what a draw is for. Equal keys give equal seeds, in any batch and in any order of drawing."""

import numpy as np
from numpy.typing import ArrayLike

from .sampler import Seeds

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def derive(seed: int, *keys: ArrayLike) -> Seeds:
    """One seed of 63 bits per row for every combination of `seed` and keys (integers or arrays of them).

    The mixing is that of splitmix64 (Steele et al., OOPSLA 2014), so neighbouring keys are unrelated.
    """
    state = np.asarray(seed, dtype=np.int64).astype(np.uint64)
    for key in keys:
        state = _mixed(state ^ _mixed(np.asarray(key, dtype=np.int64).astype(np.uint64)))
    return np.atleast_1d(_mixed(state) >> np.uint64(1)).astype(np.int64)


def _mixed(bits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is the point
        bits = bits + _GOLDEN
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(bits ^ (bits >> np.uint64(31)))

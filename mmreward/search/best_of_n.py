"""Best-of-N: draw N samples and keep one. The yardstick that every other search has to beat.

Sources: Stiennon et al. 2020 (arXiv:2009.01325) for best-of-N; Beirami et al. 2024 (arXiv:2401.01879) for its
KL; Verdun et al. 2025 (arXiv:2505.03156) for the soft form.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .particles import Counted, Found, RewardFn, normalised, values_of
from .sampler import Sampler, derive


def best_of_n(sampler: Sampler, reward: RewardFn, *, n: int, seed: int = 0, batch: int = 64) -> list[Found]:
    """N independent samples per prompt, all prompts in the same batches; `Found.best` is the answer.

    Costs n * steps * `sampler.forwards` network evaluations, n decodes and n scores per prompt.

    Args:
        sampler: an ODE will do: its starting noise is all the randomness that is needed.
        reward: see `RewardFn`.
        n: samples per prompt.
        seed: sample k of a prompt is the same for every n > k.
        batch: rows per call of the network.

    Raises:
        ValueError: n or batch below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    run = Counted(sampler, batch)
    prompts = np.repeat(np.arange(sampler.prompts), n)
    paths = np.tile(np.arange(n), sampler.prompts)
    states = sampler.start(derive(seed, prompts, paths, 0))
    for i in range(sampler.steps):
        predicted = run.predict(states, i, prompts)
        states = sampler.step(states, predicted, i, derive(seed, prompts, paths, i + 1))
    media = run.decode(states, prompts)
    scores = run.ask(reward, media, prompts)
    found = []
    for prompt in range(sampler.prompts):
        rows = slice(prompt * n, (prompt + 1) * n)
        able = np.where(np.isfinite(values_of(scores[rows])), 0.0, -np.inf)
        found.append(
            Found(
                latents=states[rows],
                media=media[rows],
                scores=scores[rows],
                log_weights=normalised(able),
                spent=run.spent(prompt),
            )
        )
    return found


def soft_best_of_n(
    sampler: Sampler, reward: RewardFn, *, n: int, strength: float, seed: int = 0, batch: int = 64
) -> list[Found]:
    """Best-of-N that draws instead of taking the maximum: `Found.draw` gives sample k with probability
    proportional to exp(strength * r_k).

    As n grows the draw tends to the tilted distribution p(x) exp(strength * r(x)); with strength 0 it is an
    ordinary sample, with a large one best-of-N. Arguments and errors as `best_of_n`.
    """
    return [
        replace(one, log_weights=normalised(one.log_weights + _tilt(one, strength)))
        for one in best_of_n(sampler, reward, n=n, seed=seed, batch=batch)
    ]


def expected_max(values: ArrayLike) -> NDArray[np.float64]:
    """Unbiased estimates of E[max of n samples] for n = 1..N, from N samples.

    Averages the maximum over all subsets of n, without drawing any: the k-th smallest value is the maximum of
    C(k-1, n-1) of the C(N, n) subsets. Failed scores (NaN) are left out, so N counts those that worked, and
    the estimate is for samples that can be scored.

    Args:
        values: (N,), or several prompts' as (P, N) without NaN.

    Returns:
        (N,) or (P, N); empty when every score failed.

    Raises:
        ValueError: NaN in two dimensions, where rows would end up with different lengths.
    """
    given = np.asarray(values, dtype=np.float64)
    if given.ndim > 1 and np.isnan(given).any():
        raise ValueError("NaN among the scores of several prompts: call expected_max prompt by prompt")
    ordered = np.sort(given[~np.isnan(given)] if given.ndim == 1 else given, axis=-1)
    number = ordered.shape[-1]
    shares = np.zeros((number, number))
    for n in range(1, number + 1):
        whole = _log_choose(number, n)
        for k in range(n, number + 1):
            shares[n - 1, k - 1] = math.exp(_log_choose(k - 1, n - 1) - whole)
    return np.asarray(ordered @ shares.T)


def kl_bound(n: int) -> float:
    """Upper bound on KL(best-of-n || base) in nats: ln n - (n - 1) / n; reached when no two samples tie.

    Raises:
        ValueError: n below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    return math.log(n) - (n - 1) / n


def _tilt(found: Found, strength: float) -> NDArray[np.float64]:
    values = values_of(found.scores)
    return np.where(np.isfinite(values), strength * values, 0.0)  # the failed ones' weight is -inf already


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

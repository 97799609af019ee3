"""Best-of-N: N independent samples, of which one is kept. The yardstick that every other search has to beat.

Plain (the largest reward), soft (a draw tilted by the reward), the unbiased curve of what a smaller N gives,
and how far the choice leaves the generator's distribution.

Sources: Stiennon et al. 2020 (arXiv:2009.01325) for best-of-N; Beirami et al. 2024 (arXiv:2401.01879) for its
KL; Verdun et al. 2025 (arXiv:2505.03156) for the soft form.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from .job import RewardFn
from .particles import Counted, Floats, Particles, normalised, values_of
from .sampler import Sampler, derive


def best_of_n(
    sampler: Sampler, reward: RewardFn, *, n: int, seed: int = 0, batch: int = 64
) -> list[Particles]:
    """N independent samples per prompt, all prompts in the same batches; `Particles.best` is the answer.

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
    scores = run.score(reward, media, prompts)
    found = []
    for prompt in range(sampler.prompts):
        rows = slice(prompt * n, (prompt + 1) * n)
        able = np.where(np.isfinite(values_of(scores[rows])), 0.0, -np.inf)
        found.append(
            Particles(
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
) -> list[Particles]:
    """Best-of-N that draws instead of taking the maximum: `Particles.draw` gives sample k with probability
    proportional to exp(strength * r_k).

    As n grows the draw tends to the tilted distribution p(x) exp(strength * r(x)); with strength 0 it is an
    ordinary sample, with a large one best-of-N. Arguments and errors as `best_of_n`.
    """
    return [
        replace(one, log_weights=normalised(one.log_weights + _tilt(one, strength)))
        for one in best_of_n(sampler, reward, n=n, seed=seed, batch=batch)
    ]


def expected_max(values: ArrayLike) -> Floats:
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
    n, k = np.arange(1, number + 1)[:, None], np.arange(1, number + 1)[None, :]
    # The log of C(k-1, n-1) is -inf for k < n: the k-th smallest of all is the maximum of no larger subset.
    shares = np.exp(_log_choose(k - 1, n - 1) - _log_choose(np.array(number), n))
    return np.asarray(ordered @ shares.T)


def kl_bound(n: int) -> float:
    """Upper bound on KL(best-of-n || base) in nats: ln n - (n - 1) / n; reached when no two samples tie.

    It holds for every rule that keeps one of n independent samples, the soft form included: none can put more
    probability on a set A than 1 - (1 - p(A))^n, and best-of-n does so for every set of highest rewards.

    Raises:
        ValueError: n below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    return math.log(n) - (n - 1) / n


def _tilt(particles: Particles, strength: float) -> Floats:
    values = values_of(particles.scores)
    return np.where(np.isfinite(values), strength * values, 0.0)  # failed ones have weight -inf already


def _log_choose(n: np.ndarray, k: np.ndarray) -> Floats:
    """ln C(n, k), -inf for k > n (where `gammaln` has a pole)."""
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))

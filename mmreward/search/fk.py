"""Feynman-Kac steering: particles whose expected sample scores low are replaced by copies of the others.

Source: Singhal et al. 2025 (arXiv:2501.06848). Differs from the published code where that is no correct
sequential Monte Carlo: weights stay in log space, are carried when nothing is resampled, and every potential
is completed at the end so that all of them target p(x) exp(strength * r(x)).
"""

# FOLDED mmreward/tune/search/potentials.py: How rewards along a trajectory become weights of particles, so that the product always comes out right.
#
# Each lineage (a particle and its ancestors) keeps the last reward it was given and the logarithm of the
# product of its potentials so far. Nothing here knows a sampler.
#

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from .particles import (
    Counted,
    Floats,
    Found,
    RewardFn,
    effective_size,
    logsumexp,
    normalised,
    systematic,
    values_of,
)
from .sampler import Rows, Sampler, Seeds, derive, spread

Potential = Literal["diff", "max", "add", "rt"]


class Lineages:
    """Potentials of all particles.

    With r the reward at this check and l the strength, the logarithm of the potential is

    - diff: l (r - the reward before, at first `floor`);
    - max: l * the highest reward so far;
    - add: l * the sum of all rewards so far;
    - rt: l r.

    The last potential is whatever makes the sum l r(x0): of "diff" it is the ordinary one, with the constant
    `floor` left over.

    Args:
        number: particles of all prompts.
        potential: one of the above.
        strength: l.
        floor: the reward "diff" starts from.

    Raises:
        ValueError: no such potential.
    """

    def __init__(self, number: int, potential: Potential, strength: float, floor: float) -> None:
        if potential not in get_args(Potential):
            raise ValueError(f"potential is one of {', '.join(get_args(Potential))}, not {potential!r}")
        self._potential, self._strength = potential, strength
        self._floor = floor if potential == "diff" else 0.0
        self._last = np.full(number, np.nan)
        """The latest reward of the lineage; NaN when it has none."""
        self._reached = np.full(number, np.nan)
        """Running maximum or sum."""
        self._product = np.zeros(number)
        self.fallbacks = np.zeros(number, dtype=np.int64)
        """Scores that failed, by slot; they stay with the slot when lineages are copied."""

    def extend(self, rewards: Floats, log_weights: Floats, prompts: Rows) -> Floats:
        """Logarithms of the potentials at one check, (N,), from rewards that are NaN where they failed."""
        rewards = self._fallen_back(rewards)
        if self._potential == "max":
            rewards = self._reached = np.fmax(self._reached, rewards)
        elif self._potential == "add":
            rewards = self._reached = np.nan_to_num(self._reached) + rewards
        # Telescoping from the product instead of from the reward before also settles what a lineage was
        # credited with while it had no reward.
        before = self._product if self._potential == "diff" else 0.0
        return self._credited(self._strength * (rewards - self._floor) - before, log_weights, prompts)

    def finish(self, rewards: Floats, prompts: Rows) -> Floats:
        """The last potentials, which complete the product; -inf for a lineage that never had a reward."""
        rewards = self._fallen_back(rewards)
        gains = self._strength * (rewards - self._floor) - self._product
        for rows in _groups(prompts):
            if np.isfinite(gains[rows]).any():
                gains[rows] = np.where(np.isfinite(gains[rows]), gains[rows], -np.inf)
            else:
                gains[rows] = -self._product[rows]  # nothing is known of any: equal weights
        return gains

    def take(self, taken: Rows) -> None:
        """Every slot goes on with the lineage of the slot that `taken` names."""
        self._last, self._reached, self._product = (
            array[taken] for array in (self._last, self._reached, self._product)
        )

    def _fallen_back(self, rewards: Floats) -> Floats:
        failed = np.isnan(rewards)
        self.fallbacks += failed
        self._last = np.where(failed, self._last, rewards)
        return self._last

    def _credited(self, gains: Floats, log_weights: Floats, prompts: Rows) -> Floats:
        """Lineages without a reward are credited with what an average particle of their prompt gained."""
        for rows in _groups(prompts):
            known = rows[np.isfinite(gains[rows])]
            weights = log_weights[known]
            average = logsumexp(weights + gains[known]) - logsumexp(weights) if len(known) else 0.0
            gains[rows] = np.where(np.isfinite(gains[rows]), gains[rows], average)
        self._product += gains
        return gains


def _groups(prompts: Rows) -> list[Rows]:
    return [np.flatnonzero(prompts == prompt) for prompt in np.unique(prompts)]


_RESAMPLING = 1 << 32
"""Keeps the seeds of resampling apart from those of steps."""


class Affordable(NamedTuple):
    """As many checks as a budget allows.

    Args:
        forwards: what one prompt may cost, in network evaluations.
        price: what one decode and score of one particle costs, in network evaluations.
    """

    forwards: float
    price: float

    def checks(self, particles: int, steps: int, forwards: int) -> int:
        """Number of checks, between 1 (the finished samples must be scored) and `steps`.

        Raises:
            ValueError: not even one is affordable, or the price is not positive.
        """
        if self.price <= 0:
            raise ValueError(f"the price of a check must be positive, not {self.price}")
        base = particles * steps * forwards
        number = int((self.forwards - base) / (particles * self.price))
        if number < 1:
            raise ValueError(
                f"{particles} particles cost {base} network evaluations and {particles * self.price:g} per"
                f" check; {self.forwards:g} do not pay for one: take fewer particles or steps"
            )
        return min(number, steps)


def fk_steering(
    sampler: Sampler,
    reward: RewardFn,
    *,
    particles: int = 4,
    strength: float = 10.0,
    potential: Potential = "diff",
    checks: int | Sequence[int] | Affordable = 4,
    resample_below: float = 0.5,
    floor: float = 0.0,
    seed: int = 0,
    batch: int = 64,
) -> list[Found]:
    """Particles of every prompt, steered towards p(x) exp(strength * r(x)); all prompts in the same batches.

    At each check the particles' expected samples are decoded and scored, each particle's weight is multiplied
    by a potential (see `potentials.Lineages`), and when the effective sample size is below `resample_below` *
    particles they are resampled. The last check is always the finished sample itself, after which nothing is
    resampled: `Found.best` is the highest score, `Found.draw` a draw by weight.

    A failed score falls back to the last one of the same lineage (a lineage that was never scored has an
    average weight), and is counted in `details["fallbacks"]`. `details` also has "resampled" (how often),
    "effective_size" (of the final weights) and "log_evidence", an estimate of ln E[exp(strength * r)] (for
    "diff" of r - floor).

    Costs particles * steps * `sampler.forwards` network evaluations and particles * checks decodes and scores
    per prompt.

    Args:
        sampler: its steps must be random, or copies of a particle never part.
        reward: see `RewardFn`.
        particles: per prompt.
        strength: inverse temperature of the target; 10 for ImageReward in the paper.
        potential: "diff" pays a particle for what its reward gained, "max" for the best it ever had, "add"
            for the sum, "rt" for what it has.
        checks: how many, evenly spread; or the states to check; or what can be afforded.
        resample_below: share of `particles`, 0 to 1; 0 never resamples.
        floor: the reward that "diff" starts from.
        seed: of everything random.
        batch: rows per call of the network.

    Raises:
        ValueError: an argument out of its range, or steps that are not random where particles are to part.
    """
    indices = _indices(sampler, checks, particles)
    if not 0 <= resample_below <= 1:
        raise ValueError(f"resample_below is a share of the particles, 0 to 1, not {resample_below}")
    if particles > 1 and resample_below > 0 and not any(map(sampler.branches, range(sampler.steps))):
        raise ValueError(
            "no step of this sampler is random, so copies of a particle would never part: use cps"
        )
    run = Counted(sampler, batch)
    swarm = _Swarm(
        run, reward, particles, Lineages(sampler.prompts * particles, potential, strength, floor), seed
    )
    states = sampler.start(swarm.seeds(0))
    for i in range(sampler.steps):
        predicted = run.predict(states, i, swarm.prompts)
        if i in indices:
            swarm.check(sampler.clean(states, predicted, i))
            taken = swarm.resample(i, resample_below)
            states, predicted = states[taken], predicted[taken]
        states = sampler.step(states, predicted, i, swarm.seeds(i + 1))
    return swarm.finish(states)


class _Swarm:
    """The weights of all prompts' particles; those of one prompt lie next to each other."""

    def __init__(self, run: Counted, reward: RewardFn, particles: int, lineages: Lineages, seed: int) -> None:
        self._run, self._reward, self._lineages, self._seed = run, reward, lineages, seed
        self._particles, number = particles, run.sampler.prompts
        self.prompts, self._slots = np.divmod(np.arange(number * particles), particles)
        self._groups = [slice(p * particles, (p + 1) * particles) for p in range(number)]
        self._log_weights = np.zeros(number * particles)
        self._resampled = np.zeros(number, dtype=np.int64)

    def seeds(self, i: int) -> Seeds:
        """Of the randomness that leads to states `i`."""
        return derive(self._seed, self.prompts, self._slots, i)

    def check(self, latents: torch.Tensor) -> None:
        """Weigh every particle by the sample it is expected to become."""
        scores = self._run.ask(self._reward, self._run.decode(latents, self.prompts), self.prompts)
        self._log_weights += self._lineages.extend(values_of(scores), self._log_weights, self.prompts)

    def resample(self, i: int, below: float) -> Rows:
        """Which particle each slot goes on with; the weights follow."""
        taken = np.arange(len(self.prompts))
        for prompt, rows in enumerate(self._groups):
            log_weights = self._log_weights[rows]
            if effective_size(log_weights) < below * self._particles:
                rng = np.random.default_rng(derive(self._seed, prompt, _RESAMPLING, i))
                taken[rows] = rows.start + systematic(log_weights, rng.uniform())
                self._log_weights[rows] = logsumexp(log_weights) - np.log(self._particles)
                self._resampled[prompt] += 1
        self._lineages.take(taken)
        return taken

    def finish(self, states: torch.Tensor) -> list[Found]:
        """Score the finished samples and complete the weights."""
        media = self._run.decode(states, self.prompts)
        scores = self._run.ask(self._reward, media, self.prompts)
        self._log_weights += self._lineages.finish(values_of(scores), self.prompts)
        return [
            Found(
                latents=states[rows],
                media=media[rows],
                scores=scores[rows],
                log_weights=normalised(self._log_weights[rows]),
                spent=self._run.spent(prompt),
                details=self._details(prompt, rows),
            )
            for prompt, rows in enumerate(self._groups)
        ]

    def _details(self, prompt: int, rows: slice) -> dict[str, float]:
        log_weights = self._log_weights[rows]
        return {
            "fallbacks": float(self._lineages.fallbacks[rows].sum()),
            "resampled": float(self._resampled[prompt]),
            "effective_size": effective_size(log_weights),
            "log_evidence": logsumexp(log_weights) - float(np.log(self._particles)),
        }


def _indices(sampler: Sampler, checks: int | Sequence[int] | Affordable, particles: int) -> tuple[int, ...]:
    """The states that are checked, without the finished one, which always is."""
    if particles < 1:
        raise ValueError(f"particles must be at least 1, not {particles}")
    if isinstance(checks, Affordable):
        checks = checks.checks(particles, sampler.steps, sampler.forwards)
    indices = spread(sampler.steps, checks) if isinstance(checks, int) else tuple(checks)
    if wrong := [index for index in indices if not 0 <= index <= sampler.steps]:
        raise ValueError(f"there is no state {wrong[0]} to check; states are 0 to {sampler.steps}")
    return tuple(index for index in indices if index < sampler.steps)

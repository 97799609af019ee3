"""Feynman-Kac steering: particles whose expected sample scores low are replaced by copies of the others.

Source: Singhal et al. 2025 (arXiv:2501.06848). Differs from the published code where that is no correct
sequential Monte Carlo: weights stay in log space, are carried when nothing is resampled, and every potential
is completed at the end so that all of them target p(x) exp(strength * r(x)).

`fk_steering` walks the particles; `Lineages` turns the rewards along a trajectory into potentials, and knows
no sampler.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from .job import RewardFn
from .particles import (
    Counted,
    Floats,
    Particles,
    effective_size,
    logsumexp,
    normalised,
    systematic,
    values_of,
)
from .sampler import RESAMPLING, Rows, Sampler, Seeds, derive, spread

Potential = Literal["diff", "max", "add", "rt"]


class Affordable(NamedTuple):
    """As many checks as a budget pays for.

    Args:
        forwards: budget of one prompt, in network evaluations.
        price: cost of decoding and scoring one particle, in network evaluations.
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
) -> list[Particles]:
    """Particles of every prompt, steered towards p(x) exp(strength * r(x)); all prompts in the same batches.

    At each check the particles' expected samples are decoded and scored, each particle's weight is multiplied
    by a potential (see `Lineages`), and when the effective sample size is below `resample_below` *
    particles they are resampled. The last check is always the finished sample itself, after which nothing is
    resampled: `Particles.best` is the highest score, `Particles.draw` a draw by weight.

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
        potential: "diff" weighs a particle by what its reward gained since the last check, "max" by the best
            it ever had, "add" by the sum of all, "rt" by what it has.
        checks: how many, evenly spread; or the states to check; or a budget that says how many.
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


class Lineages:
    """Potentials of all particles, from the rewards along each particle's lineage (itself and its ancestors).

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
        # "diff" telescopes: its potentials multiply to exp(l (r - floor)), so the one due now is that product
        # over what has been multiplied already. Taking the ratio to the product, and not to the reward
        # before, also settles what a lineage was credited with while it had no reward.
        before = self._product if self._potential == "diff" else 0.0
        return self._credited(self._strength * (rewards - self._floor) - before, log_weights, prompts)

    def finish(self, rewards: Floats, prompts: Rows) -> Floats:
        """The last potentials, which complete the product; -inf for a lineage that never had a reward."""
        rewards = self._fallen_back(rewards)
        # "max", "add" and "rt" do not multiply to exp(l r(x0)) by themselves: each check tilts the particles
        # once more. Dividing by the product so far makes the whole right, whatever the checks were; without
        # it the weights would stand for another distribution with each number of checks.
        gains = self._strength * (rewards - self._floor) - self._product
        for rows in _groups(prompts):
            if np.isfinite(gains[rows]).any():
                gains[rows] = np.where(np.isfinite(gains[rows]), gains[rows], -np.inf)
            else:
                gains[rows] = -self._product[rows]  # no reward in the whole prompt: equal weights
        return gains

    def take(self, taken: Rows) -> None:
        """Continue every slot with the lineage of the slot that `taken` has for it."""
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
            scored = rows[np.isfinite(gains[rows])]
            weights = log_weights[scored]
            # The weighted mean potential: a factor that leaves the particle's share of the weight as it was.
            average = logsumexp(weights + gains[scored]) - logsumexp(weights) if len(scored) else 0.0
            gains[rows] = np.where(np.isfinite(gains[rows]), gains[rows], average)
        self._product += gains
        return gains


class _Swarm:
    """The weights of all prompts' particles; those of one prompt stand next to each other."""

    def __init__(self, run: Counted, reward: RewardFn, particles: int, lineages: Lineages, seed: int) -> None:
        self._run, self._reward, self._lineages, self._seed = run, reward, lineages, seed
        self._particles, number = particles, run.sampler.prompts
        self.prompts, self._slots = np.divmod(np.arange(number * particles), particles)
        self._groups = [slice(p * particles, (p + 1) * particles) for p in range(number)]
        self._log_weights = np.zeros(number * particles)
        self._resampled = np.zeros(number, dtype=np.int64)

    def seeds(self, i: int) -> Seeds:
        """Seeds of the randomness that leads to states `i`."""
        return derive(self._seed, self.prompts, self._slots, i)

    def check(self, latents: torch.Tensor) -> None:
        """Weigh every particle by the sample it is expected to become."""
        scores = self._run.score(self._reward, self._run.decode(latents, self.prompts), self.prompts)
        self._log_weights += self._lineages.extend(values_of(scores), self._log_weights, self.prompts)

    def resample(self, i: int, below: float) -> Rows:
        """Index of the particle that each slot continues; the weights follow."""
        taken = np.arange(len(self.prompts))
        for prompt, rows in enumerate(self._groups):
            log_weights = self._log_weights[rows]
            if effective_size(log_weights) < below * self._particles:
                rng = np.random.default_rng(derive(self._seed, prompt, RESAMPLING, i))
                taken[rows] = rows.start + systematic(log_weights, rng.uniform())
                # All copies weigh the mean of the old weights and not 1: the sum of the weights, which
                # estimates the evidence E[exp(l r)], is the same before and after.
                self._log_weights[rows] = logsumexp(log_weights) - np.log(self._particles)
                self._resampled[prompt] += 1
        self._lineages.take(taken)
        return taken

    def finish(self, states: torch.Tensor) -> list[Particles]:
        """Score the finished samples and complete the weights."""
        media = self._run.decode(states, self.prompts)
        scores = self._run.score(self._reward, media, self.prompts)
        self._log_weights += self._lineages.finish(values_of(scores), self.prompts)
        return [
            Particles(
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


def _groups(prompts: Rows) -> list[Rows]:
    return [np.flatnonzero(prompts == prompt) for prompt in np.unique(prompts)]


def _indices(sampler: Sampler, checks: int | Sequence[int] | Affordable, particles: int) -> tuple[int, ...]:
    """Indices of the states to check, without the finished one, which is checked in any case."""
    if particles < 1:
        raise ValueError(f"particles must be at least 1, not {particles}")
    if isinstance(checks, Affordable):
        checks = checks.checks(particles, sampler.steps, sampler.forwards)
    indices = spread(sampler.steps, checks) if isinstance(checks, int) else tuple(checks)
    if wrong := [index for index in indices if not 0 <= index <= sampler.steps]:
        raise ValueError(f"there is no state {wrong[0]} to check; states are 0 to {sampler.steps}")
    return tuple(index for index in indices if index < sampler.steps)

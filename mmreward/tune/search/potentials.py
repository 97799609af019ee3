"""How rewards along a trajectory become weights of particles, so that the product always comes out right.

Each lineage (a particle and its ancestors) keeps the last reward it was given and the logarithm of the
product of its potentials so far. Nothing here knows a sampler.
"""

from typing import Literal, get_args

import numpy as np

from .sampler import Rows
from .weights import Floats, logsumexp

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

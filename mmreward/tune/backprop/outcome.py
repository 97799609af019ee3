"""What every method returns, and how pixels become a loss."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from ..generator import Conditioning

PixelReward = Callable[[torch.Tensor, Sequence[str]], torch.Tensor]
"""(pixels, prompts) -> (N,), differentiable in the pixels; NaN where a row has no reward. `score_tensor` of a
loaded reward is one."""


class Visit(NamedTuple):
    """One evaluation of the network that carries a gradient.

    A trainer that holds a reference model adds its velocity-space KL here: the mean square of `velocity`
    minus the reference's velocity at the same `latents`, `sigma` and `conditioning`, which are detached.
    """

    latents: torch.Tensor
    sigma: torch.Tensor
    velocity: torch.Tensor
    conditioning: Conditioning


class Outcome(NamedTuple):
    """What one evaluation of a method gives.

    Args:
        loss: (N,) with a gradient; NaN where the row has no reward.
        rewards: (N,) detached; NaN where the row has none.
        visits: the evaluations of the network in `loss`.
        metrics: numbers for a log.
    """

    loss: torch.Tensor
    rewards: torch.Tensor
    visits: tuple[Visit, ...]
    metrics: Mapping[str, float]

    def mean(self) -> torch.Tensor:
        """The loss averaged over the rows that have a reward.

        Raises:
            ValueError: no row has one.
        """
        kept = self.loss[~self.rewards.isnan()]
        if not len(kept):
            raise ValueError(f"none of the {len(self.loss)} rows has a reward, so there is nothing to learn")
        return kept.mean()


def judged(
    reward: PixelReward, pixels: torch.Tensor, prompts: Sequence[str], ndim: int | None = 1
) -> torch.Tensor:
    """The reward of every row, float32.

    Args:
        reward: to ask.
        pixels, prompts: what it is given.
        ndim: dimensions its answer must have; None leaves all after the rows to the reward.

    Raises:
        ValueError: not one prompt per picture, or an answer of the wrong shape.
    """
    if len(prompts) != len(pixels):
        raise ValueError(f"{len(pixels)} pictures but {len(prompts)} prompts; give one prompt per row")
    values = reward(pixels, prompts)
    if values.ndim < 1 or len(values) != len(pixels) or ndim not in (None, values.ndim):
        raise ValueError(
            f"the reward gave {tuple(values.shape)} for {len(pixels)} pictures, not one value each"
        )
    return values.float()


def negated(rewards: torch.Tensor, visits: Sequence[Visit], metrics: Mapping[str, float]) -> Outcome:
    """The plain loss: minus the reward."""
    return Outcome(-rewards, rewards.detach(), tuple(visits), metrics)

"""What a training method on graded samples consists of; the rest of a round is `online`'s."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from .generator import Generator
from .rollout import Plan, Rollout
from .weights import Copy, Weights

Metrics = dict[str, float]
RowLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Policy:
    """The network that is trained, and its frozen former self."""

    generator: Generator
    weights: Weights


@dataclass(frozen=True)
class Term:
    """One part of a micro-batch's loss, after its forward passes.

    Args:
        loss: advantages (N,) and which rows are usable (N,) to the loss of each row (N,), 0 in rows that are
            not; called once, or once per reward where rewards have separate losses.
        extra: what is added whatever the advantages (N,), such as a divergence; None for nothing.
        metrics: to be averaged over the round.
    """

    loss: RowLoss
    extra: torch.Tensor | None
    metrics: Metrics


class Method(Protocol):
    """A loss on samples and their advantages."""

    updates: int
    """Optimiser steps per round."""
    whole_groups: bool
    """Whether a micro-batch must hold whole groups."""
    trajectories: bool
    """Whether it trains on stochastic steps."""

    def before_round(self, current: Policy) -> Copy | None:
        """The weights that will draw the samples; None for the current ones."""
        ...

    def terms(
        self, current: Policy, rollout: Rollout, plan: Plan, fresh: bool
    ) -> Sequence[Callable[[], Term]]:
        """The parts of one micro-batch's loss; each is run, and back-propagated, on its own.

        `fresh` says that the weights are still those that drew the samples.
        """
        ...

    def after_round(self, current: Policy, round: int) -> Metrics:
        """Once the round's updates are done."""
        ...

    def state(self) -> Mapping[str, Copy]:
        """What must be kept to go on later."""
        ...

    def load_state(self, state: Mapping[str, Copy]) -> None: ...

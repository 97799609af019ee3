"""Losses that train a reward model on pairs."""

import math
from typing import Literal, get_args

import torch
from torch.nn.functional import logsigmoid

Outcome = Literal["win", "tie"]


def bradley_terry_ties(difference: torch.Tensor, outcome: Outcome = "win", k: float = 5.0) -> torch.Tensor:
    """-log P(first wins) or -log P(tie) for rewards first - second, in their shape.

    P(win) = sigmoid(d - ln k), P(loss) = sigmoid(-d - ln k), and the tie has the rest, which is
    (k^2 - 1) times their product. Source: Bradley-Terry with ties in VideoReward,
    https://arxiv.org/abs/2501.13918

    Raises:
        ValueError: an unknown outcome, or k not above 1, which would leave no room for ties.
    """
    if not k > 1:
        raise ValueError(f"k is {k}; it is above 1, or ties have no probability")
    if outcome not in get_args(Outcome):
        raise ValueError(
            f"outcome is win or tie, not {outcome!r}; for a loss turn the sign of the difference"
        )
    d, shift = difference.float(), math.log(k)
    if outcome == "win":
        return -logsigmoid(d - shift)
    return -logsigmoid(d - shift) - logsigmoid(-d - shift) - math.log(k * k - 1)

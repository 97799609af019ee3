"""Gradient descent on the rows of one tensor: every row as if it were alone. Knows no loss."""

from collections.abc import Sequence
from typing import Literal

import torch

Optimiser = Literal["sgd", "adam"]
ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-2
"""ReNO's: gradients of noise are small, and the usual 1e-8 would turn every one of them into a full step."""


def clipped(gradient: torch.Tensor, limit: float) -> torch.Tensor:
    """Every row (first dimension) scaled down to a norm of at most `limit`."""
    norm: torch.Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp_min(1e-12)
    share = (limit / norm).clamp(max=1)
    return gradient * share.view(-1, *[1] * (gradient.ndim - 1))


class Descent:
    """Nesterov SGD or Adam over rows of which some stop for good.

    Args:
        like: gives the shape (N, ...), type and device of the state.
        lr: learning rate.
        optimiser: "sgd" or "adam".
        momentum: of SGD; 0 is plain gradient descent.
    """

    def __init__(self, like: torch.Tensor, lr: float, optimiser: Optimiser, momentum: float) -> None:
        self.lr, self.optimiser, self.momentum = lr, optimiser, momentum
        self.mean = torch.zeros_like(like)
        self.square = torch.zeros_like(like) if optimiser == "adam" else None
        self.count = 0

    def step(self, rows: Sequence[int], gradient: torch.Tensor) -> torch.Tensor:
        """What to add to these rows, (len(rows), ...); call it once an iteration with all that go on."""
        self.count += 1
        index = list(rows)
        if self.square is None:
            self.mean[index] = self.momentum * self.mean[index] + gradient
            return -self.lr * (gradient + self.momentum * self.mean[index])
        first, second = ADAM_BETAS
        self.mean[index] = torch.lerp(gradient, self.mean[index], first)
        self.square[index] = torch.lerp(gradient.square(), self.square[index], second)
        mean = self.mean[index] / (1 - first**self.count)
        spread = (self.square[index] / (1 - second**self.count)).sqrt()
        return -self.lr * mean / (spread + ADAM_EPS)

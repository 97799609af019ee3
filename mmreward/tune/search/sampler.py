"""What a search needs of a sampler. Knows no network, no reward and no search.

A trajectory has `steps` + 1 states: state 0 is pure noise, state `steps` is the sample itself. The rows of
one batch may belong to different prompts; `prompts` says which, row by row.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""For each row of a batch, the index of its prompt."""
Seeds = NDArray[np.int64]
"""For each row of a batch, the seed of its randomness, at least 0."""


class Sampler(Protocol):
    """A stochastic sampler cut into the pieces that a search recombines.

    Only `predict` runs the network, so its result can serve a look ahead and any number of steps from the
    same state. Every row depends on its own state, seed and prompt alone.
    """

    @property
    def prompts(self) -> int:
        """How many prompts rows may refer to."""
        ...

    @property
    def steps(self) -> int:
        """Steps from noise to sample."""
        ...

    @property
    def forwards(self) -> int:
        """Network evaluations that `predict` costs per row: 2 with classifier-free guidance."""
        ...

    def start(self, seeds: Seeds) -> torch.Tensor:
        """States 0, (N, ...)."""
        ...

    def predict(self, states: torch.Tensor, i: int, prompts: Rows) -> torch.Tensor:
        """What the network says about states `i`, (N, ...); `clean` and `step` take it."""
        ...

    def clean(self, states: torch.Tensor, predicted: torch.Tensor, i: int) -> torch.Tensor:
        """The samples that states `i` are expected to end in (x0_hat), to be decoded."""
        ...

    def step(self, states: torch.Tensor, predicted: torch.Tensor, i: int, seeds: Seeds) -> torch.Tensor:
        """States `i` to states `i` + 1."""
        ...

    def branches(self, i: int) -> bool:
        """Whether the step from state `i` is random, so that two seeds give two states."""
        ...

    def decode(self, latents: torch.Tensor) -> Sequence[Any]:
        """What rewards look at, one per row."""
        ...


class Kernel(Protocol):
    """The stochastic step of a sampler in rectified-flow coordinates (see `tune.kernels`)."""

    def transition(self, x: torch.Tensor, v: torch.Tensor, sigmas: torch.Tensor, i: int) -> Any:
        """The Gaussian that the next latents come from; its `std` is 0 where the step is deterministic."""
        ...

    def draw(self, transition: Any, noise: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The next latents from standard Gaussian noise."""
        ...


def spread(steps: int, number: int) -> tuple[int, ...]:
    """`number` indices of states, evenly spread over 1 to `steps` and ending there.

    Raises:
        ValueError: fewer than one, or more than there are steps.
    """
    if not 1 <= number <= steps:
        raise ValueError(f"{number} checks do not fit into {steps} steps; give 1 to {steps}")
    return tuple(round(steps * k / number) for k in range(1, number + 1))
